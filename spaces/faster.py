"""What is said to learn faster, each alone against the report's recipe, and most of it together.

python -m search.run --space faster --repeats 5 --name faster ...
python -m benchmarks.to_accuracy runs/faster
"""

from typing import Any

import optuna

from spaces.space import Space
from trainable.config import Augmentation, TrialConfig

TOGETHER: dict[str, dict[str, Any]] = {
    "cosine_to_end": {"t_max": None, "warmup": 1},
    "alternating_flip": {"augment": Augmentation(alternating_flip=True)},
    "ema": {"ema": 0.99},
    "growing_images": {"start_scale": 0.5},
    "identity": {"init": "identity"},
    "muon": {"optimizer": "muon", "momentum": 0.95, "lr": 3e-3},
}
CHANGES: dict[str, dict[str, Any]] = {
    "none": {},
    **TOGETHER,
    "one_cycle": {"schedule": "one_cycle", "lr": 3e-3},
    "batch_256": {"batch_size": 256, "lr": 2e-3},  # by the square root, Adam's rule (Malladi et al. 2022)
    "together": {name: value for change in TOGETHER.values() for name, value in change.items()},
}


def sample(trial: optuna.Trial) -> TrialConfig:
    return TrialConfig(**CHANGES[trial.suggest_categorical("change", list(CHANGES))])


SPACE = Space(
    name="faster",
    summary="the report's recipe, and with each single change that is said to learn faster: for --repeats",
    sample=sample,
    grid={"change": list(CHANGES)},
    epochs=30,
    sampler="grid",
    scheduler="none",
)
