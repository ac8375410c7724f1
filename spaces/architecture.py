"""Which network: the report's, a residual one, its first one, and torchvision's, all from scratch."""

from typing import get_args

import optuna

from spaces.space import Space
from trainable.config import Architecture, TrialConfig

NAMES = get_args(Architecture)


def sample(trial: optuna.Trial) -> TrialConfig:
    return TrialConfig(
        architecture=trial.suggest_categorical("architecture", NAMES),
        lr=trial.suggest_float("lr", 1e-4, 1e-2, log=True),
        weight_decay=trial.suggest_float("weight_decay", 1e-5, 1e-1, log=True),
    )


SPACE = Space(
    name="architecture",
    summary="the report's network, a residual one, CIFAR-10's, AlexNet, ResNets, EfficientNet, MobileNet, from scratch",
    sample=sample,
    starts=[{"architecture": name, "lr": 1e-3, "weight_decay": 1e-2} for name in NAMES],
    grid={"architecture": NAMES, "lr": [1e-3], "weight_decay": [1e-2]},
    epochs=30,
    trials=40,
)
