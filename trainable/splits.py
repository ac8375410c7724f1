"""Train, validation and holdout, or folds: stratified, seeded, saved; images with the same pixels stay on one side.

One place decides which rows each stage may see:

|                | without folds | with K folds                                              |
|----------------|---------------|-----------------------------------------------------------|
| weights learn  | train         | for fold k: the others                                    |
| epoch, ranking | valid         | fold k, pooled over the K: every row, by a network that did not learn from it |
| ensemble       | holdout       | the same rows, again by the network that did not learn from them |
| refit          | all rows      | all rows                                                  |
"""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainable.errors import UserError
from trainable.files import write_text
from trainable.table import Table, count, such_as

TRAIN, VALID, HOLDOUT = 0, 1, 2
SIDES = ("train", "valid", "holdout")  # in the order of their numbers
MIN_GROUPS = 3  # of a class: one a side
FIELDS = ["Image", "Label", "Split"]


@dataclass(frozen=True)
class Parts:
    """Row numbers by what they are for, in increasing order; disjoint."""

    train: NDArray[np.int64]
    valid: NDArray[np.int64]
    holdout: NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Which side, or which fold, each row is on."""

    sides: NDArray[np.uint8]  # (N,) of TRAIN, VALID, HOLDOUT; with folds: of 0..folds-1
    folds: int = 0  # 0: none

    @property
    def parts(self) -> tuple[Parts, ...]:
        """The parts of each network that a trial trains: one, or one a fold."""
        if not self.folds:
            return (Parts(*(np.flatnonzero(self.sides == side) for side in (TRAIN, VALID, HOLDOUT))),)
        none = np.zeros(0, np.int64)
        return tuple(
            Parts(np.flatnonzero(self.sides != fold), np.flatnonzero(self.sides == fold), none)
            for fold in range(self.folds)
        )

    @property
    def everything(self) -> Parts:
        """The parts of a network that learns from all rows."""
        none = np.zeros(0, np.int64)
        return Parts(np.arange(len(self.sides)), none, none)

    @property
    def trained(self) -> NDArray[np.int64]:
        """The rows that some network of a trial learns from."""
        return self.everything.train if self.folds else self.parts[0].train

    @property
    def judged(self) -> NDArray[np.int64]:
        """The rows that trials are ranked on, in the table's order."""
        return self.everything.train if self.folds else self.parts[0].valid

    @property
    def weighed(self) -> NDArray[np.int64]:
        """The rows that ensemble weights are fitted on: the holdout; with folds every row, in the table's order."""
        return self.everything.train if self.folds else self.parts[0].holdout

    def names(self) -> list[str]:
        """(N,) the side of each row in words: train, valid, holdout; or fold1, fold2, ..."""
        return [f"fold{side + 1}" if self.folds else SIDES[side] for side in self.sides.tolist()]

    def counts(self) -> dict[str, int]:
        """How many rows each side has, the sides in order."""
        sides, rows = np.unique(self.sides, return_counts=True)
        return dict(zip(Split(sides, self.folds).names(), rows.tolist(), strict=True))


def parse_fractions(text: str) -> tuple[float, float, float]:
    """The fractions of train, valid and holdout from percentages, as in '70/15/15'.

    Raises:
        UserError: unless they are three positive numbers that sum to 100.
    """
    try:
        train, valid, holdout = (float(part) for part in text.split("/"))
    except ValueError:
        train = valid = holdout = 0.0
    # Written so that nan, for which every comparison is false, is refused; min() would skip it.
    if not (train > 0 and valid > 0 and holdout > 0 and abs(train + valid + holdout - 100) <= 1e-6):
        raise UserError(f"--split: '{text}' is not three percentages above 0 that sum to 100, as in 70/15/15")
    return train / 100, valid / 100, holdout / 100


def stratified_split(
    labels: NDArray[np.int64], groups: NDArray[np.int64], fractions: tuple[float, float, float], seed: int
) -> NDArray[np.uint8]:
    """(N,) of TRAIN, VALID or HOLDOUT: each class split in the given fractions, with a group or more on each side.

    Written by hand because scikit-learn's fails where a part would be smaller than the number of classes.

    Args:
        labels: (N,) in [0, C).
        groups: (N,) the index of the first row with the same pixels; its label counts for the group.
        fractions: of train, valid and holdout, each above 0, summing to 1.
    Raises:
        ValueError: if a class has fewer than MIN_GROUPS groups.
    """
    first = np.flatnonzero(groups == np.arange(len(groups)))
    random = np.random.default_rng([seed])
    cuts = np.cumsum(fractions[:2])
    split = np.full(len(labels), TRAIN, np.uint8)
    earlier = 0  # groups of the classes before
    for label in range(labels.max() + 1):
        members = random.permutation(first[labels[first] == label])
        size = len(members)
        if size < MIN_GROUPS:
            raise ValueError(f"class {label} has {size} groups; splitting needs at least {MIN_GROUPS}")
        # Rounded over all classes so far, lest many small classes all round to the same side.
        ends = np.floor(cuts * (earlier + size) + 0.5) - np.floor(cuts * earlier + 0.5)
        train = min(max(int(ends[0]), 1), size - 2)
        seen = min(max(int(ends[1]), train + 1), size - 1)
        split[members[train:seen]] = VALID
        split[members[seen:]] = HOLDOUT
        earlier += size
    return split[groups]


def stratified_folds(labels: NDArray[np.int64], groups: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.uint8]:
    """(N,) fold of each row, in [0, folds): each class's groups dealt out evenly, the next class where the last ended.

    Args:
        labels, groups: as for `stratified_split`.
    """
    first = np.flatnonzero(groups == np.arange(len(groups)))
    random = np.random.default_rng([seed])
    dealt = np.concatenate(
        [random.permutation(first[labels[first] == label]) for label in range(int(labels.max()) + 1)]
    )
    split = np.zeros(len(labels), np.uint8)
    split[dealt] = np.arange(len(dealt)) % folds
    return split[groups]


def save_split(path: Path, table: Table, split: Split) -> None:
    """Writes the CSV Image,Label,Split atomically: the class's name, and the side as `Split.names` has it."""
    if table.labels is None:
        raise ValueError("a test table has no split")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(FIELDS)
    for image, label, side in zip(table.images, table.labels, split.names(), strict=True):
        writer.writerow((image, table.classes[label], side))
    write_text(path, text.getvalue())


def load_split(path: Path, table: Table, folds: int = 0) -> Split:
    """The inverse of `save_split`, in the table's order.

    Raises:
        UserError: if the file is not a split, or not of this table's images.
    """
    sides = [f"fold{fold + 1}" for fold in range(folds)] or list(SIDES)
    try:
        with open(path, newline="", encoding="utf-8") as file:
            saved = {row["Image"]: sides.index(row["Split"]) for row in csv.DictReader(file)}
        if folds and len(set(saved.values())) < folds:
            raise ValueError("a split into fewer folds")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    except (KeyError, ValueError, csv.Error) as error:
        raise UserError(f"{path} is not a saved split (Image,Label,Split with {', '.join(sides)})") from error
    images = set(table.images)
    missing = [image for image in table.images if image not in saved]
    foreign = [image for image in saved if image not in images]
    if missing:
        raise UserError(f"{path} is not of {table.source}: it lacks {count(len(missing), 'image')}{such_as(missing)}")
    if foreign:
        raise UserError(f"{path} is not of {table.source}: {count(len(foreign), 'image')} too many{such_as(foreign)}")
    return Split(np.array([saved[image] for image in table.images], np.uint8), folds)
