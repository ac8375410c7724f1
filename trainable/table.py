"""A table of images, and the list of everything that is wrong with one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainable.errors import UserError, nearest

LISTED_PROBLEMS = 20
EXAMPLES = 3  # of a warning


@dataclass(frozen=True)
class Table:
    """N rows, an image a row."""

    source: str  # what the user named, for messages
    root: Path  # image paths are relative to it
    images: tuple[str, ...]  # (N,) the Image cell: the submission's Id
    labels: NDArray[np.int64] | None  # (N,) in [0, C); None for a test table
    classes: tuple[str, ...]  # C names; empty for a test table
    columns: Mapping[str, tuple[str, ...]]  # metadata cells as text, (N,) each
    rows: tuple[int, ...] | None = None  # (N,) row numbers as a spreadsheet shows them; None for a folder

    def problem(self, index: int, what: str) -> "Problem":
        """What is wrong with the image of row `index`, named by its row in a CSV and by its file in a folder."""
        text = f"{self.images[index]} {what}"
        return Problem(text) if self.rows is None else cell_problem(self.rows[index], "Image", text)

    def place(self, index: int) -> str:
        """Where row `index` stands: 'row 7' of a CSV, the file in a folder."""
        return self.images[index] if self.rows is None else f"row {self.rows[index]}"


@dataclass(frozen=True)
class Problem:
    """One thing that the user must correct before anything is trained."""

    text: str  # a sentence without its full stop, which says where
    row: int | None = None  # the row number that the text names


@dataclass(frozen=True)
class Listing:
    """What --data or --test names, read but for the images."""

    table: Table  # a label that cannot be read is -1, and has its problem
    problems: list[Problem]
    warnings: list[str]
    test: Table | None = None  # the data's own test part


def cell_problem(row: int, column: str, what: str) -> Problem:
    """The problem of one cell of a CSV, as in 'row 17, Label: 5 is outside 0..4'."""
    return Problem(f"row {row}, {column}: {what}", row)


def refuse(source: str, problems: Sequence[Problem], undone: str) -> None:
    """Raises UserError with every problem, in the order of their rows, if there is one.

    Args:
        source: what the user named.
        undone: what was not done for it, as in 'nothing was trained'.
    """
    if not problems:
        return
    rows = {problem.row for problem in problems}
    found = count(len(problems), "problem") if None in rows else count(len(rows), "bad row")
    many = "them" if found.endswith("s") else "it"
    lines = [f"{source} has {found}; {undone}. Correct or remove {many}."]
    ordered = sorted(problems, key=lambda problem: math.inf if problem.row is None else problem.row)
    lines += [f"  {problem.text}" for problem in ordered[:LISTED_PROBLEMS]]
    if len(ordered) > LISTED_PROBLEMS:
        lines.append(f"  and {len(ordered) - LISTED_PROBLEMS} more")
    raise UserError("\n".join(lines))


def check_columns(source: str, metadata: Sequence[str], inputs: Sequence[str], target: str | None) -> None:
    """Raises UserError, with the nearest name, unless the inputs and the target are among the metadata columns."""
    for option, name in [*(("--inputs", name) for name in inputs), *([] if target is None else [("--target", target)])]:
        if name not in metadata:
            raise UserError(f"{option}: {source} has no metadata column '{name}'{nearest(name, metadata)}")


def count(number: int, noun: str) -> str:
    """'1 row', '2 rows'."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def such_as(examples: Sequence[str]) -> str:
    """', such as A, B, C' with the first few examples."""
    return ", such as " + ", ".join(examples[:EXAMPLES])
