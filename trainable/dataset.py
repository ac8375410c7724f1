"""From what the user names to validated tables, their pixels, their split and their fingerprints.

Everything that is wrong with the data is collected and raised as one UserError, before anything is trained.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainable.config import AGE_GROUPS, DIGITS
from trainable.csv_table import read_csv
from trainable.digits import digit, digits_folder
from trainable.errors import UserError, nearest
from trainable.folder import read_folder, read_test_folder
from trainable.pixels import Pixels, Prepared, decoded_image, prepare
from trainable.preprocess import vocabulary as vocabulary_of
from trainable.splits import (
    HOLDOUT,
    MIN_GROUPS,
    TRAIN,
    VALID,
    Split,
    load_split,
    parse_fractions,
    save_split,
    stratified_folds,
    stratified_split,
)
from trainable.table import Listing, Problem, Table, count, refuse, such_as

__all__ = [
    "DIGITS",
    "HOLDOUT",
    "TRAIN",
    "VALID",
    "LabelledData",
    "Pixels",
    "Table",
    "decode",
    "load_labelled",
    "load_split",
    "load_test",
    "parse_age_groups",
    "parse_fractions",
    "picture",
    "save_split",
]


@dataclass(frozen=True)
class LabelledData:
    """A table that can be trained on."""

    table: Table
    split: Split
    pixels: Pixels
    sums: NDArray[np.uint64]  # (N, 3) of each image's pixels
    square_sums: NDArray[np.uint64]  # (N, 3)
    test: Table | None  # the data's own test part (digits; a folder with test/)
    fingerprint: str  # of the images' content, labels, columns, classes
    split_fingerprint: str  # of the (image, side) rows
    warnings: tuple[str, ...]  # a line each

    def vocabulary(self, columns: Sequence[str], rows: NDArray[np.int64]) -> dict[str, tuple[str, ...]]:
        """The values of each column in the given rows, in one-hot order."""
        chosen = np.zeros(len(self.table.images), np.bool_)
        chosen[rows] = True
        return vocabulary_of(self.table.columns, columns, chosen)

    def statistics(self, rows: NDArray[np.int64]) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Mean and standard deviation of each channel over the given rows, exact sums in, [0, 1] units out."""
        pixels = len(rows) * self.pixels.image_size**2
        mean = self.sums[rows].sum(axis=0) / pixels
        variance = self.square_sums[rows].sum(axis=0) / pixels - mean**2
        # A channel that never changes has no deviation to divide by; one gray level keeps it finite.
        std = np.sqrt(np.maximum(variance, 1.0))
        return tuple((mean / 255).tolist()), tuple((std / 255).tolist())


def load_labelled(
    data: str,
    *,
    inputs: Sequence[str],
    target: str | None = None,
    age_groups: Sequence[int] = AGE_GROUPS,
    image_size: int,
    fractions: tuple[float, float, float],
    folds: int = 0,
    seed: int,
    cache: Path,
    progress: bool,
    split_file: Path | None = None,
) -> LabelledData:
    """Reads, validates, decodes and splits what --data names; the images of its own test part are validated too.

    Args:
        data: a CSV, a folder of classes or of UTKFace names, or 'digits'.
        inputs: metadata columns that the model may read.
        target: an integer column, each of whose values is under one label, that may be learnt instead of the label.
        age_groups: as `parse_age_groups` gives them. Others than the default are refused where nothing reads them;
            not with a `split_file`, as a run that was made before they were refused must go on.
        image_size: S, in pixels.
        fractions: as `parse_fractions` gives them; without meaning where there are folds.
        folds: K parts of which each is validated by a network that learns from the others; 0: none.
        cache: the folder of decoded images, made where it is missing.
        progress: whether to show bars on stderr where that is a terminal.
        split_file: a saved split to be used instead of a new one, if the file exists.
    Raises:
        UserError: with everything that is wrong with the data.
    """
    listing = _read(data, inputs, age_groups, cache, target)
    table, test = listing.table, listing.test
    by_name = table.rows is None and "Age" in table.columns
    if not by_name and tuple(age_groups) != AGE_GROUPS and split_file is None:
        raise UserError(
            f"--age-groups: {data} is no folder of UTKFace's file names, and nothing else has age classes; "
            "leave the option out"
        )
    labels = table.labels
    assert labels is not None  # what `_read` gives has labels
    problems = list(listing.problems)
    prepared = _prepare(table, image_size, cache, progress, problems)
    warnings = [*listing.warnings, *prepared.warnings]
    if test is not None:
        warnings += _prepare(test, image_size, cache, progress, problems).warnings
    groups = _same_pixels(prepared)
    problems += _class_problems(table.classes, labels, groups, folds)
    problems += _target_problems(table, labels, target)
    refuse(data, problems, "nothing was trained")

    if split_file is not None and split_file.exists():
        split = load_split(split_file, table, folds)
    elif folds:
        split = Split(stratified_folds(labels, groups, folds, seed), folds)
    else:
        split = Split(stratified_split(labels, groups, fractions, seed))
    warnings += [*_label_conflicts(table, labels, groups), *_telling_inputs(table, labels, inputs)]
    columns = sorted(table.columns.items())
    loaded = LabelledData(
        table=table,
        split=split,
        pixels=prepared.pixels,
        sums=prepared.facts["sum"],
        square_sums=prepared.facts["square_sum"],
        test=test,
        fingerprint=_fingerprint(prepared.pixels.content, labels.tolist(), columns, table.classes),
        split_fingerprint=_fingerprint(table.images, split.sides.tolist()),
        warnings=(),
    )
    known = loaded.vocabulary(inputs, split.trained)
    warnings += _unseen_values(table, known, "--inputs")
    if test is not None:
        warnings += _unseen_values(test, known, test.source)
    return replace(loaded, warnings=tuple(warnings))


def load_test(
    test: str, vocabulary: Mapping[str, Sequence[str]], *, image_size: int, cache: Path, progress: bool
) -> tuple[Table, tuple[str, ...]]:
    """Reads and validates what --test names, images included; returns the test table and the warnings, a line each.

    Args:
        test: a CSV with Image and the inputs' columns, or a folder of images (of UTKFace names, if there are inputs).
            A Label is never read.
        vocabulary: the inputs, with the values that training saw: `Preprocessing.vocabulary`.
        image_size: S, in pixels; `decode` at this size is quick afterwards.
        cache, progress: as for `load_labelled`.
    Raises:
        UserError: with everything that is wrong with the table.
    """
    if not test:  # else Path("") is the current folder
        raise UserError("--test: the value is empty; name a CSV or a folder of images")
    path, inputs = Path(test), tuple(vocabulary)
    if path.is_dir():
        listing = read_test_folder(path, test, inputs)
    elif path.exists():
        listing = read_csv(path, test, inputs, labelled=False)
    else:
        raise UserError(f"--test: no file or folder is called '{test}'")
    problems = list(listing.problems)
    prepared = _prepare(listing.table, image_size, cache, progress, problems)
    refuse(test, problems, "nothing was predicted")
    return listing.table, (*listing.warnings, *prepared.warnings, *_unseen_values(listing.table, vocabulary, test))


def decode(table: Table, image_size: int, cache: Path, progress: bool) -> Pixels:
    """The table's images in the cache, decoded and resized to S = `image_size` pixels unless they are there already.

    Raises:
        UserError: if an image cannot be used, or the cache cannot be written.
    """
    problems: list[Problem] = []
    pixels = _prepare(table, image_size, cache, progress, problems).pixels
    refuse(table.source, problems, "nothing was decoded")
    return pixels


def picture(data: str, image: str, size: int) -> NDArray[np.uint8] | None:
    """One (S, S, 3) image of what --data names, at S = `size` pixels; None where it is not to be had (any more).

    Args:
        image: as the table names it; what leaves the data's folder is not to be had.
    """
    if data == DIGITS:  # not those of a cache, which may be any folder
        return digit(image, size)
    return decoded_image(Path(data) if Path(data).is_dir() else Path(data).parent, image, size)


def parse_age_groups(text: str) -> tuple[int, ...]:
    """The first age of each class, then the first age beyond the last class, as in '10,20,30,40,50,61'.

    Raises:
        UserError: unless they are three or more increasing integers from 0 on.
    """
    try:
        ages = tuple(int(part) for part in text.split(","))
    except ValueError:
        ages = ()
    if len(ages) < 3 or ages[0] < 0 or any(low >= high for low, high in zip(ages, ages[1:], strict=False)):
        raise UserError(f"--age-groups: '{text}' is not three or more increasing ages, as in 10,20,30,40,50,61")
    return ages


def _read(data: str, inputs: Sequence[str], age_groups: Sequence[int], cache: Path, target: str | None) -> Listing:
    if not data:  # else Path("") is the current folder
        raise UserError(f"--data: the value is empty; name a CSV, a folder, or {DIGITS}")
    path = Path(data)
    if data == DIGITS:
        folder = digits_folder(cache)
        listing = read_csv(folder / "data.csv", data, inputs, labelled=True, target=target)
        test = read_csv(folder / "testdata.csv", data, (), labelled=False).table
        return Listing(listing.table, listing.problems, listing.warnings, test)
    if path.is_dir():
        return read_folder(path, data, inputs, age_groups, target)
    if path.exists():
        return read_csv(path, data, inputs, labelled=True, target=target)
    raise UserError(f"--data: no file or folder is called '{data}'{nearest(data, [DIGITS])}")


def _prepare(table: Table, image_size: int, cache: Path, progress: bool, problems: list[Problem]) -> Prepared:
    """The table's images; what is wrong with them is added to `problems`."""
    prepared = prepare(table, image_size, cache, progress=progress)
    problems += [table.problem(index, fault) for index, fault in prepared.faults.items()]
    return prepared


def _same_pixels(prepared: Prepared) -> NDArray[np.int64]:
    """(N,) the index of the first row with the same pixels; an image with a fault is like no other."""
    first: dict[object, int] = {}
    identities = prepared.facts["identity"]
    keys = [index if index in prepared.faults else identity.tobytes() for index, identity in enumerate(identities)]
    return np.array([first.setdefault(key, index) for index, key in enumerate(keys)], np.int64)


def _class_problems(
    classes: Sequence[str], labels: NDArray[np.int64], groups: NDArray[np.int64], folds: int
) -> list[Problem]:
    """The classes with too few different images, labels and groups being (N,)."""
    needing, least = (f"--folds {folds}", folds) if folds else ("splitting", MIN_GROUPS)
    if len(classes) == 1:
        return [Problem("there is one class; training needs at least 2")]
    problems = []
    for label, name in enumerate(classes):
        rows = np.flatnonzero(labels == label)
        different = int(np.count_nonzero(groups[rows] == rows))
        if different < least:
            found = count(different, "image" if different == len(rows) else "different image")
            problems.append(Problem(f"class {name} has {found}; {needing} needs at least {least}"))
    return problems


def _target_problems(table: Table, labels: NDArray[np.int64], target: str | None) -> list[Problem]:
    """The values of the target column that stand under more than one label, labels being (N,)."""
    if target is None:
        return []
    found: dict[str, set[int]] = {}
    for value, label in zip(table.columns[target], labels.tolist(), strict=True):
        found.setdefault(value, set()).add(label)
    return [
        Problem(f"--target: {target} {value} is under the labels {', '.join(table.classes[i] for i in sorted(under))}")
        for value, under in found.items()
        if len(under) > 1 and -1 not in under
    ]


def _label_conflicts(table: Table, labels: NDArray[np.int64], groups: NDArray[np.int64]) -> list[str]:
    """The warning of identical pixels under different labels, if there are any."""
    named = [f"{image} ({table.classes[label]})" for image, label in zip(table.images, labels, strict=True)]
    rows = np.flatnonzero(labels != labels[groups]).tolist()
    if not rows:
        return []
    have = "image has" if len(rows) == 1 else "images have"
    examples = such_as([f"{named[row]} and {named[groups[row]]}" for row in rows])
    return [f"{table.source}: {len(rows)} {have} the same pixels as another under a different label{examples}"]


def _telling_inputs(table: Table, labels: NDArray[np.int64], inputs: Sequence[str]) -> list[str]:
    """A warning for each input column from which the label follows, as an age group does from the age."""
    warnings = []
    for name in inputs:
        pairs = set(zip(table.columns[name], labels.tolist(), strict=True))
        values = {value for value, _ in pairs}
        if len(pairs) == len(values) > 1:
            warnings.append(
                f"--inputs: {name} tells the label by itself (each of its {len(values)} values has one label only), "
                "so a network that reads it need not look at the images"
            )
    return warnings


def _unseen_values(table: Table, vocabulary: Mapping[str, Sequence[str]], source: str) -> list[str]:
    """A warning, which begins with `source`, for each input column of the table with values outside the vocabulary."""
    warnings = []
    for name, known in vocabulary.items():
        rows = [index for index, value in enumerate(table.columns[name]) if value not in known]
        if rows:
            examples = such_as([f"'{table.columns[name][index]}' in {table.place(index)}" for index in rows])
            carry = "row carries" if len(rows) == 1 else "rows carry"
            warnings.append(
                f"{source}: {len(rows)} {carry} a {name} that training never saw, encoded as all zeros{examples}"
            )
    return warnings


def _fingerprint(*parts: Any) -> str:
    return blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()
