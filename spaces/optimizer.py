"""Which optimiser, how fast and with how much weight decay."""

from typing import Any, get_args

import optuna

from spaces.space import Space
from trainable.config import Optimizer, TrialConfig


def settings(trial: optuna.Trial) -> dict[str, Any]:
    found: dict[str, Any] = {
        "optimizer": trial.suggest_categorical("optimizer", get_args(Optimizer)),
        "lr": trial.suggest_float("lr", 1e-5, 1e-1, log=True),
        "weight_decay": 0.0,
        "batch_size": trial.suggest_categorical("batch_size", [32, 64, 128, 256]),
    }
    if trial.suggest_categorical("decays", [True, False]):
        found["weight_decay"] = trial.suggest_float("weight_decay", 1e-5, 1e-1, log=True)
    if found["optimizer"] in ("sgd", "muon"):
        found["momentum"] = trial.suggest_float("momentum", 0.8, 0.99)
    return found


def sample(trial: optuna.Trial) -> TrialConfig:
    return TrialConfig(**settings(trial))


def start(optimizer: str, lr: float, weight_decay: float, **more: float) -> dict[str, Any]:
    """One optimiser at the report's batch size."""
    decay = {"decays": True, "weight_decay": weight_decay} if weight_decay else {"decays": False}
    return {"optimizer": optimizer, "lr": lr, "batch_size": 64, **decay, **more}


REPORT = start("adam", 1e-3, 1e-2)
SPACE = Space(
    name="optimizer",
    summary="Adam, AdamW, Adamax, SGD or Muon, learning rate, weight decay and batch size; the report's choice first",
    sample=sample,
    starts=[
        REPORT,
        start("adam", 1e-3, 0.0),
        start("adamw", 1e-3, 1e-2),
        start("adamax", 2e-3, 1e-2),
        start("sgd", 3e-2, 5e-4, momentum=0.9),
        start("muon", 3e-3, 1e-2, momentum=0.95),
    ],
    epochs=30,
    trials=40,
)
