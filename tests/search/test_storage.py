"""What is put at a storage of each kind is got from there, and one that cannot be used is one sentence."""

import errno
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from search import storage
from search.cli import AGAIN
from search.storage import Storage, connect, telling
from tests.search.s3 import LOCKED, Store, serving
from trainable.errors import UserError


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with serving() as store:
        yield store


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(params=["folder", "file", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, store: Store) -> str:
    store.objects.clear()
    folder = f"{tmp_path}/not yet/there"
    return {
        "folder": folder,
        "file": f"file://{tmp_path}/there",
        "s3": store.uri(),
    }[request.param]


def test_what_is_put_there_is_got_from_there(place: str, tmp_path: Path) -> None:
    there = connect(place, tmp_path / "run")
    assert there.states() == {}  # the try has left nothing
    for content in (b"first", b"", b"second" * 100_000):
        there.write("trials/0000/metrics.csv", content)
        there.write("run.json", b"{}")
        assert Storage(place, "run").read("trials/0000/metrics.csv") == content
        assert list(there.states()) == ["run.json", "trials/0000/metrics.csv"]
    assert there.read("trials/0001/metrics.csv") is None
    assert Storage(place, "another").states() == {}
    there.remove("run.json")
    there.remove("run.json")  # another time, as after a kill
    assert list(there.states()) == ["trials/0000/metrics.csv"]


@pytest.mark.parametrize("name", ["../victim", "/victim", "trials/../../victim", "trials//x", "./x", ".."])
def test_nothing_outside_of_it_is_reached(place: str, tmp_path: Path, name: str) -> None:
    there = connect(place, tmp_path / "run")
    Storage(place, "victim").write("x", b"theirs")
    for call in (partial(there.read, name), partial(there.write, name, b""), partial(there.remove, name)):
        with pytest.raises(ValueError, match=rf"^'{re.escape(name)}' is the name of no file in .*/run$"):
            call()
    assert Storage(place, "victim").read("x") == b"theirs"


def test_a_storage_is_shown_without_its_settings(store: Store) -> None:
    assert Storage(store.uri(), "photos").shown == "s3://runs/some/folder/photos"
    assert Storage("/mnt/runs", "photos").shown == "/mnt/runs/photos"


def refused(place: str, run: Path) -> str:
    with pytest.raises(UserError) as told:
        connect(place, run)
    said = str(told.value)
    assert said.startswith("--storage: ") and said.endswith(".") and "\n" not in said
    return said.removeprefix("--storage: ")


@pytest.mark.parametrize("place", ["gopher://there/runs", "fsspec+memory://runs", "hdfs://there/runs", "mock://runs"])
def test_a_kind_in_which_a_file_may_be_seen_half_written_is_told_with_those_that_there_are(
    place: str, tmp_path: Path
) -> None:
    said = f"{place}/run is of no kind that is known; give a folder, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER."
    assert refused(place, tmp_path / "run") == said


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    place = f"{tmp_path}/file/runs"
    said = (
        f"{place} cannot be used from this machine (Not a directory); make it a folder that can be written, or choose"
    )
    assert refused(place, tmp_path / "run") == f"{said} another place."


@pytest.mark.parametrize(("bucket", "why"), [(LOCKED, "ACCESS_DENIED"), ("other", "NO_SUCH_BUCKET")])
def test_a_bucket_that_is_not_there_or_takes_nothing_is_told(
    bucket: str, why: str, store: Store, tmp_path: Path
) -> None:
    said = refused(store.uri(bucket), tmp_path)
    assert said.startswith(f"s3://{bucket}/some/folder cannot be used from this machine (AWS Error {why} ")
    assert said.endswith("check that it exists and that the credentials for it are in the environment.")


COMMAND = "from search import cli, run, storage; storage.ANSWER_SECONDS = {}; cli.process(run.main)"
NEVER = "does not answer within 0 s; mend it, or choose another place."


@pytest.mark.parametrize(
    ("seconds", "code", "said"),
    [(0.5, 2, f"Error: --storage: s3://runs/x {NEVER}\n"), (600, 143, f"Terminated. {AGAIN}\n")],
)
def test_one_that_never_answers_is_told_in_time_and_keeps_no_command(
    seconds: float, code: int, said: str, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"s3://runs/x?region=here&scheme=http&endpoint_override=127.0.0.1:{silent.getsockname()[1]}"
        with subprocess.Popen(
            [sys.executable, "-c", COMMAND.format(seconds), "--storage", place, "--out", str(tmp_path)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            silent.accept()
            if code == 143:
                process.terminate()
            try:
                assert process.communicate(timeout=60)[1] == said
            finally:
                process.kill()  # Arrow would not let it end
    assert process.returncode == code


def test_one_that_lists_slowly_is_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    there, names = Storage(str(tmp_path), "run"), [f"trials/000{number}/latest.pt" for number in range(4)]
    for name in names:
        there.write(name, b"")
    scandir = os.scandir

    def slow(folder: str) -> Iterator[os.DirEntry[str]]:
        time.sleep(0.3)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", slow)
    monkeypatch.setattr(storage, "ANSWER_SECONDS", 1.0)
    assert list(there.ask(there.states)) == names


def test_one_that_garbles_what_it_is_given_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Storage, "read", lambda self, name: b"something else")
    assert "(what was written came back as something else)" in refused(str(tmp_path), tmp_path / "runs" / "run")


@pytest.mark.parametrize("kind", ["", "file://"])
def test_no_link_is_followed(kind: str, tmp_path: Path) -> None:
    victim, place = tmp_path / "victim", tmp_path / "there"
    victim.mkdir()
    (victim / "secret").write_text("secret")
    there = connect(f"{kind}{place}", tmp_path / "run")
    for name, target in (("trials", victim), ("a/secret", victim / "secret"), ("a/loop", place / "run")):
        link = place / "run" / name
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(target)
        file = name if target.is_file() else f"{name}/secret"
        calls = (there.states, partial(there.read, file), partial(there.write, file, b""), partial(there.remove, file))
        for call in calls:
            with pytest.raises(OSError, match=rf"^{link} is a symbolic link, which is not followed: remove it$"):
                call()
        link.unlink()
    assert [path.name for path in victim.iterdir()] == ["secret"] and (victim / "secret").read_text() == "secret"
    (place / "photos").symlink_to(victim)
    assert f"({place}/photos is a symbolic link" in refused(f"{kind}{place}", tmp_path / "photos")


@pytest.mark.parametrize(
    ("number", "file", "told"),
    [
        (errno.ENOSPC, None, False),  # of the disk here, for all that is known
        (errno.ESTALE, None, True),
        (errno.ESTALE, "runs/run/.mirror.json", False),
        (errno.ESTALE, "runs/.run.1.tmp/run.json", False),  # as it is fetched
        (errno.ESTALE, "runs/there/run/run.json", True),
    ],
)
def test_a_fault_of_the_disk_here_is_not_the_storages(
    number: int, file: str | None, told: bool, tmp_path: Path
) -> None:
    run, there = tmp_path / "runs" / "run", Storage(str(tmp_path / "runs" / "there"), "run")
    fault = OSError(number, os.strerror(number), *([str(tmp_path / file)] if file else []))
    with pytest.raises(UserError if told else OSError) as raised, telling(there, run, alone=False):
        raise fault
    assert str(raised.value) == (
        f"--storage: {there.shown} does not do what it is asked (Stale file handle); give the same command again."
        if told
        else str(fault)
    )


def test_a_folder_is_shown_by_its_whole_name_and_a_uri_without_its_query(tmp_path: Path) -> None:
    (tmp_path / "what?").write_text("")
    said = refused(f"{tmp_path}/what?/a:b", tmp_path / "run")
    assert said.startswith(f"{tmp_path}/what?/a:b cannot be used from this machine (")
    assert said.endswith("; make it a folder that can be written, or choose another place.")
    assert storage.shown("s3://bucket/runs/?region=eu", "run") == "s3://bucket/runs/run"
    assert storage.shown("s3://bucket/runs?region=eu") == "s3://bucket/runs"
    assert (storage.shown("/"), storage.shown("/", "run")) == ("/", "/run")


@pytest.mark.parametrize("inside", ["", "run", "run/mirror"])
def test_the_runs_own_folder_is_no_storage_for_it(inside: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    said = refused(f"{tmp_path}/link/{inside}", tmp_path / "run")
    assert said.endswith("/run is the run's own folder, or in it; choose another place.")
    assert not (tmp_path / "run").exists()
