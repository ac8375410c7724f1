"""The first block in training and evaluation on a CPU, as one operator: its convolution is never kept.

Of images of three channels a pixel of the convolution sees K = 27 values, a patch p. So few are soon multiplied again,
while what they become, 32 channels at the full size of the image, is the largest of all maps: to write and to read it,
for the statistics, the batch norm and twice more on the way back, took longer than the products themselves. All that
batch norm asks of the convolution's output x = W p, over the M pixels of the batch, is in the sums of patches and of
their products,

    s = sum p,  G = sum p p',  mean = W s / M,  variance = diag(W G W') / M - mean^2.

On the way back g is the gradient that arrives where the output is not zero, times what dropout multiplies with, and
batch norm's dx = a g + u x + v with a, u and v a number a channel (block_tail, where they are called scale, slope and
offset, has the maths). So all is in the sums of g and of its products with patches, too:

    A = sum g p',  dbeta = sum g,  sum g x = the rows of W * A summed,  dW = sum dx p' = a A + u W G + v s'.

The output is written once, and read once with its gradient. x is not rounded to bfloat16, as it would be in memory.
Sums of a thousand pixels are in float: images are to be normalised, as ours are. Of a channel whose mean is a hundred
times its deviation the variance has four digits less, and so it is with one whose filter leaves little of a smooth
image: of Laplace's, of images of 224 pixels that were 8 x 8, outputs are 0.1 % off, where PyTorch's are 0.003 %.
"""

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from trainable.block_tail import constants, shift_of, slope_and_offset, update
from trainable.compiled import NotCompiledError, call, library
from trainable.kernels import Dropout

SOURCE = Path(__file__).with_name("stem_cpu.cpp")
CHANNELS, PATCH = 3, 27
NAMES = {torch.float32: "float", torch.bfloat16: "bfloat16"}


class _Stem(ctypes.Structure):
    """The arguments that all functions of stem_cpu.cpp share; its `Stem` says what they mean."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("n", "h", "w", "outputs", "threads", "drop", "seed", "threshold")),
        ("kept", ctypes.c_double),
    ]


def stem(x: Tensor, weight: Tensor, norm: nn.BatchNorm2d, bias: Tensor, dropout: float) -> Tensor | None:
    """(N, 3, H, W) images to (N, O, H - 2, W - 2): convolution without padding, batch norm, ReLU, dropout.

    None where it is not to be had: on other devices and formats, of other inputs, or if gradients are asked for that it
    does not give.

    Args:
        x: the images.
        weight: (O, 3, 3, 3).
        norm, bias, dropout: as for `block_tail`.
    """
    format_ = _format(x, weight)
    if format_ is None or (torch.is_grad_enabled() and (x.requires_grad or not norm.training)):
        return None
    x = x.to(format_).contiguous(memory_format=torch.channels_last)
    if not norm.training:
        return _outputs(x, weight.to(format_), *constants(norm, bias), None)
    n, _, h, w = x.shape
    outputs = len(weight)
    drop = Dropout(dropout, n * outputs * (h - 2) * (w - 2), x.device) if dropout else None
    y: Tensor
    y, mean, variance = _Function.apply(x, weight, norm.weight, shift_of(norm, bias), norm.eps, drop)
    update(norm, bias, mean, variance, n * (h - 2) * (w - 2))
    return y


def _format(x: Tensor, weight: Tensor) -> torch.dtype | None:
    """The format of products; None where there is none of ours."""
    if x.device.type != "cpu" or x.shape[1] != CHANNELS or min(x.shape[2:]) < 3 or weight.dtype != torch.float32:
        return None
    autocast = torch.is_autocast_enabled("cpu")
    found = torch.get_autocast_dtype("cpu") if autocast else weight.dtype
    known = x.dtype in NAMES if autocast else x.dtype == found
    return found if known and ours(x.device.type, found) else None


def ours(device_type: str, products: torch.dtype) -> bool:
    """Whether the first block of a kind of device and a format is this one."""
    return device_type == "cpu" and products in _functions()


@cache
def _functions() -> dict[torch.dtype, dict[str, Any]]:
    """By format and name, those that there are for this CPU: asked once a process, as it may take seconds."""
    try:
        compiled = library(SOURCE)
    except NotCompiledError:
        return {}
    functions = ("outputs", "patch_products", "gradient_products")
    return {
        dtype: {function: getattr(compiled, f"{function}_{name}") for function in functions}
        for dtype, name in NAMES.items()
        if hasattr(compiled, f"outputs_{name}")
    }


class _Function(torch.autograd.Function):
    """(x, weight, gamma, beta) to (y, mean, variance); the latter two, (O,) float64, without gradients."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, eps: float, drop: Dropout | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        n, _, h, w = x.shape
        count = n * (h - 2) * (w - 2)
        rounded = weight.to(x.dtype)
        filters = _by_place(rounded).double()
        sums = _sums("patch_products", x, PATCH)
        patches = sums[PATCH]
        products = filters @ sums[:PATCH]
        mean = filters @ patches / count
        variance = ((products * filters).sum(1) / count - mean * mean).clamp_min(0)
        inverse = (variance + eps).rsqrt()
        scale = gamma * inverse
        y = _outputs(x, rounded, scale, beta - mean * scale, drop)
        ctx.save_for_backward(x, y, filters, products, patches, gamma, scale, mean, inverse)
        ctx.kept = 1.0 if drop is None else drop.kept
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, y, filters, products, patches, gamma, scale, mean, inverse = ctx.saved_tensors
        g = g.contiguous(memory_format=torch.channels_last)
        sums = _sums("gradient_products", x, len(filters), y, g) * ctx.kept
        arrived, dbeta = sums[:PATCH].T, sums[PATCH]
        dgamma = ((filters * arrived).sum(1) - mean * dbeta) * inverse
        count = y.numel() // len(filters)
        slope, offset = slope_and_offset(scale, inverse, mean, dgamma, dbeta, count)
        dw = scale[:, None] * arrived + slope[:, None] * products + offset[:, None] * patches
        dw = dw.view(-1, 3, 3, CHANNELS).permute(0, 3, 1, 2)
        return None, dw.float(), dgamma.to(gamma.dtype), dbeta.to(gamma.dtype), None, None


def _by_place(weight: Tensor) -> Tensor:
    """(O, 3, 3, 3) weights as (O, 27), in the order of rows, columns and channels."""
    return weight.permute(0, 2, 3, 1).reshape(-1, PATCH).contiguous()


def _outputs(x: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, drop: Dropout | None) -> Tensor:
    n, _, h, w = x.shape
    y = torch.empty(n, len(weight), h - 2, w - 2, dtype=x.dtype, memory_format=torch.channels_last)
    _call("outputs", x, len(weight), _by_place(weight), scale, shift, y, drop=drop)
    return y


def _sums(function: str, x: Tensor, values: int, *maps: Tensor) -> Tensor:
    """(28, values) float64: of the products of each of a patch's values with each of a pixel's, and of these alone."""
    sums = torch.empty(PATCH + 1, values, dtype=torch.float64)
    _call(function, x, values, *maps, sums)
    return sums


def _call(function: str, x: Tensor, outputs: int, *tensors: Tensor, drop: Dropout | None = None) -> None:
    n, _, h, w = x.shape
    given = _Stem(n, h, w, outputs, torch.get_num_threads())
    if drop is not None:
        given.drop, given.seed, given.threshold, given.kept = True, drop.seed, drop.threshold, drop.kept
    call(_functions()[x.dtype][function], ctypes.byref(given), x, *tensors)
