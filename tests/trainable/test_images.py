from pathlib import Path

import numpy as np
import torch

from tests.trainable.tiny import FLOAT32, SIZE, examples
from trainable.images import Images

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
    assert Images(DATA.pixels, FLOAT32).resident is None
