"""The token of a Ray of this machine, and of a cluster that is joined. Who is refused without is in test_cluster.py."""

import os
import re
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import pytest

from search.authentication import LONGEST, MODE, TOKEN, TOKEN_PATH, authenticate, make_token, private_folder
from tests.search.heads import ray_head
from trainable.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a user who has never used Ray."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (MODE, TOKEN, TOKEN_PATH):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


# Each process waits for the others, so that all make the token at once.
TOGETHER = """
import multiprocessing, pathlib
from search.authentication import make_token

def make(number):
    barrier.wait()
    make_token()
    return pathlib.Path("~/.ray/auth_token").expanduser().read_text()

barrier = multiprocessing.get_context("fork").Barrier(24)
with multiprocessing.get_context("fork").Pool(24) as pool:
    print("\\n".join(pool.map(make, range(24), chunksize=1)))
"""


def test_processes_that_start_at_once_share_one_token_that_is_the_users_alone(home: Path) -> None:
    told = subprocess.run([sys.executable, "-c", TOGETHER], cwd=ROOT, capture_output=True, text=True, check=True)
    tokens = told.stdout.split()
    assert len(tokens) == 24 and len(set(tokens)) == 1
    assert re.fullmatch("[0-9a-f]{64}", tokens[0])
    (path,) = (home / ".ray").iterdir()
    assert (path.name, path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("auth_token", tokens[0], 0o600)


def test_a_token_that_is_there_stays_and_is_closed_to_others(home: Path) -> None:
    path = home / ".ray" / "auth_token"
    path.parent.mkdir()
    path.write_text("mine")
    path.chmod(0o644)  # as Ray makes it
    make_token()
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("mine", 0o600)


@pytest.mark.parametrize(("name", "value"), [(TOKEN, "mine"), (TOKEN_PATH, "/a/file"), (MODE, "disabled")])
def test_no_token_is_made_where_ray_has_another_or_none(
    name: str, value: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    make_token()
    assert not list(home.iterdir())


def test_a_token_that_cannot_be_made_is_one_sentence(home: Path) -> None:
    (home / ".ray").touch()
    path = home / ".ray" / "auth_token"
    start = f"^{path}, the token that keeps others out of Ray, "
    with pytest.raises(UserError, match=start + r"cannot be written \(File exists\): mend it, or set RAY_AUTH_TOKEN.$"):
        make_token()
    (home / ".ray").unlink()
    (home / ".ray").mkdir()
    path.touch()
    with pytest.raises(UserError, match=start + "is empty: delete it.$"):
        make_token()


def test_rays_folder_is_the_users_alone_or_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = Path("/tmp", f"c{os.getpid()}")  # pytest's own folders are too deep for sockets
    short.mkdir()
    try:
        monkeypatch.setenv("RAY_TMPDIR", str(short))
        home = short / f"convsearch-{os.getuid()}"
        assert private_folder() == private_folder() == home / "ray"
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        open_to_others = f"^{home} is open to others than this user: remove it, or set RAY_TMPDIR to another place.$"
        home.chmod(0o755)
        with pytest.raises(UserError, match=open_to_others):
            private_folder()
        home.rmdir()
        home.symlink_to(tmp_path)  # whoever owns the link may point it to another place
        with pytest.raises(UserError, match=open_to_others):
            private_folder()
        home.unlink()
    finally:
        short.rmdir()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert len(str(tmp_path)) + len(home.name) > LONGEST
    with pytest.raises(UserError, match="is too long for Ray's sockets: set RAY_TMPDIR to a shorter one.$"):
        private_folder()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_what_is_no_head_of_ray_is_said_at_once(host: str) -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    try:
        port = server.add_insecure_port(f"{host}:0")
    except RuntimeError:
        pytest.skip("no IPv6 here")
    server.start()
    try:
        with pytest.raises(ConnectionError, match="^what answers is no head of Ray$"):
            authenticate(f"{host}:{port}")
    finally:
        server.stop(None).wait()


def test_what_speaks_another_language_is_said_at_once() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        with pytest.raises(ConnectionError, match="^no head of Ray answers$"):
            authenticate(f"127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


# With a token in a cluster without one no actor would live.
JOIN = """
import sys, ray
from rich.console import Console
from search.cluster import start
from search.cli import exit_code

class Actor:
    def seven(self):
        return 7

def join():
    start(sys.argv[1], 1, 0, Console())
    actor = ray.remote(Actor).remote()
    print(ray.get(actor.seven.remote(), timeout=60))
    return 0

sys.exit(exit_code(join))
"""


def join(address: str, home: Path, **environment: str) -> tuple[int, str]:
    """Exit code and output of a program that joins a cluster and asks an actor there."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    done = subprocess.run(
        [sys.executable, "-c", JOIN, address],
        cwd=ROOT,
        env={**inherited, "HOME": str(home), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


def test_a_cluster_that_asks_for_a_token_gets_it_unasked(cluster: str) -> None:
    assert join(cluster, Path.home()) == (0, "7\n")


@pytest.mark.parametrize(
    ("environment", "wrong"),
    [
        ({}, "~/.ray/auth_token has none: put it there"),
        ({TOKEN: "0" * 64}, "the one in RAY_AUTH_TOKEN is another: put the cluster's there"),
        ({TOKEN_PATH: "/no/file"}, "/no/file has none: put it there"),
    ],
)
def test_without_its_token_one_sentence_says_what_to_do(
    environment: dict[str, str], wrong: str, cluster: str, tmp_path: Path
) -> None:
    how = "(ray get-auth-token prints it on the cluster's head)"
    said = f"Error: --address: the Ray cluster at {cluster} asks for a token, and {wrong} {how}.\n"
    assert join(cluster, tmp_path, **environment) == (2, said)


def test_a_token_is_not_used_where_that_is_forbidden(cluster: str) -> None:
    said = f"the Ray cluster at {cluster} asks for a token, and RAY_AUTH_MODE is disabled: unset it."
    assert join(cluster, Path.home(), RAY_AUTH_MODE="disabled") == (2, f"Error: --address: {said}\n")


def test_a_cluster_without_a_token_is_warned_of_and_works_for_somebody_who_has_one() -> None:
    make_token()
    with ray_head("disabled") as address:
        asks = f"Warning: the Ray cluster at {address} asks nobody for a token"
        for environment in ({}, {"RAY_AUTH_MODE": "token"}):
            code, output = join(address, Path.home(), **environment)
            assert code == 0
            *warning, seven = output.splitlines()
            assert seven == "7"
            assert " ".join(warning) == (
                f"{asks}: whoever can reach it can run code on it. Start its nodes with RAY_AUTH_MODE=token, as "
                "docs/clusters.md shows."
            )
