import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.trainable.tiny import PREPROCESSING, SIZE, config
from trainable.model import ConvNet
from trainable.network import Coral, Experts, build_network

AGED = replace(PREPROCESSING, levels={"10": 0, "20": 0, "30": 1, "40": 1, "50": 2})
TWO = replace(PREPROCESSING, vocabulary={"Race": ("0", "1"), "Gender": ("f", "m", "x")})
IMAGES = torch.randn(6, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def build(preprocessing: Any = PREPROCESSING, **changes: Any) -> Any:
    torch.manual_seed(0)
    return build_network(config(**changes), preprocessing)


def hots(values: Sequence[int | None], width: int = 2) -> Tensor:
    """One-hots of the values; None is one that training never saw."""
    return torch.stack([torch.zeros(width) if value is None else torch.eye(width)[value] for value in values])


class Fixed(nn.Module):
    """Gives (factor, sum of the metadata) for each image, and remembers how many it was given."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))
        self.batches: list[int] = []

    def forward(self, images: Tensor, metadata: Tensor) -> Tensor:
        self.batches.append(len(images))
        return torch.stack([self.factor * images.flatten(1)[:, 0], metadata.sum(1)], dim=1)


# One network


@pytest.mark.parametrize(
    ("changes", "preprocessing", "outputs"),
    [
        ({}, PREPROCESSING, 3),
        ({"loss": "coral"}, PREPROCESSING, 2),
        ({"target": "Age"}, AGED, 5),
        ({"target": "Age", "loss": "coral"}, AGED, 4),
        ({"target": "Age", "loss": "coral", "experts": "Gender"}, AGED, 4),
        ({"experts": "Gender"}, PREPROCESSING, 3),
    ],
)
def test_a_network_has_the_outputs_that_its_head_reads(
    changes: dict[str, Any], preprocessing: Any, outputs: int
) -> None:
    network = build(preprocessing, **changes)
    assert network(IMAGES, hots([0, 1, 0, 1, 0, 1])).shape == (6, outputs)


def test_the_plain_network_is_the_architecture_itself() -> None:
    torch.manual_seed(0)
    expected = ConvNet(config(), 2, 3).state_dict()
    built = build().state_dict()
    assert list(built) == list(expected)
    assert all(torch.equal(built[name], expected[name]) for name in expected)


# CORAL


def biases(network: Coral) -> list[float]:
    return network(torch.zeros(1, 1), torch.zeros(1, 0))[0].tolist()


class Score(nn.Module):
    """Its images are its scores."""

    def forward(self, images: Tensor, metadata: Tensor) -> Tensor:
        return images


@pytest.mark.parametrize(
    ("counts", "above"),
    [
        ([9, 9], [1 / 2]),  # logit 0
        ([1, 2, 3], [6 / 7.5, 3.5 / 7.5]),  # each level has half an image more
        ([0, 4, 0, 0], [5.5 / 6, 1 / 6, 0.5 / 6]),
        ([0, 0, 0], [2 / 3, 1 / 3]),
    ],
)
def test_a_score_of_0_tells_the_levels_shares_at_the_start(counts: list[int], above: list[float]) -> None:
    network = Coral(Score(), len(counts))
    network.start_at(torch.tensor(counts))
    assert biases(network) == pytest.approx([math.log(p / (1 - p)) for p in above], abs=1e-6)


def test_without_counts_all_levels_are_as_probable() -> None:
    assert biases(Coral(Score(), 4)) == pytest.approx([math.log(3), 0.0, -math.log(3)], abs=1e-6)


def test_fifty_one_levels_of_one_image_each_start_in_order() -> None:
    network = Coral(Score(), 51)
    network.start_at(torch.ones(51))
    falling = biases(network)
    assert falling == sorted(falling, reverse=True) and len(set(falling)) == 50


def test_coral_adds_its_biases_to_one_score() -> None:
    network = build(AGED, loss="coral", target="Age").eval()
    assert network.network.output.out_features == 1
    with torch.no_grad():
        network.tenths.copy_(torch.tensor([0.3, 0.1, -0.1, -0.2]))
        score = network.network(IMAGES, hots([0] * 6))
        outputs = network(IMAGES, hots([0] * 6))
    assert torch.allclose(outputs, torch.cat([score + 3, score + 1, score - 1, score - 2], dim=1))


def test_coral_learns_its_biases() -> None:
    network = build(loss="coral")
    network(IMAGES, hots([0, 1] * 3)).sum().backward()
    assert network.tenths.grad.tolist() == [60.0, 60.0]


# Experts


def test_each_row_is_its_own_experts_output() -> None:
    network = build(experts="Gender").eval()
    metadata = hots([1, 0, 0, 1, 1, 0])
    with torch.no_grad():
        outputs = network(IMAGES, metadata)
        for expert in (0, 1):
            own = metadata[:, expert] > 0
            assert torch.equal(outputs[own], network.networks[expert](IMAGES[own], metadata[own]))
            assert not torch.allclose(outputs[~own], network.networks[expert](IMAGES[~own], metadata[~own]))


def test_an_unseen_value_gets_the_mean_of_all_experts() -> None:
    network = Experts([Fixed(2.0), Fixed(6.0), Fixed(-5.0)], slice(0, 3))
    images = torch.arange(1.0, 4.0).view(3, 1, 1, 1)
    outputs = network(images, hots([1, None, 2], 3))
    assert outputs.tolist() == [[6.0, 1.0], [pytest.approx(2.0), 0.0], [-15.0, 1.0]]


def test_an_expert_without_rows_in_the_batch_is_not_asked() -> None:
    experts = [Fixed(1.0), Fixed(2.0), Fixed(3.0)]
    Experts(experts, slice(0, 3))(torch.ones(4, 1, 1, 1), hots([0, 2, 2, 2], 3))
    assert [expert.batches for expert in experts] == [[1], [], [3]]


def test_experts_read_the_column_they_are_named_after() -> None:
    network = build(TWO, experts="Gender", inputs=("Race", "Gender")).eval()
    assert (network.group, len(network.networks)) == (slice(2, 5), 3)
    metadata = torch.tensor([[1.0, 0, 0, 0, 1]])  # Race 0, Gender x
    with torch.no_grad():
        assert torch.equal(network(IMAGES[:1], metadata), network.networks[2](IMAGES[:1], metadata))


def test_a_row_gives_gradients_to_its_own_expert_alone() -> None:
    network = build(experts="Gender")
    network(IMAGES, hots([1] * 6)).sum().backward()
    assert all(p.grad is None for p in network.networks[0].parameters())
    assert all(p.grad is not None for p in network.networks[1].parameters())


def test_experts_begin_with_weights_of_their_own() -> None:
    one, other = build(experts="Gender").networks
    assert not torch.equal(one.output.weight, other.output.weight)


# Identity


@pytest.mark.parametrize("changes", [{}, {"architecture": "residual"}, {"experts": "Gender", "loss": "coral"}], ids=str)
def test_an_identity_start_changes_the_first_filters_of_the_blocks_alone(changes: dict[str, Any]) -> None:
    default, identity = build(**changes).state_dict(), build(**changes, init="identity").state_dict()
    assert {name: value.shape for name, value in default.items()} == {n: v.shape for n, v in identity.items()}
    changed = [name for name in default if not torch.equal(default[name], identity[name])]
    assert changed == [name for name in default if name.endswith("conv.weight")]
    for name in changed:
        inputs = default[name].shape[1]
        assert torch.equal(default[name][inputs:], identity[name][inputs:])
        assert torch.equal(identity[name][0, 0], torch.tensor([[0.0, 0, 0], [0, 1, 0], [0, 0, 0]]))


def test_an_identity_start_can_be_counted_without_memory() -> None:
    with torch.device("meta"):
        assert all(tensor.is_meta for tensor in build(init="identity").state_dict().values())
