"""The epochs at which trials are compared."""

import pytest

from results.rungs import grace_period, rungs


@pytest.mark.parametrize(
    ("epochs", "grace", "expected"),
    [
        (1, 1, []),
        (2, 1, [1]),
        (4, 1, [1, 3]),
        (7, 1, [1, 3]),
        (10, 2, [2, 6]),
        (30, 7, [7, 21]),
        (36, 9, [9, 27]),
    ],
)
def test_rungs_are_the_grace_period_times_powers_of_three(epochs: int, grace: int, expected: list[int]) -> None:
    assert grace_period(epochs) == grace
    assert rungs(epochs) == expected
