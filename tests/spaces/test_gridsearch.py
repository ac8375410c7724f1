"""The report's grid: 27 points, none stopped early, the lowest validation loss wins."""

import optuna

from spaces.gridsearch import SPACE
from spaces.space import cells
from trainable.config import TrialConfig


def test_27_distinct_points_of_the_reports_values() -> None:
    points = cells(SPACE)
    assert len({tuple(point.values()) for point in points}) == 27
    assert {point["lr"] for point in points} == {1e-3, 1e-2, 1e-1}
    assert {point["weight_decay"] for point in points} == {1e-2, 1e-3, 1e-4}
    assert {point["gamma"] for point in points} == {0.95, 0.9, 0.85}


def test_the_recipe_of_a_point() -> None:
    config = SPACE.sample(optuna.trial.FixedTrial(cells(SPACE)[5]))  # type: ignore[arg-type]  # all it needs
    assert config == TrialConfig(
        loss="focal", optimizer="adam", schedule="exponential", lr=1e-3, weight_decay=1e-3, gamma=0.85
    )


def test_every_point_runs_to_its_end_and_the_loss_decides() -> None:
    assert (SPACE.sampler, SPACE.scheduler, SPACE.objective) == ("grid", "none", "valid_objective_loss")
    assert SPACE.starts == ()
