from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trainable.tiny import FLOAT32, SIZE, examples
from trainable.config import TrialConfig
from trainable.images import Images, side_in

DATA = examples()
ROWS = np.array([5, 0, 5, 37])


def test_a_batch_is_its_rows_of_pixels() -> None:
    batch = Images(DATA.pixels, FLOAT32)(ROWS)
    assert (batch.shape, batch.dtype) == ((4, 3, SIZE, SIZE), torch.float32)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    expected = DATA.pixels[ROWS].transpose(0, 3, 1, 2).astype(np.float32)
    assert np.array_equal(batch.numpy(), expected)


def test_a_batch_of_mapped_pixels_may_be_changed(tmp_path: Path) -> None:
    np.save(tmp_path / "pixels.npy", DATA.pixels)
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    images = Images(mapped, FLOAT32)
    images(ROWS).zero_()
    assert np.array_equal(mapped, DATA.pixels)
    assert images(ROWS).any()


def test_a_cpu_reads_the_pixels_where_they_are() -> None:
    images = Images(DATA.pixels, FLOAT32)
    assert images.resident is None
    assert (
        images.where == f"{DATA.pixels.nbytes / 1e6:.1f} MB of pixels in memory, shared by the trials of this machine"
    )


@pytest.mark.parametrize("side", [14, 20])
def test_a_smaller_batch_is_one_plain_colour_where_the_pixels_are(side: int) -> None:
    colours = np.array([[0, 128, 255], [7, 8, 9]], np.uint8)
    pixels = np.broadcast_to(colours[:, None, None], (2, SIZE, SIZE, 3)).copy()
    batch = Images(pixels, FLOAT32)(np.array([1, 0]), side)
    assert (batch.shape, batch.dtype) == ((2, 3, side, side), torch.float32)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(batch.numpy(), np.broadcast_to(colours[::-1, :, None, None], (2, 3, side, side)))


def test_at_half_the_side_a_pixel_is_the_weighted_mean_of_those_around_it() -> None:
    # The triangle of bilinear filtering, twice as wide: 1, 3, 3, 1 eighths. Stripes two pixels wide, white and black.
    row = np.where(np.arange(SIZE) // 2 % 2 == 0, 255, 0).astype(np.uint8)
    pixels = np.broadcast_to(row[None, None, :, None], (1, SIZE, SIZE, 3)).copy()
    found = Images(pixels, FLOAT32)(np.array([0]), SIZE // 2)[0, 0, 5, 2:6].tolist()
    assert found == [pytest.approx(255 * 6 / 8, abs=1), pytest.approx(255 * 2 / 8, abs=1)] * 2


def test_a_side_that_the_pixels_have_already_changes_nothing() -> None:
    images = Images(DATA.pixels, FLOAT32)
    assert torch.equal(images(ROWS, SIZE), images(ROWS))


@pytest.mark.parametrize(
    ("settings", "sides"),
    [
        ({"image_size": 64, "epochs": 3}, [64, 64, 64]),  # the default
        # 32 missing pixels, a sixth of them fewer each epoch: 32, 26.7, 21.3, 16, 10.7, 5.3; in steps of 8.
        ({"image_size": 64, "epochs": 8, "start_scale": 0.5}, [32, 40, 48, 48, 56, 64, 64, 64]),
        ({"image_size": 64, "epochs": 4, "start_scale": 0.5, "growing": 0.5}, [32, 48, 64, 64]),
        ({"image_size": 28, "epochs": 4, "start_scale": 0.5}, [20, 20, 28, 28]),  # 14, 9.3, 4.7 missing
        ({"image_size": 224, "epochs": 4, "start_scale": 0.25}, [56, 112, 168, 224]),
        ({"image_size": 64, "epochs": 3, "start_scale": 0.5, "growing": 0.0}, [64, 64, 64]),
        ({"image_size": 64, "epochs": 1, "start_scale": 0.5}, [64]),  # the last is the full size
        ({"image_size": 64, "epochs": 2, "start_scale": 0.5, "growing": 0.99}, [32, 64]),
    ],
)
def test_the_sides_epoch_by_epoch(settings: dict[str, float], sides: list[int]) -> None:
    config = TrialConfig(**settings)  # type: ignore[arg-type]
    assert [side_in(config, epoch) for epoch in range(1, config.epochs + 1)] == sides
