"""The labelled images that benchmarks search on: random ones, or a part of a CSV's."""

import csv
import shutil
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
    """A CSV's rows in an order of chance, always the same."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [rows[row] for row in np.random.default_rng(0).permutation(len(rows))]


def write_part(data: Path, rows: Rows, to: Path) -> Path:
    """Writes rows of a CSV as one of their own, with copies of their images beside it: a search reads no others."""
    for row in rows:
        image = to.parent / row["Image"]
        image.parent.mkdir(parents=True, exist_ok=True)
        if not image.exists():
            shutil.copyfile(data.parent / row["Image"], image)
    with open(to, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return to


def part_of(data: Path | None, images: int | None, folder: Path) -> Path:
    """A CSV in the folder: of so many of the data's images, of all where no number is given, or of random ones."""
    if data is None:
        return write_images(folder, images or 2000)
    return write_part(data, read_rows(data)[:images], folder / "part.csv")
