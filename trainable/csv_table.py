"""A table in the report's format: a CSV with Image,Label[,Age,Gender,Race] and any other metadata.

Read with the csv module and not with pandas, because a row with too many cells must become one problem among the
others: pandas gives up at the first such row, drops its number, or fills short rows with NaN.
"""

import csv
import os
import re
from collections import Counter
from collections.abc import Sequence
from itertools import count as count_from
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trainable.errors import UserError, nearest
from trainable.table import EXAMPLES, Listing, Problem, Table, cell_problem, check_columns, count, such_as

INTEGER_COLUMNS = ("Age", "Gender", "Race")
INTEGER = re.compile(r"-?[0-9]{1,18}")  # what an int64 surely holds
MANY_ROWS = 3  # as many as a class must have; fewer with a label beyond a gap are slips of the pen
FRACTION = re.compile(r"[+-]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


class Row(NamedTuple):
    """One row of a CSV."""

    number: int  # as a spreadsheet shows it: the header is row 1, a cell with line breaks is still one row
    cells: dict[str, str]  # by column, trimmed


def read_csv(path: Path, source: str, inputs: Sequence[str], *, labelled: bool, target: str | None = None) -> Listing:
    """The table of a CSV. In a labelled one a file that is listed again with the same label is left out, and warned of.

    Args:
        inputs: the metadata columns that must be there, with no empty cell. Age, Gender and Race of a labelled table
            are kept whether they are inputs or not.
        labelled: whether the column Label is read; if not, it is ignored where there is one.
        target: a column of integers that must be there too, in a labelled table.
    Raises:
        UserError: if the file is no CSV or has no rows, or if a labelled one lacks a column of `inputs` or the
            target (it is the command that is wrong then, and not the table).
    """
    header, records = _records(path, source)
    metadata = [name for name in header if name not in ("", "Image", "Label")]
    check_columns(source, metadata, inputs if labelled else (), target)
    targets = [] if target is None else [target]
    integers = {"Label", *INTEGER_COLUMNS, *targets}
    required = ["Image", *(["Label"] if labelled else []), *inputs, *targets]
    kept = [name for name in metadata if name in required or (labelled and name in INTEGER_COLUMNS)]

    problems = _header_problems(header, required)
    names = [name for name in header if name]
    ambiguous = "Image" not in header or len(set(names)) < len(names)
    rows = [] if ambiguous else _rows(header, records, problems)
    for row in rows:
        for name in header:
            if name in required or name in kept:
                fault = _cell_fault(name, row.cells[name], required=name in required, integer=name in integers)
                if fault:
                    problems.append(cell_problem(row.number, name, fault))
    labels = [_integer(row.cells.get("Label", "")) if labelled else None for row in rows]
    classes = _classes(rows, labels, problems) if labelled and "Label" in header else 0
    named = [(row, label) for row, label in zip(rows, labels, strict=True) if row.cells["Image"]]
    # A submission has a row for each row of the test table, so nothing is left out of that.
    named, repeated = _without_repeats(named, problems) if labelled else (named, [])
    rows, labels = [row for row, _ in named], [label for _, label in named]
    table = Table(
        source=source,
        root=path.parent,
        images=tuple(row.cells["Image"] for row in rows),
        labels=np.array([-1 if label is None else label for label in labels], np.int64) if labelled else None,
        classes=tuple(str(label) for label in range(classes)),
        columns={name: tuple(_canonical(row.cells[name], name in integers) for row in rows) for name in kept},
        rows=tuple(row.number for row in rows),
    )
    warnings = []
    if repeated:
        examples = such_as([f"row {row.number} ({row.cells['Image']})" for row in repeated])
        warnings.append(f"{source}: {count(len(repeated), 'repeated row')} left out{examples}")
    return Listing(table, problems, warnings)


def _records(path: Path, source: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header's names and the other rows that are not blank with their numbers, cells trimmed."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            header = file.readline()
            for mark, name in ((";", "';'"), ("\t", "tabs")):
                if mark in header and "," not in header:
                    raise UserError(f"{source} has {name} between its columns; save it with ',' between them")
            file.seek(0)
            lines = [[cell.strip() for cell in line] for line in csv.reader(file, strict=True)]
    except OSError as error:
        raise UserError(f"{source} cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{source} is not a CSV file in UTF-8 ({error})") from error
    records = [(number, cells) for number, cells in enumerate(lines[1:], start=2) if any(cells)]
    if not records:
        raise UserError(f"{source} has no rows below its header")
    return lines[0], records


def _header_problems(header: list[str], required: list[str]) -> list[Problem]:
    twice = [name for name in dict.fromkeys(header) if name and header.count(name) > 1]
    missing = [name for name in required if name not in header]
    return [
        *(cell_problem(1, name, f"{header.count(name)} columns have this name") for name in twice),
        *(cell_problem(1, name, f"there is no such column{nearest(name, header)}") for name in missing),
    ]


def _rows(header: list[str], records: list[tuple[int, list[str]]], problems: list[Problem]) -> list[Row]:
    """The rows with as many cells as the header; the others become problems."""
    rows = []
    for number, cells in records:
        if len(cells) == len(header):
            rows.append(Row(number, dict(zip(header, cells, strict=True))))
        else:
            problems.append(Problem(f"row {number}: {count(len(cells), 'cell')} instead of {len(header)}", number))
    return rows


def _cell_fault(column: str, cell: str, *, required: bool, integer: bool) -> str | None:
    """What is wrong with a cell, or None."""
    if not cell:
        return "the cell is empty" if required else None
    if column == "Image":
        return None
    if integer:
        return f"'{cell}' is not an integer" if _integer(cell) is None else None
    return f"'{cell}' is neither an integer nor text" if FRACTION.fullmatch(cell) else None


def _integer(cell: str) -> int | None:
    return int(cell) if INTEGER.fullmatch(cell) else None


def _canonical(cell: str, integer: bool) -> str:
    """The cell, with one spelling for each integer of a column of integers, so that '01' and '1' are one value."""
    value = _integer(cell) if integer else None
    return cell if value is None else str(value)


def _classes(rows: list[Row], labels: list[int | None], problems: list[Problem]) -> int:
    """C, the smallest label from 0 on that no row carries, or 0 where the labels have a gap.

    A label beyond C, or below 0, becomes a problem; if many rows are beyond C, the gap is the problem.
    """
    carried = Counter(label for label in labels if label is not None)
    classes = next(label for label in count_from() if label not in carried)
    beyond = {label: number for label, number in carried.items() if label > classes and number >= MANY_ROWS}
    gap = classes > 0 and (len(beyond) > 1 or sum(beyond.values()) * 10 > len(rows))
    top = max(beyond) if gap else classes - 1
    outside = [
        (row, label) for row, label in zip(rows, labels, strict=True) if label is not None and not 0 <= label <= top
    ]
    if outside and classes == 0:
        problems.append(Problem("Label: no row carries 0, and labels count from 0"))
        return 0
    problems += [cell_problem(row.number, "Label", f"{label} is outside 0..{top}") for row, label in outside]
    if gap:
        missing = top + 1 - sum(0 <= label <= top for label in carried)
        named = [str(label) for label in islice((n for n in count_from() if n not in carried), min(missing, EXAMPLES))]
        more = f" and {missing - EXAMPLES} more" if missing > EXAMPLES else ""
        problems.append(
            Problem(f"Label: no row carries {', '.join(named)}{more}, and labels count from 0 without a gap")
        )
        return 0
    return classes


def _without_repeats(
    labelled: list[tuple[Row, int | None]], problems: list[Problem]
) -> tuple[list[tuple[Row, int | None]], list[Row]]:
    """The rows that name an image first with their labels, and the rows that repeat one; another label is a problem."""
    first: dict[str, tuple[Row, int | None]] = {}  # by file
    repeated = []
    for row, label in labelled:
        image = row.cells["Image"]
        earlier, its_label = first.setdefault(os.path.normpath(image), (row, label))
        if earlier is row:
            continue
        if label == its_label or label is None or its_label is None:  # None has its own problem
            repeated.append(row)
        else:
            what = f"{image} has label {label} here and {its_label} in row {earlier.number}"
            problems.append(cell_problem(row.number, "Label", what))
    return list(first.values()), repeated
