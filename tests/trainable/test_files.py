import ctypes
import errno
import json
import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
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


# What a killed writer leaves


def dead_process() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def temporary(folder: Path, name: str, process: int) -> Path:
    """Where that process writes a file or folder of that name."""
    found: list[str] = []
    (folder / "asked").mkdir()
    files.write_with(folder / "asked" / name, lambda file: found.extend(names(folder / "asked")))
    shutil.rmtree(folder / "asked")
    return folder / found[0].replace(f".{os.getpid()}-", f".{process}-")


def test_what_a_killed_writer_left_goes_when_the_file_is_written_again(tmp_path: Path) -> None:
    of_the_dead = temporary(tmp_path, "a.txt", dead_process())
    others = [
        temporary(tmp_path, "a.txt", os.getppid()),
        temporary(tmp_path, "b.txt", dead_process()),
        of_the_dead.with_name(of_the_dead.name.replace(socket.gethostname(), "elsewhere")),
    ]
    for path in (of_the_dead, *others):
        path.write_text("half")
    files.write_text(tmp_path / "a.txt", "new")
    assert names(tmp_path) == sorted(["a.txt", *(path.name for path in others)])


def test_threads_that_write_one_file_at_once_leave_it_whole(tmp_path: Path) -> None:
    both = threading.Barrier(2)

    def write(letter: bytes) -> None:
        def half_and_half(file: IO[bytes]) -> None:
            file.write(letter)
            both.wait()  # each has its file open
            file.write(letter)

        files.write_with(tmp_path / "a", half_and_half)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, (b"x", b"y")))
    assert (tmp_path / "a").read_bytes() in (b"xx", b"yy")
    assert names(tmp_path) == ["a"]


def test_a_temporary_folder_is_this_users_alone_and_a_killed_processs_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    first = files.temporary_folder("work")
    assert first.is_relative_to(tmp_path) and stat.S_IMODE(first.stat().st_mode) == 0o700
    (first / "file").touch()
    first.rename(first.with_name(first.name.replace(f".{os.getpid()}-", f".{dead_process()}-")))
    second, third = files.temporary_folder("work"), files.temporary_folder("work")
    assert names(tmp_path) == sorted([second.name, third.name])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can leave another user's file")
def test_another_users_file_of_a_temporary_folders_name_is_in_nobodys_way(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as shared:  # pytest's own folder lets no other user in
        os.chmod(shared, 0o1777)
        monkeypatch.setattr(tempfile, "tempdir", shared)
        others = temporary(Path(shared), f"work-{os.getuid()}", dead_process())
        others.touch()
        os.seteuid(65534)
        try:
            made = files.temporary_folder("work")
        finally:
            os.seteuid(0)
        assert names(Path(shared)) == sorted([others.name, made.name])


def test_no_name_that_somebody_can_make_is_in_the_way_of_a_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    name = f"work-{os.getuid()}"
    temporary(tmp_path, name, 10**20).touch()  # more than the system counts to
    temporary(tmp_path, name, dead_process()).symlink_to("x" * 300)  # as little to be followed as into another's folder
    made = files.temporary_folder("work")
    assert names(tmp_path) == [made.name]


def test_a_writer_that_is_killed_leaves_the_old_content(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from trainable import files

def writer(file):
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)

files.write_with(Path(sys.argv[1]), writer)
"""
    path = tmp_path / "a.txt"
    files.write_text(path, "old")
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code, str(path)], cwd=root).returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    assert len(names(tmp_path)) == 2
    files.write_text(path, "new")
    assert names(tmp_path) == ["a.txt"]


# Folders


def test_a_folder_comes_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "made"

    def writer(folder: Path) -> None:
        (folder / "one").write_text("1")
        assert not path.exists()
        if not raising:
            return
        raise KeyboardInterrupt

    raising = True
    with pytest.raises(KeyboardInterrupt):
        files.write_folder(path, writer)
    assert names(tmp_path) == []
    raising = False
    leftover = temporary(tmp_path, "made", dead_process())
    leftover.mkdir()
    (leftover / "half").touch()
    files.write_folder(path, writer)
    assert names(tmp_path) == ["made"]
    assert (path / "one").read_text() == "1"


def test_a_folder_reaches_the_disk_before_it_is_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, sync_all, synced_as = tmp_path / "made", files._sync_all, []

    def spy(folder: Path) -> None:
        synced_as.append((folder.parent, names(folder), path.exists()))
        sync_all(folder)

    monkeypatch.setattr(files, "_sync_all", spy)
    files.write_folder(path, lambda folder: (folder / "one").write_text("1"))
    assert synced_as == [(tmp_path, ["one"], False)]


@pytest.mark.skipif(sys.platform != "linux", reason="has no syncfs")
def test_a_folder_that_does_not_reach_the_disk_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def syncfs(descriptor: int) -> int:
        ctypes.set_errno(errno.EIO)
        return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda name, use_errno: SimpleNamespace(syncfs=syncfs))
    with pytest.raises(OSError, match="Input/output error") as told:
        files.write_folder(tmp_path / "made", lambda folder: None)
    assert told.value.errno == errno.EIO and Path(told.value.filename).parent == tmp_path
    assert names(tmp_path) == []


def test_of_two_who_make_a_folder_the_first_ones_stays(tmp_path: Path) -> None:
    path = tmp_path / "made"

    def writer(folder: Path) -> None:
        path.mkdir()  # by another process, meanwhile
        (path / "theirs").touch()
        (folder / "ours").touch()

    files.write_folder(path, writer)
    assert names(path) == ["theirs"]
    assert names(tmp_path) == ["made"]


def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What is synced from now on."""
    paths: list[Path] = []
    fsync = os.fsync

    def spy(descriptor: int) -> None:
        paths.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    return paths


def test_the_name_of_each_new_folder_reaches_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = synced(monkeypatch)
    files.make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    assert paths == [tmp_path, tmp_path / "a"]
    files.make_folder(tmp_path / "a" / "b")
    assert len(paths) == 2


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_where_a_file_is_no_folder_is_made(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises((FileExistsError, NotADirectoryError)):
        files.make_folder(tmp_path / name)


@pytest.mark.skipif(sys.platform != "linux", reason="has no /proc")
def test_where_nobody_can_make_a_folder_none_is_made() -> None:
    with pytest.raises(FileNotFoundError, match="'/proc/none'"):
        files.make_folder(Path("/proc/none/below"))


def test_a_removal_reaches_the_disk_and_needs_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").touch()
    paths = synced(monkeypatch)
    files.remove(tmp_path / "a")
    assert names(tmp_path) == []
    assert paths == [tmp_path]
    files.remove(tmp_path / "a")


def test_a_move_replaces_what_is_there_and_reaches_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "a").write_text("new")
    (tmp_path / "a").write_text("old")
    paths = synced(monkeypatch)
    files.move(tmp_path / "from" / "a", tmp_path / "a")
    assert (tmp_path / "a").read_text() == "new" and names(tmp_path / "from") == []
    assert paths == [tmp_path]


# What grows and shrinks


def test_what_is_appended_reaches_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("one\n")
    paths = synced(monkeypatch)
    files.append(tmp_path / "a", b"two\n")
    assert (tmp_path / "a").read_text() == "one\ntwo\n"
    assert paths == [tmp_path / "a"]


def test_what_is_appended_in_parts_reaches_the_disk_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("one\n")
    paths = synced(monkeypatch)
    files.append(tmp_path / "a", b"two\n", durable=False)
    assert (tmp_path / "a").read_text() == "one\ntwo\n"
    assert paths == []
    files.sync(tmp_path / "a")
    assert paths == [tmp_path / "a"]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a disk that is full: of a longer write the system takes the part that fits, and then refuses."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_does_not_fit_is_not_appended_at_all(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one\n")
    with files_of_at_most(6), pytest.raises(OSError, match="File too large"):
        files.append(tmp_path / "a", b"two\n")
    files.append(tmp_path / "a", b"three\n")
    assert (tmp_path / "a").read_text() == "one\nthree\n"


def test_a_file_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("one\ntw")
    paths = synced(monkeypatch)
    files.cut(tmp_path / "a", 4)
    assert (tmp_path / "a").read_text() == "one\n"
    assert paths == [tmp_path / "a"]
