"""Reads what another person may have made, as data and in bounded memory. Whatever is wrong with it is a ValueError."""

import json
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = 2**31  # bytes of the arrays that are read of one file; it may be a thousandth as long
DIRECTORY = 2**16  # bytes of an archive's list of entries
END, END_BYTES = b"PK\5\6", 22  # an archive's last record, as NumPy writes it: without a comment
FAR, FAR_BYTES = b"PK\6\7", 20  # before it where the archive is beyond the old limits of the format
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def parse_json(text: str | bytes, *, finite: bool = False) -> Any:
    """What a JSON text says.

    Args:
        finite: whether each number has to be a finite float, or an integer that can be made one.
    Raises:
        ValueError: also where it is nested too deeply.
    """
    try:
        if finite:
            return json.loads(text, parse_constant=_finite, parse_float=_finite, parse_int=_whole)
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _finite(text: str) -> float:
    number = float(text)  # of 1e999 it is infinite
    if not math.isfinite(number):
        raise ValueError(f"{text:.20} is no number")
    return number


def _whole(text: str) -> int:
    _finite(text)
    return int(text)


def array_names(path: Path) -> list[str]:
    """The names of the arrays in an .npz. Raises OSError and ValueError."""
    with _archive(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def read_arrays(path: Path, *names: str) -> list[NDArray[Any]]:
    """The arrays of these names in an .npz.

    Raises:
        OSError: where there is no such file, or it cannot be read.
        ValueError: where one is missing or damaged, holds Python objects, or is too large.
    """
    with _archive(path) as archive:
        entries = [f"{name}.npy" for name in names]
        if sum(archive.getinfo(entry).file_size for entry in entries) > LARGEST:
            raise ValueError(f"its arrays have more than {LARGEST} bytes")
        return [_array(archive, entry) for entry in entries]


def _array(archive: zipfile.ZipFile, entry: str) -> NDArray[Any]:
    with archive.open(entry) as file:
        shape, _, dtype = HEADERS[np.lib.format.read_magic(file)](file)
        rest = archive.getinfo(entry).file_size - file.tell()
    if math.prod(shape) * dtype.itemsize > rest and not dtype.hasobject:  # NumPy would make room for it first
        raise ValueError(f"{entry} is shorter than it says")
    with archive.open(entry) as file:
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return array


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive, whose list of entries is short. NumPy and zipfile raise anything of a damaged one."""
    try:
        with open(path, "rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - FAR_BYTES - END_BYTES))
            end = file.read()[-FAR_BYTES - END_BYTES :]
            if end[-END_BYTES:][:4] != END:
                raise ValueError("it is no archive of arrays, or is cut short")
            if end[:-END_BYTES][:4] == FAR or int.from_bytes(end[-10:-6], "little") > DIRECTORY:
                raise ValueError("it has more entries than an archive of arrays")
            with zipfile.ZipFile(file) as archive:
                yield archive
    except (OSError, ValueError):
        raise
    except KeyError as error:
        raise ValueError(str(error.args[0])) from error
    except Exception as error:
        raise ValueError(str(error) or type(error).__name__) from error
