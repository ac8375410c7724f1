from pathlib import Path

import pytest

from trainable.csv_table import read_csv
from trainable.errors import UserError
from trainable.table import Listing


def read(folder: Path, text: str | bytes, *inputs: str, labelled: bool = True) -> Listing:
    path = folder / "faces.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_csv(path, "faces.csv", inputs, labelled=labelled)


def problems(listing: Listing) -> list[str]:
    return [problem.text for problem in listing.problems]


def test_a_table_in_the_reports_format(tmp_path: Path) -> None:
    listing = read(tmp_path, "Image,Label,Age,Gender,Race\na.jpg,1,25,0,3\nb/c.jpg,0,17,1,0\n", "Gender")
    table = listing.table
    assert table.images == ("a.jpg", "b/c.jpg")
    assert table.labels is not None and table.labels.tolist() == [1, 0]
    assert table.classes == ("0", "1")
    assert table.columns == {"Age": ("25", "17"), "Gender": ("0", "1"), "Race": ("3", "0")}
    assert (table.root, table.rows) == (tmp_path, (2, 3))
    assert (listing.problems, listing.warnings, listing.test) == ([], [], None)


def test_byte_order_mark_carriage_returns_and_spaces_are_tolerated(tmp_path: Path) -> None:
    table = read(tmp_path, b"\xef\xbb\xbfImage , Label\r\n a.jpg , 0\r\n").table
    assert table.images == ("a.jpg",)
    assert table.labels is not None and table.labels.tolist() == [0]


def test_rows_are_numbered_as_a_spreadsheet_shows_them(tmp_path: Path) -> None:
    # Row 2 spans two lines, row 3 is blank, and so is row 5 but for its commas.
    text = 'Image,Label,Note\na.jpg,0,"two\nlines"\n\nb.jpg,x,\n,,\nc.jpg,y,\n'
    listing = read(tmp_path, text)
    assert listing.table.rows == (2, 4, 6)
    assert problems(listing) == ["row 4, Label: 'x' is not an integer", "row 6, Label: 'y' is not an integer"]


def test_other_columns_are_kept_only_as_inputs(tmp_path: Path) -> None:
    text = "Image,Label,Camera,Note\na.jpg,0,wide angle,\nb.jpg,1,7,x\n"
    assert read(tmp_path, text).table.columns == {}
    assert read(tmp_path, text, "Camera").table.columns == {"Camera": ("wide angle", "7")}


def test_integers_of_the_reports_columns_have_one_spelling(tmp_path: Path) -> None:
    assert read(tmp_path, "Image,Label,Race\na.jpg,0,01\nb.jpg,00,1\n").table.columns == {"Race": ("1", "1")}


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        ("a.jpg,1.0,1,0,x", "row 4, Label: '1.0' is not an integer"),
        ("a.jpg,nan,1,0,x", "row 4, Label: 'nan' is not an integer"),
        ("a.jpg,,1,0,x", "row 4, Label: the cell is empty"),
        (",1,1,0,x", "row 4, Image: the cell is empty"),
        ("a.jpg,5,1,0,x", "row 4, Label: 5 is outside 0..1"),
        ("a.jpg,-1,1,0,x", "row 4, Label: -1 is outside 0..1"),
        ("a.jpg,99999999999999999999,1,0,x", "row 4, Label: '99999999999999999999' is not an integer"),
        ("a.jpg,1,old,0,x", "row 4, Age: 'old' is not an integer"),
        ("a.jpg,1,1,0.5,x", "row 4, Gender: '0.5' is not an integer"),
        ("a.jpg,1,1,,x", "row 4, Gender: the cell is empty"),
        ("a.jpg,1,1,0,", "row 4, Lens: the cell is empty"),
        ("a.jpg,1,1,0,2.8", "row 4, Lens: '2.8' is neither an integer nor text"),
        ("a.jpg,1,1,0,-1.5e3", "row 4, Lens: '-1.5e3' is neither an integer nor text"),
        ("a.jpg,1,1,0", "row 4: 4 cells instead of 5"),
        ("a.jpg,1,1,0,x,", "row 4: 6 cells instead of 5"),
    ],
)
def test_a_bad_cell_is_named_by_row_and_column(tmp_path: Path, cells: str, problem: str) -> None:
    # Age is no input, so an empty one is no problem.
    text = f"Image,Label,Age,Gender,Lens\ny.jpg,0,,0,x\nz.jpg,1,1,0,x\n{cells}\n"
    assert problems(read(tmp_path, text, "Gender", "Lens")) == [problem]


def test_all_bad_cells_are_found_at_once(tmp_path: Path) -> None:
    listing = read(tmp_path, "Image,Label,Gender\na.jpg,x,y\n,0,\nb.jpg,3,0\n", "Gender")
    assert problems(listing) == [
        "row 2, Label: 'x' is not an integer",
        "row 2, Gender: 'y' is not an integer",
        "row 3, Image: the cell is empty",
        "row 3, Gender: the cell is empty",
        "row 4, Label: 3 is outside 0..0",
    ]


def test_labels_that_count_from_1_are_one_problem(tmp_path: Path) -> None:
    listing = read(tmp_path, "Image,Label\na.jpg,1\nb.jpg,2\n")
    assert problems(listing) == ["Label: no row carries 0, and labels count from 0"]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([0, 2, 3, 4] * 3, ["Label: no row carries 1, and labels count from 0 without a gap"]),
        ([0, 2] * 3, ["Label: no row carries 1, and labels count from 0 without a gap"]),
        ([0, 1, 3, 5] * 3, ["Label: no row carries 2, 4, and labels count from 0 without a gap"]),
        ([0] * 90 + [2, 3] * 3, ["Label: no row carries 1, and labels count from 0 without a gap"]),
        (
            [0, 1, 10**17] * 3,
            ["Label: no row carries 2, 3, 4 and 99999999999999995 more, and labels count from 0 without a gap"],
        ),
        (  # the slips among them stay rows
            [0, 2, 3] * 3 + [77, -1],
            [
                "row 11, Label: 77 is outside 0..3",
                "row 12, Label: -1 is outside 0..3",
                "Label: no row carries 1, and labels count from 0 without a gap",
            ],
        ),
        ([0, 1] * 2 + [3, 3], ["row 6, Label: 3 is outside 0..1", "row 7, Label: 3 is outside 0..1"]),
        ([0, 1] * 20 + [5] * 3, [f"row {row}, Label: 5 is outside 0..1" for row in (42, 43, 44)]),
        ([0, 1] * 3 + [7, 8, 9], [f"row {row}, Label: {row - 1} is outside 0..1" for row in (8, 9, 10)]),
    ],
)
def test_a_gap_in_the_labels_is_one_problem_and_a_slip_is_a_row(
    tmp_path: Path, labels: list[int], expected: list[str]
) -> None:
    rows = "".join(f"{index}.jpg,{label}\n" for index, label in enumerate(labels))
    assert problems(read(tmp_path, f"Image,Label\n{rows}")) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("label,Image", ["row 1, Label: there is no such column; did you mean 'label'?"]),
        ("Path,Label", ["row 1, Image: there is no such column"]),
        ("Path,Class", ["row 1, Image: there is no such column", "row 1, Label: there is no such column"]),
        ("Image,Label,Race,Race", ["row 1, Race: 2 columns have this name"]),
        ("Image,Label,Label", ["row 1, Label: 2 columns have this name"]),
        ("Image,Image,Label", ["row 1, Image: 2 columns have this name"]),
        ("Image,Label,,", []),
    ],
)
def test_header(tmp_path: Path, header: str, expected: list[str]) -> None:
    cells = ",".join(["0"] * header.count(",") + ["x"])
    assert problems(read(tmp_path, f"{header}\n{cells}\n")) == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Gendr", "--inputs: faces.csv has no metadata column 'Gendr'; did you mean 'Gender'?"),
        ("Label", "--inputs: faces.csv has no metadata column 'Label'"),
        ("Camera", "--inputs: faces.csv has no metadata column 'Camera'"),
    ],
)
def test_an_input_that_the_table_lacks(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        read(tmp_path, "Image,Label,Gender\na.jpg,0,0\n", name)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "faces.csv has no rows below its header"),
        (b"Image,Label\n\n,\n", "faces.csv has no rows below its header"),
        (b"Image;Label\na.jpg;0\n", "faces.csv has ';' between its columns; save it with ',' between them"),
        (
            b'\xef\xbb\xbf"Image";"Label"\r\n"a.jpg";0\r\n',
            "faces.csv has ';' between its columns; save it with ',' between them",
        ),
        (b"Image\tLabel\na.jpg\t0\n", "faces.csv has tabs between its columns; save it with ',' between them"),
        (b'Image,Label\n"a.jpg,0\n', "faces.csv is not a CSV file in UTF-8 (unexpected end of data)"),
        (
            b"\xff\xfeI\0m\0",
            "faces.csv is not a CSV file in UTF-8 "
            "('utf-8' codec can't decode byte 0xff in position 0: invalid start byte)",
        ),
    ],
)
def test_what_is_no_table_at_all(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(UserError) as error:
        read(tmp_path, content)
    assert str(error.value) == message


def test_a_repeated_row_is_kept_once_with_a_warning(tmp_path: Path) -> None:
    listing = read(tmp_path, "Image,Label\na.jpg,0\nb.jpg,1\n./a.jpg,0\na.jpg,0\n")
    assert (listing.table.images, listing.table.rows, listing.problems) == (("a.jpg", "b.jpg"), (2, 3), [])
    assert listing.warnings == ["faces.csv: 2 repeated rows left out, such as row 4 (./a.jpg), row 5 (a.jpg)"]


def test_a_test_table_keeps_its_repeated_rows(tmp_path: Path) -> None:
    listing = read(tmp_path, "Image\na.jpg\nb.jpg\na.jpg\n", labelled=False)
    assert (listing.table.images, listing.warnings) == (("a.jpg", "b.jpg", "a.jpg"), [])


def test_one_file_under_two_labels_is_a_problem(tmp_path: Path) -> None:
    listing = read(tmp_path, "Image,Label\na.jpg,0\nb.jpg,1\nx/../a.jpg,1\n")
    assert problems(listing) == ["row 4, Label: x/../a.jpg has label 1 here and 0 in row 2"]
    assert listing.warnings == []


def test_a_test_table_never_holds_its_labels(tmp_path: Path) -> None:
    table = read(tmp_path, "Image,Label,Age,Race\na.jpg,x,,2\n", "Race", labelled=False)
    assert (table.table.labels, table.table.classes, table.table.columns) == (None, (), {"Race": ("2",)})
    assert table.problems == []


def test_a_test_table_without_an_input(tmp_path: Path) -> None:
    listing = read(tmp_path, "Image,gender\na.jpg,0\n", "Gender", labelled=False)
    assert problems(listing) == ["row 1, Gender: there is no such column; did you mean 'gender'?"]
