from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.trainable.tiny import config
from trainable import compiled, model
from trainable import stem as module
from trainable.kernels import Dropout
from trainable.model import ConvNet
from trainable.stem import stem

FORMATS = (torch.float32, torch.bfloat16)
SHAPES = (  # (N, O, H, W): broken pairs of images, vectors and groups of pixels
    *((4, 32, 14, 18), (3, 20, 9, 12), (1, 33, 10, 31)),
    (5, 8, 7, 6),  # a row of fewer pixels than a group
    (6, 1, 3, 3),  # the smallest map
)


@pytest.fixture(autouse=True)
def compiler() -> None:
    if not module._functions():
        pytest.skip("there is no C++ compiler")


def available(dtype: torch.dtype) -> None:
    if dtype not in module._functions():
        pytest.skip(f"this CPU has no products of {dtype}")


def images(n: int, h: int, w: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(n + h + w)
    return (torch.randn(n, 3, h, w, generator=generator) + 0.5).to(dtype).contiguous(memory_format=torch.channels_last)


def weights(outputs: int) -> Tensor:
    return torch.randn(outputs, 3, 3, 3, generator=torch.Generator().manual_seed(outputs)) / 5


def norm_of(channels: int) -> nn.BatchNorm2d:
    torch.manual_seed(channels)
    norm = nn.BatchNorm2d(channels)
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    return norm


def arriving(y: Tensor) -> Tensor:
    return torch.randn(y.shape, generator=torch.Generator().manual_seed(6)).to(torch.bfloat16)


def ours(x: Tensor, weight: Tensor, norm: nn.BatchNorm2d, dropout: float = 0.0) -> list[Tensor]:
    """Outputs, gradients of weights, gamma and beta, and running statistics of one training step."""
    weight, bias = weight.clone().requires_grad_(), torch.linspace(-1, 1, len(weight)).requires_grad_()
    torch.manual_seed(5)
    with torch.autocast("cpu", torch.bfloat16, enabled=x.dtype == torch.bfloat16):
        y = stem(x, weight, norm, bias, dropout)
    assert y is not None and y.dtype == x.dtype
    y.backward(arriving(y).to(y.dtype))
    assert bias.grad is not None and not bias.grad.any()
    return found(y, weight, norm)


def found(y: Tensor, weight: Tensor, norm: nn.BatchNorm2d) -> list[Tensor]:
    tensors = [y.detach(), weight.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var]
    return [tensor.double() for tensor in tensors if tensor is not None]


def pytorchs(x: Tensor, weight: Tensor, norm: nn.BatchNorm2d, dropout: float = 0.0) -> list[Tensor]:
    """The same in float64, of the same inputs and weights."""
    norm = norm.double()
    bias = torch.linspace(-1, 1, len(weight), dtype=torch.float64)
    weight = weight.to(x.dtype).double().requires_grad_()
    y = F.relu(norm(F.conv2d(x.double(), weight, bias)))
    if dropout:
        torch.manual_seed(5)
        y = Dropout(dropout, y.numel(), y.device)(y)
    y.backward(arriving(y).double())
    return found(y, weight, norm)


def assert_near(one: list[Tensor], other: list[Tensor], share: float) -> None:
    """To a share of the largest value of each."""
    assert len(one) == len(other) == 6
    for mine, theirs in zip(one, other, strict=True):
        assert (mine - theirs).abs().max() <= share * theirs.abs().max() + 1e-9


def test_a_patch_by_hand() -> None:
    # Two pixels see 27 ones and 27 threes: mean 54, variance 27^2, so that they are -1 and 1, times 2 plus 1.
    x = torch.ones(2, 3, 3, 3)
    x[1] = 3
    norm = nn.BatchNorm2d(1, eps=0.0)
    with torch.no_grad():
        norm.weight.fill_(2.0)
        norm.bias.fill_(1.0)
    weight = torch.ones(1, 3, 3, 3, requires_grad=True)
    y = stem(x, weight, norm, torch.tensor([10.0]), 0.0)
    assert y is not None and y.flatten().tolist() == [0, 3]
    assert norm.running_mean is not None and norm.running_mean.item() == pytest.approx(6.4)  # 0.1 (54 + 10)
    assert norm.running_var is not None and norm.running_var.item() == pytest.approx(0.9 + 0.1 * 2 * 27**2)
    y.backward(torch.full_like(y, 5.0))
    assert norm.weight.grad is not None and norm.weight.grad.item() == pytest.approx(5)  # 5 times the normalised 1
    assert norm.bias.grad is not None and norm.bias.grad.item() == pytest.approx(5)
    # Of two values batch norm leaves a sign, which no weight changes.
    assert weight.grad is not None and weight.grad.abs().max() < 1e-6


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize(("dtype", "share"), [(torch.float32, 1e-5), (torch.bfloat16, 2**-8)])
def test_it_is_pytorchs_in_float64(dtype: torch.dtype, share: float, shape: tuple[int, ...], dropout: float) -> None:
    available(dtype)
    n, outputs, h, w = shape
    x = images(n, h, w, dtype)
    mine = ours(x, weights(outputs), norm_of(outputs), dropout)
    theirs = pytorchs(x, weights(outputs), norm_of(outputs), dropout)
    assert_near(mine, theirs, share)
    # The outputs are rounded to bfloat16; all else is summed in float, whatever the format.
    assert_near([theirs[0], *mine[1:]], theirs, 1e-5)


def test_images_in_another_layout_are_read_as_they_are() -> None:
    x = images(3, 9, 12)
    wanted = ours(x, weights(20), norm_of(20))
    other = ours(x.contiguous(), weights(20), norm_of(20))
    assert all(torch.equal(one, another) for one, another in zip(other, wanted, strict=True))


def test_evaluation_is_by_the_running_statistics_and_draws_nothing() -> None:
    norm, bias, x, weight = norm_of(20), torch.linspace(-1, 1, 20), images(3, 9, 12), weights(20)
    ours(x, weight, norm)
    state = torch.get_rng_state()
    with torch.no_grad():
        y = stem(x, weight, norm.eval(), bias, 0.9)
        wanted = F.relu(norm(F.conv2d(x, weight, bias)))
    assert y is not None and (y - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    assert torch.equal(torch.get_rng_state(), state)


def test_threads_share_the_images() -> None:
    steps = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 3, 9):
            torch.set_num_threads(count)
            mine, again = (ours(images(7, 9, 12), weights(20), norm_of(20), 0.2) for _ in range(2))
            assert all(torch.equal(one, other) for one, other in zip(mine, again, strict=True))
            steps.append(mine)
    finally:
        torch.set_num_threads(threads)
    assert_near(steps[1], steps[0], 1e-5)
    assert_near(steps[2], steps[0], 1e-5)


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_registers_of_any_width_give_the_numbers(lanes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of this CPU's width: what CPUs of other kinds run."""
    cases = [(images(n, h, w), weights(outputs), outputs) for n, outputs, h, w in SHAPES]
    theirs = [ours(x, weight, norm_of(outputs), 0.3) for x, weight, outputs in cases]
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(compiled, "FLAGS", (*compiled.FLAGS, "-O1", f"-DLANES={lanes}"))
    monkeypatch.setattr(module, "library", compiled._loaded)
    functions = module._functions.__wrapped__()
    assert set(functions) == {torch.float32}  # bfloat16 is for whole registers of AVX-512
    monkeypatch.setattr(module, "_functions", lambda: functions)
    for (x, weight, outputs), wanted in zip(cases, theirs, strict=True):
        assert_near(ours(x, weight, norm_of(outputs), 0.3), wanted, 1e-5)


def test_nan_stays_nan() -> None:
    x = images(2, 8, 9)
    x[1, 0, 3, 3] = float("nan")
    with torch.no_grad():
        y = stem(x, weights(16), norm_of(16).eval(), torch.zeros(16), 0.0)
    assert y is not None
    assert y[1, :, 1:4, 1:4].isnan().all() and int(y.isnan().sum()) == 16 * 9


@pytest.mark.parametrize(
    "change",
    [
        lambda x, weight, norm: (x[:, :2], weight[:, :2], norm),
        lambda x, weight, norm: (x.double(), weight.double(), norm),
        lambda x, weight, norm: (x[..., :2], weight, norm),
        lambda x, weight, norm: (x.requires_grad_(), weight, norm),
        lambda x, weight, norm: (x, weight, norm.eval()),
        lambda x, weight, norm: (x.to("meta"), weight.to("meta"), norm.to("meta")),
    ],
    ids=["two channels", "float64", "too small", "the images' gradient", "evaluation's gradient", "another device"],
)
def test_what_it_cannot_do_it_leaves(change: Callable[..., tuple[Tensor, Tensor, nn.BatchNorm2d]]) -> None:
    x, weight, norm = change(images(2, 8, 9), weights(16).requires_grad_(), norm_of(16))
    assert stem(x, weight, norm, torch.zeros(16, device=x.device), 0.0) is None


@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_smooth_images_that_are_far_from_grey_cost_no_digits(offset: float) -> None:
    # As of photographs neighbours are nearly alike: what a filter makes of them is small beside what it adds up.
    smooth = F.interpolate(images(4, 4, 4), size=(20, 20), mode="bicubic") + offset
    x = smooth.contiguous(memory_format=torch.channels_last)
    assert_near(ours(x, weights(16), norm_of(16)), pytorchs(x, weights(16), norm_of(16)), 1e-4)


def test_gradients_of_nan_arrive() -> None:
    x = images(2, 8, 9)
    x[1, 0, 3, 3] = float("nan")
    norm, weight = norm_of(16), weights(16).requires_grad_()
    y = stem(x, weight, norm, torch.zeros(16), 0.0)
    assert y is not None and y.isnan().all()
    y.sum().backward()
    assert weight.grad is not None and weight.grad.isnan().all()


@pytest.mark.parametrize("dtype", FORMATS)
def test_the_first_block_of_the_network_is_this_one(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    available(dtype)
    given: list[bool] = []

    def outputs() -> list[Tensor]:
        torch.manual_seed(3)
        network = ConvNet(config(dropout=(0.2, 0.0, 0.0, 0.0)), 0, 4)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            logits = network(images(6, 28, 28), torch.zeros(6, 0)).float()
        logits.sum().backward()
        return [logits.detach(), *(p.grad for p in network.parameters() if p.grad is not None)]

    def spy(*arguments: Any) -> Tensor | None:
        y = stem(*arguments)
        given.append(y is not None)
        return y

    monkeypatch.setattr(model, "stem", spy)
    mine = outputs()
    assert given == [True]
    monkeypatch.setattr(module, "_functions", dict)
    theirs = outputs()
    assert given == [True, False]
    if dtype == torch.bfloat16:  # whose rounding lets other values of a window be the largest
        assert (mine[0] - theirs[0]).abs().max() <= 0.05 * theirs[0].abs().max()
        return
    for one, other in zip(mine, theirs, strict=True):
        assert (one - other).abs().max() <= 1e-4 * other.abs().max() + 1e-5
