"""Stored pixels as a network reads them: batches on the device that computes, without ever waiting for it."""

import math
from weakref import WeakValueDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from trainable.config import TrialConfig
from trainable.device import Device

STEP = 8  # pixels: each size of images is a shape that kernels are made or looked up for
CHUNK = 2**26  # bytes that are sent to a card at a time, of pixels that stay there
SHARE = 4  # pixels stay on a card where they take at most a quarter of its free memory

_resident: WeakValueDictionary[tuple[str | int, torch.device], Tensor] = WeakValueDictionary()


class Images:
    """Batches of stored pixels.

    On a card the pixels stay there as uint8 where they fit (SHARE), one copy for all that read the same file; else each
    batch is gathered by the CPU and copied from pinned memory, in a stream of its own: while the card computes a step,
    the CPU is ahead of it and the next step's batch is on its way.

    Args:
        pixels: (N, S, S, 3) uint8, usually memory-mapped.
        device: where batches shall be.
        once: each image is read once, as for predictions: then it does not pay to keep them on a card.
    Attributes:
        where: where the pixels are and why, for the log.
    """

    def __init__(self, pixels: NDArray[np.uint8], device: Device, *, once: bool = False) -> None:
        self.pixels, self.device = pixels, device
        self.resident: Tensor | None = None
        self.copies: torch.cuda.Stream | None = None  # where batches are copied
        self.where = f"{_size(pixels.nbytes)} of pixels in memory, shared by the trials of this machine"
        if device.device.type == "cuda" and not once:
            self.resident, self.where = self._on_card()
        if device.device.type == "cuda" and self.resident is None:
            self.copies = torch.cuda.Stream(device.device)

    def __len__(self) -> int:
        return len(self.pixels)

    def __call__(self, rows: NDArray[np.int64], side: int | None = None) -> Tensor:
        """(B,) rows to (B, 3, S, S) float32 in 0..255, in the device's memory format.

        With a `side` of less than S to (B, 3, side, side): bilinear over the area that a pixel takes, as stored images
        were made of larger ones. A CPU does that to bytes, rounding, which is many times as fast; a card has it for
        floats alone.
        """
        if self.resident is not None:
            batch = self.resident[self.device.send(torch.from_numpy(rows))]
        else:
            batch = self._copied(torch.from_numpy(self.pixels[rows]))
        batch = batch.permute(0, 3, 1, 2)
        if side is not None and side < batch.shape[3]:
            batch = batch if batch.device.type == "cpu" else batch.float()
            batch = F.interpolate(batch, size=(side, side), mode="bilinear", antialias=True)
        return batch.float().contiguous(memory_format=self.device.memory_format)

    def _copied(self, batch: Tensor) -> Tensor:
        if self.copies is None:
            return self.device.send(batch)
        computing = torch.cuda.current_stream(self.device.device)
        with torch.cuda.stream(self.copies):
            sent = self.device.send(batch)
        computing.wait_stream(self.copies)
        sent.record_stream(computing)  # its memory is not given to a later copy before it was read
        return sent

    def _on_card(self) -> tuple[Tensor | None, str]:
        key = (getattr(self.pixels, "filename", None) or id(self.pixels), self.device.device)
        size = _size(self.pixels.nbytes)
        found = _resident.get(key)
        if found is None:
            free, _ = torch.cuda.mem_get_info(self.device.device)
            if self.pixels.nbytes > free // SHARE:
                return (
                    None,
                    f"{size} of pixels through pinned memory: more than 1/{SHARE} of the card's free {_size(free)}",
                )
            try:
                found = self._sent()
            except torch.OutOfMemoryError:  # another process has taken what was free
                return None, f"{size} of pixels through pinned memory: the card's was taken meanwhile"
            _resident[key] = found
        return found, f"{size} of pixels on the card"

    def _sent(self) -> Tensor:
        """A copy of the pixels on the device."""
        sent = torch.empty(self.pixels.shape, dtype=torch.uint8, device=self.device.device)
        at_once = max(1, CHUNK // max(1, self.pixels[:1].nbytes))
        for start in range(0, len(self.pixels), at_once):  # not all of them a second time in the machine's memory
            sent[start : start + at_once] = torch.tensor(self.pixels[start : start + at_once])
        return sent


def _size(size: int) -> str:
    """Bytes in words."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def side_in(config: TrialConfig, epoch: int) -> int:
    """The side in pixels of an epoch's training images, from 1 on: `start_scale` of image_size S in the first, rising
    linearly to S over the first `growing` of the epochs, S less a multiple of STEP, rounded up. The last epoch's is S.

    So early epochs, which learn what is coarse, cost less, and weights and batch norm's statistics end at the size that
    is evaluated: always S.

    Source: Tan and Le 2021, EfficientNetV2, algorithm 1, with an epoch a stage and the augmentation left alone.
    """
    size, rise = config.image_size, math.floor(config.growing * config.epochs)
    if epoch > rise:
        return size
    missing = (1 - config.start_scale) * size * (1 - (epoch - 1) / rise)
    return size - math.floor(missing / STEP) * STEP
