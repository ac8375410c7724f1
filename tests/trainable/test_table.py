from collections.abc import Sequence

import pytest

from trainable.errors import UserError
from trainable.table import Problem, cell_problem, check_columns, refuse


def refusal(problems: Sequence[Problem]) -> list[str]:
    with pytest.raises(UserError) as error:
        refuse("faces.csv", problems, "nothing was trained")
    return str(error.value).split("\n")


def test_nothing_wrong_is_not_refused() -> None:
    refuse("faces.csv", [], "nothing was trained")


def test_problems_stand_in_the_order_of_their_rows() -> None:
    late = cell_problem(203, "Image", "a.jpg does not exist")
    assert refusal([late, cell_problem(17, "Label", "5 is outside 0..4")]) == [
        "faces.csv has 2 bad rows; nothing was trained. Correct or remove them.",
        "  row 17, Label: 5 is outside 0..4",
        "  row 203, Image: a.jpg does not exist",
    ]


@pytest.mark.parametrize(
    ("problems", "first_line"),
    [
        ([cell_problem(2, "Label", "x")], "1 bad row; nothing was trained. Correct or remove it."),
        ([cell_problem(2, "Label", "x"), cell_problem(2, "Image", "y")], "1 bad row"),
        ([cell_problem(2, "Label", "x"), Problem("class 4 has 2 images")], "2 problems"),
        ([Problem("a.jpg does not exist")], "1 problem; nothing was trained. Correct or remove it."),
    ],
)
def test_first_line_counts_rows_where_every_problem_has_one(problems: list[Problem], first_line: str) -> None:
    assert refusal(problems)[0].startswith(f"faces.csv has {first_line}")


def test_at_most_20_problems_are_listed() -> None:
    lines = refusal([cell_problem(row, "Label", "x") for row in range(2, 39)])
    assert lines[0] == "faces.csv has 37 bad rows; nothing was trained. Correct or remove them."
    assert lines[20:] == ["  row 21, Label: x", "  and 17 more"]


@pytest.mark.parametrize(
    ("inputs", "target", "message"),
    [
        (["Gender"], "Agee", "--target: faces.csv has no metadata column 'Agee'; did you mean 'Age'?"),
        (["Gendre"], "Age", "--inputs: faces.csv has no metadata column 'Gendre'; did you mean 'Gender'?"),
        ([], "Label", "--target: faces.csv has no metadata column 'Label'"),
    ],
)
def test_a_column_that_is_not_there_is_named_with_its_option(
    inputs: list[str], target: str | None, message: str
) -> None:
    with pytest.raises(UserError) as error:
        check_columns("faces.csv", ["Age", "Gender"], inputs, target)
    assert str(error.value) == message


def test_columns_that_are_there_pass() -> None:
    check_columns("faces.csv", ["Age", "Gender"], ["Gender"], "Age")
    check_columns("faces.csv", [], [], None)
