"""How many trials fit at once. That a missing GPU is refused is in test_run.py, which starts a real Ray."""

import pytest

from search.cluster import Resources, slots_of


@pytest.mark.parametrize(
    ("cpus", "gpus", "wanted", "slots"),
    [
        (2, 0, Resources(1, 0), 2),
        (2, 0, Resources(2, 0), 1),
        (2, 0, Resources(4, 0), 0),
        (2, 0, Resources(0.5, 0), 4),
        (8, 0, Resources(1, 1), 0),
        (8, 1, Resources(1, 1), 1),
        (8, 1, Resources(1, 0.25), 4),
        (2, 1, Resources(1, 0.25), 2),  # the CPUs are fewer
        (16, 2, Resources(1, 0.3), 6),  # three a card: the tenth that is left of each makes no fourth
        (16, 2, Resources(1, 0.6), 2),
        (16, 1, Resources(1, 0.1), 10),
        (16, 3, Resources(1, 2), 1),
        (16, 4, Resources(1, 2), 2),
        (16, 2, Resources(1, 0), 16),  # on the CPUs
        (7, 0, Resources(0.07, 0), 100),  # though 7 / 0.07 is 99.99999999999999
    ],
)
def test_slots(cpus: float, gpus: float, wanted: Resources, slots: int) -> None:
    assert slots_of(cpus, gpus, wanted) == slots
