"""How deep and how wide: 4 to 12 convolutions, each with its own dropout, in the report's recipe."""

from typing import Any

import optuna

from spaces.space import Space
from trainable.config import MAX_DEPTH, MIN_DEPTH, TrialConfig


def settings(trial: optuna.Trial) -> dict[str, Any]:
    depth = trial.suggest_int("depth", MIN_DEPTH, MAX_DEPTH)
    return {
        "depth": depth,
        "width_factor": trial.suggest_float("width_factor", 0.5, 2.0, step=0.25),
        "dropout": tuple(trial.suggest_float(f"dropout_{block}", 0.0, 0.6) for block in range(1, depth + 1)),
        "head_width": trial.suggest_categorical("head_width", [16, 32, 64, 128]),
        "head_dropout": trial.suggest_float("head_dropout", 0.0, 0.6),
    }


def sample(trial: optuna.Trial) -> TrialConfig:
    return TrialConfig(**settings(trial))


def start(depth: int, dropout: float = 0.0) -> dict[str, Any]:
    """The report's network at another depth, with the same dropout of each convolution."""
    blocks = {f"dropout_{block}": dropout for block in range(1, depth + 1)}
    return {"depth": depth, "width_factor": 1.0, **blocks, "head_width": 32, "head_dropout": 0.5}


SPACE = Space(
    name="depth",
    summary="4 to 12 convolutions, their widths and the dropout of each; the report's do8 and do7 first",
    sample=sample,
    starts=[start(8), start(8, 0.1), start(4), start(6), start(10), start(12)],
    epochs=30,
    trials=40,
)
