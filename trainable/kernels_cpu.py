"""The kernels of a block's tail on a CPU: C++, compiled once for a kind of CPU."""

import ctypes
from pathlib import Path

import torch
from torch import Tensor

from trainable.compiled import call, library
from trainable.kernels import Tail

SOURCE = Path(__file__).with_suffix(".cpp")
NAMES = {torch.float32: "float", torch.bfloat16: "bfloat16", torch.float64: "double"}


class _Tail(ctypes.Structure):
    """The arguments that all functions of kernels_cpu.cpp share; its `Tail` says what they mean."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("n", "h", "w", "c", "pool", "threads", "relu")),
        *((name, ctypes.c_int64) for name in ("drop", "seed", "threshold")),
        ("kept", ctypes.c_double),
    ]


class CpuKernels:
    """`kernels.Kernels`. Raises NotCompiledError when made where they cannot be had."""

    LARGEST_POOL = 16  # the source's kLargestPool

    def __init__(self) -> None:
        self._library = library(SOURCE)

    def statistics(self, tail: Tail, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, variance = _constants(tail)
        self._call("statistics", tail, x, mean, variance)
        return mean, variance

    def forward(self, tail: Tail, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        y = torch.empty(tail.out, dtype=x.dtype, memory_format=torch.channels_last)
        self._call("forward", tail, x, scale, shift, y)
        return y

    def backward_sums(
        self, tail: Tail, x: Tensor, g: Tensor, scale: Tensor, shift: Tensor, mean: Tensor
    ) -> tuple[Tensor, Tensor]:
        sums, products = _constants(tail)
        self._call("backward_sums", tail, x, g, scale, shift, mean, sums, products)
        return sums, products

    def backward_input(
        self, tail: Tail, x: Tensor, g: Tensor, scale: Tensor, shift: Tensor, slope: Tensor, offset: Tensor
    ) -> Tensor:
        dx = torch.empty_like(x)
        self._call("backward_input", tail, x, g, scale, shift, slope, offset, dx)
        return dx

    def _call(self, function: str, tail: Tail, x: Tensor, *tensors: Tensor) -> None:
        given = _Tail(tail.n, tail.h, tail.w, tail.c, tail.pool, torch.get_num_threads(), tail.relu)
        if tail.drop is not None:
            given.drop, given.seed, given.threshold = True, tail.drop.seed, tail.drop.threshold
            given.kept = tail.drop.kept
        call(getattr(self._library, f"{function}_{NAMES[x.dtype]}"), ctypes.byref(given), x, *tensors)


def _constants(tail: Tail) -> tuple[Tensor, Tensor]:
    first, second = torch.empty(2, tail.c, dtype=torch.float64)
    return first, second
