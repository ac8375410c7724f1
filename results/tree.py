"""What a run's folder may hold. It may come from anybody, and a pipe or a device that is read as a file never ends."""

import os
import re
from contextlib import suppress
from pathlib import Path

from trainable.errors import UserError

FILE = re.compile(r".+\.(csv|html|journal|json|npz|pt|safetensors|txt)|\.lock|\.worker")  # never a folder's name


def check_tree(run: Path) -> None:
    """Raises UserError as `check_entry` does, for whatever is below a run's folder; but for links that wandb makes to
    its own logs."""
    folders = [str(run)]
    while folders:
        # Somebody may tidy up, or give a file as the run's folder, which is said elsewhere.
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                check_entry(entry)
                if entry.is_dir() and entry.name != "wandb":
                    folders.append(entry.path)


def check_entry(entry: os.DirEntry[str] | Path) -> None:
    """Raises UserError, naming it, for what no run has: a link, a folder in a file's place, what is neither of both."""
    path = os.fspath(entry)
    if entry.is_symlink():
        raise UserError(
            f"{path} is a symbolic link, and a run has none: what is read or written there is wherever it leads. Put "
            "that in its place, or move the link away."
        )
    if entry.is_dir():
        if FILE.fullmatch(entry.name):
            raise UserError(f"{path} is a folder, where a run has a file: put that in its place, or move it away.")
    elif not entry.is_file() and os.path.lexists(path):  # what has just been removed is no file either
        raise UserError(f"{path} is neither a file nor a folder, and a run has nothing else: move it away.")
