import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from trainable.config import Loss, TrialConfig
from trainable.loss import LOSSES, coral, criterion, cross_entropy, focal, soft_ordinal

LN2, LN3 = math.log(2), math.log(3)


def logits_of(*probabilities: float) -> Tensor:
    """(1, C) logits of a distribution."""
    return torch.tensor([probabilities], dtype=torch.float64).log()


def test_the_table_has_the_losses_of_the_configuration() -> None:
    assert tuple(LOSSES) == get_args(Loss)
    assert all(name == row.name and row.summary for name, row in LOSSES.items())


def test_focal_at_even_odds_is_a_quarter_of_ln_2() -> None:
    losses = focal(torch.zeros(3, 2), torch.tensor([0, 1, 1]), gamma=2.0)
    assert losses.tolist() == pytest.approx([0.25 * LN2] * 3)


@pytest.mark.parametrize(
    ("gamma", "expected"),
    [(0.0, LN3), (0.5, math.sqrt(2 / 3) * LN3), (1.0, 2 / 3 * LN3), (2.0, 4 / 9 * LN3), (5.0, 32 / 243 * LN3)],
)
def test_focal_of_a_third_by_hand(gamma: float, expected: float) -> None:
    assert focal(torch.zeros(1, 3), torch.tensor([2]), gamma).item() == pytest.approx(expected)


def test_focal_with_gamma_0_is_cross_entropy() -> None:
    logits = torch.randn(50, 5, generator=torch.Generator().manual_seed(0)) * 5
    labels = torch.arange(50) % 5
    assert torch.equal(focal(logits, labels, gamma=0.0), cross_entropy(logits, labels))


@pytest.mark.parametrize(("label", "p"), [(0, 0.7), (1, 0.2), (2, 0.1)])
def test_cross_entropy_by_hand(label: int, p: float) -> None:
    logits = logits_of(0.7, 0.2, 0.1)
    assert cross_entropy(logits, torch.tensor([label])).item() == pytest.approx(-math.log(p))


def test_smoothed_cross_entropy_by_hand() -> None:
    # Targets of smoothing 0.3 over 3 classes: 0.7 + 0.1, 0.1, 0.1.
    expected = -(0.8 * math.log(0.7) + 0.1 * math.log(0.2) + 0.1 * math.log(0.1))
    losses = cross_entropy(logits_of(0.7, 0.2, 0.1), torch.tensor([0]), smoothing=0.3)
    assert losses.item() == pytest.approx(expected)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_a_value_an_image(name: str) -> None:
    criterion = LOSSES[name].build(TrialConfig())
    logits, labels = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0])
    losses = criterion(logits, labels)
    assert losses.shape == (4,)
    for index in range(4):
        alone = criterion(logits[index : index + 1], labels[index : index + 1])
        assert losses[index].item() == pytest.approx(alone.item())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cross_entropy", -math.log(0.75)),
        ("label_smoothing", -(0.8 * math.log(0.75) + 0.2 * math.log(0.25))),
        ("focal", -(0.25**3) * math.log(0.75)),
        # Outputs ln 3/4 and ln 1/4, level 0: -ln(1 - sigmoid) = ln(1 + 3/4), ln(1 + 1/4).
        ("coral", math.log(1.75) + math.log(1.25)),
        # Levels at distance 1 get e^(-1/0.5) of the true one's share.
        ("soft_ordinal", -(math.log(0.75) + math.exp(-2) * math.log(0.25)) / (1 + math.exp(-2))),
    ],
)
def test_a_row_reads_its_own_settings(name: str, expected: float) -> None:
    config = TrialConfig(label_smoothing=0.4, focal_gamma=3.0, ordinal_scale=0.5)
    losses = LOSSES[name].build(config)(logits_of(0.75, 0.25), torch.tensor([0]))
    assert losses.item() == pytest.approx(expected)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("margin", [-1000.0, -20.0, 0.0, 17.0, 40.0, 1000.0])  # p of 0 to 1
def test_loss_and_gradient_are_finite_at_every_confidence(name: str, gamma: float, margin: float) -> None:
    logits = torch.tensor([[margin, 0.0, 0.0]], requires_grad=True)
    loss = LOSSES[name].build(TrialConfig(focal_gamma=gamma))(logits, torch.tensor([0]))
    loss.backward()
    assert math.isfinite(loss.item())
    assert loss.item() >= 0
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(
    ("name", "gamma"),
    [
        ("cross_entropy", 0.0),
        ("label_smoothing", 0.0),
        ("focal", 0.5),
        ("focal", 2.0),
        ("coral", 0.0),
        ("soft_ordinal", 0.0),
    ],
)
def test_gradients_are_those_of_finite_differences(name: str, gamma: float) -> None:
    criterion = LOSSES[name].build(TrialConfig(focal_gamma=gamma))
    logits = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.tensor([0, 1, 2])
    assert torch.autograd.gradcheck(lambda values: criterion(values, labels), (logits,))


def test_a_negative_gamma_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^gamma is -1\.0; it must be at least 0$"):
        focal(torch.zeros(1, 2), torch.tensor([0]), gamma=-1.0)


# Ordered levels


@pytest.mark.parametrize(("level", "right"), [(0, (0.2, 0.7)), (1, (0.8, 0.7)), (2, (0.8, 0.3))])
def test_coral_of_three_levels_by_hand(level: int, right: tuple[float, float]) -> None:
    # P(above 0) = 0.8 and P(above 1) = 0.3; each statement's loss is -ln of the probability of what is true.
    outputs = torch.tensor([[0.8, 0.3]], dtype=torch.float64).logit()
    assert coral(outputs, torch.tensor([level])).item() == pytest.approx(-math.log(right[0]) - math.log(right[1]))


def test_coral_is_least_for_the_level_its_statements_tell() -> None:
    outputs = torch.tensor([[9.0, -9.0]]).expand(3, 2)  # above 0, not above 1
    assert coral(outputs, torch.tensor([0, 1, 2])).argmin() == 1


def test_soft_ordinal_by_hand() -> None:
    # Scale 2, level 0 of 3: shares 1, e^-1/2, e^-1 over their sum.
    shares = [1.0, math.exp(-0.5), math.exp(-1)]
    expected = -sum(s * math.log(p) for s, p in zip(shares, (0.7, 0.2, 0.1), strict=True)) / sum(shares)
    losses = soft_ordinal(logits_of(0.7, 0.2, 0.1), torch.tensor([0]), scale=2.0)
    assert losses.item() == pytest.approx(expected)


def test_soft_ordinal_spreads_to_both_sides() -> None:
    losses = soft_ordinal(logits_of(0.1, 0.7, 0.2), torch.tensor([1]), scale=1.0)
    e = math.exp(-1)
    expected = -(math.log(0.7) + e * math.log(0.1) + e * math.log(0.2)) / (1 + 2 * e)
    assert losses.item() == pytest.approx(expected)


def test_soft_ordinal_of_a_small_scale_is_cross_entropy() -> None:
    logits, labels = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 4
    assert soft_ordinal(logits, labels, scale=0.01).tolist() == cross_entropy(logits, labels).tolist()


# Weights


def test_weights_make_each_level_count_the_same() -> None:
    # 6 and 2 images: weights 8 / (2 * 6) and 8 / (2 * 2).
    weighed = criterion(TrialConfig(class_weights=True), torch.tensor([6, 2]))
    losses = weighed(torch.zeros(8, 2), torch.tensor([0] * 6 + [1] * 2))
    assert losses.tolist() == pytest.approx([2 / 3 * LN2] * 6 + [2 * LN2] * 2)
    assert losses.mean().item() == pytest.approx(LN2)  # the weights have the mean 1 over the images
    assert losses[:6].sum().item() == pytest.approx(losses[6:].sum().item())


def test_levels_that_no_image_has_change_no_weight() -> None:
    # As an expert has it, whose images are of a part of the levels.
    weighed = criterion(TrialConfig(class_weights=True), torch.tensor([0, 6, 0, 2]))
    losses = weighed(torch.zeros(8, 4), torch.tensor([1] * 6 + [3] * 2))
    assert losses.mean().item() == pytest.approx(math.log(4))


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"coral"}))
def test_weights_are_factors_of_any_loss(name: Loss) -> None:
    counts = torch.tensor([1, 3, 4])
    outputs, levels = (
        torch.randn(8, 3, generator=torch.Generator().manual_seed(0)),
        torch.tensor([0, 1, 1, 1] + [2] * 4),
    )
    plain = criterion(TrialConfig(loss=name), counts)(outputs, levels)
    weighed = criterion(TrialConfig(loss=name, class_weights=True), counts)(outputs, levels)
    factors = torch.tensor([8 / 3, 8 / 9, 8 / 12])[levels]
    assert weighed.tolist() == pytest.approx((plain * factors).tolist())
    assert factors.mean().item() == pytest.approx(1)


def test_a_level_without_training_images_has_a_finite_weight() -> None:
    losses = criterion(TrialConfig(class_weights=True), torch.tensor([4, 0]))(torch.zeros(1, 2), torch.tensor([1]))
    assert losses.isfinite().all()


def test_without_weights_the_counts_do_not_matter() -> None:
    outputs, levels = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0, 0])
    losses = criterion(TrialConfig(), torch.tensor([100, 1]))(outputs, levels)
    assert torch.equal(losses, cross_entropy(outputs, levels))
