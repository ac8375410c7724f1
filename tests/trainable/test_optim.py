import math
from typing import Any, get_args

import pytest
import torch
from torch.nn import Parameter

from trainable.config import Optimizer, Schedule, TrialConfig
from trainable.optim import OPTIMIZERS, SCHEDULES


def lrs(epochs: int, steps: int = 1, **settings: Any) -> list[float]:
    """The learning rate in each epoch, or in each step where the schedule advances by steps, and the one after."""
    config = TrialConfig(epochs=epochs, **settings)
    optimizer = OPTIMIZERS[config.optimizer].build([Parameter(torch.ones(1))], config)
    row = SCHEDULES[config.schedule]
    schedule = row.build(optimizer, config, steps)
    seen = [optimizer.param_groups[0]["lr"]]
    for _ in range(epochs * steps if row.every_step else epochs):
        optimizer.step()
        schedule.step()
        seen.append(optimizer.param_groups[0]["lr"])
    return seen


def after_one_step(name: str, gradient: float, momentum: float = 0.0) -> float:
    """Where a weight of 1 is after a step of lr 0.1 and weight decay 0.5."""
    weight = Parameter(torch.ones(1))
    config = TrialConfig(lr=0.1, weight_decay=0.5, momentum=momentum)
    optimizer = OPTIMIZERS[name].build([weight], config)
    weight.grad = torch.tensor([gradient])
    optimizer.step()
    return weight.item()


def test_the_tables_have_the_rows_of_the_configuration() -> None:
    assert tuple(OPTIMIZERS) == get_args(Optimizer)
    assert tuple(SCHEDULES) == get_args(Schedule)
    for table in (OPTIMIZERS, SCHEDULES):
        assert all(name == row.name and row.summary for name, row in table.items())


@pytest.mark.parametrize(
    ("name", "gradient", "expected"),
    [
        # L2: the gradient becomes g + 0.5 w, and Adam's first step is lr times its sign.
        ("adam", 0.0, 1 - 0.1),
        ("adam", -0.25, 1 - 0.1),
        ("adam", -0.75, 1 + 0.1),
        ("adamax", 0.0, 1 - 0.1),
        ("adamax", -0.25, 1 - 0.1),
        # Decoupled: the weight shrinks by lr 0.5 w, and the step is lr times the sign of g alone.
        ("adamw", 0.0, 0.95),
        ("adamw", -0.25, 0.95 + 0.1),
        ("adamw", 0.75, 0.95 - 0.1),
        # What is no matrix gets AdamW.
        ("muon", 0.0, 0.95),
        ("muon", -0.25, 0.95 + 0.1),
        ("sgd", 0.0, 1 - 0.1 * 0.5),
        ("sgd", -0.25, 1 - 0.1 * 0.25),
    ],
)
def test_one_step_by_hand(name: str, gradient: float, expected: float) -> None:
    assert after_one_step(name, gradient) == pytest.approx(expected, abs=1e-6)


def test_sgd_has_nesterov_momentum() -> None:
    # g = -0.25 + 0.5 = 0.25; the buffer is g; the step is lr (g + 0.9 g).
    assert after_one_step("sgd", -0.25, momentum=0.9) == pytest.approx(1 - 0.1 * 1.9 * 0.25)


def test_cosine_with_t_max_10_by_hand() -> None:
    values = lrs(20, schedule="cosine", t_max=10, lr=1e-3)
    assert values[0] == 1e-3
    assert values[5] == pytest.approx(0.5e-3)
    assert values[10] == pytest.approx(0, abs=1e-12)
    assert values[20] == pytest.approx(1e-3)
    for epoch, value in enumerate(values):
        assert value == pytest.approx(1e-3 * (1 + math.cos(math.pi * epoch / 10)) / 2, abs=1e-12)


@pytest.mark.parametrize("epochs", [1, 7, 30])
def test_cosine_without_t_max_comes_down_to_0_at_the_end(epochs: int) -> None:
    values = lrs(epochs, schedule="cosine", t_max=None, lr=1e-3)
    assert values[0] == 1e-3
    assert values[-1] == pytest.approx(0, abs=1e-12)
    assert values == sorted(values, reverse=True)


def test_constant_stays() -> None:
    assert lrs(12, schedule="constant", lr=0.3) == [0.3] * 13


def test_exponential_by_hand() -> None:
    assert lrs(3, schedule="exponential", gamma=0.9, lr=1.0) == pytest.approx([1.0, 0.9, 0.81, 0.729])


def test_step_by_hand() -> None:
    expected = [1.0, 1.0, 0.1, 0.1, 0.01]
    assert lrs(4, schedule="step", gamma=0.1, step_size=2, lr=1.0) == pytest.approx(expected)


def test_one_cycle_by_hand() -> None:
    # 20 steps: from lr / 25 up to lr at step 0.3 x 20 - 1 = 5, halfway down at 12, almost 0 at the last, 19.
    values = lrs(5, steps=4, schedule="one_cycle", lr=1.0)
    assert values[0] == pytest.approx(1 / 25)
    assert (values[5], max(values)) == (1.0, 1.0)
    assert values[12] == pytest.approx(0.5, abs=1e-5)
    assert values[19] == pytest.approx(4e-6)
    assert values[:6] == sorted(values[:6])
    assert values[5:20] == sorted(values[5:20], reverse=True)


@pytest.mark.parametrize(("epochs", "steps"), [(1, 1), (1, 2), (2, 1), (3, 3), (10, 1)])
def test_one_cycle_has_a_rate_for_every_step_of_the_shortest_training(epochs: int, steps: int) -> None:
    values = lrs(epochs, steps, schedule="one_cycle", lr=1.0)
    assert len(values) == epochs * steps + 1
    assert all(0 < value <= 1 for value in values[:-1])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_one_cycle_leaves_the_momentum_alone(optimizer: Any) -> None:
    config = TrialConfig(optimizer=optimizer, schedule="one_cycle", momentum=0.7, epochs=4)
    built = OPTIMIZERS[optimizer].build([Parameter(torch.ones(1))], config)
    before = {name: built.param_groups[0].get(name) for name in ("momentum", "betas")}
    schedule = SCHEDULES["one_cycle"].build(built, config, 3)
    for _ in range(5):
        built.step()
        schedule.step()
    assert {name: built.param_groups[0].get(name) for name in ("momentum", "betas")} == before
