"""Which code made a result."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

SUFFIXES = (".py", ".cpp", ".h")


def code_fingerprint(packages: Sequence[str] = ("results", "trainable")) -> str:
    """A hash of the packages' files of Python and C++, by their paths and content: 16 bytes in hex."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.blake2b(digest_size=16)
    for package in packages:
        for path in sorted(path for path in (root / package).rglob("*") if path.suffix in SUFFIXES):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()
