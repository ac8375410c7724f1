"""Scores against numbers worked out on paper."""

import dataclasses
import math

import numpy as np
import pytest

from results import scores
from results.scores import Estimate, Floats


def binary(margins: list[float]) -> Floats:
    """(N, 2) logits that favour class 0 by the given margins."""
    return np.array([[margin, 0.0] for margin in margins])


def gaps_of(confidences: list[float], hits: list[int]) -> Floats:
    """Gaps of two-class outputs that give class 0 the given confidences, and are right where hits says so."""
    logits = binary([math.log(p / (1 - p)) for p in confidences])
    return scores.image_gaps(logits, 1 - np.array(hits))


def assert_near(estimate: Estimate, value: float, low: float, high: float, within: float = 1e-6) -> None:
    assert dataclasses.astuple(estimate) == pytest.approx((value, low, high), abs=within)


def test_log_loss_at_even_odds_is_ln_c() -> None:
    assert scores.image_losses(np.zeros((2, 5)), np.array([0, 4])).tolist() == pytest.approx([math.log(5)] * 2)


def test_log_loss_of_a_margin() -> None:  # ln(1 + e^-3), ln(1 + e^1)
    losses = scores.image_losses(binary([3.0, 1.0]), np.array([0, 1]))
    assert losses.tolist() == pytest.approx([0.0485874, 1.3132617])


def test_log_loss_of_huge_logits_is_finite() -> None:
    assert scores.image_losses(binary([1e5]).astype(np.float32), np.array([1])).tolist() == [1e5]


def test_log_loss_keeps_the_axes_before_the_images() -> None:
    logits = np.arange(24.0).reshape(2, 2, 3, 2)
    losses = scores.image_losses(logits, np.array([0, 1, 0]))
    assert losses.shape == (2, 2, 3)
    assert losses[1, 0].tolist() == scores.image_losses(logits[1, 0], np.array([0, 1, 0])).tolist()


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [([0], r"labels are \(1,\) for 2 images"), ([0, 2], "labels are in 0..2 for 2 classes")],
)
def test_log_loss_refuses_labels_that_do_not_fit(labels: list[int], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        scores.image_losses(np.zeros((2, 2)), np.array(labels))


def test_log_loss_estimate_is_1_96_standard_errors() -> None:
    # 1, 2, 3: deviation 1, standard error 1 / sqrt(3) = 0.5773503, times 1.959964 is 1.1315857.
    assert_near(scores.log_loss_estimate(np.array([1.0, 2.0, 3.0])), 2.0, 0.8684143, 3.1315857)


@pytest.mark.parametrize(
    ("right", "wrong", "low", "high"),
    [
        (8, 2, 0.4901625, 0.9433178),  # the textbook's example
        (0, 10, 0.0, 0.2775328),  # z^2 / (n + z^2)
        (10, 0, 0.7224672, 1.0),
    ],
)
def test_wilson_interval(right: int, wrong: int, low: float, high: float) -> None:
    hits = np.array([1.0] * right + [0.0] * wrong)
    assert_near(scores.accuracy_estimate(hits), right / (right + wrong), low, high)


def test_calibration_error_by_hand() -> None:
    # Confidence 0.9 (bin 14) twice, one right: 2 x |0.5 - 0.9|; 0.6 (bin 9) once, right: 0.4. (0.8 + 0.4) / 3.
    assert scores.expected_calibration_error(gaps_of([0.9, 0.9, 0.6], [1, 0, 1])) == pytest.approx(0.4)


def test_calibration_error_is_zero_where_confidence_is_the_accuracy() -> None:
    assert scores.expected_calibration_error(gaps_of([0.75] * 4, [1, 1, 1, 0])) == pytest.approx(0.0, abs=1e-12)


def test_certain_outputs_are_in_the_last_bin() -> None:
    gaps = scores.image_gaps(binary([1e3]), np.array([1]))
    assert gaps.shape == (1, scores.BINS)
    assert gaps[0, -1] == -1.0


@pytest.mark.parametrize("seed", range(3))
def test_calibration_interval_holds_its_value(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(200, 4))
    estimate = scores.calibration_estimate(scores.image_gaps(logits, rng.integers(4, size=200)), rng)
    assert 0.0 <= estimate.low < estimate.value < estimate.high < 1.0


def test_paired_difference_of_a_constant_has_no_width() -> None:
    old = np.array([0.0, 1.0, 5.0])
    estimate = scores.paired_difference(old + 0.25, old, np.random.default_rng(0))
    assert estimate == Estimate(0.25, 0.25, 0.25)


def test_paired_bootstrap_agrees_with_the_normal_interval() -> None:
    # 400 differences of +1 or -1, 240 of them +1: mean 0.2, standard error sqrt(1 - 0.04) / 20 = 0.0489898.
    new = np.repeat([1.0, -1.0], [240, 160])
    estimate = scores.paired_difference(new, np.zeros(400), np.random.default_rng(0))
    assert_near(estimate, 0.2, 0.2 - 0.0960182, 0.2 + 0.0960182, within=0.01)


def test_resamples_do_not_depend_on_how_they_are_cut_into_steps() -> None:
    wide = scores.paired_difference(np.repeat([1.0, 0.0], 5000), np.zeros(10_000), np.random.default_rng(0))
    assert_near(wide, 0.5, 0.4902, 0.5098, within=0.002)  # 0.5 / sqrt(10000) x 1.96 = 0.0098


def test_temperature_that_makes_confidence_the_accuracy() -> None:
    # All margins 2 and three of four right: the best T has 1 / (1 + e^(-2 / T)) = 3/4, so T = 2 / ln 3.
    temperature = scores.fit_temperature(binary([2.0] * 4), np.array([0, 0, 0, 1]))
    assert temperature == pytest.approx(2 / math.log(3), rel=1e-5)


def test_temperature_averages_over_repeats() -> None:
    logits, labels = binary([2.0, 2.0, -2.0]), np.array([0, 0, 0])
    once = scores.fit_temperature(logits, labels)
    assert scores.fit_temperature(np.stack([logits, logits]), labels) == pytest.approx(once, rel=1e-6)


@pytest.mark.parametrize(("label", "bound"), [(0, 1 / scores.MAX_TEMPERATURE), (1, scores.MAX_TEMPERATURE)])
def test_temperature_stays_in_its_bounds(label: int, bound: float) -> None:
    assert scores.fit_temperature(binary([1.0, 1.0]), np.array([label, label])) == pytest.approx(bound, rel=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_temperature_never_raises_the_log_loss(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, labels = 3 * rng.normal(size=(40, 5)), rng.integers(5, size=40)
    tempered = scores.image_losses(logits / scores.fit_temperature(logits, labels), labels).mean()
    assert tempered <= scores.image_losses(logits, labels).mean()


def test_pooled_is_the_weighted_mean() -> None:
    logits = np.array([[[1.0, 2.0]], [[3.0, 6.0]]])
    assert scores.pooled(logits, np.array([0.25, 0.75])).tolist() == [[2.5, 5.0]]
