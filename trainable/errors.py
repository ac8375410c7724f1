"""The two kinds of trouble that are not the program's: a user's mistake, and a fault of the machine."""

import difflib
import errno
from collections.abc import Collection, Iterable
from pathlib import Path

# By name, as not every system has each. The others: of a disk behind a network or FUSE, and of too many open files.
DISK_FAULTS = frozenset("ENOSPC EDQUOT EROFS EIO EACCES EPERM".split())
STORAGE_FAULTS = DISK_FAULTS.union(
    "ESTALE ENOTCONN ECONNABORTED ETIMEDOUT EHOSTDOWN EREMOTEIO ENODEV EMFILE ENFILE".split()
)


class UserError(Exception):
    """A mistake that the user can correct: one clear message, shown without a traceback, exit code 2."""


def nearest(name: str, known: Iterable[str]) -> str:
    """'; did you mean X?' for the known name nearest to `name`, or '' where none is near."""
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean '{matches[0]}'?" if matches else ""


def other_format(path: Path, found: object, known: object) -> str:
    """Why a file of another format than the one that is known cannot be read."""
    return f"{path} has format {found}, not {known}: read it with the version that wrote it."


def reason(error: Exception) -> str:
    """What went wrong, for a sentence of ours: a KeyError's text is no more than the key."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{error} is missing" if isinstance(error, KeyError) else str(error) or type(error).__name__


def storage_fault(error: BaseException, faults: Collection[str] = STORAGE_FAULTS) -> str | None:
    """What is wrong with the disk, if `error` or what it was raised from is a fault of the disk; else None.

    Such a fault is no trial's failure: the search stops, and goes on when there is room again.

    Args:
        faults: the names of those that count.
    """
    cause: BaseException | None = error
    seen: list[BaseException] = []
    while cause is not None and cause not in seen:  # Ray raises errors from themselves
        seen.append(cause)
        if isinstance(cause, OSError) and errno.errorcode.get(cause.errno or 0) in faults:
            return with_file(cause)
        cause = cause.__cause__ or cause.__context__
    return None


def with_file(error: OSError) -> str:
    """What a file system has said, and of which file, where that is known."""
    return f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)
