"""What the kernels of a block's tail are given and must give, on any device; block_tail.py has the maths."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

BLOCK = 2**16  # numbers at a time, which stay in a cache


class Dropout:
    """Which outputs of one step are dropped: each with probability p, to 16 bits or more; the others are multiplied
    with 1 / (1 - p).

    Each output has a number, `noise`, all of a range equally likely, and is dropped where that is below `threshold`.
    On a CPU, where to draw many is slow, and so is memory, kernels make an output's number whenever they need it, from
    a `seed` that torch's generator draws.
    """

    def __init__(self, p: float, outputs: int, device: torch.device) -> None:
        self.outputs = outputs
        bits = 32 if device.type == "cpu" else 16
        dropped = min(round(p * 2**bits), 2**bits - 1)  # never all
        self.threshold, self.kept = dropped - 2 ** (bits - 1), 2**bits / (2**bits - dropped)
        if device.type == "cpu":
            self.seed = int(torch.randint(2**62, ()))
        else:
            self.noise = torch.randint(-(2**15), 2**15, (outputs,), dtype=torch.int16, device=device)

    @cached_property
    def noise(self) -> Tensor:
        """(outputs,) in the order of N, H, W, C. On a CPU what kernels make, `noise` of vectors.h, which says how."""
        found = np.empty(self.outputs, np.uint32)
        step, offset = np.uint32(self.seed & 0xFFFFFFFF | 1), np.uint32(self.seed >> 32)
        for start in range(0, self.outputs, BLOCK):
            x = np.arange(start, min(start + BLOCK, self.outputs), dtype=np.uint32)
            x *= step
            x += offset
            for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
                x ^= x >> np.uint32(shift)
                x *= np.uint32(factor)
            found[start : start + BLOCK] = x ^ x >> np.uint32(16)
        return torch.from_numpy(found.view(np.int32))

    def __call__(self, y: Tensor) -> Tensor:
        """(N, C, H, W) values in any layout."""
        n, c, h, w = y.shape
        mask: Tensor = (self.noise >= self.threshold).view(n, h, w, c).permute(0, 3, 1, 2)
        return y * mask.to(y.dtype).mul_(self.kept)


@dataclass(frozen=True)
class Tail:
    """What the kernels are to do with maps of (N, C, H, W), channels last."""

    n: int
    c: int
    h: int
    w: int
    pool: int
    relu: bool
    drop: Dropout | None

    @property
    def out(self) -> tuple[int, int, int, int]:
        """The outputs' shape."""
        return self.n, self.c, self.h // self.pool, self.w // self.pool


class Kernels(Protocol):
    """What a device brings. Maps are channels last and of one format, (C,) constants and sums float64; with a = scale
    and b = shift the largest a x + b of a window is taken, `relu` and `drop` following."""

    LARGEST_POOL: int

    def statistics(self, tail: Tail, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and biased variance of each channel."""

    def forward(self, tail: Tail, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """The outputs."""

    def backward_sums(
        self, tail: Tail, x: Tensor, g: Tensor, scale: Tensor, shift: Tensor, mean: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sums over the windows of the gradient that arrives at the largest value, and of its product with the value's
        x - mean; `g` is the outputs' gradient."""

    def backward_input(
        self, tail: Tail, x: Tensor, g: Tensor, scale: Tensor, shift: Tensor, slope: Tensor, offset: Tensor
    ) -> Tensor:
        """scale times what arrives at x, plus slope x + offset."""
