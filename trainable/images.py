"""Stored pixels as a network reads them: batches on the device that computes, without ever waiting for it."""

from weakref import WeakValueDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainable.device import Device

SHARE = 4  # pixels stay on a card where they take at most a quarter of its free memory

_resident: WeakValueDictionary[tuple[str | int, torch.device], Tensor] = WeakValueDictionary()


class Images:
    """Batches of stored pixels.

    On a card the pixels stay there as uint8 where they fit (SHARE), one copy for all that read the same file; else each
    batch is gathered by the CPU and copied from pinned memory, which goes on beside the card's work.

    Args:
        pixels: (N, S, S, 3) uint8, usually memory-mapped.
        device: where batches shall be.
        once: each image is read once, as for predictions: then it does not pay to keep them on a card.
    """

    def __init__(self, pixels: NDArray[np.uint8], device: Device, *, once: bool = False) -> None:
        self.pixels, self.device = pixels, device
        self.resident = None if once or device.device.type != "cuda" else self._on_card()

    def __len__(self) -> int:
        return len(self.pixels)

    def __call__(self, rows: NDArray[np.int64]) -> Tensor:
        """(B,) rows to (B, 3, S, S) float32 in 0..255, in the device's memory format."""
        if self.resident is not None:
            batch = self.resident[self.device.send(torch.from_numpy(rows))]
        else:
            batch = self.device.send(torch.from_numpy(self.pixels[rows]))
        return batch.permute(0, 3, 1, 2).float().contiguous(memory_format=self.device.memory_format)

    def _on_card(self) -> Tensor | None:
        key = (getattr(self.pixels, "filename", None) or id(self.pixels), self.device.device)
        found = _resident.get(key)
        if found is None:
            free, _ = torch.cuda.mem_get_info(self.device.device)
            if self.pixels.nbytes > free // SHARE:
                return None
            found = _resident[key] = torch.tensor(self.pixels, device=self.device.device)
        return found
