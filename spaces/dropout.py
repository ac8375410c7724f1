"""Where dropout belongs: each convolution's and the head's own, in the report's network and recipe."""

from collections.abc import Mapping

import optuna

from spaces.space import Space
from trainable.config import TrialConfig

DEPTH = 8


def sample(trial: optuna.Trial) -> TrialConfig:
    return TrialConfig(
        depth=DEPTH,
        dropout=tuple(trial.suggest_float(f"dropout_{block}", 0.0, 0.6) for block in range(1, DEPTH + 1)),
        head_dropout=trial.suggest_float("head_dropout", 0.0, 0.6),
        pool={6: trial.suggest_categorical("pool_6", [2, 3])},
    )


def start(dropout: Mapping[int, float], pool_6: int = 2) -> dict[str, float]:
    """One of the report's networks, by the dropout of its convolutions."""
    blocks = {f"dropout_{block}": dropout.get(block, 0.0) for block in range(1, DEPTH + 1)}
    return {**blocks, "head_dropout": 0.5, "pool_6": pool_6}


SPACE = Space(
    name="dropout",
    summary="dropout of each of the eight convolutions and of the head; the report's do1 to do8 and do2_1 first",
    sample=sample,
    starts=[
        start({7: 0.5}),  # do1
        start({6: 0.5, 7: 0.5}),  # do2
        start({6: 0.5, 7: 0.5, 8: 0.5}),  # do3
        start({7: 0.5}),  # do4: the report's do1 run again, and here too a first look at the noise between seeds
        start({5: 0.25, 7: 0.5}),  # do5
        start(dict.fromkeys(range(1, 9), 0.25)),  # do6
        start(dict.fromkeys(range(1, 9), 0.1)),  # do7
        start({}),  # do8
        start({6: 0.55, 7: 0.55}, pool_6=3),  # do2_1
    ],
    epochs=30,
    trials=24,
)
