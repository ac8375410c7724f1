"""What training does to its images. Every technique can be off, and its steps are few: each tells with few trials."""

from typing import Any, get_args

import optuna

from spaces.space import Space
from trainable.config import Augmentation, TrialConfig, Views

FLIPS = ("none", "random", "alternating")
MIXES = ("none", "mixup", "cutmix")
EMAS = (0.0, 0.97, 0.995)  # a slower one would differ only after more steps than small data have: see MovingAverage
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
    return {
        "augment": Augmentation(**found),
        "ema": trial.suggest_categorical("ema", EMAS),
        "views": trial.suggest_categorical("views", get_args(Views)),
    }


def sample(trial: optuna.Trial) -> TrialConfig:
    return TrialConfig(**settings(trial))


def start(**changes: Any) -> dict[str, Any]:
    """The report's flip alone, but for the changes."""
    off = {"flip": "random", **dict.fromkeys(STEPS, 0.0), "randaugment": 0, "holes": 0, "mix": "none"}
    return {**off, "ema": 0.0, "views": "one", **changes}


SPACE = Space(
    name="augment",
    summary="flips, rotation, shift, distortion, colours, RandAugment, holes, mixup, CutMix; moving average and views",
    sample=sample,
    starts=[
        start(),
        start(flip="none"),
        start(flip="alternating"),
        start(rotation=5.0),
        start(shift=0.05),
        start(contrast=0.2),
        start(brightness=0.2),
        start(grayscale=0.1),
        start(distortion=0.3),
        start(holes=8, hole_size=8 / 224),
        start(randaugment=2, magnitude=9),
        start(mix="mixup", alpha=0.2),
        start(mix="cutmix", alpha=1.0),
        start(ema=0.995),
        start(views="flip"),
    ],
    epochs=30,
    trials=60,
)
