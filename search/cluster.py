"""Starts Ray on this machine or joins a cluster, and works out how many trials fit."""

import logging
import math
import os
import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import ray
from ray._private import parameter as ray_parameter
from ray._private import services as ray_services
from ray._private import worker as ray_worker
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console

import trainable
from search.authentication import PRIVATE, Refused, authenticate, make_token, private_folder
from search.cli import say
from search.head import Head, head_watched
from trainable.compiled import SWITCH
from trainable.errors import DISK_FAULTS, UserError, storage_fault
from trainable.keeper import Keeper
from trainable.table import count

LOOPBACK = "127.0.0.1"
HOST_PORT = re.compile(r"([^\s:]+|\[\S+\]):\d+")  # in brackets an address of IPv6
DASHBOARD_LOG = re.compile(r"/\S+/dashboard\.(log|err)\b")
OF_A_SEARCH = re.compile(rf"--temp_dir=.*{PRIVATE}\d+/ray")  # of a raylet: see `private_folder`
TRAINABLE = Path(trainable.__file__).parent  # all that a worker needs of this program
CHECK_SECONDS = 1.0  # between two looks at a cluster without room for a trial
PATIENCE_SECONDS = 300.0  # without it: nodes that join, or replace lost ones, take minutes
TRIAL_MEMORY = 0.5e9  # bytes: what Python, PyTorch and a small network take of their own; the images are shared
# Variables of a worker's process, as they must be said before it has threads. Trials train in a thread of its own, and
# the pages that it frees glibc keeps (trainable.device) in its first arena alone. What it cuts off to align a block it
# is not to put aside (tcache, seven of each size): freed, the block would be too small for the next of its size.
WORKERS = {"MALLOC_ARENA_MAX": "1", "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}
KEEPER_THREADS = 8  # so that a node that fetches the pixels does not keep the others waiting


@dataclass(frozen=True)
class Resources:
    """What one trial takes."""

    cpus: float
    gpus: float  # may be a fraction


@dataclass(frozen=True)
class Cluster:
    """A running Ray."""

    trial: Resources
    dashboard: str | None  # URL
    node: str | None  # Ray's id of this node, in a cluster that was joined and may have others
    head: Head | None  # of such a cluster

    def slots(self) -> int:
        """How many trials fit at once, on the nodes that there are now."""
        return sum(slots_of(node["Resources"], self.trial) for node in _nodes())

    def others(self) -> list[dict[str, Any]]:
        """The other nodes with room for a trial, as Ray tells of them; none of a Ray that is this machine's own."""
        if self.node is None:
            return []
        others = [node for node in _nodes() if node["NodeID"] != self.node]
        return [node for node in others if slots_of(node["Resources"], self.trial)]

    def shortage(self) -> str:
        """What a trial asks for and what there is, in words."""
        nodes, trial = _nodes(), self.trial
        cpus, gpus = (sum(node["Resources"].get(kind, 0.0) for node in nodes) for kind in ("CPU", "GPU"))
        where = "" if len(nodes) == 1 else " together, and a trial lies on one of them"
        return (
            f"a trial asks for {trial.cpus:g} CPU and {trial.gpus:g} GPU, but the cluster has {cpus:g} CPU and "
            f"{gpus:g} GPU on {count(len(nodes), 'node')}{where}"
        )

    def crowded(self, at_once: int) -> list[str]:
        """The nodes without the memory for as many trials as they may get, a sentence each. Ray counts as a node's
        memory what was free when it was started there, but for its object store.

        Args:
            at_once: trials, on all nodes together.
        """
        sentences = []
        for node in _nodes():
            trials = min(at_once, slots_of(node["Resources"], self.trial))
            memory = node["Resources"].get("memory", math.inf)
            if memory < trials * TRIAL_MEMORY:
                sentences.append(
                    f"node {node['NodeManagerAddress']} has {memory / 1e9:.1f} GB of memory for "
                    f"{count(trials, 'trial')} at once, each of which takes {TRIAL_MEMORY / 1e9:g} GB or more: have "
                    "fewer by --max-concurrent, or give more --cpus-per-trial."
                )
        return sentences

    def free(self) -> str:
        """How much of what trials ask for nobody uses now, in words."""
        there, free = ray.cluster_resources(), ray.available_resources()
        kinds = ["CPU", "GPU"] if self.trial.gpus else ["CPU"]
        return " and ".join(f"{free.get(kind, 0.0):g} of {there.get(kind, 0.0):g} {kind}" for kind in kinds)

    def keeper(self, runs: Iterable[Path], pixels: Iterable[Path]) -> Any:
        """An actor on this node that is the runs' Keeper; None where there is no other node to need it."""
        if self.node is None:
            return None
        here = NodeAffinitySchedulingStrategy(self.node, soft=False)
        # What a cut network has swallowed is asked again; a Keeper minds that.
        actor = ray.remote(Keeper).options(
            num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here, max_concurrency=KEEPER_THREADS
        )
        return actor.remote(list(runs), list(pixels))


@contextmanager
def running(
    address: str | None,
    cpus_per_trial: float,
    gpus_per_trial: float | None,
    remedy: str,
    patient: Callable[[], bool],
    console: Console,
) -> Iterator[Cluster]:
    """A Ray that ends after it, or is left. A lost head ends this process, as `head_watched` does.

    A cluster without room for a trial is waited for: its launcher may have started no more than the head.

    Args:
        remedy: how to go on then.
        patient: whether room is still waited for; where it is not, the cluster may have none.
        Others: as for `start`.
    Raises:
        UserError: with the arithmetic, where not even one trial fits, on this machine or for PATIENCE_SECONDS in a
            cluster; and as `start` does.
    """
    cluster = start(address, cpus_per_trial, gpus_per_trial, console)
    with head_watched(cluster.head, remedy, console):
        try:
            yield _with_room(cluster, gpus_per_trial, patient, console)
        finally:
            _shut_down()  # which waits for the head, too


def start(address: str | None, cpus_per_trial: float, gpus_per_trial: float | None, console: Console) -> Cluster:
    """Joins the cluster at `address`, or starts Ray on this machine alone.

    Args:
        address: as in ray.init; None is RAY_ADDRESS, or a new, local Ray where that is not set.
        cpus_per_trial: CPUs, and CPU threads, of a trial.
        gpus_per_trial: GPUs of a trial; None: one if the cluster has GPUs, else none.
        console: is warned of a cluster that asks nobody for a token.
    Raises:
        UserError: where no Ray can be joined or started.
    """
    # Our own view replaces Ray's tables; workers stay in the folder that the command was started in.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")
    source, variable = "--address", os.environ.get("RAY_ADDRESS", "")
    if not address or (address == "auto" and variable not in ("", "auto", "local")):  # so Ray takes it
        source, address = "RAY_ADDRESS", variable or "local"
    if address.startswith("ray://"):
        # There Tune runs in an actor of a cluster's node, with copies of the study, the views and what ends a search.
        raise UserError(
            f"{source}: {address} is for Ray's client, which cannot lead a search from outside the cluster; send the "
            "command there with ray job submit, or give it on one of its machines with --address auto or HOST:PORT."
        )
    if address not in ("auto", "local") and not HOST_PORT.fullmatch(address):
        # Ray would first print a stack trace of its own.
        raise UserError(
            f"{source}: '{address}' is not HOST:PORT, as 10.0.0.1:6379; give auto or HOST:PORT of a head that runs."
        )
    own = address == "local"
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": "CRITICAL", "namespace": "convsearch"}
    try:
        with _keeping_sigterm(), _by_a_steady_clock():
            context, head = (_start_here(common), None) if own else _join(address, common, console)
    except Refused as error:
        raise UserError(f"{source}: {error}") from error
    except Exception as error:  # Ray raises that itself, too
        if isinstance(error, UserError) or storage_fault(error, DISK_FAULTS) is not None:
            raise
        why = _why(error)
        if own:
            raise UserError(f"Ray cannot be started on this machine ({why}).") from error
        auto = "" if address == "auto" else "auto or "
        raise UserError(
            f"{source}: no Ray cluster can be joined at {address} ({why}); give {auto}HOST:PORT of a head that runs."
        ) from error
    logging.getLogger("ray").setLevel(logging.ERROR)  # what it has to say of its start is said above
    # Ray would print a paragraph, coloured even into a pipe, for each worker that dies: the trial just goes on.
    ray_worker._worker_logs_enabled = False
    dashboard = f"http://{context.dashboard_url}" if context.dashboard_url else None
    node = None if own else ray.get_runtime_context().get_node_id()
    return Cluster(_of_a_trial(cpus_per_trial, gpus_per_trial), dashboard, node, head)


def _of_a_trial(cpus: float, gpus: float | None) -> Resources:
    """Args: gpus: None: one if the cluster has GPUs now, else none."""
    if gpus is None:
        gpus = 1.0 if any(node["Resources"].get("GPU") for node in _nodes()) else 0.0
    return Resources(cpus, gpus)


def _with_room(
    cluster: Cluster, gpus_per_trial: float | None, patient: Callable[[], bool], console: Console
) -> Cluster:
    """The cluster when it has room for a trial, or nobody waits any more. Args and errors: as for `running`."""
    began, told = time.monotonic(), False
    while not cluster.slots() and patient():
        shortage = cluster.shortage()
        if cluster.head is None or time.monotonic() - began > PATIENCE_SECONDS:
            raise UserError(
                f"{shortage[0].upper()}{shortage[1:]}: not one trial fits. Lower --cpus-per-trial or --gpus-per-trial."
            )
        if not told:
            say(console, f"Waiting for nodes, {PATIENCE_SECONDS / 60:g} minutes at most: {shortage}.")
            told = True
        time.sleep(CHECK_SECONDS)
        cluster = replace(cluster, trial=_of_a_trial(cluster.trial.cpus, gpus_per_trial))
    return cluster


def _shut_down() -> None:
    """Leaves Ray; of one that is this machine's own nothing is left.

    Ray ends what it has started, but of what that has started in turn some ends by and by: a worker might still write
    of a trial that the next session trains.
    """
    node, started = ray_worker._global_node, []
    for ours in node.all_processes.values() if node else ():  # none, in a cluster that was joined
        for one in ours:
            with suppress(psutil.NoSuchProcess):
                started += psutil.Process(one.process.pid).children(recursive=True)
    try:
        if node:
            node.kill_dashboard(check_alive=False)  # else it starts anew what it misses while all ends
        ray.shutdown()
    finally:  # a second Ctrl-C may come
        for process in started:
            with suppress(psutil.NoSuchProcess):  # nor is another one killed that has its number by now
                process.kill()


def _nodes() -> list[dict[str, Any]]:
    """The nodes that are there now, as Ray tells of them."""
    return [node for node in ray.nodes() if node["Alive"]]


def _start_here(common: dict[str, Any]) -> Any:
    make_token()
    with _on_loopback(), _with_our_parameters():
        return ray.init(
            address="local",
            include_dashboard=True,
            dashboard_host=LOOPBACK,
            runtime_env=_environment(),
            _node_ip_address=LOOPBACK,
            _temp_dir=str(private_folder()),
            # A worker for each CPU, started at once, would serve no trial: Tune asks for one with its own variables.
            _system_config={"prestart_worker_first_driver": False},
            **common,
        )


def _join(address: str, common: dict[str, Any], console: Console) -> tuple[Any, Head]:
    """What Ray says of the cluster, and its head."""
    # As a host and port: of 'auto' Ray would take it that the cluster asks for a token wherever there is one.
    address = ray_services.canonicalize_bootstrap_address(_started_here() if address == "auto" else address)
    cluster, asks = authenticate(address)
    if not asks:
        say(
            console,
            f"Warning: the Ray cluster at {address} asks nobody for a token: whoever can reach it can run code on it. "
            "Start its nodes with RAY_AUTH_MODE=token, as docs/clusters.md shows.",
        )
    # The code reaches nodes where it is not installed, and is the same on all.
    context = ray.init(address=address, runtime_env={**_environment(), "py_modules": [str(TRAINABLE)]}, **common)
    return context, Head(address, cluster)


def _environment() -> dict[str, Any]:
    """What Ray makes of a worker's environment. Whether compiled code is done without holds on other nodes, too."""
    asked = {SWITCH: os.environ[SWITCH]} if SWITCH in os.environ else {}
    return {"env_vars": {**WORKERS, **asked}}


def _started_here() -> str:
    """The address of the cluster that this machine is part of: the last that `ray start` gave, where there are several.

    Ray's own search for it would find the Ray that another search has started for itself as well, and those of other
    users, who would be shown this one's token.

    Raises:
        ConnectionError: where there is none, or it is not known which of several is the last.
    """
    found = set()
    for process in psutil.process_iter(["cmdline", "uids"]):
        user, command = process.info["uids"], process.info["cmdline"] or ()
        words = " ".join(command).split(" ")  # a title that was set is a single word
        ours = user is not None and user.real in (0, os.getuid())
        if ours and Path(words[0]).name == "raylet" and not any(map(OF_A_SEARCH.fullmatch, words)):
            found |= {word.partition("=")[2] for word in words if word.startswith("--gcs-address=")}
    last: str | None = ray_services.find_bootstrap_address(None)
    if last is not None and (last in found or not found):  # whose processes may not be seen from inside a container
        return last
    if len(found) > 1:
        raise ConnectionError(f"several run here: {', '.join(sorted(found))}")
    if not found:
        raise ConnectionError("no cluster was started here with ray start")
    return found.pop()


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Ray listens on the loopback alone where that is its node's address, for which it would take the machine's own."""
    resolve = ray_services.resolve_ip_for_localhost
    ray_services.resolve_ip_for_localhost = lambda host: host
    try:
        yield
    finally:
        ray_services.resolve_ip_for_localhost = resolve


@contextmanager
def _with_our_parameters() -> Iterator[None]:
    """Ray's agent takes any free port. It would take the same one always; where another Ray has that, or one that was
    killed within a minute, the dashboard shows no logs. Nor does a process look through all logs several times a second
    for what workers print: it is not shown here."""
    parameters = ray_parameter.RayParams
    ray_parameter.RayParams = partial(parameters, dashboard_agent_listen_port=0, include_log_monitor=False)
    try:
        yield
    finally:
        ray_parameter.RayParams = parameters


def _why(error: Exception) -> str:
    """What Ray says, without its paragraphs of advice."""
    if log := DASHBOARD_LOG.search(str(error)):
        return f"its dashboard does not come: see {log[0]}"
    return str(error).partition("\n")[0].partition(". ")[0].rstrip(".") or type(error).__name__


@contextmanager
def _by_a_steady_clock() -> Iterator[None]:
    """Ray waits for what it has started by the time of day, which may be set meanwhile."""
    clock = ray_services.time
    ray_services.time = SimpleNamespace(**{**vars(clock), "time": clock.monotonic})
    try:
        yield
    finally:
        ray_services.time = clock


@contextmanager
def _keeping_sigterm() -> Iterator[None]:
    """Ray may set no handler of SIGTERM inside: its own would end the command with code 15 and without a word."""
    set_handler = signal.signal

    def guarded(number: int, handler: Any) -> Any:
        return signal.getsignal(number) if number == signal.SIGTERM else set_handler(number, handler)

    signal.signal = guarded  # type: ignore[assignment]
    try:
        yield
    finally:
        signal.signal = set_handler


def slots_of(node: Mapping[str, float], wanted: Resources) -> int:
    """How many trials fit on a node at once: a fraction of a GPU lies on one card.

    Args:
        node: what it has of Ray's CPU and GPU.
    """
    cpus, gpus = node.get("CPU", 0.0), node.get("GPU", 0.0)
    by_cpu = math.floor(cpus / wanted.cpus + 1e-9) if wanted.cpus else math.inf
    if not wanted.gpus:
        by_gpu: float = math.inf
    elif wanted.gpus < 1:
        by_gpu = math.floor(1 / wanted.gpus + 1e-9) * math.floor(gpus)
    else:
        by_gpu = math.floor(gpus / wanted.gpus)
    return int(min(by_cpu, by_gpu))
