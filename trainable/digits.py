"""The handwritten digits that scikit-learn carries, as a CSV with its images: the data that needs nothing."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from trainable.files import make_folder, write_folder
from trainable.pixels import cache_writes

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
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]  # a second's import, needed once

    loaded = load_digits()
    labels = loaded.target.tolist()
    names = [f"images/{number:04}.png" for number in range(1, len(labels) + 1)]
    pixels = np.rint(loaded.images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8), from 0..16

    def write(into: Path) -> None:
        (into / "images").mkdir()
        for name, image in zip(names, pixels, strict=True):
            Image.fromarray(image).save(into / name)
        _write_csv(into / "data.csv", [("Image", "Label"), *zip(names, labels, strict=True)][:-TEST_IMAGES])
        _write_csv(into / "testdata.csv", [("Image",), *((name,) for name in names[-TEST_IMAGES:])])

    with cache_writes(cache):
        make_folder(cache)
        write_folder(folder, write)
    return folder


def _write_csv(path: Path, rows: Sequence[Sequence[object]]) -> None:
    with open(path, "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
