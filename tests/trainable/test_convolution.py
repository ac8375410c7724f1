from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from trainable import compiled as compiler
from trainable import convolution as module
from trainable.convolution import convolved, weight_gradient

FORMATS = (torch.float32, torch.bfloat16)
SHAPES = (  # (N, I, O, H, W): broken pairs of images, vectors of inputs and fours of outputs, the smallest maps
    *((4, 32, 32, 7, 9), (3, 20, 5, 6, 5), (9, 48, 1, 3, 3), (1, 33, 18, 2, 4)),
    (47, 32, 8, 16, 16),  # chunks of some images, the last one not full
    (3, 48, 8, 70, 71),  # chunks of some rows of an image
)


def compiled(dtype: torch.dtype) -> None:
    if dtype not in module._functions("cpu"):
        pytest.skip(f"this CPU's gradient of {dtype} is PyTorch's")


def maps(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator).contiguous(memory_format=torch.channels_last)


def expected(x: Tensor, g: Tensor, padding: int) -> Tensor:
    """PyTorch's gradient, in float64."""
    weight = torch.zeros(g.shape[1], x.shape[1], 3, 3, dtype=torch.float64, requires_grad=True)
    F.conv2d(x.double(), weight, padding=padding).backward(g.double())
    assert weight.grad is not None
    return weight.grad


def gradients(x: Tensor, weight: Tensor, padding: int, function: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs, the inputs' gradient and the weights'."""
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    y = function(x, weight, padding=padding)
    y.backward(maps(*y.shape).to(y.dtype))
    assert x.grad is not None and weight.grad is not None
    return y.detach(), x.grad, weight.grad


@pytest.mark.parametrize("dtype", FORMATS)
def test_ones_count_the_places_that_a_tap_meets(dtype: torch.dtype) -> None:
    compiled(dtype)
    ones = torch.ones(3, 16, 4, 5, dtype=dtype)
    found = weight_gradient(ones, torch.ones(3, 2, 4, 5, dtype=dtype), padding=1)
    assert found.shape == (2, 16, 3, 3) and found.dtype == torch.float32
    assert (found == 3 * torch.tensor([[12.0, 15, 12], [16, 20, 16], [12, 15, 12]])).all()
    inside = weight_gradient(ones, torch.ones(3, 2, 2, 3, dtype=dtype), padding=0)
    assert (inside == 3 * 2 * 3).all()


@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", FORMATS)
def test_it_is_pytorchs_in_float64_to_five_digits(dtype: torch.dtype, shape: tuple[int, ...], padding: int) -> None:
    compiled(dtype)
    n, inputs, outputs, h, w = shape
    if min(h, w) + 2 * padding < 3:
        pytest.skip("the map is smaller than the weights")
    x, g = maps(n, inputs, h, w).to(dtype), maps(n, outputs, h + 2 * padding - 2, w + 2 * padding - 2).to(dtype)
    wanted = expected(x, g, padding)
    assert (weight_gradient(x, g, padding) - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_maps_in_other_layouts_are_read_as_they_are() -> None:
    compiled(torch.float32)
    x, g = maps(3, 20, 6, 5), maps(3, 5, 6, 5)
    wanted = weight_gradient(x, g, 1)
    assert torch.equal(weight_gradient(x.contiguous(), g.contiguous(), 1), wanted)
    summed = torch.zeros(5, 20, 3, 3, requires_grad=True)
    convolved(x, summed, 1).sum().backward()  # whose gradient is one number, expanded
    assert summed.grad is not None and torch.equal(summed.grad, weight_gradient(x, torch.ones_like(g), 1))


@pytest.mark.parametrize("dtype", FORMATS)
def test_threads_share_the_images(dtype: torch.dtype) -> None:
    compiled(dtype)
    x, g = maps(7, 32, 9, 8).to(dtype), maps(7, 12, 9, 8).to(dtype)
    threads = torch.get_num_threads()
    try:
        for number in (1, 2, 3, 8):
            torch.set_num_threads(number)
            found = weight_gradient(x, g, 1)
            assert torch.equal(found, weight_gradient(x, g, 1))
            assert torch.allclose(found.double(), expected(x, g, 1), rtol=1e-5, atol=1e-4)
    finally:
        torch.set_num_threads(threads)


def test_in_float32_all_but_the_weights_gradient_is_pytorchs_own() -> None:
    compiled(torch.float32)
    x, weight = maps(4, 32, 8, 8), maps(16, 32, 3, 3)
    y, dx, dw = gradients(x, weight, 1, convolved)
    theirs = gradients(x, weight, 1, F.conv2d)
    assert torch.equal(y, theirs[0]) and torch.equal(dx, theirs[1])
    assert torch.allclose(dw, theirs[2], rtol=1e-5, atol=1e-4)


def test_under_autocast_weights_get_gradients_that_are_not_rounded() -> None:
    x, weight = maps(4, 32, 8, 8), maps(16, 32, 3, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, dx, dw = gradients(x, weight, 1, convolved)
        theirs = gradients(x, weight, 1, F.conv2d)
    assert y.dtype == torch.bfloat16 and torch.equal(y, theirs[0])
    assert dx.dtype == torch.float32 and torch.equal(dx, theirs[1])
    assert dw.dtype == torch.float32 and (dw - theirs[2]).abs().max() <= 2**-8 * dw.abs().max()
    rounded = torch.equal(dw, dw.bfloat16().float())
    assert rounded is not module.ours("cpu", torch.bfloat16)


def test_few_inputs_no_gradient_and_no_compiler_are_pytorchs(monkeypatch: pytest.MonkeyPatch) -> None:
    few, weight = maps(4, 3, 8, 8), maps(16, 3, 3, 3)
    found = zip(gradients(few, weight, 0, convolved), gradients(few, weight, 0, F.conv2d), strict=True)
    assert all(torch.equal(one, other) for one, other in found)
    x, weight = maps(4, 32, 8, 8), maps(16, 32, 3, 3)
    with torch.no_grad():
        assert torch.equal(convolved(x, weight.requires_grad_(), 1), F.conv2d(x, weight, padding=1))
    assert not convolved(x, weight.detach(), 1).requires_grad
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


def test_only_what_is_asked_for_is_made() -> None:
    x, weight = maps(2, 16, 4, 4), maps(4, 16, 3, 3).requires_grad_()
    convolved(x, weight, 1).sum().backward()
    assert x.grad is None and weight.grad is not None


def test_where_there_are_tiles_bfloat16_is_left_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled(torch.float32)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert set(module._functions.__wrapped__("cpu")) == {torch.float32}


@pytest.mark.parametrize(
    ("without", "formats"), [("-mno-avx512bf16", {torch.float32}), ("-mno-avx512f", set[torch.dtype]())]
)
def test_other_cpus_have_what_their_registers_hold(
    without: str, formats: set[torch.dtype], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled(torch.float32)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(compiler, "FLAGS", (*compiler.FLAGS, without))
    monkeypatch.setattr(module, "library", compiler.library.__wrapped__)
    assert set(module._functions.__wrapped__("cpu")) == formats


def test_without_a_compiler_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSEARCH_COMPILED", "0")
    monkeypatch.setattr(module, "library", compiler.library.__wrapped__)
    assert module._functions.__wrapped__("cpu") == {}
    assert module._functions("cuda") == {}
