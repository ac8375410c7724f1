"""C++ of our own, compiled once for a kind of CPU and kept; without a compiler there is none, and a reason."""

import ctypes
import fcntl
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from trainable import files

HASH_BYTES = hashlib.sha256().digest_size
COMPILER_SECONDS, VERSION_SECONDS = 600.0, 10.0  # each file takes a few
SWITCH = "CONVSEARCH_COMPILED"  # "0" in the environment: do without
# Compilers else halve the vectors of AVX-512 on many CPUs.
WIDE = ("-mprefer-vector-width=512",) if platform.machine() in ("x86_64", "AMD64") else ()
FLAGS = ("-std=gnu++17", "-O3", "-march=native", *WIDE, "-fPIC", "-shared", "-pthread", "-Wno-psabi")


class NotCompiledError(Exception):
    """Why there is no compiled code here, in words for a log."""


def library(source: Path) -> ctypes.CDLL:
    """The shared library of a C++ file, which may include headers beside it, from the cache or compiled into it (some
    seconds).

    Raises:
        NotCompiledError: where there is no compiler, it fails, the cache cannot be written, or SWITCH says no.
    """
    found = _found(source)
    if isinstance(found, str):
        raise NotCompiledError(found)
    return found


def missing(*sources: Path) -> str | None:
    """Why there is no `library` of one of the files; None where there is one of each."""
    return next((found for source in sources if isinstance(found := _found(source), str)), None)


@cache
def _found(source: Path) -> ctypes.CDLL | str:
    """The library, or why there is none: asked once a process, as the answer may take seconds."""
    try:
        return _loaded(source)
    except NotCompiledError as error:
        return str(error)


def _loaded(source: Path) -> ctypes.CDLL:
    """As `library`, each time anew."""
    if os.environ.get(SWITCH) == "0":
        raise NotCompiledError(f"{SWITCH} is 0")
    try:
        folder = Path.home() / ".cache" / "convsearch" / "compiled"
        code = b"\0".join(path.read_bytes() for path in (source, *sorted(source.parent.glob("*.h"))))
        path = folder / f"{source.stem}-{_key(code)}.so"
        if not _whole(path):
            files.make_folder(folder)
            folder.chmod(0o700)
            with _alone(folder):
                if not _whole(path):
                    made = _compiled(source)
                    files.write_bytes(path, made + hashlib.sha256(made).digest())
        if path.stat().st_uid != os.getuid():
            raise NotCompiledError(f"{path} belongs to somebody else")
        return ctypes.CDLL(str(path))
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: no home folder; ValueError: CXX's quotes
        raise NotCompiledError(f"{type(error).__name__}: {error}") from error


def _whole(path: Path) -> bool:
    """Whether a library is there as it was written: of one that was cut short the loader reads beyond the end, which
    ends the process. Its hash is behind it, where loaders do not look."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return False
    return hashlib.sha256(content[:-HASH_BYTES]).digest() == content[-HASH_BYTES:]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time compiles, and those that waited find what it has made. Where a file system has no locks,
    each compiles."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # ends with the process
        yield
    finally:
        os.close(descriptor)


def call(function: Any, *given: Any) -> None:
    """Calls a function of a library, which returns whether there was memory for it. Tensors are given by the addresses
    of their values.

    Raises:
        MemoryError: where there was none.
    """
    if not function(*(ctypes.c_void_p(one.data_ptr()) if isinstance(one, Tensor) else one for one in given)):
        raise MemoryError(f"no memory for {function.__name__}")


def _key(code: bytes) -> str:
    """One for each source, compiler that was named, flags and kind of CPU: machines that differ may share a home."""
    try:
        described = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
        cpu = "\n".join(line for line in described.splitlines() if line.startswith(("model", "flags", "Features")))
    except OSError:
        cpu = platform.processor()
    words = [os.environ.get("CXX", ""), *FLAGS, platform.machine(), cpu]
    return hashlib.sha256(b"\0".join([code, *map(os.fsencode, words)])).hexdigest()[:16]


def compiler() -> list[str]:
    """The words that call the C++ compiler, none where there is none. Raises ValueError where CXX cannot be read."""
    named = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if named is None:
        return []
    return [named] if shutil.which(named) else shlex.split(named)  # CXX may have some, as with ccache


def compiler_version() -> str:
    """What the C++ compiler says it is, for a record; nothing where there is none, or it does not say."""
    try:
        done = subprocess.run([*compiler(), "--version"], capture_output=True, text=True, timeout=VERSION_SECONDS)
    except (OSError, ValueError, subprocess.TimeoutExpired):  # OSError: there is none
        return ""
    return done.stdout.partition("\n")[0]


def _compiled(source: Path) -> bytes:
    """The shared library. Raises NotCompiledError where there is no compiler, or it fails."""
    words = compiler()
    if not words:
        raise NotCompiledError("there is no C++ compiler (c++, g++, clang++)")
    called = " ".join(words)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.so"
        command = [*words, *FLAGS, "-o", str(made), str(source)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILER_SECONDS)
        except subprocess.TimeoutExpired:
            raise NotCompiledError(f"{called} took more than {COMPILER_SECONDS:g} s") from None
        if done.returncode:
            first = next((line for line in done.stderr.splitlines() if "error" in line), f"exit code {done.returncode}")
            raise NotCompiledError(f"{called} failed: {first}")
        return made.read_bytes()
