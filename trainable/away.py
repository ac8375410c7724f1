"""A worker's side of a run whose folder is on another node: its trial's files travel to the run's `Keeper`, and back
where the trial goes on here; the decoded images are fetched once a node.
"""

import fcntl
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from itertools import chain, count
from pathlib import Path
from typing import IO, Any

import ray

from trainable.dataset import LabelledData
from trainable.errors import UserError
from trainable.files import temporary_folder, write_with
from trainable.keeper import CACHE, Turn, place_of
from trainable.node import is_there
from trainable.pixels import cache_writes

PART = 2**26  # bytes of the decoded images in one answer: bounds the memory that a fetch takes


class Away:
    """One worker's trainings, one after the other, in a folder of this process.

    Args:
        keeper: the actor's handle.
        worker: what the driver knows this process by, as of `keeper.assign`.

    What calls the keeper raises Gone where the driver has given the training to another worker meanwhile.
    """

    def __init__(self, keeper: Any, worker: str) -> None:
        self._keeper, self._worker = keeper, worker
        self._there: Path | None = None  # the training's folder at the driver
        self._sent: dict[str, tuple[int, int]] = {}  # what of it is at the keeper
        self._calls = count(1)

    def begin(self, folder: Path) -> Path:
        """The folder here of a training, with what it has left in its folder at the driver so far."""
        if self._there is not None:
            shutil.rmtree(self._here, ignore_errors=True)
        self._there = folder
        self._here.mkdir()
        for name, content in ray.get(self._keeper.left.remote(folder, self._turn())).items():
            (self._here / name).write_bytes(content)
        self._sent = _states(self._here)
        return self._here

    @cached_property
    def _home(self) -> Path:
        return temporary_folder("convsearch-away")

    @property
    def _here(self) -> Path:
        assert self._there is not None  # it has begun
        return self._home / self._there.name

    def with_pixels(self, data: LabelledData) -> LabelledData:
        """The data with their decoded images on this node, fetched if none of its workers has done so.

        Raises:
            UserError: where they cannot be kept here, or did not come whole.
        """
        path = data.pixels.path
        size = ray.get(self._keeper.size.remote(path.name))
        if not is_there(path, size):  # a cache that all nodes share is the driver's own
            path = CACHE.expanduser() / path.name
            try:
                with cache_writes(path.parent):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with _alone(path):
                        if not is_there(path, size):
                            write_with(path, lambda file: self._fetch(path.name, size, file))
            except UserError as error:
                raise UserError(f"{here()}: {error}") from error
        return replace(data, pixels=replace(data.pixels, path=path))

    def _fetch(self, name: str, size: int, file: IO[bytes]) -> None:
        """Writes the decoded images into an open file, a part while the next is on its way."""
        digest = self._keeper.digest.remote(name)
        starts, found = range(0, size, PART), hashlib.sha256()
        parts = (self._keeper.part.remote(name, start, PART) for start in starts)
        ahead = next(parts)
        for following in chain(parts, [None]):
            part = ray.get(ahead)
            file.write(part)
            found.update(part)
            ahead = following
        if found.hexdigest() != ray.get(digest):
            raise UserError(f"{name} did not come as it is at the driver.")

    def send(self) -> None:
        """Sends what has changed in the folder here, and returns when it has arrived.

        Raises:
            UserError: where the keeper cannot write.
        """
        folder, states = self._here, _states(self._here)
        changed = {
            name: (folder / name).read_bytes() for name, state in states.items() if self._sent.get(name) != state
        }
        if changed:
            fault = ray.get(self._keeper.keep.remote(self._there, changed, self._turn()))
            if fault is not None:
                raise UserError(f"{fault} (on the driver's node)")
        self._sent = states

    def _turn(self) -> Turn:
        return Turn(self._worker, next(self._calls))

    def end(self) -> None:
        """Removes the folder."""
        if self._there is not None:
            shutil.rmtree(self._home, ignore_errors=True)


def here() -> str:
    """This node, in words."""
    return f"node {ray.util.get_node_ip_address()}"


def is_away(node: str | None) -> bool:
    """Whether this process is on another node than the driver's. None: all workers are there."""
    return node is not None and node != ray.get_runtime_context().get_node_id()


def begin_beside(keeper: Any, folder: Path) -> None:
    """What comes before a training on the driver's node, in its folder there. Args: as of Away, or no keeper: None."""
    if keeper is not None:
        ray.get(keeper.settled.remote(folder))


@contextmanager
def away_from(node: str | None, keeper: Any, worker: str) -> Iterator[Away | None]:
    """The Away of this process; None where it is on the driver's node. Args: as of `is_away`, and of Away."""
    if not is_away(node):
        yield None
        return
    away = Away(keeper, worker)
    try:
        yield away
    finally:
        away.end()


def _states(folder: Path) -> dict[str, tuple[int, int]]:
    """Of each file that a training leaves, something that changes with it."""
    found = {path.name: path.stat() for path in folder.iterdir() if place_of(path.name) is not None}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in found.items()}


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process of this node at a time fetches a file; the others wait for it."""
    with open(path.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # ends with the process
        yield
