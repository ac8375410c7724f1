"""The labelled images that benchmarks search on: random ones, or a part of a CSV's."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

Rows = Sequence[dict[str, str]]
SIZE, CLASSES = 28, 5


def write_images(folder: Path, images: int) -> Path:
    """A CSV of random images, each class as often as any other."""
    rng = np.random.default_rng(0)
    for number in range(images):
        pixels = rng.integers(256, size=(SIZE, SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png", compress_level=1)
    path = folder / "data.csv"
    path.write_text("Image,Label\n" + "".join(f"{number}.png,{number % CLASSES}\n" for number in range(images)))
    return path


def read_rows(path: Path) -> Rows:
    """A CSV's rows in an order of chance, always the same; images by absolute paths, so that the rows can be moved."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    order = np.random.default_rng(0).permutation(len(rows))
    return [{**rows[row], "Image": str((path.parent / rows[row]["Image"]).absolute())} for row in order]


def write_rows(path: Path, rows: Rows) -> Path:
    """A CSV of rows of `read_rows`. Returns its path."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path


def part_of(data: Path | None, images: int | None, folder: Path) -> Path:
    """A CSV in the folder: of so many of the data's images, of all where no number is given, or of random ones."""
    if data is None:
        return write_images(folder, images or 2000)
    return write_rows(folder / "part.csv", read_rows(data)[:images])
