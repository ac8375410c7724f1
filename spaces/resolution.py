"""How large the images should be, with the depth that goes with it."""

import optuna

from spaces.space import Given, Space
from trainable.config import MAX_IMAGE_SIZE, MIN_IMAGE_SIZE, TrialConfig

FACTORS = (0.5, 0.75, 1.0, 1.5, 2.0)  # of --image-size
DEPTHS = (4, 6, 8, 10)


def sizes(given: Given) -> list[int]:
    """The sizes around the one that is given, in pixels."""
    around = [round(factor * given.image_size) for factor in FACTORS]
    return [size for size in around if MIN_IMAGE_SIZE <= size <= MAX_IMAGE_SIZE]


def space(given: Given) -> Space:
    choices = sizes(given)

    def sample(trial: optuna.Trial) -> TrialConfig:
        return TrialConfig(
            image_size=trial.suggest_categorical("image_size", choices),
            depth=trial.suggest_categorical("depth", DEPTHS),
        )

    return Space(
        name="resolution",
        summary="half to twice the --image-size, and 4 to 10 convolutions, in the report's recipe",
        sample=sample,
        # The size that is given comes first: a confirmation compares with it.
        starts=[{"image_size": size, "depth": 8} for size in sorted(choices, key=lambda one: one != given.image_size)],
        grid={"image_size": choices, "depth": DEPTHS},
        epochs=30,
        trials=24,
        image_sizes=choices,
        decides=("image_size",),
    )
