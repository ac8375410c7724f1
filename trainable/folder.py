"""A folder of images as a table: a subfolder a class, or UTKFace's file names (age_gender_race_date.jpg)."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainable.errors import UserError
from trainable.table import Listing, Problem, Table, check_columns, count, such_as

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
UTKFACE_NAME = re.compile(r"([0-9]{1,3})_([0-9]{1,2})_([0-9]{1,2})_.+")
UTKFACE_COLUMNS = ("Age", "Gender", "Race")
VALIDATION = {"val", "valid", "validation"}
BESIDE_TRAIN = {"test", *VALIDATION}


def read_folder(
    folder: Path, source: str, inputs: Sequence[str], age_groups: Sequence[int], target: str | None = None
) -> Listing:
    """The labelled table of a folder, and its test table if it holds test/ beside train/.

    train/ stands above the classes unless there are images in folders beside it that are no part of a split: it is a
    class like them then.

    Args:
        inputs: columns that must be there: Age, Gender and Race for UTKFace names, none for classes.
        age_groups: the first age of each class of UTKFace names, then the first age beyond the last class.
        target: one more column that must be there.
    Raises:
        UserError: if there are no images, or no such column; or if it is not clear which kind of folder it is.
    """
    names, others = _file_names(folder)
    beside = {name.split("/", 1)[0] for name in names if "/" in name} - {"train"}
    base = "train/" if (folder / "train").is_dir() and beside <= BESIDE_TRAIN else ""
    train = [name for name in names if name.startswith(base)]
    if not train:
        raise UserError(
            f"{source} has no images{f' in {base}' if base else ''}: put them into a subfolder for each class, "
            "or name them age_gender_race_date.jpg"
        )
    in_classes = [name for name in train if "/" in name.removeprefix(base)]
    used = in_classes or train
    _check_kind(source, used, [name for name in {*names} - {*used} if "/" not in name.removeprefix(base)])
    known = () if in_classes else UTKFACE_COLUMNS
    check_columns(source, known, inputs, target)

    problems: list[Problem] = []
    warnings: list[str] = []
    if in_classes:
        table = _class_table(folder, source, in_classes, base)
        problems += _empty_classes(folder / base, base, table.classes, others)
        if not base and any(name.startswith("train/") and name.count("/") > 1 for name in names):
            warnings.append(f"{source}: train/ is a class like {min(beside)}/ beside it, and not above its subfolders")
    else:
        table = _utkface_table(folder, source, train, age_groups, problems, warnings)
    of_class = [name for name in others if name.startswith(base) and "/" in name.removeprefix(base)]
    of_test = [name for name in others if base and name.startswith("test/")]
    warnings += _unknown_extensions(source, sorted(of_class + of_test))
    test = [name for name in names if base and name.startswith("test/")]
    stray = sorted({*names} - {*used, *test})
    for part in sorted(VALIDATION) if base else ():
        if of_part := [name for name in stray if name.startswith(f"{part}/")]:
            stray = [name for name in stray if not name.startswith(f"{part}/")]
            warnings.append(
                f"{source}: {count(len(of_part), 'image')} of {part}/ left out: what validates is split off train/; "
                "move them there to use them, too"
            )
    if stray:
        warnings.append(f"{source}: {count(len(stray), 'image')} outside the classes left out{such_as(stray)}")
    test_table = _test_table(folder, source, test, inputs, problems) if test else None
    return Listing(table, problems, warnings, test_table)


def read_test_folder(folder: Path, source: str, inputs: Sequence[str]) -> Listing:
    """The test table of all images in a folder, flat or nested, in the order of their names.

    Raises:
        UserError: if there are no images, or `inputs` names a column that no file name can give.
    """
    names, others = _file_names(folder)
    if not names:
        raise UserError(f"{source} has no images")
    problems: list[Problem] = []
    table = _test_table(folder, source, names, inputs, problems)
    return Listing(table, problems, _unknown_extensions(source, others))


def _file_names(folder: Path) -> tuple[list[str], list[str]]:
    """The paths of all images and of all other files below, relative, with '/', sorted; nothing that is hidden.

    Links to folders are followed, so that what they hold is refused by name where it lies outside, and not overlooked.
    """
    images: list[str] = []
    others: list[str] = []
    visited = set()  # a link to a folder above it would lead round for ever
    for parent, subfolders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        subfolders[:] = [name for name in subfolders if not name.startswith(".") and real not in visited]
        if real not in visited:
            for name in files:
                if not name.startswith("."):
                    path = Path(parent, name).relative_to(folder).as_posix()
                    (images if name.lower().endswith(EXTENSIONS) else others).append(path)
        visited.add(real)
    return sorted(images), sorted(others)


def _check_kind(source: str, used: Sequence[str], loose: Sequence[str]) -> None:
    """Raises UserError where the images beside the subfolders have UTKFace's names and outnumber those that are used:
    one stray image in a subfolder would make it a class, and leave out all the others.
    """
    named = [name for name in loose if UTKFACE_NAME.fullmatch(name.rsplit("/", 1)[-1])]
    if len(named) > len(used):
        raise UserError(
            f"{source} has {count(len(named), 'image')} named age_gender_race_date.jpg beside its subfolders, and only "
            f"{count(len(used), 'image')} in them{such_as(used)}: move those out of the subfolders, to read all by "
            "their names, or the others into a subfolder for each class"
        )


def _empty_classes(folder: Path, base: str, classes: Sequence[str], others: Sequence[str]) -> list[Problem]:
    """A problem for each subfolder of `folder` that is no class because no image is in it.

    Args:
        base: the folder's path, as it stands in front of names.
        others: the names of the files that are no images.
    """
    problems = []
    subfolders = {entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")}
    for name in sorted(subfolders - {*classes}):
        files = [file for file in others if file.startswith(f"{base}{name}/")]
        only = f", only {count(len(files), 'file')} of unknown extension{such_as(files)}" if files else ""
        problems.append(Problem(f"{base}{name} holds no images{only}"))
    return problems


def _unknown_extensions(source: str, names: Sequence[str]) -> list[str]:
    """The warning of these files, if there are any."""
    return [f"{source}: {count(len(names), 'file')} of unknown extension left out{such_as(names)}"] if names else []


def _class_table(folder: Path, source: str, names: list[str], base: str) -> Table:
    def class_of(name: str) -> str:
        return name.removeprefix(base).split("/", 1)[0]

    def order(name: str) -> tuple[bool, int, str]:  # 2 before 10, numbers before names
        number = name.isascii() and name.isdecimal()
        return (not number, int(name) if number else 0, name)

    classes = sorted({class_of(name) for name in names}, key=order)
    index = {name: label for label, name in enumerate(classes)}
    labels = np.array([index[class_of(name)] for name in names], np.int64)
    return Table(source, folder, tuple(names), labels, tuple(classes), columns={})


def _utkface_table(
    folder: Path,
    source: str,
    names: list[str],
    age_groups: Sequence[int],
    problems: list[Problem],
    warnings: list[str],
) -> Table:
    names, columns = _utkface_columns(names, problems)
    groups = np.searchsorted(age_groups, [int(age) for age in columns["Age"]], side="right") - 1
    inside = (groups >= 0) & (groups < len(age_groups) - 1)
    left_out = [name for name, kept in zip(names, inside, strict=True) if not kept]
    if left_out:
        ages = f"{age_groups[0]}-{age_groups[-1] - 1}"
        warnings.append(f"{source}: {count(len(left_out), 'image')} of ages outside {ages} left out{such_as(left_out)}")
    kept = np.flatnonzero(inside)
    return Table(
        source=source,
        root=folder,
        images=tuple(names[index] for index in kept),
        labels=groups[kept].astype(np.int64),
        classes=tuple(f"{low}-{high - 1}" for low, high in zip(age_groups[:-1], age_groups[1:], strict=True)),
        columns={column: tuple(cells[index] for index in kept) for column, cells in columns.items()},
    )


def _test_table(folder: Path, source: str, names: list[str], inputs: Sequence[str], problems: list[Problem]) -> Table:
    columns: dict[str, list[str]] = {}
    if inputs:  # else any name will do
        for name in inputs:
            if name not in UTKFACE_COLUMNS:
                raise UserError(f"{source} is a folder and has no metadata column '{name}'; name a CSV that has it")
        names, columns = _utkface_columns(names, problems)
    return Table(source, folder, tuple(names), None, (), {name: tuple(columns[name]) for name in inputs})


def _utkface_columns(names: list[str], problems: list[Problem]) -> tuple[list[str], dict[str, list[str]]]:
    """The names that say age, gender and race, and the columns of these; the other names become problems."""
    matches = {name: UTKFACE_NAME.fullmatch(name.rsplit("/", 1)[-1]) for name in names}
    parsed = {name: match.groups() for name, match in matches.items() if match}
    problems += [Problem(f"{name} is not named age_gender_race_date.jpg") for name in names if name not in parsed]
    columns = {
        column: [str(int(cells[place])) for cells in parsed.values()]  # one spelling for 01 and 1
        for place, column in enumerate(UTKFACE_COLUMNS)
    }
    return list(parsed), columns
