"""A few random images and the smallest network, for tests that train."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from trainable.config import TrialConfig
from trainable.device import Device
from trainable.examples import Examples
from trainable.fit import Epoch
from trainable.preprocess import Preprocessing

SIZE, CLASSES = 28, 3
FLOAT32 = Device(torch.device("cpu"), torch.float32, torch.channels_last, "a test")
BFLOAT16 = Device(torch.device("cpu"), torch.bfloat16, torch.channels_last, "a test")
PREPROCESSING = Preprocessing(
    image_size=SIZE,
    mean=(0.5, 0.4, 0.3),
    std=(0.25, 0.2, 0.15),
    classes=("a", "b", "c"),
    vocabulary={"Gender": ("0", "1")},
)


def config(**changes: Any) -> TrialConfig:
    """A network of four narrow convolutions with dropout, three epochs of three batches, flips."""
    settings: dict[str, Any] = {
        "depth": 4,
        "widths": (4, 4, 4, 4),
        "dropout": (0.0, 0.1, 0.0, 0.2),
        "head_width": 8,
        "image_size": SIZE,
        "inputs": ("Gender",),
        "batch_size": 8,
        "epochs": 3,
    }
    return TrialConfig(**(settings | changes))


def examples(train: int = 20, valid: int = 12, holdout: int = 6) -> Examples:
    """Random images, their parts interleaved."""
    count = train + valid + holdout
    rng = np.random.default_rng(7)
    rows = rng.permutation(count)
    return Examples(
        pixels=rng.integers(256, size=(count, SIZE, SIZE, 3), dtype=np.uint8),
        metadata=np.eye(2, dtype=np.float32)[rng.integers(2, size=count)],
        labels=(labels := rng.integers(CLASSES, size=count)),
        levels=labels,
        train=np.sort(rows[:train]),
        valid=np.sort(rows[train : train + valid]),
        preprocessing=PREPROCESSING,
    )


def columns(examples: Examples, rows: np.ndarray) -> dict[str, list[str]]:
    """The metadata of these rows as the cells of a table."""
    return {"Gender": [str(code) for code in examples.metadata[rows].argmax(1)]}


def outcome(epochs: Iterable[Epoch]) -> list[tuple[dict[str, float], list[list[float]]]]:
    """What must be the same when a trial is repeated: each epoch's row without the seconds, and its logits."""
    return [
        ({name: value for name, value in epoch.row.items() if name != "seconds"}, epoch.valid_logits.tolist())
        for epoch in epochs
    ]
