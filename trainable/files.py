"""Every file that must survive a crash is written here: write, fsync, rename, fsync the folder.

A reader sees the old content or the new, never half of one, whenever the writer is killed. What a function here has
returned from stays through a power cut, too, as far as the disk keeps its word.
"""

import ctypes
import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import IO, Any

_numbers = count()


def write_with(path: Path, writer: Callable[[IO[bytes]], object]) -> None:
    """Replaces `path` atomically by what `writer` writes into the open binary file that it is given."""
    _remove_leftovers(path)
    temporary = _temporary(path)
    try:
        with open(temporary, "wb") as file:
            writer(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces `path` atomically by `content`."""
    write_with(path, lambda file: file.write(content))


def write_text(path: Path, content: str) -> None:
    """Replaces `path` atomically by `content` in UTF-8."""
    write_bytes(path, content.encode())


def write_json(path: Path, value: Any) -> None:
    """Replaces `path` atomically by `value` as sorted, indented JSON."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def write_folder(path: Path, writer: Callable[[Path], object]) -> None:
    """Makes a folder atomically, with what `writer` writes into the empty one that it is given. Where another process
    was first, its folder stays."""
    _remove_leftovers(path)
    temporary = _temporary(path)
    try:
        temporary.mkdir()
        writer(temporary)
        _sync_all(temporary)  # once: an fsync of each of some thousand small files takes seconds
        try:
            os.rename(temporary, path)
        except OSError:
            if not path.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    sync(path.parent)


def move(source: Path, path: Path) -> None:
    """Replaces `path` atomically by a whole file, which is no longer where it was."""
    os.replace(source, path)
    sync(path.parent)


def append(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Adds to the end of a file that is there. Killed meanwhile, it leaves a part; where it raises, as on a full disk,
    nothing, so that what is added later does not follow a part.

    Args:
        durable: whether it stays through a power cut. If not, it does from the next `sync` or durable `append` on.
    """
    size = path.stat().st_size
    try:
        with open(path, "ab") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
    except BaseException:
        os.truncate(path, size)
        raise


def cut(path: Path, size: int) -> None:
    """Cuts a file to its first `size` bytes."""
    os.truncate(path, size)
    sync(path)


def make_folder(path: Path) -> None:
    """Makes a folder, and those above it, where they are missing. Raises as Path.mkdir does."""
    try:
        path.mkdir()
    except FileNotFoundError:
        make_folder(path.parent)
        path.mkdir(exist_ok=True)  # once more and no more: /proc says that there is no such folder for ever
        sync(path.parent)
    except FileExistsError:
        if not path.is_dir():
            raise
    else:
        sync(path.parent)


def remove(path: Path) -> None:
    """Removes a file, if it is there."""
    try:
        path.unlink()
    except FileNotFoundError:
        return
    sync(path.parent)


def temporary_folder(name: str) -> Path:
    """Makes a folder for this process, and removes those of the name that killed processes of this user have left."""
    path = Path(tempfile.gettempdir(), f"{name}-{os.getuid()}")
    _remove_leftovers(path)
    # Others may write there, too, so its name is one that nobody can take first.
    return Path(tempfile.mkdtemp(".tmp", f"{_prefix(path)}{os.getpid()}-", path.parent))


def _temporary(path: Path) -> Path:
    """Where `path` is written before it has its name. Host, process and number keep two writers of a file apart."""
    return path.with_name(f"{_prefix(path)}{os.getpid()}-{next(_numbers)}.tmp")


def _prefix(path: Path) -> str:
    return f".{path.name}.{_host()}."


@cache
def _host() -> str:
    """This machine, by its name and by what numbers its processes: containers may share the one and not the other."""
    try:
        numbering = os.stat("/proc/self/ns/pid").st_ino
    except OSError:  # no Linux, no containers
        numbering = 0
    return f"{socket.gethostname()}-{numbering}"


def _remove_leftovers(path: Path) -> None:
    """Removes what writers of `path` have left that were killed on this host: of decoded images it is gigabytes. What
    cannot be removed stays: in a folder that many share it may be another user's."""
    prefix = _prefix(path)
    for name in os.listdir(path.parent):
        process, _, number = name.removeprefix(prefix).removesuffix(".tmp").partition("-")
        written = name == f"{prefix}{process}-{number}.tmp" and process.isdecimal()
        if written and not _lives(int(process)):
            leftover = path.with_name(name)
            if os.path.isdir(leftover):  # Path.is_dir raises where a link leads to what this user may not see
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                with suppress(OSError):
                    leftover.unlink()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)  # sends nothing
    except (ProcessLookupError, OverflowError):  # or no process has such a number, but a file of anybody's may
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def sync(path: Path) -> None:
    """Has a file's content, or a folder's names, reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_all(path: Path) -> None:
    """Has all that was written to a folder's file system reach the disk: where Linux is, of that one alone, as one that
    hangs would hang this, too."""
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None) if sys.platform == "linux" else None
    if syncfs is None:
        os.sync()
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)
