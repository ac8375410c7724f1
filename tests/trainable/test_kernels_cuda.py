"""The Triton kernels in Triton's interpreter: needs no card, checks what they compute, not how they are compiled."""

import os

import pytest
import torch
from torch import Tensor, nn

from trainable import block_tail as module
from trainable.block_tail import checked
from trainable.compiled import NotCompiledError
from trainable.kernels import Dropout, Kernels, Tail

pytest.importorskip("triton")
CPU = torch.device("cpu")
SHAPES = ((2, 20, 7, 9), (3, 5, 6, 6), (1, 70, 4, 5))  # channels of more and less than a program's, windows' rests


@pytest.fixture
def interpreted() -> Kernels:
    if os.environ.get("TRITON_INTERPRET") != "1":  # conftest.py sets it where there is no card
        pytest.skip("there is a card, on which test_cuda.py runs the kernels")
    from trainable.kernels_cuda import CudaKernels

    return CudaKernels()


def as_on_a_card(p: float, outputs: int) -> Dropout:
    drop = Dropout(p, outputs, CPU)
    drop.threshold, drop.kept = drop.threshold >> 16, 1 / (0.5 - (drop.threshold >> 16) / 2**16)
    drop.noise = torch.randint(-(2**15), 2**15, (outputs,), dtype=torch.int16)
    return drop


def step(ours: Kernels | None, shape: tuple[int, ...], pool: int, relu: bool, dropout: float) -> list[Tensor]:
    """Outputs, gradients and running statistics of one training step."""
    torch.manual_seed(sum(shape))
    n, c, h, w = shape
    x = (2 * torch.randn(shape) + 1).contiguous(memory_format=torch.channels_last).requires_grad_()
    norm, bias = nn.BatchNorm2d(c), torch.linspace(-1, 1, c)
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    drop = as_on_a_card(dropout, n * c * (h // pool) * (w // pool)) if dropout else None
    tail = Tail(n, c, h, w, pool, relu, drop)
    if ours is None:
        y = nn.functional.max_pool2d(module._normalised(x, norm, bias), pool)
        y = y.relu() if relu else y
        y = y if drop is None else drop(y)
    else:
        y = module._fused(ours, tail, x, norm, bias)
    y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(6)))
    found = [y.detach(), x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var]
    return [tensor for tensor in found if tensor is not None]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pool", [1, 2, 3])
@pytest.mark.parametrize(("relu", "dropout"), [(True, 0.3), (True, 0.0), (False, 0.0)])
def test_they_give_pytorchs_numbers(
    interpreted: Kernels, shape: tuple[int, ...], pool: int, relu: bool, dropout: float
) -> None:
    ours, theirs = (step(way, shape, pool, relu, dropout) for way in (interpreted, None))
    assert len(ours) == len(theirs) == 6
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).abs().max() <= 1e-5 * other.abs().max()


def test_evaluation_takes_the_running_statistics(interpreted: Kernels) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 20, 7, 9).contiguous(memory_format=torch.channels_last)
    norm, bias = nn.BatchNorm2d(20).eval(), torch.linspace(-1, 1, 20)
    assert norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2.0)
    with torch.no_grad():
        ours = module._fused(interpreted, Tail(2, 20, 7, 9, 2, True, None), x, norm, bias)
        theirs = nn.functional.max_pool2d(norm(x + bias.view(-1, 1, 1)), 2).relu()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_kernels_that_are_right_pass_the_check(interpreted: Kernels) -> None:
    assert checked(interpreted, CPU) is interpreted


def test_kernels_that_give_other_numbers_are_refused(interpreted: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = interpreted.forward
    monkeypatch.setattr(interpreted, "forward", lambda *arguments: forward(*arguments) * 1.01)
    with pytest.raises(NotCompiledError, match="^they give other numbers here$"):
        checked(interpreted, CPU)


def test_kernels_that_fail_are_refused(interpreted: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> Tensor:
        raise RuntimeError("no image for this card\nand more")

    monkeypatch.setattr(interpreted, "forward", fail)
    with pytest.raises(NotCompiledError, match="^RuntimeError: no image for this card$"):
        checked(interpreted, CPU)
