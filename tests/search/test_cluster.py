"""How many trials fit at once, and who can reach Ray. That a missing GPU is refused is in test_run.py."""

import errno
import itertools
import os
import re
import resource
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from urllib.error import HTTPError

import grpc
import psutil
import pytest
import ray
from ray._private import services as ray_services
from ray._private.ray_constants import DEFAULT_DASHBOARD_AGENT_LISTEN_PORT
from rich.console import Console

from search import ensemble, options
from search.cluster import Resources, _started_here, running, slots_of, start
from search.head import QUESTION
from trainable.errors import UserError

LOOPBACKS = {"0100007F", "0000000000000000FFFF00000100007F"}  # 127.0.0.1, and the same in IPv6, as Linux writes them
LISTENING = "0A"


@pytest.mark.parametrize(
    ("cpus", "gpus", "wanted", "slots"),
    [
        (2, 0, Resources(1, 0), 2),
        (2, 0, Resources(2, 0), 1),
        (2, 0, Resources(4, 0), 0),
        (2, 0, Resources(0.5, 0), 4),
        (8, 0, Resources(1, 1), 0),
        (8, 1, Resources(1, 1), 1),
        (8, 1, Resources(1, 0.25), 4),
        (2, 1, Resources(1, 0.25), 2),  # the CPUs are fewer
        (16, 2, Resources(1, 0.3), 6),  # three a card: the tenth that is left of each makes no fourth
        (16, 2, Resources(1, 0.6), 2),
        (16, 1, Resources(1, 0.1), 10),
        (16, 3, Resources(1, 2), 1),
        (16, 4, Resources(1, 2), 2),
        (16, 2, Resources(1, 0), 16),  # on the CPUs
        (7, 0, Resources(0.07, 0), 100),  # though 7 / 0.07 is 99.99999999999999
    ],
)
def test_slots(cpus: float, gpus: float, wanted: Resources, slots: int) -> None:
    assert slots_of({"CPU": cpus, "GPU": gpus}, wanted) == slots


def test_every_command_with_ray_has_the_address() -> None:
    given = ["--address", "10.0.0.1:6379"]
    assert options.parser().parse_args(given).address == ensemble.parser().parse_args(given).address == given[1]


def test_an_ensemble_takes_an_address_for_a_refit_alone() -> None:
    with pytest.raises(UserError, match="^--address: nothing but --refit needs a cluster"):
        ensemble.EnsembleOptions(address="10.0.0.1:6379")
    ensemble.EnsembleOptions(address="10.0.0.1:6379", refit=True)


GIVE = "; give auto or HOST:PORT of a head that runs."
FORMAT = f"is not HOST:PORT, as 10.0.0.1:6379{GIVE}"


@pytest.mark.parametrize(
    ("address", "variable", "said"),
    [
        ("nowhere", "10.0.0.2:9", f"--address: 'nowhere' {FORMAT}"),
        (":6379", "", f"--address: ':6379' {FORMAT}"),
        ("10.0.0.1:", "", f"--address: '10.0.0.1:' {FORMAT}"),
        ("::1:6379", "", f"--address: '::1:6379' {FORMAT}"),
        (None, "nowhere", f"RAY_ADDRESS: 'nowhere' {FORMAT}"),
        ("auto", "http://127.0.0.1:8265", f"RAY_ADDRESS: 'http://127.0.0.1:8265' {FORMAT}"),
        ("auto", "localhost:9", f"RAY_ADDRESS: no Ray cluster can be joined at localhost:9 (nobody answers){GIVE}"),
        # Ray itself would try for a quarter of an hour, deaf to signals.
        ("localhost:9", "", f"--address: no Ray cluster can be joined at localhost:9 (nobody answers){GIVE}"),
        ("[::1]:9", "", f"--address: no Ray cluster can be joined at [::1]:9 (nobody answers){GIVE}"),
    ],
)
def test_a_cluster_that_cannot_be_joined_is_one_sentence_that_names_where_it_was_asked_for(
    address: str | None,
    variable: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", variable)
    with pytest.raises(UserError) as refused:
        start(address, 1, None, Console())
    assert str(refused.value) == said
    assert capfd.readouterr() == ("", "")  # and Ray says nothing


def test_a_ray_that_cannot_be_started_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        raise ValueError("Ray has no room.\nPerhaps:\n  1. Make some.")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(UserError, match=r"^Ray cannot be started on this machine \(Ray has no room\)\.$"):
        start(None, 1, None, Console())


def test_a_clock_that_is_set_while_ray_starts_does_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    days = itertools.count(1, 86400)
    monkeypatch.setattr(time, "time", lambda: time.monotonic() + next(days))
    try:
        assert start(None, 1, None, Console()).dashboard is not None
    finally:
        ray.shutdown()


def test_a_dashboard_that_does_not_come_is_one_sentence(tmp_path: Path) -> None:
    command = "from rich.console import Console; from search import cluster; cluster.start(None, 1, None, Console())"
    whole = f"from search.cli import exit_code, process; process(lambda: exit_code(lambda: exec({command!r}) or 0))"
    environment = {**os.environ, "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "0"}
    done = subprocess.run([sys.executable, "-c", whole], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    sentence = r"Ray cannot be started on this machine \(its dashboard does not come: see /\S+/dashboard\.(log|err)\)\."
    assert re.fullmatch(f"Error: {sentence}\n", done.stderr)


def test_a_disk_that_is_full_is_told_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/tmp/session")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(OSError, match="No space left on device"):
        start(None, 1, None, Console())


@pytest.mark.parametrize(
    ("address", "named"),
    [("ray://10.0.0.1:10001", "--address"), (None, "RAY_ADDRESS"), ("auto", "RAY_ADDRESS")],
)
def test_rays_client_is_refused_with_the_two_ways_that_there_are(
    address: str | None, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://10.0.0.1:10001")
    with pytest.raises(UserError, match=f"^{named}: ray://10.0.0.1:10001 is .* ray job submit, .* --address auto or"):
        start(address, 1, None, Console())
    assert not ray.is_initialized()


@pytest.fixture
def raylets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Starts processes that look like Ray's on nodes, which are the only ones to be seen then."""
    started: list[subprocess.Popen[bytes]] = []
    everything = psutil.process_iter

    def start_one(*arguments: str, path: str = "/opt/ray") -> None:
        command = [f"{path}/raylet/raylet", "-c", "import time; time.sleep(600)", *arguments]
        started.append(subprocess.Popen(command, executable=sys.executable))
        pids = {one.pid for one in started}
        monkeypatch.setattr(psutil, "process_iter", lambda attrs: (one for one in everything(attrs) if one.pid in pids))

    yield start_one
    for process in started:
        process.kill()
        process.wait()


def test_auto_is_the_cluster_of_this_machine_whatever_its_folders_are_called(
    raylets: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    last: list[str | None] = [None]
    monkeypatch.setattr(ray_services, "find_bootstrap_address", lambda folder: last[0])
    raylets("--gcs-address=10.0.0.7:1", "--temp_dir=/tmp/convsearch-1000/ray")  # a search's own
    with pytest.raises(ConnectionError, match="^no cluster was started here with ray start$"):
        _started_here()
    raylets("--gcs-address=10.0.0.1:6379", "--temp_dir=/tmp/ray", path="/home/me/convsearch-env/lib")
    assert _started_here() == "10.0.0.1:6379"
    raylets("--gcs-address=10.0.0.9:6379", "--temp_dir=/tmp/ray")
    for no_more in (None, "10.0.0.5:6379"):
        last[0] = no_more
        with pytest.raises(ConnectionError, match="^several run here: 10.0.0.1:6379, 10.0.0.9:6379$"):
            _started_here()
    last[0] = "10.0.0.9:6379"
    assert _started_here() == "10.0.0.9:6379"


def test_auto_is_no_other_users_cluster(raylets: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    raylets("--gcs-address=10.0.0.1:6379", "--temp_dir=/tmp/ray")
    monkeypatch.setattr(ray_services, "find_bootstrap_address", lambda folder: None)
    (raylet,) = psutil.process_iter(["cmdline", "uids"])
    raylet.info["uids"] = SimpleNamespace(real=os.getuid() + 1)
    monkeypatch.setattr(psutil, "process_iter", lambda attrs: [raylet])
    with pytest.raises(ConnectionError, match="^no cluster was started here with ray start$"):
        _started_here()


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's tables of sockets")
def test_a_ray_of_our_own_is_for_this_user_on_this_machine_alone() -> None:
    others = descendants(os.getpid())  # the cluster that other tests join may live
    dashboard = start(None, 1, None, Console()).dashboard
    try:

        @ray.remote
        def worker() -> int:
            return os.getpid()

        working = ray.get(worker.remote())  # first: its process may only start for it
        family = descendants(os.getpid()) - others
        assert working in family
        addresses = {address for pid in family for address in listening(pid)}
        # Without a token neither Ray's head says a word, nor its dashboard, which can run code as a job.
        with grpc.insecure_channel(ray.get_runtime_context().gcs_address) as channel:
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary(QUESTION)(b"", timeout=60)
        with pytest.raises(HTTPError) as unauthorised:
            urllib.request.urlopen(f"{dashboard}/api/jobs/", timeout=60)
        with suppress(ConnectionError):  # of another cluster, of other tests
            assert _started_here() != ray.get_runtime_context().gcs_address
        session = Path(ray._private.worker._global_node.get_session_dir_path())
    finally:
        ray.shutdown()
    assert addresses and addresses <= LOOPBACKS
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert unauthorised.value.code == 401
    unauthorised.value.close()
    home = session.parents[1].stat()  # of its sockets, code and logs
    assert (home.st_uid, stat.S_IMODE(home.st_mode)) == (os.getuid(), 0o700)


@pytest.mark.parametrize("own", [True, False])
def test_a_worker_keeps_the_pages_that_a_thread_of_it_frees(own: bool, request: pytest.FixtureRequest) -> None:
    address = None if own else request.getfixturevalue("cluster")
    with running(address, 1, None, "", lambda: True, Console()):

        @ray.remote
        def pages() -> int:
            """That the system has to give anew in a thread that makes and frees its activations again and again."""
            from concurrent.futures import ThreadPoolExecutor

            import torch

            from trainable.device import choose

            choose("cpu", threads=1)

            def steps() -> int:
                before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
                for _ in range(20):
                    torch.zeros(25 * 2**20)  # 100 MiB: more than a heap of any arena but the first
                return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

            with ThreadPoolExecutor(1) as trainer:
                return trainer.submit(steps).result()

        # Of one step, and of some others where another thread has cut off a piece; it would be 20 steps'.
        assert ray.get(pages.remote()) < 5 * 100 * 2**20 // resource.getpagesize()


def test_compiled_code_is_done_without_on_all_nodes(cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSEARCH_COMPILED", "0")
    with running(cluster, 1, None, "", lambda: True, Console()):

        @ray.remote
        def asked() -> str | None:
            return os.environ.get("CONVSEARCH_COMPILED")

        assert ray.get(asked.remote()) == "0"


def test_of_a_ray_of_our_own_nothing_is_left_not_even_a_worker_that_hears_nothing() -> None:
    others = descendants(os.getpid())
    with running(None, 1, None, "", lambda: True, Console()):

        @ray.remote(runtime_env={"env_vars": {"OF": "Tune"}})
        class Trial:
            def worker(self) -> int:
                return os.getpid()

        trial = Trial.remote()  # type: ignore[attr-defined]
        worker = ray.get(trial.worker.remote())
        family = descendants(os.getpid()) - others
        assert [pid for pid in family if is_worker(pid)] == [worker]  # nor was one started for each CPU
        os.kill(worker, signal.SIGSTOP)  # as one that is busy
    until = time.monotonic() + 10
    while left := {pid for pid in family if is_alive(pid)}:
        assert time.monotonic() < until, left
        time.sleep(0.05)


def test_the_dashboard_has_logs_where_another_ray_has_the_agents_port() -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # another Ray has it indeed
            taken.bind(("127.0.0.1", DEFAULT_DASHBOARD_AGENT_LISTEN_PORT))
            taken.listen()
        dashboard = start(None, 1, None, Console()).dashboard
        try:
            (node,) = [one["NodeID"] for one in ray.nodes()]
            assert ray.get(ray.remote(lambda: 1).remote()) == 1
            request = urllib.request.Request(f"{dashboard}/api/v0/logs?node_id={node}")
            token = Path("~/.ray/auth_token").expanduser().read_text().strip()
            request.add_header("Authorization", f"Bearer {token}")
            with urllib.request.urlopen(request) as answer:
                assert b"worker_out" in answer.read()
        finally:
            ray.shutdown()


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and it is not only to be reaped."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def is_worker(pid: int) -> bool:
    """Whether it is one of Ray's Python workers, which are named after what they do once they are up."""
    with suppress(psutil.NoSuchProcess, IndexError):
        words = psutil.Process(pid).cmdline()
        return words[0].startswith(("ray::IDLE", "ray::Trial")) or any(
            word.endswith("/default_worker.py") for word in words[:3]
        )
    return False


def descendants(pid: int) -> set[int]:
    """The process and all below it."""
    return {pid, *(process.pid for process in psutil.Process(pid).children(recursive=True))}


def listening(pid: int) -> set[str]:
    """The addresses on which the process listens, as in /proc/net/tcp."""
    sockets = set()
    with suppress(OSError):  # it has ended
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):  # it is closed
                sockets.add(os.readlink(link))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            cells = line.split()
            if cells[3] == LISTENING and f"socket:[{cells[9]}]" in sockets:
                found.add(cells[1].rpartition(":")[0])
    return found
