"""A trial's logits.npz: what its best networks say of the images that they did not learn from, float32, with the ids.

While a trial trains, its networks are asked about the validation images alone. The holdout, which weighs ensembles, is
seen once, at the trial's end; of a trial that was stopped before it, when an ensemble needs it as a member.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainable import files
from trainable.checkpoint import checkpoint_names, file_hash, load_best
from trainable.dataset import LabelledData
from trainable.evaluate import predict
from trainable.untrusted import array_names, read_arrays

NAME = "logits.npz"


def save_logits(folder: Path, data: LabelledData, valid: NDArray[np.float32], device: str | None = None) -> None:
    """Writes what the checkpoints that are there say.

    Args:
        folder: of their trial.
        data: at the networks' image size.
        valid: the (Nv, C) logits of the images that the trial is ranked on. With folds these are all, each by the
            network that did not learn from it, and are the holdout's too.
        device: as in `device.choose`, for the holdout's logits; None leaves them to `add_holdout`.
    """
    arrays = {"valid": valid}
    if data.split.folds:
        arrays["holdout"] = valid
    elif device is not None:
        arrays["holdout"] = _logits(folder, data, device, data.split.weighed)
    _save(folder, data, arrays)


def has_holdout(path: Path) -> bool:
    """Whether there is a logits.npz at `path` that has the holdout's. One that cannot be read is taken to have them: to
    say what is wrong with it is its reader's part."""
    try:
        return "holdout" in array_names(path)
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True


def hashes_of(folder: Path) -> list[str] | None:
    """SHA-256 of each checkpoint that a trial's logits are of; None where these are missing or damaged.

    Raises:
        OSError: where they are there and cannot be read.
    """
    try:
        names = array_names(folder / NAME)
        arrays = dict(zip(names, read_arrays(folder / NAME, *names), strict=True))  # all: their sums are checked so
        return [str(sha256) for sha256 in arrays["checkpoints"]]
    except (FileNotFoundError, ValueError, KeyError):
        return None


def add_holdout(folder: Path, data: LabelledData, device: str) -> None:
    """Adds the holdout's (Nh, C) logits, by the best network, where they are missing.

    Args:
        folder: of a trial with a best network.
        data: at the network's image size.
        device: as in `device.choose`.
    """
    if has_holdout(folder / NAME):
        return
    valid, source = read_arrays(folder / NAME, "valid", "checkpoints")
    (checkpoint,) = checkpoint_names(1)
    if source.tolist() != [file_hash(folder / checkpoint)]:  # a kill came between the two: an earlier epoch's logits
        valid = _logits(folder, data, device, data.split.judged)
    _save(folder, data, {"valid": valid, "holdout": _logits(folder, data, device, data.split.weighed)})


def _logits(folder: Path, data: LabelledData, device: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """What a trial's one network says of some rows of the table, (N, C)."""
    (checkpoint,) = checkpoint_names(1)
    return predict(load_best(folder / checkpoint), data.pixels.open(), data.table.columns, device, rows)


def _save(folder: Path, data: LabelledData, logits: dict[str, NDArray[np.float32]]) -> None:
    images: NDArray[np.str_] = np.array(data.table.images)
    paths = [folder / name for name in checkpoint_names(len(data.split.parts))]
    arrays: dict[str, Any] = {
        **logits,
        "valid_ids": images[data.split.judged],
        "holdout_ids": images[data.split.weighed],
        "checkpoints": np.array([file_hash(path) for path in paths]),  # a kill between the files leaves them apart
    }
    files.write_with(folder / NAME, lambda file: np.savez_compressed(file, **arrays))
