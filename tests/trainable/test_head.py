import itertools
import math

import pytest
import torch
from torch import Tensor

from tests.trainable.tiny import PREPROCESSING, config
from trainable.head import Head, head_of
from trainable.preprocess import Preprocessing


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def coral(*outputs: float) -> Tensor:
    """(V,) what CORAL's outputs give, the levels being the classes."""
    return Head(len(outputs) + 1, None, coral=True).logits(torch.tensor([outputs]))[0]


@pytest.mark.parametrize(
    ("head", "levels", "outputs"),
    [
        (Head(5, None, coral=False), 5, 5),
        (Head(5, None, coral=True), 5, 4),
        (Head(2, (0, 0, 1), coral=False), 3, 3),
        (Head(2, (0, 0, 1), coral=True), 3, 2),
    ],
)
def test_a_head_has_an_output_a_level_and_one_less_for_coral(head: Head, levels: int, outputs: int) -> None:
    assert (head.levels, head.outputs) == (levels, outputs)


def test_the_head_follows_from_target_loss_and_preprocessing() -> None:
    aged = Preprocessing(28, (0, 0, 0), (1, 1, 1), ("young", "old"), {}, {"10": 0, "20": 0, "30": 1})
    assert head_of(config(), PREPROCESSING) == Head(3, None, coral=False)
    assert head_of(config(loss="coral"), PREPROCESSING) == Head(3, None, coral=True)
    assert head_of(config(loss="coral", target="Age"), aged) == Head(2, (0, 0, 1), coral=True)
    assert head_of(config(), aged) == Head(2, None, coral=False)  # the levels are another configuration's


def test_classes_are_the_outputs_where_nothing_else_is_learnt() -> None:
    outputs = torch.tensor([[1.0, -2.0, 3.0]])
    assert Head(3, None, coral=False).logits(outputs) is outputs


def test_a_classs_logit_is_the_logsumexp_of_its_levels() -> None:
    logits = Head(2, (0, 1, 0), coral=False).logits(torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]))
    expected = [[math.log(math.e + math.e**3), 2.0], [math.log(2), 0.0]]
    assert logits.tolist() == [pytest.approx(row) for row in expected]


def test_a_classs_probability_is_the_sum_of_its_levels() -> None:
    outputs = torch.tensor([[0.1, 0.2, 0.3, 0.4]], dtype=torch.float64).log() + 7
    probabilities = Head(3, (2, 0, 0, 1), coral=False).logits(outputs).softmax(1)
    assert probabilities.tolist() == [pytest.approx([0.5, 0.4, 0.1])]


@pytest.mark.parametrize("is_coral", [False, True])
def test_probabilities_sum_to_1(is_coral: bool) -> None:
    head = Head(3, (0, 0, 1, 2, 2, 2), coral=is_coral)
    outputs = torch.randn(20, head.outputs, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ordered = outputs.sort(dim=1, descending=True).values
    assert head.logits(ordered).softmax(1).sum(1).tolist() == pytest.approx([1.0] * 20)
    if is_coral:  # before the softmax, too
        assert head.logits(ordered).exp().sum(1).tolist() == pytest.approx([1.0] * 20, abs=1e-5)


@pytest.mark.parametrize("is_coral", [False, True])
def test_a_class_without_a_level_has_no_probability_and_a_finite_logit(is_coral: bool) -> None:
    head = Head(3, (0, 2, 2), coral=is_coral)
    outputs = torch.randn(4, head.outputs, generator=torch.Generator().manual_seed(0), requires_grad=True)
    logits = head.logits(outputs)
    assert logits[:, 1].tolist() == [-1e4] * 4
    assert logits.softmax(1)[:, 1].tolist() == [0.0] * 4
    logits.log_softmax(1)[:, 1].sum().backward()  # as a validation loss would have it
    assert outputs.grad is not None and outputs.grad.isfinite().all()


def test_corals_log_probabilities_are_those_of_sigmoid_differences() -> None:
    a, b, c = 1.5, 0.25, -2.0
    expected = [1 - sigmoid(a), sigmoid(a) - sigmoid(b), sigmoid(b) - sigmoid(c), sigmoid(c)]
    assert coral(a, b, c).exp().tolist() == pytest.approx(expected, rel=1e-5)
    assert coral(a, b, c).tolist() == pytest.approx([math.log(p) for p in expected], rel=1e-5)


def test_coral_of_two_levels_is_one_sigmoid() -> None:
    assert coral(0.75).exp().tolist() == pytest.approx([1 - sigmoid(0.75), sigmoid(0.75)])


@pytest.mark.parametrize("sign", [1, -1])
def test_corals_differences_keep_their_digits_near_0_and_1(sign: int) -> None:
    # sigmoid(-30) - sigmoid(-31) = e^-30 - e^-31 up to a part in 1e13; near 1 float32 would round the difference to 0.
    a, b = sorted((30.0 * sign, 31.0 * sign), reverse=True)
    assert coral(a, b)[1].item() == pytest.approx(-30 + math.log(1 - 1 / math.e), rel=1e-6)


@pytest.mark.parametrize("outputs", list(itertools.product((-1e4, 0.0, 1e4), repeat=3)))
def test_extreme_outputs_stay_finite(outputs: tuple[float, ...]) -> None:
    values = torch.tensor([outputs], requires_grad=True)
    logits = Head(2, (0, 0, 1, 1), coral=True).logits(values)
    assert logits.isfinite().all()
    logits.log_softmax(1).sum().backward()
    assert values.grad is not None and values.grad.isfinite().all()


def test_coral_out_of_order_makes_the_level_between_improbable() -> None:
    below, between, above = coral(-1.0, 2.0).tolist()
    assert (below, above) == (pytest.approx(math.log(1 - sigmoid(-1))), pytest.approx(math.log(sigmoid(2))))
    assert -25 < between < math.log(1e-6)
