from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from trainable.errors import UserError
from trainable.splits import (
    HOLDOUT,
    TRAIN,
    VALID,
    Split,
    load_split,
    parse_fractions,
    save_split,
    stratified_folds,
    stratified_split,
)
from trainable.table import Table

DEFAULT = (0.7, 0.15, 0.15)


def split_of(sizes: list[int], fractions: tuple[float, float, float] = DEFAULT, seed: int = 0) -> NDArray[np.uint8]:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return stratified_split(labels, np.arange(len(labels)), fractions, seed)


def counts(split: NDArray[np.uint8]) -> list[int]:
    return [int((split == side).sum()) for side in (TRAIN, VALID, HOLDOUT)]


@pytest.mark.parametrize(
    ("size", "fractions", "expected"),
    [
        (100, DEFAULT, [70, 15, 15]),
        (20, DEFAULT, [14, 3, 3]),
        (3, DEFAULT, [1, 1, 1]),
        (4, DEFAULT, [2, 1, 1]),
        (3, (0.98, 0.01, 0.01), [1, 1, 1]),
        (3, (0.01, 0.01, 0.98), [1, 1, 1]),
        (10, (0.01, 0.98, 0.01), [1, 8, 1]),
    ],
)
def test_exact_counts_of_one_class(size: int, fractions: tuple[float, float, float], expected: list[int]) -> None:
    assert counts(split_of([size], fractions)) == expected


def test_every_class_is_split_in_the_same_fractions() -> None:
    split = split_of([100, 20, 40])
    assert [counts(split[start:end]) for start, end in ((0, 100), (100, 120), (120, 160))] == [
        [70, 15, 15],
        [14, 3, 3],
        [28, 6, 6],
    ]


def test_rounding_does_not_favour_a_side_over_many_small_classes() -> None:
    # Alone, each class of 10 would round to 7/2/1 and a hundred of them to 700/200/100.
    assert counts(split_of([10] * 100)) == [700, 150, 150]


def test_the_seed_decides_and_nothing_else() -> None:
    assert np.array_equal(split_of([30, 30], seed=1), split_of([30, 30], seed=1))
    assert not np.array_equal(split_of([30, 30], seed=1), split_of([30, 30], seed=2))


def test_rows_with_the_same_pixels_stand_on_one_side() -> None:
    groups = np.arange(60) // 3 * 3  # 20 images, each in three rows
    split = stratified_split(np.zeros(60, np.int64), groups, DEFAULT, seed=0)
    assert np.array_equal(split, split[groups])
    assert counts(split) == [42, 9, 9]


def test_too_few_groups_of_a_class() -> None:
    with pytest.raises(ValueError, match="^class 1 has 2 groups; splitting needs at least 3$"):
        split_of([3, 2])


@pytest.mark.parametrize(
    ("text", "expected"), [("70/15/15", DEFAULT), ("80/10/10", (0.8, 0.1, 0.1)), ("98/1/1", (0.98, 0.01, 0.01))]
)
def test_fractions(text: str, expected: tuple[float, float, float]) -> None:
    assert parse_fractions(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "70/30",
        "70/15/15/0",
        "100/0/0",
        "85/-5/20",
        "70/15/20",
        "a/b/c",
        "nan/50/50",
        "50/nan/50",
        "50/50/nan",
        "inf/1/1",
        "1/inf/1",
        "50/inf/-inf",
    ],
)
def test_nonsense_for_fractions(text: str) -> None:
    with pytest.raises(UserError) as error:
        parse_fractions(text)
    assert str(error.value) == f"--split: '{text}' is not three percentages above 0 that sum to 100, as in 70/15/15"


def table(*images: str) -> Table:
    return Table("faces.csv", Path("."), images, np.arange(len(images)) % 2, ("young", "old, or so"), {})


def test_a_split_is_saved_and_loaded(tmp_path: Path) -> None:
    path = tmp_path / "splits.csv"
    save_split(path, table("a.jpg", "b,c.jpg", "d.jpg"), Split(np.array([2, 0, 1], np.uint8)))
    assert (
        path.read_text() == 'Image,Label,Split\na.jpg,young,holdout\n"b,c.jpg","old, or so",train\nd.jpg,young,valid\n'
    )
    assert load_split(path, table("d.jpg", "a.jpg", "b,c.jpg")).sides.tolist() == [1, 2, 0]  # in the table's order


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (("a", "b", "c"), "is not of faces.csv: it lacks 1 image, such as c"),
        (("a",), "is not of faces.csv: 1 image too many, such as b"),
    ],
)
def test_a_split_of_other_images(tmp_path: Path, images: tuple[str, ...], message: str) -> None:
    path = tmp_path / "splits.csv"
    save_split(path, table("a", "b"), Split(np.array([0, 1], np.uint8)))
    with pytest.raises(UserError) as error:
        load_split(path, table(*images))
    assert str(error.value) == f"{path} {message}"


@pytest.mark.parametrize("content", ["Image,Split\na,trian\n", "Image\na\n", "Image,Split\na\n", "\xff"])
def test_what_is_no_split(tmp_path: Path, content: str) -> None:
    path = tmp_path / "splits.csv"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError) as error:
        load_split(path, table("a"))
    assert str(error.value) == f"{path} is not a saved split (Image,Label,Split with train, valid, holdout)"


def test_every_class_is_on_every_side() -> None:
    split = split_of([3, 4, 5, 6])
    labels = np.repeat(np.arange(4), [3, 4, 5, 6])
    assert Counter(zip(labels.tolist(), split.tolist(), strict=True)).keys() == {
        (label, side) for label in range(4) for side in (TRAIN, VALID, HOLDOUT)
    }


# Folds


def folds_of(sizes: list[int], folds: int, seed: int = 0) -> NDArray[np.uint8]:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return stratified_folds(labels, np.arange(len(labels)), folds, seed)


@pytest.mark.parametrize(("sizes", "folds"), [([30, 20], 5), ([7, 8, 9], 3), ([2, 2], 2), ([11, 13, 5, 6], 4)])
def test_folds_are_even_in_all_and_in_every_class(sizes: list[int], folds: int) -> None:
    split = folds_of(sizes, folds)
    assert set(split.tolist()) == set(range(folds))
    ends = np.cumsum([0, *sizes])
    for start, end in [(0, ends[-1]), *zip(ends, ends[1:], strict=False)]:
        rows = np.bincount(split[start:end], minlength=folds)
        assert rows.max() - rows.min() <= 1


def test_a_class_is_dealt_on_where_the_last_one_ended() -> None:
    # Alone, each class of 3 would put two rows into the first fold: 20 and 10. So 15 and 15.
    assert np.bincount(folds_of([3] * 10, 2)).tolist() == [15, 15]


def test_the_seed_decides_the_folds_and_nothing_else() -> None:
    assert np.array_equal(folds_of([30, 30], 3, seed=1), folds_of([30, 30], 3, seed=1))
    assert not np.array_equal(folds_of([30, 30], 3, seed=1), folds_of([30, 30], 3, seed=2))
    assert folds_of([30], 3).tolist() != sorted(folds_of([30], 3).tolist())
    assert folds_of([30], 3).tolist() != [row % 3 for row in range(30)]


def test_rows_with_the_same_pixels_are_in_one_fold() -> None:
    groups = np.arange(60) // 3 * 3  # 20 images, each in three rows
    split = stratified_folds(np.zeros(60, np.int64), groups, 4, seed=0)
    assert np.array_equal(split, split[groups])
    assert np.bincount(split).tolist() == [15] * 4


def test_parts_of_folds_validate_each_row_once_by_a_network_that_did_not_learn_from_it() -> None:
    split = Split(np.array([2, 0, 1, 0, 2, 1], np.uint8), folds=3)
    assert [part.valid.tolist() for part in split.parts] == [[1, 3], [2, 5], [0, 4]]
    assert [part.train.tolist() for part in split.parts] == [[0, 2, 4, 5], [0, 1, 3, 4], [1, 2, 3, 5]]
    assert [part.holdout.tolist() for part in split.parts] == [[], [], []]


def test_without_folds_there_is_one_network() -> None:
    (parts,) = Split(np.array([HOLDOUT, TRAIN, VALID, TRAIN], np.uint8)).parts
    assert (parts.train.tolist(), parts.valid.tolist(), parts.holdout.tolist()) == ([1, 3], [2], [0])


def test_weights_are_fitted_on_the_holdout_and_with_folds_on_every_row() -> None:
    sides = np.array([HOLDOUT, TRAIN, VALID, HOLDOUT], np.uint8)
    assert Split(sides).weighed.tolist() == [0, 3]
    assert Split(sides, folds=3).weighed.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("folds", [0, 3])
def test_everything_is_all_rows_to_learn_from(folds: int) -> None:
    everything = Split(np.array([2, 0, 1, 0], np.uint8), folds).everything
    assert everything.train.tolist() == [0, 1, 2, 3]
    assert len(everything.valid) == len(everything.holdout) == 0


def test_names_and_counts_of_sides() -> None:
    sides = np.array([2, 0, 2, 1, 2], np.uint8)
    assert Split(sides).names() == ["holdout", "train", "holdout", "valid", "holdout"]
    assert list(Split(sides).counts().items()) == [("train", 1), ("valid", 1), ("holdout", 3)]
    assert Split(sides, 3).names() == ["fold3", "fold1", "fold3", "fold2", "fold3"]
    assert list(Split(sides, 3).counts().items()) == [("fold1", 1), ("fold2", 1), ("fold3", 3)]


def test_folds_are_saved_and_loaded(tmp_path: Path) -> None:
    path = tmp_path / "splits.csv"
    save_split(path, table("a.jpg", "b.jpg", "c.jpg"), Split(np.array([1, 0, 2], np.uint8), folds=3))
    assert path.read_text() == ('Image,Label,Split\na.jpg,young,fold2\nb.jpg,"old, or so",fold1\nc.jpg,young,fold3\n')
    loaded = load_split(path, table("c.jpg", "a.jpg", "b.jpg"), folds=3)
    assert (loaded.sides.tolist(), loaded.folds) == ([2, 1, 0], 3)


@pytest.mark.parametrize(
    ("saved", "asked", "wanted"),
    [
        (3, 2, "fold1, fold2"),
        (3, 4, "fold1, fold2, fold3, fold4"),
        (3, 0, "train, valid, holdout"),
        (0, 3, "fold1, fold2, fold3"),
    ],
)
def test_a_split_into_other_folds_is_refused(tmp_path: Path, saved: int, asked: int, wanted: str) -> None:
    path, images = tmp_path / "splits.csv", table("a", "b", "c")
    save_split(path, images, Split(np.array([1, 0, 2], np.uint8), saved))
    with pytest.raises(UserError) as error:
        load_split(path, images, asked)
    assert str(error.value) == f"{path} is not a saved split (Image,Label,Split with {wanted})"
