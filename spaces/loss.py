"""What is minimised: cross-entropy, softened or focused, and whether every class counts the same."""

from typing import Any

import optuna

from spaces.space import Space
from trainable.config import TrialConfig

LOSSES = ("cross_entropy", "label_smoothing", "focal")


def settings(trial: optuna.Trial) -> dict[str, Any]:
    found: dict[str, Any] = {
        "loss": trial.suggest_categorical("loss", LOSSES),
        "class_weights": trial.suggest_categorical("class_weights", [False, True]),
    }
    if found["loss"] == "label_smoothing":
        found["label_smoothing"] = trial.suggest_float("label_smoothing", 0.02, 0.3)
    if found["loss"] == "focal":
        found["focal_gamma"] = trial.suggest_float("focal_gamma", 0.5, 5.0)
    return found


def sample(trial: optuna.Trial) -> TrialConfig:
    return TrialConfig(**settings(trial))


REPORT = {"loss": "cross_entropy", "class_weights": False}
SPACE = Space(
    name="loss",
    summary="cross-entropy, label smoothing or focal loss, with or without class weights; those of the report first",
    sample=sample,
    starts=[
        REPORT,
        {"loss": "label_smoothing", "label_smoothing": 0.1, "class_weights": False},
        {"loss": "focal", "focal_gamma": 2.0, "class_weights": False},
        {"loss": "cross_entropy", "class_weights": True},
    ],
    epochs=30,
    trials=24,
)
