"""What the kernels of a block's tail are given and must give, on any device; block_tail.py has the maths."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class Dropout:
    """Which outputs of one step are dropped: each with probability p, to 16 bits; the others are multiplied with
    1 / (1 - p).

    On a CPU the numbers come from torch's generator by way of a seed, as it is slow to draw many.
    """

    def __init__(self, p: float, outputs: int, device: torch.device) -> None:
        dropped = min(round(p * 2**16), 2**16 - 1)  # never all
        self.threshold, self.kept = dropped - 2**15, 2**16 / (2**16 - dropped)
        # (outputs,) int16, each number equally often: dropped where below the threshold.
        if device.type == "cpu":
            draws = np.random.SFC64(int(torch.randint(2**62, ()))).random_raw(-(-outputs // 4))
            self.noise = torch.from_numpy(draws.view(np.int16)[:outputs])
        else:
            self.noise = torch.randint(-(2**15), 2**15, (outputs,), dtype=torch.int16, device=device)

    def __call__(self, y: Tensor) -> Tensor:
        """(N, C, H, W) values in any layout, the noise being in the order of N, H, W, C."""
        n, c, h, w = y.shape
        mask = (self.noise >= self.threshold).view(n, h, w, c).permute(0, 3, 1, 2)
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
