"""The losses a trial can train on: a table of rows that spaces, help texts and tests read."""

from collections.abc import Callable
from dataclasses import dataclass

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


@dataclass(frozen=True)
class LossRow:
    """One loss: from the configuration to a function of ((N, C) logits, (N,) labels) that gives (N,) nats."""

    name: str
    summary: str
    build: Callable[[TrialConfig], Callable[[Tensor, Tensor], Tensor]]


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
    )
}
