import json
import os
from pathlib import Path
from typing import IO

import pytest

from trainable import files


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def half_then_raise(file: IO[bytes]) -> None:
    file.write(b"half")
    raise KeyboardInterrupt


def test_a_writer_that_raises_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    files.write_text(path, "old")
    with pytest.raises(KeyboardInterrupt):
        files.write_with(path, half_then_raise)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_first_writer_that_raises_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        files.write_with(tmp_path / "a.txt", half_then_raise)
    assert names(tmp_path) == []


def test_a_reader_sees_the_old_content_until_the_writer_is_done(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    files.write_text(path, "old")

    def writer(file: IO[bytes]) -> None:
        file.write(b"new" * 100_000)
        file.flush()
        assert path.read_text() == "old"

    files.write_with(path, writer)
    assert path.read_text() == "new" * 100_000


def test_the_content_reaches_the_disk_before_its_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def spy_fsync(descriptor: int) -> None:
        calls.append("fsync folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "fsync file")
        fsync(descriptor)

    def spy_replace(source: Path, target: Path) -> None:
        assert source.read_text() == "new"
        calls.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "replace", spy_replace)
    files.write_text(tmp_path / "a.txt", "new")
    assert calls == ["fsync file", "rename", "fsync folder"]


def test_text_is_utf8_and_bytes_are_as_given(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a", "é\n")
    files.write_bytes(tmp_path / "b", b"\r\n\0")
    assert (tmp_path / "a").read_bytes() == b"\xc3\xa9\n"
    assert (tmp_path / "b").read_bytes() == b"\r\n\0"


def test_json_is_sorted_and_indented(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"b": [1], "a": {"d": None, "c": 0.1}})
    expected = '{\n  "a": {\n    "c": 0.1,\n    "d": null\n  },\n  "b": [\n    1\n  ]\n}\n'
    assert (tmp_path / "a.json").read_text() == expected


def test_a_value_that_json_does_not_know_leaves_the_old_content(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError):
        files.write_json(tmp_path / "a.json", {"a": tmp_path})
    assert json.loads((tmp_path / "a.json").read_text()) == 1
    assert names(tmp_path) == ["a.json"]


def test_a_folder_that_is_missing_is_reported_as_such(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.write_text(tmp_path / "missing" / "a.txt", "")
