"""Labelled images as one trial sees them."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainable.config import ConfigError, TrialConfig
from trainable.dataset import LabelledData
from trainable.preprocess import Preprocessing
from trainable.splits import Parts

UNKNOWN = -1  # the level of a row whose value training never saw


@dataclass(frozen=True)
class Examples:
    """N rows, of which train and valid are two disjoint parts. Those of the holdout are in neither."""

    pixels: NDArray[np.uint8]  # (N, S, S, 3), usually memory-mapped
    metadata: NDArray[np.float32]  # (N, K) one-hots
    labels: NDArray[np.int64]  # (N,) the class
    levels: NDArray[np.int64]  # (N,) what is learnt: the class, or the position of the target column's value
    train: NDArray[np.int64]  # row numbers
    valid: NDArray[np.int64]
    preprocessing: Preprocessing


def examples_of(data: LabelledData, config: TrialConfig, parts: Parts) -> Examples:
    """The data as a trial of this configuration sees it. What depends on the data follows from `parts.train` alone."""
    table, labels = data.table, data.table.labels
    assert labels is not None
    preprocessing = preprocessing_of(data, config, parts)
    levels = labels
    if config.target is not None:
        position = {value: level for level, value in enumerate(preprocessing.levels)}
        levels = np.array([position.get(value, UNKNOWN) for value in table.columns[config.target]], np.int64)
    return Examples(
        pixels=data.pixels.open(),
        metadata=preprocessing.metadata(table.columns, len(table.images)),
        labels=labels,
        levels=levels,
        train=parts.train,
        valid=parts.valid,
        preprocessing=preprocessing,
    )


def preprocessing_of(data: LabelledData, config: TrialConfig, parts: Parts) -> Preprocessing:
    """The preprocessing of a trial of this configuration.

    A value of a single training image makes no expert, as batch norm needs two: it is one that training never saw.

    Raises:
        ConfigError: where no value makes an expert.
    """
    assert data.table.labels is not None
    mean, std = data.statistics(parts.train)
    levels: dict[str, int] = {}
    if config.target is not None:
        (values,) = data.vocabulary([config.target], parts.train).values()
        label = dict(zip(data.table.columns[config.target], data.table.labels.tolist(), strict=True))
        levels = {value: label[value] for value in values}
    vocabulary = data.vocabulary(config.inputs, parts.train)
    if config.experts is not None:
        cells = data.table.columns[config.experts]
        images = Counter(cells[row] for row in parts.train.tolist())
        vocabulary[config.experts] = tuple(value for value in vocabulary[config.experts] if images[value] > 1)
        if not vocabulary[config.experts]:
            raise ConfigError(f"experts is {config.experts!r}, of whose values none has two training images")
    return Preprocessing(
        image_size=data.pixels.image_size,
        mean=mean,
        std=std,
        classes=data.table.classes,
        vocabulary=vocabulary,
        levels=levels,
    )
