"""The report replayed: its networks are the dropout space's, and its figures those that it printed."""

import optuna
import pytest

from spaces import dropout
from spaces.report import NETWORKS, SPACE
from spaces.space import cells
from trainable.config import TrialConfig

DO = ("do1", "do2", "do3", "do4", "do5", "do6", "do7", "do8", "do2_1")


def config_of(model: str) -> TrialConfig:
    return SPACE.sample(optuna.trial.FixedTrial({"model": model}))  # type: ignore[arg-type]  # all it needs


@pytest.mark.parametrize(("start", "model"), list(enumerate(DO)))
def test_its_networks_are_the_starts_of_the_dropout_space(start: int, model: str) -> None:
    point = dict(dropout.SPACE.starts[start])
    assert NETWORKS[model] == point
    assert config_of(model) == dropout.sample(optuna.trial.FixedTrial(point))  # type: ignore[arg-type]


def test_do2_1_is_told_apart_by_its_pool_and_dropout() -> None:
    expected = TrialConfig(dropout=(0, 0, 0, 0, 0, 0.55, 0.55, 0), head_dropout=0.5, pool={6: 3})
    assert config_of("do2_1") == expected


@pytest.mark.parametrize(
    "model",
    ["cifar10", "alexnet", "resnet34", "resnet50", "wide_resnet50_2", "resnext50_32x4d", "efficientnet_b0"],
)
def test_a_reference_has_the_reports_recipe(model: str) -> None:
    assert config_of(model) == TrialConfig(architecture=model)  # type: ignore[arg-type]


def test_it_is_a_grid_of_fixed_configurations_each_to_its_end() -> None:
    assert [point["model"] for point in cells(SPACE)][:9] == list(DO)
    assert len(cells(SPACE)) == 16
    assert (SPACE.sampler, SPACE.scheduler, SPACE.objective, SPACE.starts) == ("grid", "none", "valid_accuracy", ())


def test_the_published_figures_are_the_reports() -> None:
    # The leaderboard of 822 images, one model each; AlexNet "high 40s to low 50s".
    one_run = {
        "do1": 0.644, "do2": 0.676, "do3": 0.632, "do4": 0.635, "do5": 0.627, "do6": 0.661, "do7": 0.686, "do8": 0.649,
        "resnet34": 0.487, "resnet50": 0.487,
    }  # fmt: skip
    figures = {model: (figure, figure) for model, figure in one_run.items()}
    assert SPACE.published == {**figures, "alexnet": (0.46, 0.54, "high 40s to low 50s")}
    assert SPACE.published_images == 822
    assert SPACE.grid is not None and set(SPACE.published) <= set(SPACE.grid["model"])
