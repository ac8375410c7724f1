"""A 3x3 convolution: PyTorch's, but for the gradient of its weights on a CPU with AVX-512.

That gradient is the slowest of the three products of a training step in oneDNN, the more so on small maps. Ours, in C++
(convolution_cpu.cpp), adds in float32 and stays there, where oneDNN's rounds a bfloat16 network's to bfloat16. Where it
is not to be had, PyTorch's own is taken.
"""

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from trainable.compiled import NotCompiledError, library

SOURCE = Path(__file__).with_name("convolution_cpu.cpp")
LEAST_INPUTS = 16  # channels in a register: of fewer, as in the first block, much of the work would be for nothing


class _Convolution(ctypes.Structure):
    """The arguments of convolution_cpu.cpp; its `Convolution` says what they mean."""

    _fields_ = [(name, ctypes.c_int64) for name in ("n", "h", "w", "inputs", "outputs", "padding", "threads")]


def convolved(x: Tensor, weight: Tensor, padding: int) -> Tensor:
    """(N, I, H, W) maps by (O, I, 3, 3) weights: (N, O, H + 2 P - 2, W + 2 P - 2), in autocast's format where it is on.

    Args:
        padding: P, zeros at each side.
    """
    products = _products(x, weight)
    if products is not None and ours(x.device.type, products):
        y: Tensor = _Convolved.apply(x.to(products), weight, padding)
        return y
    return F.conv2d(x, weight, padding=padding)


def _products(x: Tensor, weight: Tensor) -> torch.dtype | None:
    """The format of products for which a gradient of ours would do, or None."""
    needed = torch.is_grad_enabled() and weight.requires_grad and x.shape[1] >= LEAST_INPUTS
    if x.device.type != "cpu" or weight.dtype != torch.float32 or not needed:
        return None
    if not torch.is_autocast_enabled("cpu"):
        return x.dtype if x.dtype == weight.dtype else None
    return torch.get_autocast_dtype("cpu") if x.dtype in (torch.float32, torch.bfloat16) else None


def ours(device_type: str, products: torch.dtype) -> bool:
    """Whether the weights' gradients of a kind of device and a format are our own."""
    return products in _functions(device_type)


@cache
def _functions(device_type: str) -> dict[torch.dtype, Any]:
    """Those by format, that this machine has and that are faster here: asked once a process, as it may take seconds."""
    if device_type != "cpu":
        return {}
    try:
        compiled = library(SOURCE)
    except NotCompiledError:
        return {}
    names = {torch.float32: "weight_gradient_float", torch.bfloat16: "weight_gradient_bfloat16"}
    if torch.cpu.get_capabilities().get("amx_bf16"):  # oneDNN multiplies in tiles then, of which ours knows nothing
        del names[torch.bfloat16]
    return {dtype: getattr(compiled, name) for dtype, name in names.items() if hasattr(compiled, name)}


def weight_gradient(x: Tensor, g: Tensor, padding: int) -> Tensor:
    """(O, I, 3, 3) float32, of a convolution's (N, I, H, W) inputs and the gradient of its outputs, both of a format
    that is `ours`."""
    n, inputs, h, w = x.shape
    outputs = g.shape[1]
    assert g.dtype == x.dtype and g.shape == (n, outputs, h + 2 * padding - 2, w + 2 * padding - 2)
    dw = torch.empty(outputs, inputs, 3, 3, dtype=torch.float32, device=x.device, memory_format=torch.channels_last)
    given = _Convolution(n, h, w, inputs, outputs, padding, torch.get_num_threads())
    maps = [tensor.contiguous(memory_format=torch.channels_last) for tensor in (x, g)]
    pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (*maps, dw)]
    _functions("cpu")[x.dtype](ctypes.byref(given), *pointers)
    return dw


class _Convolved(torch.autograd.Function):
    """(x, weight, padding) to y, in the format of x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, padding: int) -> Tensor:
        weight = weight.to(x.dtype)
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        return F.conv2d(x, weight, padding=padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor, None]:
        x, weight = ctx.saved_tensors
        sides, only_inputs = [ctx.padding, ctx.padding], [True, False, False]
        dx = None
        if ctx.needs_input_grad[0]:
            dx, _, _ = torch.ops.aten.convolution_backward(
                g, x, weight, None, [1, 1], sides, [1, 1], False, [0, 0], 1, only_inputs
            )
        return dx, weight_gradient(x, g, ctx.padding), None
