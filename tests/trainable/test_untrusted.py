"""Crafted JSON and archives of arrays: as data or not at all, and in bounded memory."""

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from trainable.untrusted import array_names, parse_json, read_arrays

ROOT = Path(__file__).parents[2]


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("harm",)


def header(*shape: int) -> bytes:
    """The beginning of an .npy of float32."""
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return content.getvalue()


def archive(path: Path, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in entries.items():
            made.writestr(f"{name}.npy", content)
    return path


def pickled() -> bytes:
    content = io.BytesIO()
    np.save(content, np.array([Harmful()], dtype=object), allow_pickle=True)
    return content.getvalue()


def test_arrays_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    logits, images = np.arange(6, dtype=np.float32).reshape(2, 3), np.array(["a.png", "ü/b.png"])
    np.savez_compressed(path, logits=logits, images=images, none=np.zeros((0, 2)))
    assert array_names(path) == ["logits", "images", "none"]
    read = read_arrays(path, "images", "logits")
    assert read[0].tolist() == images.tolist()
    assert (read[1] == logits).all() and read[1].dtype == np.float32


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (pickled(), "Object arrays cannot be loaded when allow_pickle=False"),
        (pickle.dumps(Harmful()), "the magic string is not correct"),
        (header(10**12, 10), "a.npy is shorter than it says"),
        (header(2, 3) + bytes(20), "a.npy is shorter than it says"),
        (header(-1), "negative dimensions are not allowed"),
        (b"\x93NUMPY\x01\x00\xff\xff", "EOF"),
    ],
)
def test_an_array_that_is_crafted_is_refused(
    content: bytes, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=why):
        read_arrays(archive(tmp_path / "a.npz", a=content), "a")
    assert not (tmp_path / "harm").exists()


def test_what_is_no_archive_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.npz"
    for content in (b"", b"PK", pickle.dumps(Harmful()), pickled()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="^it is no archive of arrays, or is cut short$"):
            read_arrays(path, "a")
    assert not (tmp_path / "harm").exists()
    pickle.loads(pickle.dumps(Harmful()))  # the control: it would have
    assert (tmp_path / "harm").exists()


def test_a_missing_array_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"There is no item named 'b\.npy' in the archive"):
        read_arrays(archive(tmp_path / "a.npz", a=header(0)), "b")


def test_an_archive_of_very_many_entries_is_not_even_listed(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", **{f"a{number}": b"" for number in range(2000)})
    for _ in range(2):
        with pytest.raises(ValueError, match="^it has more entries than an archive of arrays$"):
            array_names(path)
        # A million: the format's larger list, which the small one's place would lie about.
        path.write_bytes(path.read_bytes()[:-22] + b"PK\6\7" + bytes(16) + b"PK\5\6" + bytes(18))


# In a process of its own, whose memory is what it had at most.
BOMB = """
import resource, sys
from pathlib import Path
from trainable import untrusted

untrusted.LARGEST = 2**20
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    untrusted.read_arrays(Path(sys.argv[1]), "a")
except ValueError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 2**24)
"""


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", a=header(2**24) + bytes(2**26))
    assert path.stat().st_size < 2**20
    told = subprocess.run([sys.executable, "-c", BOMB, str(path)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.splitlines() == [f"its arrays have more than {2**20} bytes", "True"]


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000 + "1" + "}" * 100_000])
def test_json_that_is_nested_too_deeply_is_no_json(text: str) -> None:
    with pytest.raises(ValueError, match="^it is nested too deeply$"):
        parse_json(text)


def test_json_with_a_number_of_a_million_digits_is_no_json() -> None:
    with pytest.raises(ValueError, match="^Exceeds the limit"):
        parse_json("9" * 1_000_000)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" * 400])
def test_a_number_beyond_all_floats_is_none_where_that_is_asked(text: str) -> None:
    parse_json(text)
    with pytest.raises(ValueError, match=f"^{text[:20]} is no number$"):
        parse_json(f'{{"a": [{text}]}}', finite=True)


def test_other_json_is_what_it_says() -> None:
    value = {"a": [1, 2.5, -3, 10**30, None, "ü"]}
    assert parse_json(json.dumps(value)) == parse_json(json.dumps(value).encode()) == value
    assert parse_json(json.dumps(value), finite=True) == value
