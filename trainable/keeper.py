"""The driver's side of training whose workers may be on other nodes: it hands out what they lack and takes in what they
leave, so that the nodes need no folder in common.
"""

import hashlib
import os
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from trainable import files
from trainable.errors import storage_fault

CACHE = Path("~/.cache/convsearch")  # a node's decoded images, unless it has those of the driver
# What a training leaves, in the order in which it is written: the last vouches for all others.
LEFT = (
    re.compile(r"config\.json|error\.txt"),
    re.compile(r"(best|fold[1-9]\d*)\.safetensors"),
    re.compile(r"logits\.npz"),
    re.compile(r"metrics\.csv"),
    re.compile(r"latest\.pt"),
    re.compile(r"refit\.json"),
)


def trial_folder(run: Path, trial: str) -> Path:
    """Where a trial's files are."""
    return run / "trials" / trial


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


class _Order:
    """Of the calls for a folder, which are to be obeyed: the last worker's to begin, each once and in order."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._obeyed: dict[str, int] = {}  # each worker's last; the last to begin is the last one

    def begins(self, turn: Turn) -> None:
        if turn.number > self._obeyed.get(turn.worker, 0):
            self._obeyed.pop(turn.worker, None)
            self._obeyed[turn.worker] = turn.number

    def has(self, turn: Turn) -> bool:
        """Whether the worker is the last to begin, as far as is known here: the Keeper may have died meanwhile."""
        return not self._obeyed or turn.worker == next(reversed(self._obeyed))

    def is_new(self, turn: Turn) -> bool:
        return turn.number > self._obeyed.get(turn.worker, 0)

    def done(self, turn: Turn) -> None:
        self._obeyed[turn.worker] = turn.number


class Keeper:
    """Lives on the driver's node, as a Ray actor, beside the runs' folders and the decoded images.

    Args:
        runs: the folders of the runs.
        pixels: the files of decoded images that their trials read.
    """

    def __init__(self, runs: Iterable[Path], pixels: Iterable[Path]) -> None:
        self._runs = frozenset(runs)
        self._pixels = {path.name: path for path in pixels}
        self._known: dict[str, tuple[int, str]] = {}  # each trial's start asks, and to hash gigabytes takes seconds
        self._orders: dict[Path, _Order] = {}

    def left(self, folder: Path, turn: Turn) -> dict[str, bytes]:
        """What a training has left in its folder so far, by file name, for a worker that trains on: from now on what
        another leaves is not kept. Raises ValueError for another folder."""
        self._check(folder)
        order = self._orders.setdefault(folder, _Order())
        with order.lock:
            order.begins(turn)
            found = sorted(folder.glob("*"))
            return {path.name: path.read_bytes() for path in found if place_of(path.name) is not None}

    def keep(self, folder: Path, left: Mapping[str, bytes], turn: Turn) -> str | None:
        """Writes what a training leaves into its folder, once, and not after what it has left later. Returns what is
        wrong, if something is: with the disk, or as another worker has gone on with the training.

        Raises:
            ValueError: for a folder or a name that no training has; nothing is written.
        """
        self._check(folder)
        places = {name: place_of(name) for name in left}
        for name, place in places.items():
            if place is None:
                raise ValueError(f"{name!r} is no file that a training leaves")
        order = self._orders.setdefault(folder, _Order())
        with order.lock:
            if not order.has(turn):
                return f"another worker has gone on with {folder}"
            if order.is_new(turn):
                try:
                    files.make_folder(folder)
                    for name in sorted(left, key=lambda name: (places[name], name)):
                        files.write_bytes(folder / name, left[name])
                except OSError as error:
                    return storage_fault(error) or str(error)
                order.done(turn)
        return None

    def pixels(self, name: str) -> tuple[int, str]:
        """The size in bytes and the SHA-256 of a file of decoded images."""
        if name not in self._known:
            with open(self._pixels[name], "rb") as file:
                self._known[name] = os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest()
        return self._known[name]

    def part(self, name: str, start: int, size: int) -> bytes:
        """A part of a file of decoded images."""
        with open(self._pixels[name], "rb") as file:
            file.seek(start)
            return file.read(size)

    def _check(self, folder: Path) -> None:
        inside = folder.parent.parent in self._runs and folder.parent.name in ("trials", "refits")
        if not (inside and folder.name.isdecimal()):
            raise ValueError(f"{folder} is the folder of no training")
