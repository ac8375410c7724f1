"""What a trial goes on from: the state of its latest epoch, if that and the files that it vouches for are whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainable.checkpoint import checkpoint_names, file_hash, load_best, load_latest
from trainable.config import Objective
from trainable.errors import UserError
from trainable.fit import Row, merit
from trainable.logits import NAME, hashes_of

LATEST = "latest.pt"


@dataclass(frozen=True)
class Resumption:
    """How a trial goes on."""

    state: dict[str, Any] | None = None  # None: it begins anew
    anew: str | None = None  # why it does, where it has trained before
    # The next epoch has to be the best, as it was before a kill came between its checkpoint and the state: the network
    # of the best one before it is no longer there.
    ahead: bool = False


# A kill, and then numbers that differ a little, as between kinds of machines.
NOT_BEST_AGAIN = Resumption(anew="trained again, its last epoch is no longer the best, and the best network is gone")


def resumable(folder: Path, same: Mapping[str, Any], objective: Objective, networks: int) -> Resumption:
    """What is to be resumed from: nothing where there is no state, or a file is damaged.

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
        return _damaged(LATEST) if (folder / LATEST).exists() else Resumption()
    if any(state.get(name) != value for name, value in same.items()):
        return Resumption()
    rows, names, epochs = state["rows"], checkpoint_names(networks), []
    for name in names:
        try:
            with open(folder / name, "rb"):  # of a disk that fails safetensors does not say what is wrong
                epochs.append(load_best(folder / name).epoch)
        except (FileNotFoundError, UserError):
            return _damaged(name)
    if max(epochs) > len(rows):
        return Resumption(state, ahead=True)
    differing = _differing(folder, rows, objective, names, epochs)
    return _damaged(differing) if differing else Resumption(state)


def _damaged(name: str) -> Resumption:
    return Resumption(anew=f"its {name} is damaged")


def _differing(
    folder: Path, rows: Sequence[Row], objective: Objective, names: Sequence[str], epochs: Sequence[int]
) -> str | None:
    """The name of a file that is not what a state with those epochs vouches for.

    Args:
        names, epochs: of the checkpoints.
    """
    best = int(max(rows, key=lambda row: merit(row, objective))["epoch"])
    hashes = hashes_of(folder)
    if hashes is None:
        return NAME
    for name, epoch, sha256 in zip(names, epochs, hashes, strict=True):
        if epoch != best or file_hash(folder / name) != sha256:
            return name
    return None
