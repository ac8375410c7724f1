"""What a time budget leaves for training."""

from typing import Any

import numpy as np
import pytest

from search.options import Options, parser, resolve
from search.session import TooShort, training_seconds
from spaces.loading import load
from trainable.splits import HOLDOUT, TRAIN, VALID, Split

SPLIT = Split(np.repeat(np.array([TRAIN, VALID, HOLDOUT], np.uint8), [5000, 1000, 1000]))


def asked(*arguments: str) -> Options:
    given: dict[str, Any] = vars(parser().parse_args(arguments))
    return resolve(given, load("dropout"))


@pytest.mark.parametrize(
    ("arguments", "test_images", "expected"),
    [
        ([], 0, (None, 0.0)),
        (["--time-budget", "100s"], 0, (92.0, 0.0)),  # 8 s to end
        (["--time-budget", "100s", "--storage", "/nas"], 0, (87.0, 0.0)),  # and 5 s for the last round
        # 10 s and 10 members' fit on 1,000 images, 4 s; each predicts the holdout and the test images once.
        (["--time-budget", "100s", "--ensemble"], 500, (78.0, 10 * 1500 / 5000)),
        (["--time-budget", "100s", "--confirm"], 0, (60.0, 0.0)),
        (["--time-budget", "200s", "--confirm", "--ensemble"], 500, (120.0, 0.0)),  # the confirmation keeps for it
    ],
)
def test_a_time_budget_keeps_back_what_comes_after(
    arguments: list[str], test_images: int, expected: tuple[float | None, float]
) -> None:
    assert training_seconds(asked(*arguments), SPLIT, test_images, 3.0) == pytest.approx(expected)


def test_a_part_of_a_confirmation_lasts_to_the_end_of_the_budget() -> None:
    """It is no search that confirms, so nothing is kept but for the end."""
    assert training_seconds(asked("--time-budget", "100s"), SPLIT, 0, 60.0) == (92.0, 0.0)


@pytest.mark.parametrize(
    ("arguments", "gone", "least"),
    [
        ([], 3.0, 23),  # 3 s are gone, 12 s to start, 8 s to end
        (["--confirm"], 3.0, 70),  # 40 % of it for 8 s to end, 12 s to start again, and 8 s to end
        (["--confirm"], 60.0, 120),  # 60 % of it for what is gone and 12 s to start
        (["--confirm", "--ensemble"], 3.0, 105),  # 40 % of it for that and the ensemble's 14 s
    ],
)
def test_one_that_suffices_for_nothing_is_refused(arguments: list[str], gone: float, least: int) -> None:
    enough = asked("--time-budget", f"{least}s", *arguments)
    assert training_seconds(enough, SPLIT, 0, gone)[0] is not None
    with pytest.raises(TooShort) as error:
        training_seconds(asked("--time-budget", f"{least - 1}s", *arguments), SPLIT, 0, gone)
    assert str(error.value) == f"--time-budget: too short to train anything; {least}s would be the least."
