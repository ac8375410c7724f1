"""What a network's outputs mean: from outputs over levels to logits of classes.

A network learns levels: the classes themselves, or the values of the target column, each of which belongs to a class.
N images, V levels, O outputs, C classes.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from trainable.config import TrialConfig
from trainable.preprocess import Preprocessing


@dataclass(frozen=True)
class Head:
    """The reading of a network's outputs."""

    classes: int  # C
    groups: tuple[int, ...] | None  # (V,) the class of each level; None: the levels are the classes
    coral: bool  # the outputs are the logits of "the level is above k", k = 0..V-2

    @property
    def levels(self) -> int:
        """V."""
        return self.classes if self.groups is None else len(self.groups)

    @property
    def outputs(self) -> int:
        """O: V, or V - 1 for CORAL."""
        return self.levels - self.coral

    def logits(self, outputs: Tensor) -> Tensor:
        """(N, O) outputs to (N, C) logits, whose softmax is the classes' probabilities: the levels' ones, summed."""
        levels = _coral_log_probabilities(outputs) if self.coral else outputs
        if self.groups is None:
            return levels
        members = [levels.index_select(1, columns) for columns in _columns(self.groups, self.classes, outputs.device)]
        # A class without a level in training has no outputs of its own: as improbable as a float can say.
        lowest = levels.new_full((len(levels),), -1e4)
        return torch.stack([part.logsumexp(dim=1) if part.shape[1] else lowest for part in members], dim=1)


@cache
def _columns(groups: tuple[int, ...], classes: int, device: torch.device) -> tuple[Tensor, ...]:
    """The levels of each class, on the device: made once, as each copy to a card would make the step wait."""
    return tuple(
        torch.tensor([level for level, group in enumerate(groups) if group == label], dtype=torch.int64, device=device)
        for label in range(classes)
    )


def head_of(config: TrialConfig, preprocessing: Preprocessing) -> Head:
    """The reading that belongs to a configuration and what its training part holds."""
    groups = tuple(preprocessing.levels.values()) if config.target is not None else None
    return Head(len(preprocessing.classes), groups, config.loss == "coral")


def _coral_log_probabilities(outputs: Tensor) -> Tensor:
    """(N, V - 1) logits of P(level > k) to (N, V) log-probabilities of the levels, in nats.

    With a, b the neighbouring logits, sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)), which keeps
    its digits where both are near 0 or 1. CORAL's logits fall with k once trained; before, a difference may be
    negative, and is taken for a very small one.

    So a prediction is the most probable level. The paper's is another: as many levels up as P(level > k) is above a
    half (Cao et al. 2020, equation 1), the median; it has no probability of each class, which ensembles need.
    """
    above, below = outputs[:, :-1], outputs[:, 1:]
    gap = -torch.expm1((below - above).clamp_max(-1e-6))
    between = F.logsigmoid(above) + F.logsigmoid(-below) + gap.log()
    return torch.cat([F.logsigmoid(-outputs[:, :1]), between, F.logsigmoid(outputs[:, -1:])], dim=1)
