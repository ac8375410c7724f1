"""A 3x3 convolution and its gradients: on a CPU with AVX-512 our own in C++ (convolution_cpu.cpp), else PyTorch's.

oneDNN multiplies as fast as such a CPU can. Ours takes fewer products to the same sums: 16 instead of 36 for four
outputs or 25 instead of 81 for nine (Winograd's algorithm, winograd.h), and on maps of a few pixels none of the
padding's zeros (direct.h). Of channels that would fill too few steps only the gradient of the weights is ours.

In float32 all agree with PyTorch to 1e-5 of the largest value. In bfloat16 Winograd's algorithm rounds what it
multiplies once more: of random maps the error is 0.4 % of the outputs' length for tiles of four and 1 % for tiles of
nine, where PyTorch's is 0.2 %. Whether that costs accuracy benchmarks/precision_accuracy.py asks over seeds. Sums are
in float32, and the gradient of the weights stays there, where oneDNN rounds it.
"""

import ctypes
import math
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from trainable.compiled import NotCompiledError, call, library

SOURCE = Path(__file__).with_name("convolution_cpu.cpp")
LEAST_INPUTS = 16  # channels in a register: of fewer, as in the first block, much of the work would be for nothing
# Channels of a step, of which those that are not there are work for nothing: of the inputs, by format, and the outputs.
STEP_INPUTS, STEP_OUTPUTS = {torch.float32: 16, torch.bfloat16: 32}, 32
# The share of the work that is to be for something: on Zen 5 ours was 0.7 times as fast as oneDNN with 0.25, as fast or
# faster from 0.39 on.
LEAST_USED = 0.3


class _Convolution(ctypes.Structure):
    """The arguments of convolution_cpu.cpp; its `Convolution` says what they mean."""

    _fields_ = [(name, ctypes.c_int64) for name in ("n", "h", "w", "inputs", "outputs", "padding", "threads")]


def convolved(x: Tensor, weight: Tensor, padding: int) -> Tensor:
    """(N, I, H, W) maps by (O, I, 3, 3) weights: (N, O, H + 2 P - 2, W + 2 P - 2), in autocast's format where it is on.

    Ours has gradients, but these have none, and it is nothing that torch.func can transform.

    Args:
        padding: P, zeros at each side.
    Raises:
        MemoryError: where there is none for it.
    """
    products = _products(x, weight, padding)
    if products is not None and ours(x.device.type, products):
        y: Tensor = _Convolved.apply(x.to(products), weight, padding)
        return y
    return F.conv2d(x, weight, padding=padding)


def _products(x: Tensor, weight: Tensor, padding: int) -> torch.dtype | None:
    """The format of products for which ours would do, or None: then PyTorch convolves, or says what is wrong."""
    if x.device.type != "cpu" or weight.device.type != "cpu" or weight.dtype != torch.float32 or x.dim() != 4:
        return None
    if weight.shape[1:] != (x.shape[1], 3, 3) or x.shape[1] < LEAST_INPUTS or not len(x) or not len(weight):
        return None
    if not 0 <= padding <= 2 or min(x.shape[2:]) + 2 * padding < 3:
        return None
    if not torch.is_autocast_enabled("cpu"):
        return x.dtype if x.dtype == weight.dtype else None
    return torch.get_autocast_dtype("cpu") if x.dtype in (torch.float32, torch.bfloat16) else None


def ours(device_type: str, products: torch.dtype) -> bool:
    """Whether the convolutions of a kind of device and a format are our own."""
    return products in _functions(device_type)


@cache
def _functions(device_type: str) -> dict[torch.dtype, tuple[Any, Any]]:
    """By format, `outputs` and `weight_gradient` where this machine has them and they are faster here: asked once a
    process, as it may take seconds."""
    if device_type != "cpu":
        return {}
    try:
        compiled = library(SOURCE)
    except NotCompiledError:
        return {}
    names = {torch.float32: "float", torch.bfloat16: "bfloat16"}
    if torch.cpu.get_capabilities().get("amx_bf16"):  # oneDNN uses AMX then, of which ours knows nothing
        del names[torch.bfloat16]
    found = {}
    for dtype, name in names.items():
        if hasattr(compiled, f"outputs_{name}"):
            found[dtype] = getattr(compiled, f"outputs_{name}"), getattr(compiled, f"weight_gradient_{name}")
    return found


def outputs(x: Tensor, weight: Tensor, padding: int) -> Tensor:
    """(N, O, H + 2 P - 2, W + 2 P - 2) of (N, I, H, W) maps, in their format, which is `ours`, and (O, I, 3, 3) float32
    weights."""
    return _outputs(x, weight, len(weight), padding, turned=False)


def input_gradient(g: Tensor, weight: Tensor, padding: int) -> Tensor:
    """(N, I, H, W) of the gradient of a convolution's outputs, in its format, which is `ours`."""
    return _outputs(g, weight, weight.shape[1], 2 - padding, turned=True)


def _outputs(x: Tensor, weight: Tensor, channels: int, padding: int, turned: bool) -> Tensor:
    """`outputs` of so many channels; turned, by weights that are turned by half a turn, inputs and outputs changing
    places."""
    n, inputs, h, w = x.shape
    assert weight.shape == ((inputs, channels, 3, 3) if turned else (channels, inputs, 3, 3))
    shape = n, channels, h + 2 * padding - 2, w + 2 * padding - 2
    y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    given = _Convolution(n, h, w, inputs, channels, padding, torch.get_num_threads())
    function, _ = _functions("cpu")[x.dtype]
    _call(function, y, x, weight, ctypes.byref(given), ctypes.c_bool(turned))
    return y


def weight_gradient(x: Tensor, g: Tensor, padding: int) -> Tensor:
    """(O, I, 3, 3) float32, of a convolution's (N, I, H, W) inputs and the gradient of its outputs, both of a format
    that is `ours`."""
    n, inputs, h, w = x.shape
    channels = g.shape[1]
    assert g.dtype == x.dtype and g.shape == (n, channels, h + 2 * padding - 2, w + 2 * padding - 2)
    shape = channels, inputs, 3, 3
    dw = torch.empty(shape, dtype=torch.float32, device=x.device, memory_format=torch.channels_last)
    given = _Convolution(n, h, w, inputs, channels, padding, torch.get_num_threads())
    _, function = _functions("cpu")[x.dtype]
    _call(function, dw, x, g, ctypes.byref(given))
    return dw


def _call(function: Any, result: Tensor, x: Tensor, other: Tensor, *settings: Any) -> None:
    """Calls a function that reads two tensors and writes one, all channels last."""
    call(function, *settings, *(read.contiguous(memory_format=torch.channels_last) for read in (x, other)), result)


def _used(inputs: int, channels: int, products: torch.dtype) -> float:
    """The share of the work that is for channels that there are."""
    steps = -(-inputs // STEP_INPUTS[products]) * STEP_INPUTS[products], -(-channels // STEP_OUTPUTS) * STEP_OUTPUTS
    return inputs * channels / math.prod(steps)


class _Convolved(torch.autograd.Function):
    """(x, weight, padding) to y, in the format of x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding, ctx.ours = padding, _used(x.shape[1], len(weight), x.dtype) >= LEAST_USED
        return outputs(x, weight, padding) if ctx.ours else F.conv2d(x, weight.to(x.dtype), padding=padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        dx = dw = None
        if ctx.needs_input_grad[0] and ctx.ours:
            dx = input_gradient(g, weight, ctx.padding)
        elif ctx.needs_input_grad[0]:
            sides, only_inputs = [ctx.padding, ctx.padding], [True, False, False]
            dx, _, _ = torch.ops.aten.convolution_backward(
                g, x, weight.to(x.dtype), None, [1, 1], sides, [1, 1], False, [0, 0], 1, only_inputs
            )
        if ctx.needs_input_grad[1]:
            dw = weight_gradient(x, g, ctx.padding)
        return dx, dw, None
