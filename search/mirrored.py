"""A command on a run whose folder is mirrored meanwhile."""

import math
import shlex
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue

from rich.console import Console

from search.cli import FAILED, FAILED_TRIALS, say
from search.fetch import catch_up, settle
from search.head import last_of_all
from search.mirror import FaultHere, Mirror, TakenOver
from search.record import lock
from search.storage import ANSWER_SECONDS, Silent, Storage, what_is_wrong

EVERY_SECONDS = 10.0  # between two rounds
PATIENCE_SECONDS = 60.0  # without a file written: a command's end waits no longer


def while_mirrored(
    command: Callable[[], int], run: Path, storage: Storage | None, console: Console, deadline: float = math.inf
) -> int:
    """Runs what works on a run, whose folder is mirrored meanwhile if it has a storage: to the last, also where a lost
    head ends the process.

    Args:
        deadline: time.monotonic() from which nothing more is waited for at the storage, once the command is done.
    Returns: the command's exit code; FAILED where it is done, but not all of the run is at the storage.

    Raises:
        UserError: as `lock` and `Mirror.claim` do; and what the command raises.
    """
    with lock(run):
        settle(run)
        if storage is not None:
            Mirror(run, storage).claim()
            catch_up(run, storage)
    if storage is None:
        return command()
    elsewhere = f"python -m search.run --resume {run.name} --storage {shlex.quote(storage.place)}"
    console.print(f"Mirrored: {storage.shown}; on another machine go on with: {elsewhere}", soft_wrap=True)
    follower = Follower(Mirror(run, storage), storage, console)
    try:
        with last_of_all(follower.end):
            code = command()
    finally:
        follower.end(deadline)
    return FAILED if follower.fault is not None and code in (0, FAILED_TRIALS) else code


class Follower:
    """Mirrors in a thread, round after round, until `end`. What is wrong is said once, then tried again; a storage that
    hangs is waited for.

    Attributes:
        fault: why not all is at the storage; None where all was when the last round began.
    """

    def __init__(self, mirror: Mirror, storage: Storage, console: Console) -> None:
        self._mirror, self._storage, self._console = mirror, storage, console
        self._over = threading.Event()
        self._lost = False
        self._saying, self._said = threading.Lock(), False
        self.fault: str | None = None
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        last = False
        while not (last or self._lost):
            last = self._over.is_set()
            self._round()
            self._over.wait(EVERY_SECONDS)

    def _round(self) -> None:
        ended = SimpleQueue[Exception | None]()
        threading.Thread(target=lambda: ended.put(self._ending()), daemon=True).start()
        error: Exception | None = Silent()
        while isinstance(error, Silent):
            written = self._mirror.written
            with suppress(Empty):
                error = ended.get(timeout=ANSWER_SECONDS)
            if not isinstance(error, Silent) or written == self._mirror.written:
                self._judge(error)

    def _ending(self) -> Exception | None:
        """What a round raises."""
        try:
            self._mirror.round()
        except Exception as error:  # each kind of storage has its own
            return error
        return None

    def _judge(self, error: Exception | None) -> None:
        if error is None:
            self.fault = None
        elif isinstance(error, TakenOver):
            self._lost, self.fault = True, "another machine has gone on with the run from there"
            say(self._console, f"Warning: {self.fault}: nothing more is written to {self._storage.shown}")
        elif isinstance(error, FaultHere):
            self._tell(f"{error}; what is missing at {self._storage.shown} is tried again", str(error))
        else:
            fault = what_is_wrong(error)
            what = f"{self._storage.shown} lags behind ({fault})"
            self._tell(f"{what}; the run goes on here, and what is missing there is tried again", fault)

    def _tell(self, warning: str, fault: str) -> None:
        if self.fault is None:
            say(self._console, f"Warning: {warning}")
        self.fault = fault

    def end(self, deadline: float = math.inf) -> None:
        """Copies what is left, and says so, once, where that cannot be done. Any thread may call it, and several.

        Args:
            deadline: time.monotonic() by which it returns.
        """
        self._over.set()
        written, until = self._mirror.written, min(time.monotonic() + PATIENCE_SECONDS, deadline)
        while self._thread.is_alive() and (left := until - time.monotonic()) > 0:
            self._thread.join(min(left, 0.5))
            if written != self._mirror.written:
                written, until = self._mirror.written, min(time.monotonic() + PATIENCE_SECONDS, deadline)
        if self._thread.is_alive():
            self.fault = self.fault or ("there is no time left" if until == deadline else "it does not answer")
        with self._saying:
            if self.fault is not None and not self._said:
                self._said = True
                say(self._console, f"Not all of the run is at {self._storage.shown}: {self.fault}.")
