"""C++ of our own, compiled once for a kind of CPU and kept; without a compiler there is none, and a reason."""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from trainable import files

SWITCH = "CONVSEARCH_COMPILED"  # "0" in the environment: do without
# Compilers else halve the vectors of AVX-512 on many CPUs.
WIDE = ("-mprefer-vector-width=512",) if platform.machine() in ("x86_64", "AMD64") else ()
FLAGS = ("-std=gnu++17", "-O3", "-march=native", *WIDE, "-fPIC", "-shared", "-pthread", "-Wno-psabi")


class NotCompiledError(Exception):
    """Why there is no compiled code here, in words for a log."""


@cache
def library(source: Path) -> ctypes.CDLL:
    """The shared library of a C++ file, which may include headers beside it, from the cache or compiled into it (some
    seconds).

    Raises:
        NotCompiledError: where there is no compiler, it fails, the cache cannot be written, or SWITCH says no.
    """
    if os.environ.get(SWITCH) == "0":
        raise NotCompiledError(f"{SWITCH} is 0")
    try:
        folder = Path.home() / ".cache" / "convsearch" / "compiled"
        code = b"\0".join(path.read_bytes() for path in (source, *sorted(source.parent.glob("*.h"))))
        path = folder / f"{source.stem}-{_key(code)}.so"
        if not path.exists():
            files.make_folder(folder)
            folder.chmod(0o700)
            files.write_bytes(path, _compiled(source))
        if path.stat().st_uid != os.getuid():
            raise NotCompiledError(f"{path} belongs to somebody else")
        return ctypes.CDLL(str(path))
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: no home folder; ValueError: CXX's quotes
        raise NotCompiledError(f"{type(error).__name__}: {error}") from error


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


def _compiled(source: Path) -> bytes:
    """The shared library. Raises NotCompiledError where there is no compiler, or it fails."""
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise NotCompiledError("there is no C++ compiler (c++, g++, clang++)")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.so"
        words = [compiler] if shutil.which(compiler) else shlex.split(compiler)  # CXX may have some, as with ccache
        command = [*words, *FLAGS, "-o", str(made), str(source)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            first = next((line for line in done.stderr.splitlines() if "error" in line), f"exit code {done.returncode}")
            raise NotCompiledError(f"{compiler} failed: {first}")
        return made.read_bytes()
