"""What training does to its images. Every technique can be off, and its steps are few: each tells with few trials."""

from typing import Any

import optuna

from spaces.space import Space
from trainable.config import Augmentation, TrialConfig

FLIPS = ("none", "random", "alternating")
MIXES = ("none", "mixup", "cutmix")
STEPS = {  # largest value and step of what may be 0
    "rotation": (20.0, 5.0),
    "shift": (0.15, 0.05),
    "distortion": (0.4, 0.1),
    "brightness": (0.4, 0.1),
    "contrast": (0.4, 0.1),
    "grayscale": (0.3, 0.1),
}


def settings(trial: optuna.Trial) -> dict[str, Any]:
    flip = trial.suggest_categorical("flip", FLIPS)
    found: dict[str, Any] = {
        "flip": 0.0 if flip == "none" else 0.5,
        "alternating_flip": flip == "alternating",
        **{name: trial.suggest_float(name, 0.0, largest, step=step) for name, (largest, step) in STEPS.items()},
        "randaugment": trial.suggest_int("randaugment", 0, 2),
        "holes": trial.suggest_categorical("holes", [0, 1, 8]),
    }
    if found["randaugment"]:
        found["magnitude"] = trial.suggest_int("magnitude", 3, 15)
    if found["holes"]:
        found["hole_size"] = trial.suggest_float("hole_size", 1 / 28, 0.4)
    mix = trial.suggest_categorical("mix", MIXES)
    if mix != "none":
        found[mix] = trial.suggest_float("alpha", 0.1, 1.0)
    return {"augment": Augmentation(**found)}


def sample(trial: optuna.Trial) -> TrialConfig:
    return TrialConfig(
        **settings(trial),
        ema=trial.suggest_categorical("ema", [0.0, 0.99, 0.999]),
        views=trial.suggest_categorical("views", ["one", "flip", "flip_shift"]),
    )


def start(**changes: Any) -> dict[str, Any]:
    """The report's flip with one thing more."""
    off = {"flip": "random", **dict.fromkeys(STEPS, 0.0), "randaugment": 0, "holes": 0, "mix": "none"}
    return {**off, **changes}


def alone(**changes: Any) -> dict[str, Any]:
    """The same without moving average and with one view."""
    return {**start(**changes), "ema": 0.0, "views": "one"}


SPACE = Space(
    name="augment",
    summary="flips, rotation, shift, distortion, colours, RandAugment, holes, mixup, CutMix; moving average and views",
    sample=sample,
    starts=[
        alone(),
        alone(flip="none"),
        alone(flip="alternating"),
        alone(rotation=5.0),
        alone(shift=0.05),
        alone(contrast=0.2),
        alone(brightness=0.2),
        alone(grayscale=0.1),
        alone(distortion=0.3),
        alone(holes=8, hole_size=8 / 224),
        alone(randaugment=2, magnitude=9),
        alone(mix="mixup", alpha=0.2),
        alone(mix="cutmix", alpha=1.0),
        {**start(), "ema": 0.99, "views": "flip"},
    ],
    epochs=30,
    trials=60,
)
