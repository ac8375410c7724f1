"""What a trial goes on from: the state of its latest epoch, if that and the files that it vouches for are whole."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainable.checkpoint import checkpoint_names, file_hash, load_best, load_latest
from trainable.config import Objective
from trainable.errors import UserError
from trainable.fit import Row, merit
from trainable.logits import NAME, hashes_of

LATEST = "latest.pt"


def resumable(
    folder: Path, same: Mapping[str, Any], objective: Objective, networks: int
) -> tuple[dict[str, Any] | None, str | None]:
    """The state to resume from; None where there is none, or a file is damaged: then the trial begins anew. With it the
    name of that file.

    Args:
        folder: the trial's.
        same: what must be in the state: one of another trial counts as none.
        objective: which epoch is the best.
        networks: that the trial trains, one or one a fold.
    Raises:
        OSError: where there is a file that cannot be read.
    """
    state = load_latest(folder / LATEST)
    if state is None:
        return None, LATEST if (folder / LATEST).exists() else None
    if any(state.get(name) != value for name, value in same.items()):
        return None, None
    damaged = _damaged(folder, state["rows"], objective, networks)
    return (None, damaged) if damaged else (state, None)


def _damaged(folder: Path, rows: Sequence[Row], objective: Objective, networks: int) -> str | None:
    """The name of a file that a state with those epochs would vouch for in vain."""
    best = int(max(rows, key=lambda row: merit(row, objective))["epoch"])
    names, epochs = checkpoint_names(networks), []
    for name in names:
        try:
            epochs.append(load_best(folder / name).epoch)
        except UserError:
            return name
    if max(epochs) > len(rows):
        return None  # a kill came between them and the state: the next epoch writes all of them anew
    hashes = hashes_of(folder)
    if hashes is None:
        return NAME
    for name, epoch, sha256 in zip(names, epochs, hashes, strict=True):
        if epoch != best or file_hash(folder / name) != sha256:
            return name
    return None
