"""The report's do networks, as starts of the space dropout."""

import optuna
import pytest

from spaces.dropout import SPACE
from trainable.config import TrialConfig


def config_of(start: int) -> TrialConfig:
    return SPACE.sample(optuna.trial.FixedTrial(dict(SPACE.starts[start])))  # type: ignore[arg-type]  # all it needs


@pytest.mark.parametrize(
    ("start", "dropout", "pool_6"),
    [
        (0, (0, 0, 0, 0, 0, 0, 0.5, 0), 2),  # do1
        (1, (0, 0, 0, 0, 0, 0.5, 0.5, 0), 2),  # do2
        (2, (0, 0, 0, 0, 0, 0.5, 0.5, 0.5), 2),  # do3
        (3, (0, 0, 0, 0, 0, 0, 0.5, 0), 2),  # do4 is do1 again
        (4, (0, 0, 0, 0, 0.25, 0, 0.5, 0), 2),  # do5
        (5, (0.25,) * 8, 2),  # do6
        (6, (0.1,) * 8, 2),  # do7
        (7, (0,) * 8, 2),  # do8
        (8, (0, 0, 0, 0, 0, 0.55, 0.55, 0), 3),  # do2_1
    ],
)
def test_starts_are_the_reports_networks(start: int, dropout: tuple[float, ...], pool_6: int) -> None:
    assert config_of(start) == TrialConfig(depth=8, dropout=dropout, head_dropout=0.5, pool={6: pool_6})


def test_there_are_no_other_starts() -> None:
    assert len(SPACE.starts) == 9


def test_it_chooses_by_accuracy_and_stops_early() -> None:
    assert (SPACE.objective, SPACE.sampler, SPACE.scheduler) == ("valid_accuracy", "tpe", "asha")
