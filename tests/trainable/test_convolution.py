from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from trainable import compiled as compiler
from trainable import convolution as module
from trainable.convolution import convolved, input_gradient, outputs, weight_gradient

FORMATS = (torch.float32, torch.bfloat16)
SHAPES = (  # (N, I, O, H, W): tiles cut off at the right and below, broken pairs of images and vectors of channels
    *((4, 32, 32, 7, 9), (3, 20, 29, 6, 5), (3, 20, 29, 4, 5), (1, 33, 18, 2, 4), (2, 64, 96, 8, 8)),
    *((9, 48, 1, 3, 3), (65, 32, 24, 3, 4), (7, 64, 40, 1, 1), (70, 40, 33, 2, 2)),  # small maps
    *((1, 32, 64, 9, 12), (2, 33, 20, 10, 11)),
    (47, 32, 8, 16, 16),  # blocks of some tiles, the last one not full
    (3, 48, 8, 70, 71),
)


def compiled(dtype: torch.dtype) -> None:
    if dtype not in module._functions("cpu"):
        pytest.skip(f"this CPU's convolution of {dtype} is PyTorch's")


def maps(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape) + 1000 * seed)
    return torch.randn(shape, generator=generator).contiguous(memory_format=torch.channels_last)


def gradients(x: Tensor, weight: Tensor, padding: int, function: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs, the inputs' gradient and the weights'."""
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    y = function(x, weight, padding=padding)
    y.backward(maps(*y.shape).to(y.dtype))
    assert x.grad is not None and weight.grad is not None
    return y.detach(), x.grad, weight.grad


def expected(x: Tensor, g: Tensor, padding: int) -> Tensor:
    """PyTorch's gradient of the weights, in float64."""
    weight = torch.zeros(g.shape[1], x.shape[1], 3, 3, dtype=torch.float64, requires_grad=True)
    F.conv2d(x.double(), weight, padding=padding).backward(g.double())
    assert weight.grad is not None
    return weight.grad


def error(found: Tensor, wanted: Tensor) -> float:
    """The length of the difference as a share of what is wanted."""
    return float((found - wanted).detach().norm() / wanted.detach().norm())


@pytest.mark.parametrize("size", [2, 4])  # the direct algorithm, Winograd's, whose tiles of 2x2 are exact in ones
@pytest.mark.parametrize("dtype", FORMATS)
def test_ones_count_the_taps_that_see_a_place(dtype: torch.dtype, size: int) -> None:
    compiled(dtype)
    x, weight = torch.ones(3, 32, size, size, dtype=dtype), torch.ones(40, 32, 3, 3)
    seen = torch.full((size, size), 9.0)
    for edge in (0, -1):
        seen[edge] *= 2 / 3
        seen[:, edge] *= 2 / 3
    found = outputs(x, weight, padding=1)
    assert found.dtype == dtype and found.shape == (3, 40, size, size) and (found == 32 * seen.round()).all()
    found = input_gradient(torch.ones(3, 40, size, size, dtype=dtype), weight, padding=1)
    assert found.shape == (3, 32, size, size) and (found == 40 * seen.round()).all()


@pytest.mark.parametrize("dtype", FORMATS)
def test_ones_count_the_places_that_a_tap_meets(dtype: torch.dtype) -> None:
    compiled(dtype)
    for h, w in ((4, 5), (2, 3)):
        ones = torch.ones(3, 16, h, w, dtype=dtype)
        found = weight_gradient(ones, torch.ones(3, 2, h, w, dtype=dtype), padding=1)
        assert found.shape == (2, 16, 3, 3) and found.dtype == torch.float32
        met = torch.tensor([h - 1, h, h - 1])[:, None] * torch.tensor([w - 1, w, w - 1])
        assert (found == 3 * met).all()
    inside = weight_gradient(torch.ones(3, 16, 4, 5, dtype=dtype), torch.ones(3, 2, 2, 3, dtype=dtype), padding=0)
    assert (inside == 3 * 2 * 3).all()


@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", FORMATS)
def test_it_is_pytorchs_in_float64_to_the_stated_tolerance(
    dtype: torch.dtype, shape: tuple[int, ...], padding: int
) -> None:
    compiled(dtype)
    n, inputs, channels, h, w = shape
    if min(h, w) + 2 * padding < 3:
        pytest.skip("the map is smaller than the weights")
    x, weight = maps(n, inputs, h, w).to(dtype), maps(channels, inputs, 3, 3)
    g = maps(n, channels, h + 2 * padding - 2, w + 2 * padding - 2, seed=1).to(dtype)
    given, parameter = x.double().requires_grad_(), weight.double().requires_grad_()
    y = F.conv2d(given, parameter, padding=padding)
    y.backward(g.double())
    found = outputs(x, weight, padding), input_gradient(g, weight, padding), weight_gradient(x, g, padding)
    for one, wanted in zip(found, (y, given.grad, parameter.grad), strict=True):
        assert wanted is not None
        if dtype == torch.float32:
            assert (one - wanted).abs().max() <= 1e-5 * wanted.abs().max()
        else:
            assert error(one, wanted) <= 0.013  # PyTorch's is 0.0024


@pytest.mark.parametrize(
    ("size", "outputs_error", "gradient_error"),
    [
        (2, (0.002, 0.003), (0, 1e-6)),  # the direct algorithm: outputs are rounded, and weights before
        (4, (0.003, 0.006), (0.003, 0.006)),  # tiles of 2x2
        (9, (0.006, 0.013), (0.006, 0.013)),  # tiles of 3x3
        (3, (0.006, 0.013), (0, 1e-6)),  # one tile; for the gradient the direct algorithm
    ],
)
def test_an_algorithm_shows_by_how_it_rounds(
    size: int, outputs_error: tuple[float, float], gradient_error: tuple[float, float]
) -> None:
    compiled(torch.bfloat16)
    x, g = maps(40, 64, size, size).bfloat16(), maps(40, 32, size, size).bfloat16()
    weight = maps(32, 64, 3, 3)
    given = x.double().requires_grad_()
    y = F.conv2d(given, weight.double(), padding=1)
    y.backward(g.double())
    assert given.grad is not None
    least, most = outputs_error
    assert least <= error(outputs(x, weight, 1), y) <= most
    assert least <= error(input_gradient(g, weight, 1), given.grad) <= most
    least, most = gradient_error
    assert least <= error(weight_gradient(x, g, 1), expected(x, g, 1)) <= most


@pytest.mark.parametrize("size", [2, 4, 9])
def test_maps_and_weights_in_other_layouts_are_read_as_they_are(size: int) -> None:
    compiled(torch.float32)
    x, g, weight = maps(3, 32, size, 5), maps(3, 32, size, 5, seed=1), maps(32, 32, 3, 3)
    plain = [tensor.contiguous() for tensor in (x, g, weight)]
    assert torch.equal(weight_gradient(plain[0], plain[1], 1), weight_gradient(x, g, 1))
    assert torch.equal(outputs(plain[0], plain[2], 1), outputs(x, weight, 1))
    assert torch.equal(input_gradient(plain[1], plain[2], 1), input_gradient(g, weight, 1))
    given, summed = x.clone().requires_grad_(), weight.clone().requires_grad_()
    convolved(given, summed, 1).sum().backward()  # whose gradient is one number, expanded
    ones = torch.ones(g.shape)
    assert given.grad is not None and torch.equal(given.grad, input_gradient(ones, weight, 1))
    assert summed.grad is not None and torch.equal(summed.grad, weight_gradient(x, ones, 1))


# The direct algorithm, tiles of 2x2, of 3x3, fewer units than threads.
@pytest.mark.parametrize(("n", "side"), [(100, 2), (7, 10), (7, 9), (1, 3)])
@pytest.mark.parametrize("dtype", FORMATS)
def test_threads_share_the_images(dtype: torch.dtype, n: int, side: int) -> None:
    compiled(dtype)
    x, g, weight = maps(n, 32, side, side).to(dtype), maps(n, 12, side, side).to(dtype), maps(12, 32, 3, 3)
    alone, wanted = outputs(x, weight, 1), expected(x, g, 1)
    assert error(alone, F.conv2d(x.double(), weight.double(), padding=1)) <= (1e-5 if dtype == torch.float32 else 0.013)
    threads = torch.get_num_threads()
    try:
        for number in (1, 2, 3, 8):
            torch.set_num_threads(number)
            assert torch.equal(outputs(x, weight, 1), alone)
            found = weight_gradient(x, g, 1)
            assert torch.equal(found, weight_gradient(x, g, 1))
            assert error(found, wanted) <= (1e-5 if dtype == torch.float32 else 0.013)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(("inputs", "channels"), [(16, 8), (48, 9), (32, 4)])
def test_channels_that_fill_no_step_are_pytorchs_but_for_the_weights_gradient(
    inputs: int, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled(torch.float32)
    made = []
    ours = module.weight_gradient
    monkeypatch.setattr(module, "weight_gradient", lambda *a: (made.append(a), ours(*a))[1])
    x, weight = maps(4, inputs, 8, 8), maps(channels, inputs, 3, 3)
    y, dx, dw = gradients(x, weight, 1, convolved)
    theirs = gradients(x, weight, 1, F.conv2d)
    assert torch.equal(y, theirs[0]) and torch.equal(dx, theirs[1])
    assert len(made) == 1 and torch.allclose(dw, theirs[2], rtol=1e-5, atol=1e-4)


def test_under_autocast_weights_get_gradients_that_are_not_rounded() -> None:
    x, weight = maps(4, 32, 8, 8), maps(32, 32, 3, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, dx, dw = gradients(x, weight, 1, convolved)
        theirs = gradients(x, weight, 1, F.conv2d)
    assert y.dtype == torch.bfloat16 and error(y, theirs[0]) <= 0.014
    assert dx.dtype == torch.float32 and error(dx, theirs[1]) <= 0.014
    assert dw.dtype == torch.float32 and error(dw, theirs[2]) <= 0.014
    rounded = torch.equal(dw, dw.bfloat16().float())
    assert rounded is not module.ours("cpu", torch.bfloat16)


def test_few_inputs_and_no_compiler_are_pytorchs_and_no_gradient_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    few, weight = maps(4, 3, 8, 8), maps(16, 3, 3, 3)
    found = zip(gradients(few, weight, 0, convolved), gradients(few, weight, 0, F.conv2d), strict=True)
    assert all(torch.equal(one, other) for one, other in found)
    x, weight = maps(4, 32, 8, 8), maps(32, 32, 3, 3)
    with torch.no_grad():
        found = convolved(x, weight.requires_grad_(), 1)
        assert not found.requires_grad and torch.allclose(found, F.conv2d(x, weight, padding=1), atol=1e-4)
    monkeypatch.setattr(module, "_functions", lambda device_type: {})
    found = zip(gradients(x, weight.detach(), 1, convolved), gradients(x, weight.detach(), 1, F.conv2d), strict=True)
    assert all(torch.equal(one, other) for one, other in found)


def test_formats_that_pytorch_refuses_or_keeps_are_refused_and_kept() -> None:
    x, weight = maps(2, 16, 4, 4), maps(4, 16, 3, 3).requires_grad_()
    with pytest.raises(RuntimeError, match="should be the same"):
        convolved(x.bfloat16(), weight, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert convolved(x.double(), weight.double(), 1).dtype == torch.float64
    assert convolved(x.to("meta"), weight.to("meta"), 1).shape == (2, 4, 4, 4)


def test_only_what_is_asked_for_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled(torch.float32)
    made = []
    for name in ("input_gradient", "weight_gradient"):
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, name=name, f=function: (made.append(name), f(*a))[1])
    x, weight = maps(2, 32, 4, 4), maps(32, 32, 3, 3)
    convolved(x, weight.clone().requires_grad_(), 1).sum().backward()
    convolved(x.clone().requires_grad_(), weight, 1).sum().backward()
    assert made == ["weight_gradient", "input_gradient"]


def test_without_images_there_are_no_outputs_and_no_gradient() -> None:
    weight = maps(32, 32, 3, 3).requires_grad_()
    y = convolved(torch.empty(0, 32, 8, 8), weight, 1)
    y.sum().backward()
    assert y.shape == (0, 32, 8, 8) and weight.grad is not None and not weight.grad.any()


@pytest.mark.parametrize(
    ("x", "weight", "padding"),
    [
        ((2, 64, 8, 8), (32, 32, 3, 3), 1),
        ((2, 32, 2, 2), (32, 32, 3, 3), 0),
        ((2, 32, 8, 8), (32, 32, 9, 9), 0),
        ((2, 32, 8, 8), (32, 32, 3, 3), -1),
    ],
)
def test_shapes_that_do_not_fit_are_refused_in_pytorchs_words(
    x: tuple[int, ...], weight: tuple[int, ...], padding: int
) -> None:
    with pytest.raises(RuntimeError) as theirs:
        F.conv2d(torch.zeros(x), torch.zeros(weight), padding=padding)
    with pytest.raises(RuntimeError) as ours:
        convolved(torch.zeros(x), torch.zeros(weight), padding)
    assert str(ours.value) == str(theirs.value)


def test_other_sizes_of_weights_and_more_padding_are_pytorchs() -> None:
    x = maps(2, 32, 8, 8)
    for size, padding in ((1, 0), (5, 2), (3, 3)):
        weight = maps(32, 32, size, size)
        assert torch.equal(convolved(x, weight, padding), F.conv2d(x, weight, padding=padding))


def test_where_there_is_amx_bfloat16_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled(torch.float32)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert set(module._functions.__wrapped__("cpu")) == {torch.float32}


@pytest.mark.parametrize(
    ("without", "formats"),
    [
        *((f"-mno-avx512{name}", {torch.float32}) for name in ("bf16", "bw", "vl")),
        ("-mno-avx512f", set[torch.dtype]()),
    ],
)
def test_other_cpus_have_what_their_registers_hold(
    without: str, formats: set[torch.dtype], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled(torch.float32)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(compiler, "FLAGS", (*compiler.FLAGS, without))
    monkeypatch.setattr(module, "library", compiler._loaded)
    assert set(module._functions.__wrapped__("cpu")) == formats


def test_without_a_compiler_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSEARCH_COMPILED", "0")
    monkeypatch.setattr(module, "library", compiler._loaded)
    assert module._functions.__wrapped__("cpu") == {}
    assert module._functions("cuda") == {}
