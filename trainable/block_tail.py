"""The tail of a block: batch norm, max pooling, ReLU and dropout of a convolution's outputs, as one operator.

PyTorch runs it as four passes over memory and as many back, and most of a CPU epoch outside the convolutions goes
there. On a CPU with a C++ compiler it is one pass each way (and one for the statistics) of `block_tail.cpp`, compiled
once for a kind of CPU; elsewhere it is PyTorch's own operators.

Shapes: N images, C channels, maps of H x W, windows of P x P. In training the values that pass are

    y = relu(max over the window of (gamma (x - mean) / sqrt(variance + eps) + beta))

(Ioffe and Szegedy 2015, algorithm 1; pooling and ReLU commute, so that the smaller map is rectified), and backwards,
with g the gradient that arrives at the first largest value of each window, M = N H W and xhat the normalised x,

    dbeta = sum g,  dgamma = sum g xhat,  dx = gamma / sqrt(variance + eps) (g - dbeta / M - xhat dgamma / M).

In float32 the two forms agree to 1e-5 of the largest value; in bfloat16 the fused one rounds once where the other
rounds after each pass.
"""

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from trainable.compiled import NotCompiledError, library

SOURCE = Path(__file__).with_suffix(".cpp")
LARGEST_POOL = 16  # block_tail.cpp's kLargestPool
NAMES = {torch.float32: "float", torch.bfloat16: "bfloat16", torch.float64: "double"}


class _Tail(ctypes.Structure):
    """The arguments that all functions of block_tail.cpp share; its `Tail` says what they mean."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("n", "h", "w", "c", "pool", "threads", "relu", "threshold")),
        ("noise", ctypes.c_void_p),
        ("kept", ctypes.c_double),
    ]


class Dropout:
    """Which outputs of one step are dropped: each with probability p, to 16 bits; the others are multiplied with
    1 / (1 - p). Drawn from torch's generator by way of a seed, as numbers for each output are slow to draw from it."""

    def __init__(self, p: float, outputs: int) -> None:
        self.threshold = round(p * 2**16)
        self.kept = 2**16 / (2**16 - self.threshold)
        draws = np.random.SFC64(int(torch.randint(2**62, ()))).random_raw(-(-outputs // 4))
        self.noise: NDArray[np.uint16] = draws.view(np.uint16)[:outputs]

    def __call__(self, y: Tensor) -> Tensor:
        """(N, C, H, W) values in any layout, the noise being in the order of N, H, W, C."""
        n, c, h, w = y.shape
        mask = torch.from_numpy(self.noise >= self.threshold).view(n, h, w, c).permute(0, 3, 1, 2)
        return y * mask.to(y.dtype).mul_(self.kept)


def block_tail(x: Tensor, norm: nn.BatchNorm2d, bias: Tensor, pool: int, relu: bool, dropout: float) -> Tensor:
    """(N, C, H, W) outputs of a convolution, without its bias, to (N, C, H // P, W // P).

    Args:
        x: what is normalised.
        norm: its weights, running statistics and mode (training or evaluation) are read, and the statistics updated.
        bias: (C,) the convolution's. Batch norm takes it away again: it only counts in the running mean, and its
            gradient is zero.
        pool: P.
        relu: whether to rectify.
        dropout: the probability of a value to be dropped in training, in [0, 1).
    """
    outputs = x.shape[0] * x.shape[1] * (x.shape[2] // pool) * (x.shape[3] // pool)
    on_cpu = x.device.type == "cpu"
    drop = Dropout(dropout, outputs) if on_cpu and norm.training and dropout else None
    differentiated = torch.is_grad_enabled() and not norm.training  # the fused form has no such gradient
    if on_cpu and x.dtype in NAMES and pool <= LARGEST_POOL and not differentiated and compiled() is not None:
        return _fused(x, norm, bias, pool, relu, drop)
    y = _normalised(x, norm, bias)
    y = F.max_pool2d(y, pool) if pool > 1 else y
    y = F.relu(y) if relu else y
    return drop(y) if drop is not None else F.dropout(y, dropout, norm.training and not on_cpu)


def compiled() -> ctypes.CDLL | None:
    """The compiled operator, or None where there is none."""
    try:
        return library(SOURCE)
    except NotCompiledError:
        return None


def reason() -> str:
    """Which form runs on this CPU and why, for a log."""
    try:
        library(SOURCE)
    except NotCompiledError as error:
        return f"blocks in PyTorch's operators, slower ({error})"
    return "blocks in compiled C++"


def _normalised(x: Tensor, norm: nn.BatchNorm2d, bias: Tensor) -> Tensor:
    mean, variance, momentum = _statistics(norm)
    if not norm.training:
        return F.batch_norm(x, mean - bias.detach(), variance, norm.weight, norm.bias, eps=norm.eps)
    with torch.no_grad():
        # Ahead of the call, which keeps what it updates: r + m / (1 - m) b becomes (1 - m) r + m b.
        mean.add_(bias, alpha=momentum / (1 - momentum))
        norm.num_batches_tracked += 1  # type: ignore[assignment, operator]
    return F.batch_norm(x, mean, variance, norm.weight, _shift(norm, bias), True, momentum, norm.eps)


def _shift(norm: nn.BatchNorm2d, bias: Tensor) -> Tensor:
    """beta, with a gradient of zero for the convolution's bias."""
    return norm.bias + 0 * bias


def _statistics(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor, float]:
    """Running mean and variance, and their momentum."""
    assert norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None
    return norm.running_mean, norm.running_var, norm.momentum


def _fused(x: Tensor, norm: nn.BatchNorm2d, bias: Tensor, pool: int, relu: bool, drop: Dropout | None) -> Tensor:
    x = x.contiguous(memory_format=torch.channels_last)
    n, c, h, w = x.shape
    tail = _Tail(n, h, w, c, pool, torch.get_num_threads(), relu)
    if drop is not None:
        tail.noise, tail.threshold, tail.kept = drop.noise.ctypes.data, drop.threshold, drop.kept
    running_mean, running_variance, momentum = _statistics(norm)
    if norm.training:
        y, mean, variance = _Fused.apply(x, norm.weight, _shift(norm, bias), norm.eps, tail, drop)
        with torch.no_grad():
            count = n * h * w
            running_mean.lerp_((mean + bias).to(running_mean.dtype), momentum)
            running_variance.lerp_((variance * (count / (count - 1))).to(running_variance.dtype), momentum)
            norm.num_batches_tracked += 1  # type: ignore[assignment, operator]
        return y  # type: ignore[no-any-return]
    scale = norm.weight / (running_variance + norm.eps).sqrt()
    return _forward(x, tail, scale, norm.bias + (bias - running_mean) * scale)


def _forward(x: Tensor, tail: _Tail, scale: Tensor, shift: Tensor) -> Tensor:
    shape = (tail.n, tail.c, tail.h // tail.pool, tail.w // tail.pool)
    y = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
    _call("forward", x, tail, scale, shift, y)
    return y


class _Fused(torch.autograd.Function):
    """(x, gamma, beta) to (y, mean, variance); the latter two, (C,) float64, without gradients."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, eps: float, tail: _Tail, drop: Dropout | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean, variance = torch.empty(2, tail.c, dtype=torch.float64).unbind()
        _call("statistics", x, tail, mean, variance)
        inverse = (variance + eps).rsqrt()
        scale = gamma * inverse
        shift = beta - mean * scale
        ctx.save_for_backward(x, gamma, scale, shift, mean, inverse)
        ctx.tail, ctx.drop = tail, drop
        ctx.mark_non_differentiable(mean, variance)
        return _forward(x, tail, scale, shift), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, gamma, scale, shift, mean, inverse = ctx.saved_tensors
        tail: _Tail = ctx.tail
        g = g.contiguous(memory_format=torch.channels_last)
        sums, products = torch.empty(2, tail.c, dtype=torch.float64).unbind()
        _call("backward_sums", x, tail, g, scale, shift, mean, sums, products)
        dbeta, dgamma = sums, products * inverse
        count = tail.n * tail.h * tail.w
        slope = -scale * inverse * dgamma / count
        dx = torch.empty_like(x)
        _call("backward_input", x, tail, g, scale, shift, slope, -scale * dbeta / count - slope * mean, dx)
        return dx, dgamma.to(gamma.dtype), dbeta.to(gamma.dtype), None, None, None


def _call(function: str, x: Tensor, tail: _Tail, *tensors: Tensor) -> None:
    """Calls a function of block_tail.cpp. Maps are in x's format, (C,) constants and sums in float64."""
    tensors = (x, *(tensor if tensor.dim() == 4 else tensor.double() for tensor in tensors))  # held until it returns
    pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors]
    getattr(compiled(), f"{function}_{NAMES[x.dtype]}")(ctypes.byref(tail), *pointers)
