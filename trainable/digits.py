"""The handwritten digits that scikit-learn carries, as a CSV with its images: the data that needs nothing."""

import csv
from collections.abc import Mapping, Sequence
from functools import cache as once
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainable.files import make_folder, write_folder
from trainable.pixels import cache_writes, rgb

TEST_IMAGES = 297  # the last of 1,797


def digits_folder(cache: Path) -> Path:
    """The folder with data.csv (1,500 rows: Image,Label), testdata.csv (297 rows: Image) and images/, 8x8 grayscale.

    Written once under `cache`.

    Raises:
        UserError: if the cache cannot be written.
    """
    folder = cache / "digits"
    if folder.is_dir():
        return folder
    images, labels = _loaded()

    def write(into: Path) -> None:
        (into / "images").mkdir()
        for name, image in images.items():
            Image.fromarray(image).save(into / name)
        _write_csv(into / "data.csv", [("Image", "Label"), *zip(images, labels, strict=True)][:-TEST_IMAGES])
        _write_csv(into / "testdata.csv", [("Image",), *((name,) for name in [*images][-TEST_IMAGES:])])

    with cache_writes(cache):
        make_folder(cache)
        write_folder(folder, write)
    return folder


def digit(name: str, size: int) -> NDArray[np.uint8] | None:
    """One digit, by the name of its image, (S, S, 3) at S = `size` pixels; None where none has that name."""
    image = _loaded()[0].get(name)
    if image is None:
        return None
    return np.asarray(rgb(Image.fromarray(image)).resize((size, size), Image.Resampling.BILINEAR))


@once
def _loaded() -> tuple[Mapping[str, NDArray[np.uint8]], Sequence[int]]:
    """The (8, 8) digits in their order, by the names of their images, and their labels."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]  # a second's import, needed once

    loaded = load_digits()
    pixels = np.rint(loaded.images * (255 / 16)).astype(np.uint8)  # from 0..16
    return {f"images/{number:04}.png": image for number, image in enumerate(pixels, start=1)}, loaded.target.tolist()


def _write_csv(path: Path, rows: Sequence[Sequence[object]]) -> None:
    with open(path, "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
