"""Weights on members made so that the right ones are known."""

import numpy as np
import pytest

from results.scores import Floats, image_losses, pooled
from results.weights import (
    METHODS,
    Method,
    best_weights,
    convex_weights,
    greedy_weights,
    single_weights,
    uniform_weights,
)

COMPLEMENTARY = np.array([[[3.0, 0.0], [1.0, 0.0]], [[-1.0, 0.0], [-3.0, 0.0]]])  # (M=2, N=2, C=2)


def members(count: int, images: int, seed: int, noise: tuple[float, ...] = ()) -> tuple[Floats, np.ndarray]:
    """(M, N, 4) logits that favour the label by 1.5 under unit noise, or `noise` for the first members; the labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(4, size=images)
    scale = np.array([*noise, *[1.0] * (count - len(noise))])
    logits = 1.5 * np.eye(4)[labels] + scale[:, None, None] * rng.normal(size=(count, images, 4))
    return logits, labels


def loss(logits: Floats, labels: np.ndarray, weights: Floats) -> float:
    return float(image_losses(pooled(logits, weights), labels).mean())


def test_method_names_are_unique_and_simplest_first() -> None:
    assert [method.name for method in METHODS] == ["single", "uniform", "best", "convex", "greedy"]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_method_stays_on_the_simplex(method: Method, count: int) -> None:
    logits, labels = members(count, 50, seed=count)
    weights = method.weigh(logits.astype(np.float32), labels, np.random.default_rng(0))
    assert weights.shape == (count,)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_method_leaves_its_arguments_and_repeats_itself(method: Method) -> None:
    logits, labels = members(4, 30, seed=0)
    logits.setflags(write=False)
    labels.setflags(write=False)
    first, second = (method.weigh(logits, labels, np.random.default_rng(3)) for _ in range(2))
    assert first.tolist() == second.tolist()


def test_uniform_weights_are_equal() -> None:
    assert uniform_weights(np.zeros((4, 1, 2)), np.array([0])).tolist() == [0.25] * 4


def test_single_is_the_first_member() -> None:
    assert single_weights(np.zeros((3, 1, 2)), np.array([0])).tolist() == [1.0, 0.0, 0.0]


def test_best_takes_the_member_of_lowest_log_loss() -> None:
    logits, labels = members(4, 200, seed=1, noise=(2.0, 2.0, 0.3))
    assert best_weights(logits, labels).tolist() == [0.0, 0.0, 1.0, 0.0]


def test_best_does_not_mistake_confidence_for_skill() -> None:
    logits, labels = members(2, 400, seed=2, noise=(0.5, 1.0))
    assert best_weights(np.stack([9 * logits[0], logits[1]]), labels).tolist() == [1.0, 0.0]


def test_greedy_gives_complementary_members_equal_weight() -> None:
    # Margins A (+3, -1), B (-1, +3): alone 0.680925 each; their mean (+1, +1) has log loss ln(1 + 1/e) = 0.313262.
    assert greedy_weights(COMPLEMENTARY, labels=np.array([0, 1]), rounds=2).tolist() == [0.5, 0.5]


def test_greedy_without_rounds_is_the_sorted_start() -> None:
    # Alone: A right by 2, B right by 1, C wrong by 9. A alone beats every mean that it is part of.
    logits = np.array([[[1.0, 0.0]], [[-9.0, 0.0]], [[2.0, 0.0]]])
    assert greedy_weights(logits, np.array([0]), rounds=0).tolist() == [0.0, 0.0, 1.0]


def test_greedy_takes_members_again() -> None:
    # Right by (9, -1) and (-1, 1). The sorted start is both: margins 4 and 0, log losses 0.018 + 0.693. The second
    # once more gives 7/3 and 1/3, 0.093 + 0.540; the first once more 17/3 and -1/3, 0.003 + 0.874.
    logits = np.array([[[9.0, 0.0], [-1.0, 0.0]], [[-1.0, 0.0], [1.0, 0.0]]])
    assert greedy_weights(logits, np.array([0, 0]), rounds=0).tolist() == [0.5, 0.5]
    assert greedy_weights(logits, np.array([0, 0]), rounds=1).tolist() == pytest.approx([1 / 3, 2 / 3])


def test_greedy_gives_ties_to_members_already_in() -> None:
    # B and C are the same; the start is B alone, as it is first of equals. Adding either changes nothing.
    logits = np.array([[[-5.0, 0.0]], [[2.0, 0.0]], [[2.0, 0.0]]])
    assert greedy_weights(logits, np.array([0]), rounds=5).tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("seed", range(5))
def test_greedy_is_never_worse_than_its_best_member_on_what_it_was_fitted_on(seed: int) -> None:
    logits, labels = members(5, 40, seed)
    alone = image_losses(logits, labels).mean(axis=-1).min()
    assert loss(logits, labels, greedy_weights(logits, labels)) <= alone + 1e-12


@pytest.mark.parametrize("method", [row for row in METHODS if row.fitted], ids=lambda method: method.name)
def test_fitted_weights_leave_a_bad_member_out(method: Method) -> None:
    logits, labels = members(4, 1000, seed=5, noise=(30.0,))
    weights = method.weigh(logits, labels, np.random.default_rng(0))
    assert weights[0] < 0.01
    assert weights[1:].min() > 0.1


def test_convex_is_equal_on_equal_members() -> None:
    logits, labels = members(1, 50, seed=0)
    assert convex_weights(np.repeat(logits, 3, axis=0), labels).tolist() == pytest.approx([1 / 3] * 3)


def test_convex_is_shrunk_to_equal_and_less_so_by_more_images() -> None:
    # One image, margins +2 and 0. Without the penalty all weight is on the first. With it, w = 1/2 + d has
    # ln(1 + e^(-1 - 2 d)) + 4 d^2, whose slope -2 / (1 + e^(1 + 2 d)) + 8 d is zero at d = 0.0613754.
    logits = np.array([[[2.0, 0.0]], [[0.0, 0.0]]])
    once = convex_weights(logits, np.array([0]))
    assert once.tolist() == pytest.approx([0.5613754, 0.4386246], abs=1e-5)
    ten = convex_weights(np.repeat(logits, 10, axis=1), np.zeros(10, np.int64))
    assert once[0] < ten[0] < 1


@pytest.mark.parametrize("seed", range(3))
def test_convex_weights_are_a_minimum(seed: int) -> None:
    logits, labels = members(4, 60, seed, noise=(2.0,))

    def objective(weights: Floats) -> float:
        return loss(logits, labels, weights) + float(((4 * weights - 1) ** 2).sum()) / (2 * 60)

    weights = convex_weights(logits, labels)
    rng = np.random.default_rng(seed)
    for other in rng.dirichlet(np.ones(4), size=200):
        for step in (1e-3, 0.1, 1.0):
            assert objective(weights) <= objective((1 - step) * weights + step * other) + 1e-9
