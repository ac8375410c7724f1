"""Which code and which libraries made a result."""

import hashlib
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

LIBRARIES = ("numpy", "scipy", "torch", "torchvision", "pillow", "safetensors")


def code_fingerprint(packages: Sequence[str] = ("results", "trainable")) -> str:
    """A hash of the packages' Python files, by their paths and content: 16 bytes in hex."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.blake2b(digest_size=16)
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """The versions of Python and of the libraries that numbers depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}
