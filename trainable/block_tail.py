"""The tail of a block: batch norm, max pooling, ReLU and dropout of a convolution's outputs, as one operator.

PyTorch runs it as four passes over memory and as many back, and most of an epoch outside the convolutions goes there.
Here it is one pass each way, and one for the statistics, by kernels of our own: C++ on a CPU (kernels_cpu), Triton on a
card (kernels_cuda). Where they are not to be had it is PyTorch's own operators.

Shapes: N images, C channels, maps of H x W, windows of P x P. In training the values that pass are

    y = relu(max over the window of (gamma (x - mean) / sqrt(variance + eps) + beta))

(Ioffe and Szegedy 2015, algorithm 1; pooling and ReLU commute, so that the smaller map is rectified), and backwards,
with g the gradient that arrives at the first largest value of each window, M = N H W and xhat the normalised x,

    dbeta = sum g,  dgamma = sum g xhat,  dx = gamma / sqrt(variance + eps) (g - dbeta / M - xhat dgamma / M).

In float32 the kernels agree with PyTorch to 1e-5 of the largest value; in bfloat16 they round once where PyTorch rounds
after each pass.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from trainable.compiled import NotCompiledError
from trainable.kernels import Dropout, Kernels, Tail

FORMATS = (torch.float32, torch.bfloat16, torch.float64)


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
    n, c, h, w = x.shape
    drop = None
    if norm.training and dropout:
        drop = Dropout(dropout, n * c * (h // pool) * (w // pool), x.device)
    ours = kernels(x.device.type)
    differentiated = torch.is_grad_enabled() and not norm.training  # the kernels have no such gradient
    if ours is not None and x.dtype in FORMATS and pool <= ours.LARGEST_POOL and not differentiated:
        return _fused(ours, Tail(n, c, h, w, pool, relu, drop), x, norm, bias)
    y = in_operators(x, norm, bias, pool, relu)
    return y if drop is None else drop(y)


def in_operators(x: Tensor, norm: nn.BatchNorm2d, bias: Tensor, pool: int, relu: bool) -> Tensor:
    """`block_tail` in PyTorch's operators, without dropout."""
    y = _normalised(x, norm, bias)
    y = F.max_pool2d(y, pool) if pool > 1 else y
    return F.relu(y) if relu else y


def kernels(device_type: str) -> Kernels | None:
    """The kernels for a kind of device, or None where there are none."""
    found = _kernels(device_type)
    return None if isinstance(found, NotCompiledError) else found


def missing(device_type: str) -> str | None:
    """Why there are no kernels for a kind of device; None where there are."""
    found = _kernels(device_type)
    return str(found) if isinstance(found, NotCompiledError) else None


def reason(device_type: str) -> str:
    """What runs on a kind of device, and why, for a log."""
    why = missing(device_type)
    if why is not None:
        return f"blocks in PyTorch's operators, slower ({why})"
    return f"blocks in compiled {'C++' if device_type == 'cpu' else 'Triton'}"


@cache
def _kernels(device_type: str) -> Kernels | NotCompiledError:
    """The kernels, or why there are none: asked once a process, as the answer may take seconds."""
    try:
        if device_type == "cpu":
            from trainable.kernels_cpu import CpuKernels

            return CpuKernels()
        if device_type == "cuda":
            from trainable.kernels_cuda import CudaKernels

            return checked(CudaKernels(), torch.device(device_type))
    except NotCompiledError as error:
        return error
    return NotCompiledError(f"there are none for {device_type}")


def checked(ours: Kernels, device: torch.device) -> Kernels:
    """The kernels, if one small step of theirs gives PyTorch's numbers on this device.

    Raises:
        NotCompiledError: if it does not, or fails.
    """
    generator = torch.Generator().manual_seed(0)
    found = []
    try:
        x = torch.randn(3, 20, 7, 9, generator=generator).to(device).contiguous(memory_format=torch.channels_last)
        g = torch.randn(3, 20, 3, 4, generator=generator).to(device)
        for way in (ours, None):
            norm, bias = nn.BatchNorm2d(20).to(device), torch.zeros(20, device=device)
            given = x.clone().requires_grad_()
            if way is None:
                y = F.relu(F.max_pool2d(_normalised(given, norm, bias), 2))
            else:
                y = _fused(way, Tail(3, 20, 7, 9, 2, True, None), given, norm, bias)
            y.backward(g)
            found.append([y, *(t.grad for t in (given, norm.weight, norm.bias)), *_statistics(norm)[:2]])
    except Exception as error:  # whatever a compiler or a driver raises, the other way is there
        raise NotCompiledError(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}") from error
    if not all(torch.allclose(one, other, rtol=1e-4, atol=1e-4) for one, other in zip(*found, strict=True)):
        raise NotCompiledError("they give other numbers here")
    return ours


def _normalised(x: Tensor, norm: nn.BatchNorm2d, bias: Tensor) -> Tensor:
    mean, variance, momentum = _statistics(norm)
    if not norm.training:
        return F.batch_norm(x, mean - bias.detach(), variance, norm.weight, norm.bias, eps=norm.eps)
    with torch.no_grad():
        # Ahead of the call, which keeps what it updates: r + m / (1 - m) b becomes (1 - m) r + m b.
        mean.add_(bias, alpha=momentum / (1 - momentum))
        norm.num_batches_tracked += 1  # type: ignore[assignment, operator]
    return F.batch_norm(x, mean, variance, norm.weight, shift_of(norm, bias), True, momentum, norm.eps)


def shift_of(norm: nn.BatchNorm2d, bias: Tensor) -> Tensor:
    """beta, with a gradient of zero for the convolution's bias."""
    return norm.bias + 0 * bias


def _statistics(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor, float]:
    """Running mean and variance, and their momentum."""
    assert norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None
    return norm.running_mean, norm.running_var, norm.momentum


def _fused(ours: Kernels, tail: Tail, x: Tensor, norm: nn.BatchNorm2d, bias: Tensor) -> Tensor:
    x = x.contiguous(memory_format=torch.channels_last)
    if norm.training:
        y: Tensor
        y, mean, variance = _Fused.apply(x, norm.weight, shift_of(norm, bias), norm.eps, tail, ours)
        update(norm, bias, mean, variance, tail.n * tail.h * tail.w)
        return y
    return ours.forward(tail, x, *constants(norm, bias))  # where nothing is differentiated


@torch.no_grad()
def update(norm: nn.BatchNorm2d, bias: Tensor, mean: Tensor, variance: Tensor, count: int) -> None:
    """Moves the running statistics towards a batch's.

    Args:
        bias: as for `block_tail`.
        mean, variance: (C,) float64, of the outputs without their bias; the variance biased.
        count: values of a channel in the batch.
    """
    running_mean, running_variance, momentum = _statistics(norm)
    running_mean.lerp_((mean + bias).to(running_mean.dtype), momentum)
    running_variance.lerp_((variance * (count / (count - 1))).to(running_variance.dtype), momentum)
    norm.num_batches_tracked += 1  # type: ignore[assignment, operator]


def constants(norm: nn.BatchNorm2d, bias: Tensor) -> tuple[Tensor, Tensor]:
    """What evaluation multiplies with and adds, (C,) float64 each."""
    running_mean, running_variance, _ = _statistics(norm)
    scale = norm.weight / (running_variance + norm.eps).sqrt()
    shift = norm.bias + (bias - running_mean) * scale
    return scale.double(), shift.double()


def slope_and_offset(
    scale: Tensor, inverse: Tensor, mean: Tensor, dgamma: Tensor, dbeta: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """What of dx = scale g + slope x + offset is the same for all values of a channel, (C,) each; M is `count`, and
    `inverse` 1 / sqrt(variance + eps)."""
    slope = -scale * inverse * dgamma / count
    return slope, -scale * dbeta / count - slope * mean


class _Fused(torch.autograd.Function):
    """(x, gamma, beta) to (y, mean, variance); the latter two, (C,) float64, without gradients."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, eps: float, tail: Tail, ours: Kernels
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean, variance = ours.statistics(tail, x)
        inverse = (variance + eps).rsqrt()
        scale = gamma * inverse
        shift = beta - mean * scale
        ctx.save_for_backward(x, gamma, scale, shift, mean, inverse)
        ctx.tail, ctx.ours = tail, ours
        ctx.mark_non_differentiable(mean, variance)
        return ours.forward(tail, x, scale, shift), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, gamma, scale, shift, mean, inverse = ctx.saved_tensors
        tail: Tail = ctx.tail
        g = g.contiguous(memory_format=torch.channels_last)
        dbeta, products = ctx.ours.backward_sums(tail, x, g, scale, shift, mean)
        dgamma = products * inverse
        count = tail.n * tail.h * tail.w
        slope, offset = slope_and_offset(scale, inverse, mean, dgamma, dbeta, count)
        dx = ctx.ours.backward_input(tail, x, g, scale, shift, slope, offset)
        return dx, dgamma.to(gamma.dtype), dbeta.to(gamma.dtype), None, None, None
