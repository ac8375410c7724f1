import json
from dataclasses import replace

import numpy as np
import pytest

from trainable.preprocess import Preprocessing, vocabulary

GENDER_AND_RACE = Preprocessing(
    image_size=28,
    mean=(0.1, 0.2, 0.3),
    std=(0.4, 0.5, 1 / 3),
    classes=("young", "old"),
    vocabulary={"Race": ("0", "2", "10"), "Gender": ("f", "m")},
)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["10", "2", "2", "0"], ("0", "2", "10")),
        (["-1", "1", "0", "-10"], ("-10", "-1", "0", "1")),
        (["f", "m", "f"], ("f", "m")),
        (["other", "10", "9"], ("9", "10", "other")),
        (["1.5", "2", "1"], ("1", "2", "1.5")),  # not an integer: text
        (["1", "01"], ("01", "1")),  # two spellings are two values
        (["", "-", "3"], ("3", "", "-")),
        (["9" * 5000, "x", "10"], ("10", "9" * 5000, "x")),  # more digits than Python turns into a number: text
    ],
)
def test_values_are_in_numeric_order_before_text(cells: list[str], expected: tuple[str, ...]) -> None:
    assert vocabulary({"Race": cells}, ["Race"]) == {"Race": expected}
    assert vocabulary({"Race": cells[::-1]}, ["Race"]) == {"Race": expected}


def test_columns_are_in_the_order_asked_for_and_others_are_left_out() -> None:
    columns = {"Age": ["3"], "Gender": ["0"], "Race": ["1"]}
    assert list(vocabulary(columns, ["Race", "Gender"]).items()) == [("Race", ("1",)), ("Gender", ("0",))]


def test_only_the_chosen_rows_count() -> None:
    columns = {"Race": ["2", "0", "1", "0"], "Gender": ["0", "1", "1", "1"]}
    rows = np.array([False, True, True, True])
    assert vocabulary(columns, ["Race", "Gender"], rows) == {"Race": ("0", "1"), "Gender": ("1",)}


def test_metadata_is_one_one_hot_after_another() -> None:
    columns = {"Gender": ["m", "f", "m"], "Race": ["10", "0", "2"], "Age": ["1", "2", "3"]}
    hots = GENDER_AND_RACE.metadata(columns, rows=3)
    assert hots.dtype == np.float32
    assert hots.tolist() == [[0, 0, 1, 0, 1], [1, 0, 0, 1, 0], [0, 1, 0, 0, 1]]
    assert GENDER_AND_RACE.metadata_width == 5


@pytest.mark.parametrize("unknown", ["1", "", "00", "10 ", "x" * 50])
def test_a_value_that_training_never_saw_is_all_zeros(unknown: str) -> None:
    hots = GENDER_AND_RACE.metadata({"Race": [unknown, "2"], "Gender": ["f", unknown]}, rows=2)
    assert hots.tolist() == [[0, 0, 0, 1, 0], [0, 1, 0, 0, 0]]


def test_without_inputs_the_metadata_have_no_columns() -> None:
    bare = Preprocessing(28, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), ("a",), {})
    assert bare.metadata({"Race": ["1", "2"]}, rows=2).shape == (2, 0)
    assert bare.metadata_width == 0


def test_json_keeps_every_digit_and_the_order_of_the_columns() -> None:
    text = GENDER_AND_RACE.to_json()
    assert "\n" not in text
    assert Preprocessing.from_json(text) == GENDER_AND_RACE
    assert list(Preprocessing.from_json(text).vocabulary) == ["Race", "Gender"]
    assert json.loads(text)["std"][2] == 1 / 3


def test_json_keeps_the_levels_in_their_order() -> None:
    levels = {"9": 0, "10": 0, "-3": 1, "2": 1}  # neither by number nor by text
    aged = replace(GENDER_AND_RACE, levels=levels)
    again = Preprocessing.from_json(aged.to_json())
    assert again == aged
    assert list(again.levels.items()) == list(levels.items())
    assert Preprocessing.from_json(GENDER_AND_RACE.to_json()).levels == {}


def test_a_group_is_the_columns_of_one_input() -> None:
    assert GENDER_AND_RACE.group("Race") == slice(0, 3)
    assert GENDER_AND_RACE.group("Gender") == slice(3, 5)
    hots = GENDER_AND_RACE.metadata({"Gender": ["m"], "Race": ["2"]}, rows=1)
    assert hots[:, GENDER_AND_RACE.group("Gender")].tolist() == [[0, 1]]
