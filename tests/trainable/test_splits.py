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
