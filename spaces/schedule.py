"""How the learning rate moves."""

from typing import Any

import optuna

from spaces.space import Space
from trainable.config import TrialConfig

SHAPES = ("constant", "cosine", "cosine_to_end", "step", "exponential", "one_cycle")


def settings(trial: optuna.Trial) -> dict[str, Any]:
    shape = trial.suggest_categorical("schedule", SHAPES)
    found: dict[str, Any] = {"schedule": shape.removesuffix("_to_end")}
    if shape == "cosine":
        found["t_max"] = trial.suggest_int("t_max", 3, 20)
    if shape == "cosine_to_end":
        found["t_max"] = None
    if shape in ("step", "exponential"):
        found["gamma"] = trial.suggest_float(f"gamma_{shape}", *((0.1, 0.7) if shape == "step" else (0.8, 0.99)))
    if shape == "step":
        found["step_size"] = trial.suggest_int("step_size", 3, 15)
    if shape != "one_cycle":  # which has a rise of its own
        found["warmup"] = trial.suggest_int("warmup", 0, 3)
    return found


def sample(trial: optuna.Trial) -> TrialConfig:
    return TrialConfig(lr=trial.suggest_float("lr", 1e-4, 1e-2, log=True), **settings(trial))


REPORT = {"schedule": "cosine", "t_max": 10, "warmup": 0}
SPACE = Space(
    name="schedule",
    summary="constant, cosine (up and down, or to the end), step, exponential or one-cycle, with a warm-up",
    sample=sample,
    starts=[
        {"lr": 1e-3, **REPORT},
        {"lr": 1e-3, "schedule": "cosine_to_end", "warmup": 0},
        {"lr": 1e-3, "schedule": "cosine_to_end", "warmup": 1},
        {"lr": 1e-3, "schedule": "step", "gamma_step": 0.1, "step_size": 10, "warmup": 0},
        {"lr": 1e-3, "schedule": "exponential", "gamma_exponential": 0.9, "warmup": 0},
        {"lr": 3e-3, "schedule": "one_cycle"},
        {"lr": 1e-3, "schedule": "constant", "warmup": 0},
    ],
    epochs=30,
    trials=40,
)
