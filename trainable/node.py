"""What a machine has of all that training depends on."""

import platform
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = ("numpy", "scipy", "torch", "torchvision", "pillow", "safetensors")


@dataclass(frozen=True)
class Node:
    """A machine."""

    versions: Mapping[str, str]  # of Python and of the libraries that are there
    free: int  # bytes of the disk that decoded images would be kept on
    fault: str | None  # where it cannot write what it has to, in words


def versions() -> dict[str, str]:
    """The versions of Python and of those libraries that are there of the ones that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def described(cache: Path) -> Node:
    """This machine.

    Args:
        cache: where decoded images would be kept; it need not exist.
    """
    folder = cache.expanduser().absolute()
    while not folder.exists():
        folder = folder.parent
    fault = None
    for place in (folder, tempfile.gettempdir()):
        try:
            with tempfile.TemporaryFile(dir=place):
                pass
        except OSError as error:
            fault = f"cannot write into {place} ({error.strerror})"
    return Node(versions(), shutil.disk_usage(folder).free, fault)


def difference(here: Mapping[str, str], there: Mapping[str, str]) -> str | None:
    """What another machine has other than this one, in words; None where trials of both compare.

    Args:
        here, there: as `versions` gives them.
    """
    for name, mine in here.items():
        if there.get(name) != mine:
            return f"has {f'{name} {there[name]}' if name in there else f'no {name}'}, and the driver's node {mine}"
    return None
