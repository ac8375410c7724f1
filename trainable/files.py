"""Every file that must survive a crash is written here: write, fsync, rename, fsync the folder.

A reader sees the old content or the new, never half of one, whenever the writer is killed.
"""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any


def write_with(path: Path, writer: Callable[[IO[bytes]], object]) -> None:
    """Replaces `path` atomically by what `writer` writes into the open binary file that it is given."""
    # Host and process keep two writers of the same file apart; a killed writer's leftover is overwritten or ignored.
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            writer(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces `path` atomically by `content`."""
    write_with(path, lambda file: file.write(content))


def write_text(path: Path, content: str) -> None:
    """Replaces `path` atomically by `content` in UTF-8."""
    write_bytes(path, content.encode())


def write_json(path: Path, value: Any) -> None:
    """Replaces `path` atomically by `value` as sorted, indented JSON."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")
