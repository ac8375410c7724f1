"""The report replayed: its networks with its recipe, each a fixed configuration, beside its own figures."""

from typing import cast

import optuna

from spaces import dropout
from spaces.space import Space
from trainable.config import Architecture, TrialConfig

NETWORKS = dict(
    zip(("do1", "do2", "do3", "do4", "do5", "do6", "do7", "do8", "do2_1"), dropout.SPACE.starts, strict=True)
)
REFERENCES = (
    "cifar10",
    "alexnet",
    "resnet34",
    "resnet50",
    "wide_resnet50_2",
    "resnext50_32x4d",
    "efficientnet_b0",
)
MODELS = (*NETWORKS, *REFERENCES)


def sample(trial: optuna.Trial) -> TrialConfig:
    model = trial.suggest_categorical("model", MODELS)
    if model in NETWORKS:
        return dropout.sample(optuna.trial.FixedTrial(dict(NETWORKS[model])))  # type: ignore[arg-type]
    return TrialConfig(architecture=cast(Architecture, model))


SPACE = Space(
    name="report",
    summary="the report's networks do1 to do8 and do2_1, its CIFAR-10 network and its references, with its recipe",
    sample=sample,
    grid={"model": MODELS},
    epochs=30,
    sampler="grid",
    scheduler="none",
    # Accuracy on the report's leaderboard, of one model each.
    published={
        "do1": (0.644, 0.644),
        "do2": (0.676, 0.676),
        "do3": (0.632, 0.632),
        "do4": (0.635, 0.635),
        "do5": (0.627, 0.627),
        "do6": (0.661, 0.661),
        "do7": (0.686, 0.686),
        "do8": (0.649, 0.649),
        "alexnet": (0.46, 0.54, "high 40s to low 50s"),
        "resnet34": (0.487, 0.487),
        "resnet50": (0.487, 0.487),
    },
    published_images=822,
    published_by="the report's leaderboard: faces in five age groups at 224 pixels, with gender and race, 30 epochs",
)
