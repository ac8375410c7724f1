"""The losses a trial can train on: a table of rows that spaces, help texts and tests read.

A level is what is learnt: a class, or a value of the target column. V levels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from trainable.config import TrialConfig


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of each image against (1 - smoothing) one-hot + smoothing / C, in nats.

    Args:
        logits: (N, C) float, unnormalised.
        labels: (N,) int64, each in [0, C).
        smoothing: in [0, 1).
    Returns: (N,).
    Source: Szegedy et al. 2016, Rethinking the Inception Architecture, section 7.
    """
    return F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)


def focal(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """Focal loss of each image, -(1 - p)^gamma ln p in nats, where p is the true class's probability.

    Args:
        logits: (N, C) float, unnormalised.
        labels: (N,) int64, each in [0, C).
        gamma: at least 0; 0 gives cross-entropy.
    Returns: (N,).
    Raises: ValueError if gamma is negative.
    Source: Lin et al. 2017, Focal Loss for Dense Object Detection, eq. 4.
    """
    if gamma < 0:
        raise ValueError(f"gamma is {gamma}; it must be at least 0")
    log_p = -F.cross_entropy(logits, labels, reduction="none")
    # expm1 keeps 1 - p exact where p is near 1; the clamp keeps the power's gradient finite where p is 1.
    miss = (-log_p.expm1()).clamp_min(1e-12)
    return -(miss**gamma) * log_p


def coral(outputs: Tensor, levels: Tensor) -> Tensor:
    """CORAL's loss of each image: the summed binary cross-entropies, in nats, of "the level is above k" for each k.

    Args:
        outputs: (N, V - 1) float, the logits of those V - 1 statements.
        levels: (N,) int64, each in [0, V).
    Returns: (N,).
    Source: Cao, Mirjalili and Raschka 2020, Rank consistent ordinal regression, eq. 4 with equal importance.
    """
    above = levels[:, None] > torch.arange(outputs.shape[1], device=outputs.device)
    return F.binary_cross_entropy_with_logits(outputs, above.to(outputs.dtype), reduction="none").sum(dim=1)


def soft_ordinal(outputs: Tensor, levels: Tensor, scale: float) -> Tensor:
    """Cross-entropy of each image, in nats, against shares that fall with the distance from its level.

    Args:
        outputs: (N, V) float, unnormalised.
        levels: (N,) int64, each in [0, V).
        scale: above 0; level j gets a share proportional to exp(-|j - level| / scale).
    Returns: (N,).
    Source: Diaz and Marathe 2019, Soft Labels for Ordinal Regression, eq. 1 with the distance of the positions.
    """
    distance = (levels[:, None] - torch.arange(outputs.shape[1], device=outputs.device)).abs()
    return F.cross_entropy(outputs, F.softmax(-distance / scale, dim=1), reduction="none")


Criterion = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class LossRow:
    """One loss: from the configuration to a function of ((N, O) outputs, (N,) levels) that gives (N,) nats."""

    name: str
    summary: str
    build: Callable[[TrialConfig], Criterion]


LOSSES = {
    row.name: row
    for row in (
        LossRow("cross_entropy", "cross-entropy, the report's choice", lambda config: cross_entropy),
        LossRow(
            "label_smoothing",
            "cross-entropy against softened labels",
            lambda config: lambda logits, labels: cross_entropy(logits, labels, config.label_smoothing),
        ),
        LossRow(
            "focal",
            "focal loss: weighs down what is already right",
            lambda config: lambda logits, labels: focal(logits, labels, config.focal_gamma),
        ),
        LossRow("coral", "ordered levels: is it above each of them? (Cao et al. 2020)", lambda config: coral),
        LossRow(
            "soft_ordinal",
            "cross-entropy against shares that fall with the distance of the levels (Diaz and Marathe 2019)",
            lambda config: lambda outputs, levels: soft_ordinal(outputs, levels, config.ordinal_scale),
        ),
    )
}


def criterion(config: TrialConfig, counts: Tensor) -> Criterion:
    """The loss that a trial minimises, weighed by level where `config.class_weights` says so.

    Args:
        counts: (V,) training images of each level. Of P levels that have any, each one's weight is N / (P count): then
            all count the same, and the weights of the training images have the mean 1.
    """
    unweighted = LOSSES[config.loss].build(config)
    if not config.class_weights:
        return unweighted
    weights = counts.sum() / ((counts > 0).sum() * counts.clamp_min(1))
    return lambda outputs, levels: unweighted(outputs, levels) * weights[levels]
