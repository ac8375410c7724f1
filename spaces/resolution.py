"""How large the images should be, with the depth that goes with it."""

import optuna

from spaces.space import Space
from trainable.config import TrialConfig

SIZES = (32, 48, 64, 96, 128)


def sample(trial: optuna.Trial) -> TrialConfig:
    return TrialConfig(
        image_size=trial.suggest_categorical("image_size", SIZES), depth=trial.suggest_int("depth", 4, 10, step=2)
    )


SPACE = Space(
    name="resolution",
    summary="images of 32 to 128 pixels and 4 to 10 convolutions, in the report's recipe",
    sample=sample,
    starts=[{"image_size": size, "depth": 8} for size in SIZES],
    grid={"image_size": SIZES, "depth": [4, 6, 8, 10]},
    epochs=30,
    trials=24,
    image_sizes=SIZES,
    decides=("image_size",),
)
