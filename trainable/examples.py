"""Labelled images as one trial sees them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainable.config import TrialConfig
from trainable.dataset import HOLDOUT, TRAIN, VALID, LabelledData
from trainable.preprocess import Preprocessing


@dataclass(frozen=True)
class Examples:
    """N rows, of which train, valid and holdout are three disjoint parts."""

    pixels: NDArray[np.uint8]  # (N, S, S, 3), usually memory-mapped
    metadata: NDArray[np.float32]  # (N, K) one-hots
    labels: NDArray[np.int64]  # (N,)
    train: NDArray[np.int64]  # row numbers
    valid: NDArray[np.int64]
    holdout: NDArray[np.int64]
    preprocessing: Preprocessing


def examples_of(data: LabelledData, config: TrialConfig) -> Examples:
    """The data as a trial of this configuration sees it."""
    assert data.table.labels is not None
    table = data.table
    preprocessing = Preprocessing(
        image_size=data.pixels.image_size,
        mean=data.mean,
        std=data.std,
        classes=table.classes,
        vocabulary=data.vocabulary(config.inputs),
    )
    train, valid, holdout = (np.flatnonzero(data.split == part) for part in (TRAIN, VALID, HOLDOUT))
    return Examples(
        pixels=data.pixels.open(),
        metadata=preprocessing.metadata(table.columns, len(table.images)),
        labels=data.table.labels,
        train=train,
        valid=valid,
        holdout=holdout,
        preprocessing=preprocessing,
    )
