"""A network of four narrow convolutions, which trains in no time."""

import optuna

from spaces.space import Space
from trainable.config import TrialConfig


def sample(trial: optuna.Trial) -> TrialConfig:
    lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
    return TrialConfig(depth=4, widths=(4, 8, 8, 8), dropout=(0.0, 0.0, 0.0, 0.1), lr=lr, batch_size=32)


SPACE = Space("tiny", "a network of four narrow convolutions", sample, starts=[{"lr": 1e-3}, {"lr": 1e-2}])
