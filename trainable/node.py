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
    lacks: int  # bytes of decoded images that are not there yet
    free: int  # bytes of the disk that they would be kept on
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


def is_there(path: Path, size: int) -> bool:
    """Whether a file of decoded images, of that many bytes, is on this machine."""
    return path.is_file() and path.stat().st_size == size


def described(cache: Path, pixels: Mapping[Path, int]) -> Node:
    """This machine.

    Args:
        cache: where decoded images are kept that are not where they are at the driver; it need not exist.
        pixels: the bytes of each file of decoded images, by its path at the driver.
    """
    fetched = {cache.expanduser() / path.name: size for path, size in pixels.items() if not is_there(path, size)}
    folder = cache.expanduser().absolute()
    while not folder.exists():
        folder = folder.parent
    fault = None
    for place in (*([folder] if fetched else []), Path(tempfile.gettempdir())):
        try:
            with tempfile.TemporaryFile(dir=place):
                pass
        except OSError as error:
            fault = f"cannot write into {place} ({error.strerror})"
    lacks = sum(size for path, size in fetched.items() if not is_there(path, size))
    return Node(versions(), lacks, shutil.disk_usage(folder).free, fault)


def difference(here: Mapping[str, str], there: Mapping[str, str]) -> str | None:
    """What another machine has other than this one, in words; None where trials of both compare.

    Args:
        here, there: as `versions` gives them.
    """
    for name, mine in here.items():
        if there.get(name) != mine:
            return f"has {f'{name} {there[name]}' if name in there else f'no {name}'}, and the driver's node {mine}"
    return None
