"""A command on a run whose folder is mirrored meanwhile."""

import math
import shlex
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from search.cli import FAILED, FAILED_TRIALS
from search.fetch import catch_up, settle
from search.head import last_of_all
from search.mirror import Follower, Mirror
from search.record import lock
from search.storage import Storage


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
