from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits  # type: ignore[import-untyped]

from trainable.digits import digit, digits_folder
from trainable.errors import UserError
from trainable.pixels import decoded_image


def test_the_digits_are_written_once_as_a_csv_with_images(tmp_path: Path) -> None:
    folder = digits_folder(tmp_path / "cache")
    lines = (folder / "data.csv").read_text().splitlines()
    assert (len(lines), lines[0], lines[1], lines[-1]) == (
        1501,
        "Image,Label",
        "images/0001.png,0",
        f"images/1500.png,{load_digits().target[1499]}",
    )
    lines = (folder / "testdata.csv").read_text().splitlines()
    assert (len(lines), lines[0], lines[1], lines[-1]) == (298, "Image", "images/1501.png", "images/1797.png")

    image = Image.open(folder / "images" / "0001.png")
    assert (image.mode, image.size) == ("L", (8, 8))
    assert np.array_equal(np.asarray(image), np.rint(load_digits().images[0] * 255 / 16))

    (folder / "images" / "0001.png").unlink()  # would come back if they were written again
    assert digits_folder(tmp_path / "cache") == folder
    assert not (folder / "images" / "0001.png").exists()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["digits"]


def test_a_digit_is_the_same_without_the_files(tmp_path: Path) -> None:
    folder = digits_folder(tmp_path)
    for name in ("images/0001.png", "images/1797.png"):
        assert np.array_equal(digit(name, 20), decoded_image(folder, name, 20))
    assert digit("images/1798.png", 20) is None


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(UserError) as error:
        digits_folder(tmp_path / "cache")
    assert str(error.value) == f"the cache folder {tmp_path / 'cache'} cannot be written: File exists"
