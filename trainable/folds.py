"""A trial over folds: a network a fold, trained in step, judged together.

Every epoch of the trial is that epoch of each fold's network, and its metrics are those of all labelled rows, each by
the network that did not learn from it. So a scheduler compares trials after the same epochs on the same rows, at each
rung, and a weak trial ends after a part of its epochs in all folds: no fold is an easier examiner than another, as the
first one would be if folds were trained one after the other. The epoch that is kept is one for all folds: choosing it
a fold at a time would flatter each.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainable.checkpoint import Best
from trainable.config import TrialConfig
from trainable.device import Device
from trainable.examples import UNKNOWN, Examples
from trainable.fit import WORST, Epoch, Row, fit, merit

TRAINING = ("train_loss", "train_accuracy")


def fit_parts(
    config: TrialConfig, parts: Sequence[Examples], device: Device, latest: dict[str, Any] | None = None
) -> Iterator[Epoch]:
    """Trains a network for each part, one or a fold each, and yields epochs. Nothing goes from one fold to another.

    Args and errors: as for `fit`. `valid_logits` of folds are (N, C), a row for each of the table's rows, in its order.
    """
    if len(parts) == 1:
        yield from fit(config, parts[0], device, latest)
        return
    states = latest["folds"] if latest is not None else [None] * len(parts)
    rows: list[Row] = list(latest["rows"]) if latest is not None else []
    best = max((merit(row, config.objective) for row in rows), default=WORST)
    folds = [
        fit(fold_config(config, fold), examples, device, state)
        for fold, (examples, state) in enumerate(zip(parts, states, strict=True))
    ]
    for epochs in zip(*folds, strict=True):
        row = _pooled([epoch.row for epoch in epochs], parts)
        rows.append(row)
        improved = merit(row, config.objective) > best
        best = max(best, merit(row, config.objective))
        logits = _by_row([epoch.valid_logits for epoch in epochs], parts)

        def networks(epochs: tuple[Epoch, ...] = epochs) -> tuple[Best, ...]:
            return tuple(network for epoch in epochs for network in epoch.networks())

        def state(epochs: tuple[Epoch, ...] = epochs) -> dict[str, Any]:
            return {
                "config": config.to_dict(),
                "preprocessing": preprocessing_text(parts),
                "folds": [epoch.latest() for epoch in epochs],
                "rows": list(rows),
            }

        yield Epoch(row, improved, logits, networks, state)


def preprocessing_text(parts: Sequence[Examples]) -> str:
    """The preprocessing of all parts, to tell whether a state to resume from belongs to them."""
    return "\n".join(part.preprocessing.to_json() for part in parts)


def fold_config(config: TrialConfig, fold: int) -> TrialConfig:
    """The configuration of a fold's network: its own seed, all else alike."""
    seed = int(np.random.SeedSequence([config.seed, fold]).generate_state(1)[0])
    return dataclasses.replace(config, seed=seed)


def _pooled(rows: Sequence[Row], parts: Sequence[Examples]) -> Row:
    pooled: Row = {}
    for name in max(rows, key=len):  # a fold that knows none of its levels has no valid_objective_loss
        values = [row.get(name, 0.0) for row in rows]
        if name == "seconds":
            pooled[name] = sum(values)
        elif name in ("epoch", "lr"):
            pooled[name] = values[0]
        else:
            pooled[name] = float(np.average(values, weights=[_images(name, part) for part in parts]))
    return pooled


def _images(name: str, part: Examples) -> int:
    """How many images a fold's metric is the mean of."""
    if name in TRAINING:
        return len(part.train)
    if name == "valid_objective_loss":
        return int(np.count_nonzero(part.levels[part.valid] != UNKNOWN))
    return len(part.valid)


def _by_row(logits: Sequence[Tensor], parts: Sequence[Examples]) -> Tensor:
    """(N, C) from the folds' (Nv, C): each row's logits are those of the fold that validates it."""
    rows = torch.from_numpy(np.concatenate([part.valid for part in parts]))
    together = torch.cat(list(logits))
    return torch.empty_like(together).index_copy_(0, rows, together)
