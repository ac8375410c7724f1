"""A head that is lost ends the command, whatever its main thread waits for."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from search.head import Head, cluster_id, head_watched
from tests.search.heads import ray_state

ROOT = Path(__file__).parents[2]
LONG = 1000.0  # seconds
WATCHES = """
import sys
from search import head

address, cluster, patience = sys.argv[1:4]
head.CHECK_SECONDS, head.ANSWER_SECONDS, head.PATIENCE_SECONDS = 0.1, 0.2, float(patience)
watched = head.Head(address, bytes.fromhex(cluster) or head.cluster_id(address))
"""
WAITS = f"""{WATCHES}
from rich.console import Console

with head.head_watched(watched, "Mend it.", Console()):
    print("watches", flush=True)
    input()
print("done")
"""
MIRRORS = f"""{WATCHES}
import time
from pathlib import Path
from search.mirrored import while_mirrored
from search.plain import Plain
from search.storage import Storage

run, there = Path(sys.argv[4]), Path(sys.argv[5])
head.LAST_SECONDS = 3.0
storage, console, write = Storage(str(there), run.name), Plain(), Storage.write
Storage.write = lambda self, name, content: input() if name == "late/note" else write(self, name, content)

def command():
    while not (there / run.name / "run.json").exists():  # the next round is the last
        time.sleep(0.01)
    for name in ("done", "late"):
        (run / name).mkdir()
        (run / name / "note").write_text("won")
    with head.head_watched(watched, "Mend it.", console):
        print("watches", flush=True)
        input()

while_mirrored(command, run, storage, console)
"""


@contextmanager
def watching(
    address: str, *arguments: str, program: str = WAITS, cluster: bytes = b""
) -> Iterator[subprocess.Popen[str]]:
    """A program that watches a head. Args: arguments: its patience first; cluster: its id, if not the one there."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, address, cluster.hex(), *arguments],
        cwd=ROOT,
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line == "watches\n":
                break
        yield process
    finally:
        process.kill()
        process.communicate()


def said_by(process: subprocess.Popen[str]) -> str:
    """What it says until it ends by itself."""
    assert process.stdout is not None
    return process.stdout.read()


@pytest.fixture
def state(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    folder = tmp_path / "logs"
    folder.mkdir()
    with ray_state(folder) as started:
        yield started


def test_a_head_that_has_ended_ends_the_command_at_once(state: tuple[str, subprocess.Popen[bytes]]) -> None:
    """It may be back within moments, and Ray's next call would end the process with a stack trace."""
    address, server = state
    with watching(address, str(LONG)) as process:
        server.kill()
        assert said_by(process) == f"Stopped: the head of the cluster, {address}, has ended. Mend it.\n"
        assert process.wait() == 1


def test_another_clusters_head_in_its_place_ends_the_command_at_once(
    state: tuple[str, subprocess.Popen[bytes]],
) -> None:
    address, _ = state
    with watching(address, str(LONG), cluster=b"of before") as process:
        assert said_by(process) == (
            f"Stopped: the head of the cluster, {address}, has ended, and another cluster has started there. Mend it.\n"
        )
        assert process.wait() == 1


def test_a_head_that_hangs_ends_the_command(state: tuple[str, subprocess.Popen[bytes]]) -> None:
    address, server = state
    with watching(address, "1") as process:
        server.send_signal(signal.SIGSTOP)  # the kernel still takes connections
        assert said_by(process) == f"Stopped: the head of the cluster, {address}, does not answer any more. Mend it.\n"
        assert process.wait() == 1


def test_a_head_that_answers_again_in_time_is_well(state: tuple[str, subprocess.Popen[bytes]]) -> None:
    address, server = state
    with watching(address, str(LONG)) as process:
        server.send_signal(signal.SIGSTOP)
        time.sleep(1)  # some questions are not answered
        server.send_signal(signal.SIGCONT)
        time.sleep(0.5)
        assert process.communicate("\n")[0] == "done\n"
        assert process.returncode == 0


def test_a_ray_of_this_machine_alone_is_not_watched() -> None:
    before = threading.enumerate()
    with head_watched(None, "", Console()):
        assert threading.enumerate() == before


def test_the_watch_ends_with_what_it_is_for(state: tuple[str, subprocess.Popen[bytes]]) -> None:
    address, server = state
    cluster = cluster_id(address)
    assert cluster is not None and cluster == cluster_id(address)
    before = threading.enumerate()
    with head_watched(Head(address, cluster), "", Console()):
        (thread,) = set(threading.enumerate()) - set(before)
    server.kill()
    thread.join()  # and this process lives


@contextmanager
def mirroring(address: str, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A program that watches a head while a run is mirrored, and where to."""
    run, there = tmp_path / "run", tmp_path / "there"
    run.mkdir()
    (run / "run.json").write_text("{}")
    with watching(address, str(LONG), str(run), str(there), program=MIRRORS) as process:
        yield process, there / "run"


def test_what_is_done_goes_to_the_storage_also_where_nobody_reads_what_is_said(
    state: tuple[str, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    address, server = state
    with mirroring(address, tmp_path) as (process, there):
        assert process.stdout is not None
        process.stdout.close()
        server.kill()
        assert process.wait() == 1
    assert (there / "done" / "note").read_text() == "won"


def test_what_is_done_is_at_the_storage_when_a_lost_head_ends_the_command_or_it_is_said(
    state: tuple[str, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """The storage takes one of two files, and does not answer any more."""
    address, server = state
    with mirroring(address, tmp_path) as (process, there):
        server.kill()
        ended, missing = said_by(process).splitlines()
        assert process.wait() == 1
    assert ended == f"Stopped: the head of the cluster, {address}, has ended. Mend it."
    assert missing.startswith(f"Not all of the run is at {there}: ")
    assert (there / "done" / "note").read_text() == "won"
