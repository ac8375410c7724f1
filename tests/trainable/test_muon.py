import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import Parameter

from trainable.config import TrialConfig
from trainable.model import ConvNet
from trainable.muon import Muon
from trainable.network import build_network
from trainable.preprocess import Preprocessing

LAYOUTS = [torch.contiguous_format, torch.channels_last]
A, B, C = 3.4445, -4.7750, 2.0315  # of the Newton-Schulz rounds


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def stepped(filters: Tensor, gradients: list[Tensor], layout: torch.memory_format, **settings: float) -> Tensor:
    """The filters after a step with each of the gradients."""
    weight = Parameter(filters.clone(memory_format=torch.preserve_format).to(memory_format=layout))
    optimizer = Muon([weight], **({"lr": 0.1, "weight_decay": 0.0, "momentum": 0.9} | settings))
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
    return weight.detach().contiguous()


def rounded(value: float) -> float:
    """The value as a bfloat16."""
    return torch.tensor(value, dtype=torch.bfloat16).item()


def orthogonal(matrix: Tensor) -> Tensor:
    """Five Newton-Schulz rounds in float64: the matrix over its norm, each singular value s to a s + b s^3 + c s^5."""
    u, s, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    s = s / s.norm()
    for _ in range(5):
        s = A * s + B * s**3 + C * s**5
    return u @ s.diag() @ v


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_step_of_a_gradient_of_equal_singular_values_by_hand(layout: torch.memory_format) -> None:
    # Filter k reads channel k, at its centre, so that the gradient is 4 times a matrix of orthonormal rows. Over its
    # norm its four singular values are 1/2 each, and each round, with bfloat16's rounding, is done on all alike:
    # 1.189, 0.896, 0.824, 0.938, 0.765 if it were exact. The matrix is 4 x 36: a step is lr 0.2 sqrt(36) of that.
    s = 0.5
    for _ in range(5):
        square = rounded(s * s)
        s = rounded(A * s + rounded(B * square + C * square**2) * s)
    identity = nn.init.dirac_(torch.empty(4, 4, 3, 3))
    found = stepped(torch.zeros(4, 4, 3, 3), [4 * identity], layout)
    assert torch.allclose(found, -0.1 * 0.2 * 6 * s * identity, atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(6, 4, 3, 3), (40, 4, 3, 3), (5, 8, 1, 1)], ids=str)
def test_a_step_is_the_orthogonalised_gradient_whatever_its_scale(
    shape: tuple[int, ...], layout: torch.memory_format
) -> None:
    before, gradient = random(*shape), random(*shape, seed=1)
    columns = math.prod(shape[1:])
    expected = -0.1 * 0.2 * math.sqrt(max(shape[0], columns)) * orthogonal(gradient.flatten(1))
    for scale in (1e-3, 1.0, 1e3):
        step = (stepped(before, [scale * gradient], layout) - before).flatten(1).double()
        # bfloat16 has 8 bits; five rounds of it.
        assert (step - expected).norm() < 0.03 * expected.norm()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_weight_decay_shrinks_the_filters_beside_the_step(layout: torch.memory_format) -> None:
    before, gradient = random(4, 4, 3, 3), random(4, 4, 3, 3, seed=1)
    plain, decayed = (stepped(before, [gradient], layout, weight_decay=decay) for decay in (0.0, 0.5))
    assert torch.allclose(plain - decayed, 0.1 * 0.5 * before, atol=1e-6)


def test_momentum_is_nesterovs() -> None:
    # Momentum m after gradients g, h: (1 - m) (m g + h), looked ahead: (1 - m) h + m of that.
    g, h = random(4, 4, 3, 3), random(4, 4, 3, 3, seed=1)
    first = stepped(torch.zeros(4, 4, 3, 3), [g], torch.channels_last)
    both = stepped(torch.zeros(4, 4, 3, 3), [g, h], torch.channels_last)
    looked_ahead = 0.1 * h + 0.9 * (0.1 * (0.9 * g + h))
    expected = -0.1 * 0.2 * 6 * orthogonal(looked_ahead.flatten(1))
    assert ((both - first).flatten(1).double() - expected).norm() < 0.03 * expected.norm()


def test_the_filters_that_read_features_are_muons_and_all_else_adamws() -> None:
    network = ConvNet(TrialConfig(depth=4, widths=(4, 8, 8, 8), image_size=28), 2, 5)
    optimizer = Muon(network.parameters(), 1e-3, 1e-2, 0.9)
    _, *hidden = network.blocks
    assert [id(one) for one in optimizer.filters] == [id(block.conv.weight) for block in hidden]
    muon, adamw = optimizer.parts
    assert isinstance(muon, torch.optim.Muon) and isinstance(adamw, torch.optim.AdamW)
    filters = {id(one) for one in optimizer.filters}
    rest = [one for one in network.parameters() if id(one) not in filters]
    assert [id(one) for one in adamw.param_groups[0]["params"]] == [id(one) for one in rest]


@pytest.mark.parametrize("architecture", ["mobilenet_v3_small", "residual"])
def test_every_parameter_of_a_network_moves(architecture: Any) -> None:
    preprocessing = Preprocessing(28, (0.5,) * 3, (0.5,) * 3, ("a", "b"), {}, {})
    network = build_network(TrialConfig(architecture=architecture, image_size=28), preprocessing)
    network.to(memory_format=torch.channels_last)
    before = [one.detach().clone() for one in network.parameters()]
    for one in network.parameters():
        one.grad = torch.ones_like(one)
    Muon(network.parameters(), 1e-2, 0.0, 0.9).step()
    assert not any(torch.equal(one, old) for one, old in zip(network.parameters(), before, strict=True))


def test_both_parts_go_by_the_rate_of_the_one_group() -> None:
    filters, scale = Parameter(torch.zeros(4, 4, 3, 3)), Parameter(torch.zeros(1))
    optimizer = Muon([filters, scale], 0.1, 0.0, 0.9)
    optimizer.param_groups[0]["lr"] = 0.0
    filters.grad, scale.grad = random(4, 4, 3, 3), torch.ones(1)
    optimizer.step()
    assert not filters.any() and not scale.any()
    optimizer.param_groups[0]["lr"] = 0.01
    optimizer.step()
    assert scale.item() == pytest.approx(-0.01)
    assert 0 < filters.abs().max() < 0.01 * 0.2 * 6 * 1.3


def test_what_has_no_gradient_stays() -> None:
    filters, others = Parameter(torch.ones(4, 4, 3, 3)), Parameter(torch.ones(4, 4, 3, 3))
    optimizer = Muon([filters, others], 0.1, 0.5, 0.9)
    others.grad = random(4, 4, 3, 3)
    optimizer.step()
    optimizer.zero_grad()
    optimizer.step()
    assert torch.equal(filters, torch.ones(4, 4, 3, 3))
    assert others.grad is None
