"""What a model's logits are worth: log loss, accuracy, calibration and paired gains, each with its 95 % interval.

Everything is first a value per image; a score is a mean over images, and its interval comes from how the images
differ. M members, N images, C classes, B bins, R repeats.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

Logits = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]

BINS = 15  # as in Guo et al. 2017, so that our calibration errors compare with published ones
RESAMPLES = 2000
NORMAL_95 = 1.959963984540054  # two-sided
MAX_TEMPERATURE = 20.0  # and its inverse is the least: an output that is always right has no best temperature


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


def pooled(logits: Logits, weights: Floats) -> Floats:
    """(N, C) weighted mean of the members' logits, which are (M, N, C); the weights are (M,) and sum to 1."""
    mean: Floats = np.tensordot(weights, np.asarray(logits, np.float64), axes=1)
    return mean


def probabilities(logits: Logits) -> Floats:
    """(..., C) softmax over the last axis."""
    exponentials: Floats = np.exp(logits - logits.max(axis=-1, keepdims=True).astype(np.float64))
    shares: Floats = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return shares


def image_losses(logits: Logits, labels: Labels) -> Floats:
    """Cross-entropy of each image in nats.

    Args:
        logits: (..., N, C), unnormalised.
        labels: (N,), each in [0, C).
    Returns: (..., N), each at least 0.
    Raises: ValueError where the shapes differ or a label is out of range.
    """
    images, classes = logits.shape[-2:]
    if labels.shape != (images,):
        raise ValueError(f"labels are {labels.shape} for {images} images")
    if images and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"labels are in {labels.min()}..{labels.max()} for {classes} classes")
    shifted: Floats = logits - logits.max(axis=-1, keepdims=True).astype(np.float64)
    losses: Floats = np.log(np.exp(shifted).sum(axis=-1)) - shifted[..., np.arange(images), labels]
    return losses


def image_hits(logits: Logits, labels: Labels) -> Floats:
    """(..., N) ones where the largest logit (the first of equals) is the label's, zeros elsewhere."""
    hits: NDArray[np.bool_] = logits.argmax(axis=-1) == labels
    return hits.astype(np.float64)


def image_gaps(logits: Logits, labels: Labels) -> Floats:
    """(..., N, B) hit minus confidence, in the column of the image's confidence bin; the bins have equal width."""
    confidence = probabilities(logits).max(axis=-1)
    gaps: Floats = (image_hits(logits, labels) - confidence)[..., None] * in_bins(confidence)
    return gaps


def in_bins(confidence: Floats) -> NDArray[np.bool_]:
    """(..., B) which of the bins each (...) confidence is in. They are open below and closed above, as in the paper, so
    that a confidence of 1 is in the last."""
    column = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    inside: NDArray[np.bool_] = column[..., None] == np.arange(BINS)
    return inside


def expected_calibration_error(gaps: Floats) -> float:
    """Mean over images of how far confidence is from accuracy in their bin, in [0, 1]; `gaps` as from `image_gaps`.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, eq. 3, with 15 bins of equal width.
    """
    return float(np.abs(gaps.mean(axis=0)).sum())


def log_loss_estimate(losses: Floats) -> Estimate:
    """Mean of (N,) losses, 1.96 standard errors to both sides."""
    mean, reach = float(losses.mean()), NORMAL_95 * standard_error(losses)
    return Estimate(mean, mean - reach, mean + reach)


def accuracy_estimate(hits: Floats) -> Estimate:
    """Mean of (N,) hits with its Wilson score interval; hits may be means over repeats, in [0, 1].

    Source: Wilson 1927, Probable Inference, the Law of Succession, and Statistical Inference.
    """
    n, share, z2 = len(hits), float(hits.mean()), NORMAL_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    reach = NORMAL_95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return Estimate(share, max(0.0, centre - reach), min(1.0, centre + reach))


def calibration_estimate(gaps: Floats, rng: np.random.Generator) -> Estimate:
    """Expected calibration error of (N, B) gaps with a percentile bootstrap interval over images.

    Resampling inflates a sum of absolute values, so the resampled errors are first centred on the error itself.
    Without that, the error of a well calibrated model lies outside its own interval.
    """
    value = expected_calibration_error(gaps)
    errors = np.abs(_resampled_means(gaps, rng)).sum(axis=1)
    low, high = np.quantile(errors - errors.mean() + value, [0.025, 0.975])
    return Estimate(value, max(0.0, float(low)), float(high))


def paired_difference(new: Floats, old: Floats, rng: np.random.Generator) -> Estimate:
    """Mean of new - old over the same images, both (N,), with a percentile bootstrap interval over images."""
    difference = new - old
    low, high = np.quantile(_resampled_means(difference[:, None], rng), [0.025, 0.975])
    return Estimate(float(difference.mean()), float(low), float(high))


def standard_error(values: Floats) -> float:
    """Standard error of the mean of (N,) values; infinite for fewer than two, of which nothing is known."""
    return float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.inf


def fit_temperature(logits: Logits, labels: Labels) -> float:
    """The T in [1/20, 20] of lowest log loss of softmax(logits / T); 1 where nothing is lower.

    Args: logits and labels as for `image_losses`; the axes before the last two are averaged over.
    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, section 4.2.
    """

    def loss(log_temperature: float) -> float:
        return float(image_losses(logits / math.exp(log_temperature), labels).mean())

    end = math.log(MAX_TEMPERATURE)
    fitted = minimize_scalar(loss, bounds=(-end, end), method="bounded", options={"xatol": 1e-7})
    return math.exp(fitted.x) if fitted.fun < loss(0.0) else 1.0


def _resampled_means(values: Floats, rng: np.random.Generator) -> Floats:
    """(RESAMPLES, K) means of (N, K) values over N images drawn with replacement."""
    images = len(values)
    means = np.empty((RESAMPLES, values.shape[1]))
    step = max(1, 2**21 // images)  # resamples at a time: some 16 MB of indices, whatever N is
    for start in range(0, RESAMPLES, step):
        rows = min(step, RESAMPLES - start)
        drawn = rng.integers(images, size=(rows, images)) + images * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * images).reshape(rows, images)
        means[start : start + rows] = counts @ values / images
    return means
