from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainable import block_tail as module
from trainable import compiled
from trainable.block_tail import block_tail, reason
from trainable.compiled import NotCompiledError
from trainable.kernels_cpu import SOURCE, CpuKernels

POOLS = (1, 2, 3)
SHAPES = ((4, 32, 15, 13), (3, 20, 7, 9), (2, 5, 31, 31), (5, 1, 4, 4))  # whole and broken vectors, and windows' rests

CPU = torch.device("cpu")
COMPILED = module.kernels("cpu") is not None


@pytest.fixture
def fused() -> None:
    if not COMPILED:
        pytest.skip(reason("cpu"))


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Switches to PyTorch's operators from there on."""
    return lambda: monkeypatch.setattr(module, "kernels", lambda device_type: None)


def maps(shape: tuple[int, ...], dtype: torch.dtype, offset: float = 1.0) -> Tensor:
    torch.manual_seed(sum(shape))
    return (2 * torch.randn(shape) + offset).to(dtype).contiguous(memory_format=torch.channels_last)


def norm_of(channels: int, dtype: torch.dtype) -> nn.BatchNorm2d:
    """With weights of both signs: the largest of a window is then its smallest input."""
    torch.manual_seed(channels)
    norm = nn.BatchNorm2d(channels).to(dtype)
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    return norm


def step(x: Tensor, norm: nn.BatchNorm2d, pool: int, relu: bool, dropout: float) -> list[Tensor]:
    """Outputs, gradients and running statistics of one training step."""
    x = x.clone().requires_grad_()
    bias = torch.linspace(-1, 1, x.shape[1], dtype=norm.weight.dtype).requires_grad_()
    torch.manual_seed(5)
    y = block_tail(x, norm, bias, pool, relu, dropout)
    y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(6)).to(y.dtype))
    assert bias.grad is not None and not bias.grad.any()
    found = [y.detach(), x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var]
    return [tensor.double() for tensor in found if tensor is not None]


def assert_near(ours: list[Tensor], theirs: list[Tensor], share: float) -> None:
    """To a share of the largest value of each."""
    assert len(ours) == len(theirs) == 6
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).abs().max() <= share * other.abs().max() + 1e-12


def test_a_window_by_hand() -> None:
    # mean 4, variance ((3)^2 + 1 + 1 + 9) / 4 = 5: 7 is the largest, 3 / sqrt(5) of it normalised, times 2 less 1.
    x = torch.tensor([[1.0, 3.0], [5.0, 7.0]]).view(1, 1, 2, 2)
    norm = nn.BatchNorm2d(1, eps=1e-9)
    with torch.no_grad():
        norm.weight.fill_(2.0)
        norm.bias.fill_(-1.0)
    y = block_tail(x, norm, torch.tensor([10.0]), pool=2, relu=True, dropout=0.0)
    assert y.item() == pytest.approx(2 * 3 / 5**0.5 - 1)
    # The convolution's bias is in the running mean: 0.9 * 0 + 0.1 * (4 + 10); the variance is 0.9 + 0.1 * 20 / 3.
    assert norm.running_mean is not None and norm.running_mean.item() == pytest.approx(1.4)
    assert norm.running_var is not None and norm.running_var.item() == pytest.approx(0.9 + 2 / 3)
    assert norm.num_batches_tracked is not None and norm.num_batches_tracked.item() == 1


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize(("dtype", "share"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_both_forms_agree_in_training(
    fused: None,
    plain: Callable[[], None],
    shape: tuple[int, ...],
    pool: int,
    relu: bool,
    dropout: float,
    dtype: torch.dtype,
    share: float,
) -> None:
    ours = step(maps(shape, dtype), norm_of(shape[1], dtype), pool, relu, dropout)
    plain()
    theirs = step(maps(shape, dtype), norm_of(shape[1], dtype), pool, relu, dropout)
    assert_near(ours, theirs, share)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pool", POOLS)
def test_bfloat16_rounds_once(fused: None, plain: Callable[[], None], shape: tuple[int, ...], pool: int) -> None:
    # Against float64 from the same bfloat16 inputs: the outputs differ by one rounding, of 2^-9 of the value.
    norm = norm_of(shape[1], torch.float32)
    ours = step(maps(shape, torch.bfloat16), norm, pool, relu=True, dropout=0.0)
    plain()
    exact = norm_of(shape[1], torch.float32).double()
    theirs = step(maps(shape, torch.bfloat16).double(), exact, pool, relu=True, dropout=0.0)
    assert ((ours[0] - theirs[0]).abs() <= theirs[0].abs() * 2**-8 + 1e-6).all()
    assert_near(ours, theirs, 2**-7)  # the arriving gradients are rounded too


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("relu", [True, False])
def test_gradients_are_those_of_finite_differences(fused: None, pool: int, relu: bool) -> None:
    x = maps((3, 18, 5, 6), torch.float64).requires_grad_()
    gamma, beta = (parameter.detach().requires_grad_() for parameter in norm_of(18, torch.float64).parameters())
    bias = torch.zeros(18, dtype=torch.float64)

    def tail(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        norm = nn.BatchNorm2d(18).double()
        del norm.weight, norm.bias
        norm.weight, norm.bias = gamma, beta  # type: ignore[assignment]  # tensors of the graph in their place
        torch.manual_seed(1)
        return block_tail(x, norm, bias, pool, relu, dropout=0.4)

    assert torch.autograd.gradcheck(tail, (x, gamma, beta), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("shape", SHAPES)
def test_both_forms_agree_in_evaluation(
    fused: None, plain: Callable[[], None], shape: tuple[int, ...], pool: int
) -> None:
    norm = norm_of(shape[1], torch.float32).eval()
    assert norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2.0)
    x, bias = maps(shape, torch.float32), torch.linspace(-1, 1, shape[1])
    with torch.no_grad():
        ours = block_tail(x, norm, bias, pool, relu=True, dropout=0.3)
        plain()
        theirs = block_tail(x, norm, bias, pool, relu=True, dropout=0.3)
        stock = F.relu(F.max_pool2d(norm(x + bias.view(-1, 1, 1)), pool))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours, stock, rtol=1e-5, atol=1e-5)


def test_evaluation_can_be_differentiated() -> None:
    x = maps((2, 4, 6, 6), torch.float32).requires_grad_()
    block_tail(x, nn.BatchNorm2d(4).eval(), torch.zeros(4), 2, relu=False, dropout=0.0).sum().backward()
    assert x.grad is not None and x.grad.count_nonzero() == 2 * 4 * 9  # one of each window


def test_the_first_of_equal_values_gets_the_gradient(fused: None, plain: Callable[[], None]) -> None:
    x = torch.tensor([[1.0, 1.0], [1.0, 0.0]]).view(1, 1, 2, 2)
    x = torch.cat([x, x.flip(2)])
    ours = step(x, nn.BatchNorm2d(1), 2, relu=False, dropout=0.0)
    plain()
    assert_near(ours, step(x, nn.BatchNorm2d(1), 2, relu=False, dropout=0.0), 1e-5)


def test_a_large_mean_costs_no_digits(fused: None) -> None:
    x = maps((4, 16, 9, 9), torch.float32, offset=4000.0)
    norm = nn.BatchNorm2d(16)
    block_tail(x, norm, torch.zeros(16), 1, relu=True, dropout=0.0)
    exact = x.double().transpose(0, 1).flatten(1).var(dim=1)
    assert norm.running_var is not None
    torch.testing.assert_close(norm.running_var.double(), 0.9 + 0.1 * exact, rtol=1e-5, atol=0)


def test_infinities_are_rectified(fused: None, plain: Callable[[], None]) -> None:
    x = maps((2, 16, 4, 4), torch.float32)
    x[1, 3] = -torch.inf
    x[1, 4] = torch.inf
    norm = nn.BatchNorm2d(16).eval()
    with torch.no_grad():
        ours = block_tail(x, norm, torch.zeros(16), 2, relu=True, dropout=0.0)
        plain()
        torch.testing.assert_close(ours, block_tail(x, norm, torch.zeros(16), 2, relu=True, dropout=0.0))


@pytest.mark.parametrize("training", [True, False])
def test_nan_is_passed_on(fused: None, training: bool) -> None:
    x = maps((2, 16, 4, 4), torch.float32)
    x[1, 3, 1, 1] = float("nan")
    norm = nn.BatchNorm2d(16).train(training)
    with torch.set_grad_enabled(training):
        y = block_tail(x, norm, torch.zeros(16), 2, relu=True, dropout=0.0)
    assert y[1, 3, 0, 0].isnan() and not y[:, :3].isnan().any()


def test_threads_share_the_rows(fused: None) -> None:
    found = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 3, 7):
            torch.set_num_threads(count)
            ours = step(maps((5, 20, 9, 9), torch.float32), norm_of(20, torch.float32), 2, relu=True, dropout=0.2)
            again = step(maps((5, 20, 9, 9), torch.float32), norm_of(20, torch.float32), 2, relu=True, dropout=0.2)
            assert all(torch.equal(one, other) for one, other in zip(ours, again, strict=True))
            found.append(ours)
    finally:
        torch.set_num_threads(threads)
    assert_near(found[1], found[0], 1e-5)
    assert_near(found[2], found[0], 1e-5)


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_registers_of_any_width_give_the_numbers(
    fused: None, lanes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of this CPU's width: what CPUs of other kinds run."""
    bounds = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 2**-7}

    def steps(dtype: torch.dtype) -> list[list[Tensor]]:
        own = torch.float64 if dtype == torch.float64 else torch.float32
        return [step(maps(at, dtype), norm_of(at[1], own), pool, True, 0.3) for at, pool in product(SHAPES, POOLS)]

    theirs = {dtype: steps(dtype) for dtype in bounds}
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(compiled, "FLAGS", (*compiled.FLAGS, "-O1", f"-DLANES={lanes}"))
    other = CpuKernels.__new__(CpuKernels)
    other._library = compiled._loaded(SOURCE)
    monkeypatch.setattr(module, "kernels", lambda device_type: other)
    for dtype, bound in bounds.items():
        for one, another in zip(steps(dtype), theirs[dtype], strict=True):
            assert_near(one, another, bound)


def test_evaluation_drops_nothing_and_draws_nothing() -> None:
    norm = nn.BatchNorm2d(4).eval()
    state = torch.get_rng_state()
    with torch.no_grad():
        y = block_tail(torch.ones(2, 4, 3, 3), norm, torch.zeros(4), 1, relu=True, dropout=0.9)
    assert (y > 0.99).all()
    assert torch.equal(torch.get_rng_state(), state)


def test_the_reason_says_which_form_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = NotCompiledError("there is no C++ compiler (c++, g++, clang++)")
    monkeypatch.setattr(module, "_kernels", lambda device_type: missing)
    assert reason("cpu") == "blocks in PyTorch's operators, slower (there is no C++ compiler (c++, g++, clang++))"
    assert module.kernels("cpu") is None
