import math
from typing import Any

import pytest

from trainable.ranges import Choices, ConfigError, Flag, Integers, Numbers, Range


@pytest.mark.parametrize(
    ("allowed", "inside", "outside", "wanted"),
    [
        (Integers(2), [2, 3, 10**30], [1, -2, 2.0, "2", True, None, math.nan], "an integer of at least 2"),
        (Integers(0, 3), [0, 3], [-1, 4, 1.0, False, [1]], "an integer in 0..3"),
        (Numbers(0), [0, 0.0, 1e300], [-1e-9, math.inf, -math.inf, math.nan, "1", None, True], "at least 0"),
        (Numbers(0, open_low=True), [1e-300, 5], [0, 0.0, -1], "above 0"),
        (Numbers(0, 1), [0, 0.5, 1, 1.0], [-0.1, 1.1, math.inf, False], "at least 0 and at most 1"),
        (Numbers(0, 1, open_high=True), [0, 0.999], [1, 1.0], "at least 0 and below 1"),
        (Numbers(0, 1, open_low=True), [1, 1e-9], [0], "above 0 and at most 1"),
        (Numbers(0, 0.5, open_low=True, open_high=True), [0.25], [0, 0.5], "above 0 and below 0.5"),
        (Choices(("adam", "sgd")), ["adam"], ["zzz", None, 3, "", "Adamant"], "one of adam, sgd"),
        (Flag(), [True, False], [0, 1, "True", None], "True or False"),
    ],
    ids=str,
)
def test_what_is_inside_passes_and_what_is_outside_is_one_sentence(
    allowed: Range, inside: list[Any], outside: list[Any], wanted: str
) -> None:
    for value in inside:
        allowed.check("width", value)
    for value in outside:
        with pytest.raises(ConfigError) as error:
            allowed.check("width", value)
        assert str(error.value).partition("; did you mean")[0] == f"width is {value!r}; it must be {wanted}"


def test_a_misspelt_choice_is_told_the_nearest() -> None:
    with pytest.raises(ConfigError) as error:
        Choices(("adam", "sgd")).check("optimizer", "adan")
    assert str(error.value) == "optimizer is 'adan'; it must be one of adam, sgd; did you mean 'adam'?"
