"""The kernels of a block's tail on a card, in Triton, which compiles them at their first call for each P and format.

A program takes ROWS positions by LANES channels of the maps, seen as (N H W, C): in that order of memory. Sums over the
positions are made in float32 within a program and in float64 over the programs, in a fixed order: the same bits each
time.
"""

from typing import Any

import torch
from torch import Tensor

from trainable.compiled import NotCompiledError
from trainable.kernels import Tail

try:
    import triton
    import triton.language as tl
except ImportError as error:  # not on every platform
    raise NotCompiledError("triton is not installed") from error

VALUES = 2048  # of a program: ROWS x LANES


@triton.jit
def _positions(pool, out_h, out_w, h, w, ROWS: tl.constexpr):
    """Numbers of the program's windows, and of the first position of each in the input's maps."""
    window = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    n, rest = window // (out_h * out_w), window % (out_h * out_w)
    return window, (n * h + rest // out_w * pool) * w + rest % out_w * pool


@triton.jit
def _of_channel(values, channel, c):
    """The program's channels' values, as a row."""
    return tl.load(values + channel, mask=channel < c, other=0)[None, :]


@triton.jit
def _largest(x, first, w, c, channel, inside, a, b, POOL: tl.constexpr):
    """The input, the value a x + b and the place of the first largest value of each window; NaN where there is one."""
    input = tl.load(x + first[:, None] * c + channel[None, :], mask=inside, other=0).to(tl.float32)
    top = a * input + b
    place = tl.zeros(top.shape, tl.int32)
    for k in tl.static_range(1, POOL * POOL):
        at = first + (k // POOL) * w + k % POOL
        other = tl.load(x + at[:, None] * c + channel[None, :], mask=inside, other=0).to(tl.float32)
        value = a * other + b
        better = (value > top) | (value != value)
        input = tl.where(better, other, input)
        top = tl.where(better, value, top)
        place = tl.where(better, k, place)
    return input, top, place


@triton.jit
def _gated(v, top, noise, at, inside, threshold, kept, RELU: tl.constexpr, DROP: tl.constexpr):
    """`v` after ReLU and dropout, or a gradient before them."""
    if RELU:
        v = tl.where(top <= 0, 0.0, v)
    if DROP:
        drawn = tl.load(noise + at, mask=inside, other=0).to(tl.int32)
        v = v * tl.where(drawn < threshold, 0.0, kept)
    return v


@triton.jit
def _statistics(x, sums, rows, c, ROWS: tl.constexpr, LANES: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * LANES + tl.arange(0, LANES)
    inside = (row < rows)[:, None] & (channel < c)[None, :]
    # Differences from the first value of each channel: a large mean costs no digits.
    origin = tl.load(x + channel, mask=channel < c, other=0).to(tl.float32)
    v = tl.load(x + row[:, None] * c + channel[None, :], mask=inside, other=0).to(tl.float32)
    d = tl.where(inside, v - origin[None, :], 0.0)
    to = sums + tl.program_id(0) * 2 * c + channel
    tl.store(to, tl.sum(d, axis=0), mask=channel < c)
    tl.store(to + c, tl.sum(d * d, axis=0), mask=channel < c)


@triton.jit
def _forward(
    x, y, a, b, noise, threshold, kept, windows, out_h, out_w, h, w, c,
    POOL: tl.constexpr, RELU: tl.constexpr, DROP: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(1) * LANES + tl.arange(0, LANES)
    window, first = _positions(POOL, out_h, out_w, h, w, ROWS)
    inside = (window < windows)[:, None] & (channel < c)[None, :]
    scale = _of_channel(a, channel, c)
    shift = _of_channel(b, channel, c)
    _, top, _ = _largest(x, first, w, c, channel, inside, scale, shift, POOL)
    at = window[:, None] * c + channel[None, :]
    tl.store(y + at, _gated(top, top, noise, at, inside, threshold, kept, RELU, DROP), mask=inside)


@triton.jit
def _backward_sums(
    x, g, sums, a, b, mean, noise, threshold, kept, windows, out_h, out_w, h, w, c,
    POOL: tl.constexpr, RELU: tl.constexpr, DROP: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(1) * LANES + tl.arange(0, LANES)
    window, first = _positions(POOL, out_h, out_w, h, w, ROWS)
    inside = (window < windows)[:, None] & (channel < c)[None, :]
    scale = _of_channel(a, channel, c)
    shift = _of_channel(b, channel, c)
    centre = _of_channel(mean, channel, c)
    input, top, _ = _largest(x, first, w, c, channel, inside, scale, shift, POOL)
    at = window[:, None] * c + channel[None, :]
    arrived = tl.load(g + at, mask=inside, other=0).to(tl.float32)
    arrived = _gated(arrived, top, noise, at, inside, threshold, kept, RELU, DROP)
    to = sums + tl.program_id(0) * 2 * c + channel
    tl.store(to, tl.sum(arrived, axis=0), mask=channel < c)
    tl.store(to + c, tl.sum(arrived * (input - centre), axis=0), mask=channel < c)


@triton.jit
def _backward_input(
    x, g, dx, a, b, u, v, noise, threshold, kept, windows, across, down, out_h, out_w, h, w, c,
    POOL: tl.constexpr, RELU: tl.constexpr, DROP: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    # Of the windows that begin in the maps, down x across an image, the last may lack a part: nothing arrives there.
    channel = tl.program_id(1) * LANES + tl.arange(0, LANES)
    begun = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    n, rest = begun // (down * across), begun % (down * across)
    row, column = rest // across, rest % across
    first = (n * h + row * POOL) * w + column * POOL
    there = (begun < windows)[:, None] & (channel < c)[None, :]
    whole = there & ((row < out_h) & (column < out_w))[:, None]
    scale = _of_channel(a, channel, c)
    shift = _of_channel(b, channel, c)
    slope = _of_channel(u, channel, c)
    offset = _of_channel(v, channel, c)
    _, top, place = _largest(x, first, w, c, channel, whole, scale, shift, POOL)
    at = ((n * out_h + row) * out_w + column)[:, None] * c + channel[None, :]
    arrived = tl.load(g + at, mask=whole, other=0).to(tl.float32)
    arrived = scale * _gated(arrived, top, noise, at, whole, threshold, kept, RELU, DROP)
    for k in tl.static_range(0, POOL * POOL):
        here = there & ((row * POOL + k // POOL < h) & (column * POOL + k % POOL < w))[:, None]
        to = (first + (k // POOL) * w + k % POOL)[:, None] * c + channel[None, :]
        value = tl.load(x + to, mask=here, other=0).to(tl.float32)
        own = tl.where(whole & (place == k), arrived, 0.0)
        tl.store(dx + to, slope * value + offset + own, mask=here)


class CudaKernels:
    """`kernels.Kernels`."""

    LARGEST_POOL = 4  # each place of a window is code of its own

    def statistics(self, tail: Tail, x: Tensor) -> tuple[Tensor, Tensor]:
        rows = tail.n * tail.h * tail.w
        programs, sizes = _grid(rows, tail.c)
        sums = torch.empty(programs[0], 2, tail.c, dtype=torch.float32, device=x.device)
        with _on(x):
            _statistics[programs](x, sums, rows, tail.c, **sizes)
        # The origin that the differences are from is the first value of each channel, in memory order.
        d, squares = sums.double().sum(dim=0) / rows
        return x[0, :, 0, 0].double() + d, (squares - d * d).clamp_min_(0)

    def forward(self, tail: Tail, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        y = torch.empty(tail.out, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        programs, sizes = _grid(_windows(tail), tail.c)
        with _on(x):
            _forward[programs](
                x, y, scale.float(), shift.float(), *_dropout(tail, x), *_maps(tail), **_kind(tail, sizes)
            )
        return y

    def backward_sums(
        self, tail: Tail, x: Tensor, g: Tensor, scale: Tensor, shift: Tensor, mean: Tensor
    ) -> tuple[Tensor, Tensor]:
        programs, sizes = _grid(_windows(tail), tail.c)
        sums = torch.empty(programs[0], 2, tail.c, dtype=torch.float32, device=x.device)
        constants = (scale.float(), shift.float(), mean.float())
        with _on(x):
            _backward_sums[programs](x, g, sums, *constants, *_dropout(tail, x), *_maps(tail), **_kind(tail, sizes))
        total, products = sums.double().sum(dim=0)
        return total, products

    def backward_input(
        self, tail: Tail, x: Tensor, g: Tensor, scale: Tensor, shift: Tensor, slope: Tensor, offset: Tensor
    ) -> Tensor:
        dx = torch.empty_like(x)
        across, down = -(-tail.w // tail.pool), -(-tail.h // tail.pool)
        windows = tail.n * down * across
        programs, sizes = _grid(windows, tail.c)
        constants = (scale.float(), shift.float(), slope.float(), offset.float())
        maps = (windows, across, down, *_maps(tail)[1:])
        with _on(x):
            _backward_input[programs](x, g, dx, *constants, *_dropout(tail, x), *maps, **_kind(tail, sizes))
        return dx


def _grid(rows: int, c: int) -> tuple[tuple[int, int], dict[str, int]]:
    """How many programs, and the positions and channels of each."""
    lanes = min(64, max(16, triton.next_power_of_2(c)))
    sizes = {"ROWS": VALUES // lanes, "LANES": lanes}
    return (triton.cdiv(rows, sizes["ROWS"]), triton.cdiv(c, lanes)), sizes


def _windows(tail: Tail) -> int:
    n, _, h, w = tail.out
    return n * h * w


def _maps(tail: Tail) -> tuple[int, ...]:
    return (_windows(tail), *tail.out[2:], tail.h, tail.w, tail.c)


def _dropout(tail: Tail, x: Tensor) -> tuple[Any, ...]:
    """Noise, threshold and what is kept; without dropout, any tensor stands for the noise."""
    if tail.drop is None:
        return x, 0, 1.0
    return tail.drop.noise, tail.drop.threshold, tail.drop.kept


def _kind(tail: Tail, sizes: dict[str, int]) -> dict[str, Any]:
    return {"POOL": tail.pool, "RELU": tail.relu, "DROP": tail.drop is not None, **sizes}


def _on(x: Tensor) -> Any:
    """Triton launches on the current device."""
    return torch.cuda.device_of(x)
