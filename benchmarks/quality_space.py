"""The space that search_quality searches: `dropout`, with the learning rate falling to the end of training, as in the
peer. In the report's recipe it rises again after ten epochs, to its highest after twenty."""

from dataclasses import replace

import optuna

from spaces import dropout
from trainable.config import TrialConfig


def sample(trial: optuna.Trial) -> TrialConfig:
    return replace(dropout.sample(trial), t_max=None)


SPACE = replace(dropout.SPACE, name="quality", summary="dropout, by cosine to the end", sample=sample)
