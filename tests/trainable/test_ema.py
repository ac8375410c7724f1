import copy

import pytest
import torch
from torch import nn

from trainable.ema import MovingAverage


class One(nn.Module):
    """One parameter."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(value))

    def to(self, value: float) -> "One":  # type: ignore[override]
        self.weight.data.fill_(value)
        return self


def averages(decay: float, *values: float) -> list[float]:
    """The average after each step, from a start at the first value."""
    model = One(values[0])
    average = MovingAverage(model, decay)
    seen = []
    for value in values[1:]:
        average.update(model.to(value))
        seen.append(average.model.get_parameter("weight").item())
    return seen


def test_three_steps_by_hand_while_the_decay_rises() -> None:
    # Decays 2/11, 3/12 and 4/13, all below 0.9.
    first = 2 / 11 * 11
    second = 1 / 4 * first + 3 / 4 * 6
    third = 4 / 13 * second + 9 / 13 * -13
    assert averages(0.9, 11.0, 0.0, 6.0, -13.0) == pytest.approx([first, second, third])


def test_three_steps_by_hand_where_the_decay_has_risen() -> None:
    # 2/11 is below 0.2; 3/12 and 4/13 are not.
    first = 2 / 11 * 11 + 9 / 11 * 22
    second = 0.2 * first + 0.8 * 5
    third = 0.2 * second + 0.8 * 1
    assert averages(0.2, 11.0, 22.0, 5.0, 1.0) == pytest.approx([first, second, third])


def test_the_network_itself_is_left_alone() -> None:
    model = One(3.0)
    average = MovingAverage(model, 0.5)
    average.update(model.to(7.0))
    assert model.weight.item() == 7.0
    assert average.model is not model


def test_batch_norms_statistics_are_averaged_and_its_count_is_not() -> None:
    model = nn.BatchNorm1d(2)
    average = MovingAverage(model, 0.9)
    model.running_mean = torch.tensor([11.0, -22.0])
    model.num_batches_tracked = torch.tensor(5)
    average.update(model)
    state = average.model.state_dict()
    assert state["running_mean"].tolist() == pytest.approx([9.0, -18.0])
    assert state["running_var"].tolist() == pytest.approx([1.0, 1.0])
    assert state["num_batches_tracked"] == 0


def test_an_average_goes_on_where_its_state_was_taken() -> None:
    model = One(1.0)
    average = MovingAverage(model, 0.9)
    for value in (5.0, -2.0):
        average.update(model.to(value))
    state = copy.deepcopy(average.state_dict())
    other = MovingAverage(One(100.0), 0.9)
    other.load_state_dict(state)
    for each in (average, other):
        each.update(model.to(8.0))
    assert other.steps == average.steps == 3
    assert torch.equal(other.model.get_parameter("weight"), average.model.get_parameter("weight"))
