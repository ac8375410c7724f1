"""The driver's side of training whose workers may be on other nodes: it hands out what they lack and takes in what they
leave, so that the nodes need no folder in common.
"""

import hashlib
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from trainable import files
from trainable.errors import storage_fault
from trainable.paths import REFITS, TRIALS

CACHE = Path("~/.cache/convsearch")  # a node's decoded images, unless it has those of the driver
WORKER = ".worker"  # in a training's folder while it is trained: whom it is assigned to
# What a training leaves, in the order in which it is written: the last vouches for all others.
LEFT = (
    re.compile(r"config\.json|error\.txt"),
    re.compile(r"(best|fold[1-9]\d*)\.safetensors"),
    re.compile(r"logits\.npz"),
    re.compile(r"metrics\.csv"),
    re.compile(r"latest\.pt"),
    re.compile(r"refit\.json"),
)


def place_of(name: str) -> int | None:
    """Where in LEFT a file comes; None where it is none of them."""
    return next((place for place, names in enumerate(LEFT) if names.fullmatch(name)), None)


@dataclass(frozen=True)
class Turn:
    """Who calls, and the how many-th of its calls it is.

    What a cut network has swallowed is sent again, and may come itself when it is mended: after what was sent later, or
    when another worker trains on.
    """

    worker: str
    number: int


class Gone(Exception):
    """A worker's training is no longer its own: the driver has given it to another, or ended it."""


def assign(folder: Path, worker: str) -> None:
    """The driver's word, before a worker begins a training or goes on with it: in that folder this one alone writes, or
    a Keeper for it. It is on disk, as a Keeper may die and be started anew, and as no worker's call can change it."""
    files.make_folder(folder)
    files.write_text(folder / WORKER, worker)


def release(folder: Path) -> None:
    """The driver's word at a training's end, and before it is assigned again: in that folder no worker writes."""
    files.remove(folder / WORKER)


def check_assigned(folder: Path, worker: str) -> None:
    """Raises Gone for a worker to which a training is not assigned."""
    try:
        assigned = (folder / WORKER).read_text(encoding="utf-8")
    except FileNotFoundError:
        assigned = None
    if worker != assigned:
        raise Gone(f"{folder} is not worker {worker}'s any more")


class Keeper:
    """Lives on the driver's node, as a Ray actor, beside the runs' folders and the decoded images.

    Args:
        runs: the folders of the runs.
        pixels: the files of decoded images that their trials read.
    """

    def __init__(self, runs: Iterable[Path], pixels: Iterable[Path]) -> None:
        self._runs = frozenset(runs)
        self._pixels = {path.name: path for path in pixels}
        self._digests: dict[str, str] = {}  # to hash gigabytes takes seconds
        self._hashing = threading.Lock()
        self._locks: dict[Path, threading.Lock] = {}  # each folder's
        # The last call of each worker that was obeyed. What was sent to a Keeper that has died never comes to the next.
        self._obeyed: dict[str, int] = {}

    def left(self, folder: Path, turn: Turn) -> dict[str, bytes]:
        """What a training has left in its folder so far, by file name, for a worker that trains on.

        Raises:
            ValueError: for a folder that no training has.
            Gone: for a worker to which it is not assigned.
        """
        with self._lock(folder):
            check_assigned(folder, turn.worker)
            found = sorted(folder.glob("*"))
            return {path.name: path.read_bytes() for path in found if place_of(path.name) is not None}

    def keep(self, folder: Path, left: Mapping[str, bytes], turn: Turn) -> str | None:
        """Writes what a training leaves into its folder, once, and not after what it has left later. Returns what is
        wrong with the disk, if something is.

        Raises:
            ValueError: for a folder or a name that no training has; nothing is written.
            Gone: for a worker to which it is not assigned; nothing is written.
        """
        places = {name: place_of(name) for name in left}
        for name, place in places.items():
            if place is None:
                raise ValueError(f"{name!r} is no file that a training leaves")
        with self._lock(folder):
            try:
                check_assigned(folder, turn.worker)
                if turn.number > self._obeyed.get(turn.worker, 0):
                    for name in sorted(left, key=lambda name: (places[name], name)):
                        files.write_bytes(folder / name, left[name])
                    self._obeyed[turn.worker] = turn.number
            except OSError as error:
                return storage_fault(error) or str(error)
        return None

    def settled(self, folder: Path) -> None:
        """Returns when of a folder nothing is being written that was sent before it was assigned to another worker: for
        one on the driver's node, which goes on in the folder itself. Raises ValueError as `left` does."""
        with self._lock(folder):
            pass

    def _lock(self, folder: Path) -> threading.Lock:
        inside = folder.parent.parent in self._runs and folder.parent.name in (TRIALS, REFITS)
        if not (inside and folder.name.isdecimal()):
            raise ValueError(f"{folder} is the folder of no training")
        return self._locks.setdefault(folder, threading.Lock())

    def size(self, name: str) -> int:
        """The bytes of a file of decoded images."""
        return self._pixels[name].stat().st_size

    def digest(self, name: str) -> str:
        """The SHA-256 of a file of decoded images, for a node that fetches it."""
        with self._hashing:
            if name not in self._digests:
                with open(self._pixels[name], "rb") as file:
                    self._digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
            return self._digests[name]

    def part(self, name: str, start: int, size: int) -> bytes:
        """A part of a file of decoded images."""
        with open(self._pixels[name], "rb") as file:
            file.seek(start)
            return file.read(size)
