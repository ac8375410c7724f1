"""Starts Ray on this machine or joins a cluster, and works out how many trials fit."""

import math
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray._private import parameter as ray_parameter
from ray._private import services as ray_services
from ray._private import worker as ray_worker

from trainable.errors import UserError

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Resources:
    """What one trial takes."""

    cpus: float
    gpus: float  # may be a fraction


@dataclass(frozen=True)
class Cluster:
    """A running Ray."""

    slots: int  # trials that fit at once
    trial: Resources
    dashboard: str | None  # URL
    nodes: int


def start(address: str | None, cpus_per_trial: float, gpus_per_trial: float | None) -> Cluster:
    """Joins the cluster at `address`, or starts Ray on this machine alone.

    Args:
        address: as in ray.init; None is RAY_ADDRESS, or a new, local Ray where that is not set.
        cpus_per_trial: CPUs, and CPU threads, of a trial.
        gpus_per_trial: GPUs of a trial; None: one if the cluster has GPUs, else none.
    Raises:
        UserError: with the arithmetic, where not even one trial fits; or where no Ray can be joined or started.
    """
    # Our own view replaces Ray's tables; workers stay in the folder that the command was started in.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")
    source = "--address" if address else "RAY_ADDRESS"
    address = address or os.environ.get("RAY_ADDRESS") or None
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "namespace": "convsearch"}
    try:
        with _keeping_sigterm():
            context = _init(address, common)
    except (ConnectionError, ValueError, RuntimeError) as error:
        why = str(error).partition("\n")[0].partition(". ")[0].rstrip(".")  # then come paragraphs of advice
        if address is None:
            raise UserError(f"Ray cannot be started on this machine ({why}).") from error
        raise UserError(f"{source}: no Ray cluster can be joined at {address} ({why}).") from error
    # Ray would print a paragraph, coloured even into a pipe, for each worker that dies: the trial just goes on.
    ray_worker._worker_logs_enabled = False
    # Ray's token lets its bearer run code: nobody else on this machine shall read it.
    token = Path("~/.ray/auth_token").expanduser()
    if address is None and token.exists():
        token.chmod(0o600)
    total = ray.cluster_resources()
    nodes = sum(1 for node in ray.nodes() if node["Alive"])
    cpus, gpus = total.get("CPU", 0.0), total.get("GPU", 0.0)
    wanted = Resources(cpus_per_trial, (1.0 if gpus else 0.0) if gpus_per_trial is None else gpus_per_trial)
    slots = slots_of(cpus, gpus, wanted)
    if slots < 1:
        ray.shutdown()
        raise UserError(
            f"A trial asks for {wanted.cpus:g} CPU and {wanted.gpus:g} GPU, but the cluster has {cpus:g} CPU and "
            f"{gpus:g} GPU on {nodes} node{'s' if nodes != 1 else ''}: not one trial fits. "
            "Lower --cpus-per-trial or --gpus-per-trial."
        )
    dashboard = context.dashboard_url
    return Cluster(slots, wanted, f"http://{dashboard}" if dashboard else None, nodes)


def _init(address: str | None, common: dict[str, Any]) -> Any:
    if address is None:
        with _on_loopback(), _with_own_agent():
            return ray.init(
                address="local",
                include_dashboard=True,
                dashboard_host=LOOPBACK,
                _node_ip_address=LOOPBACK,
                **common,
            )
    return ray.init(address=address, **common)


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
def _with_own_agent() -> Iterator[None]:
    """Ray's agent takes any free port. It would take the same one always; where another Ray has that, or one that was
    killed within a minute, the dashboard shows no logs."""
    parameters = ray_parameter.RayParams
    ray_parameter.RayParams = partial(parameters, dashboard_agent_listen_port=0)
    try:
        yield
    finally:
        ray_parameter.RayParams = parameters


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


def slots_of(cpus: float, gpus: float, wanted: Resources) -> int:
    """How many trials fit at once: a fraction of a GPU lies on one card."""
    by_cpu = math.floor(cpus / wanted.cpus + 1e-9) if wanted.cpus else math.inf
    if not wanted.gpus:
        by_gpu: float = math.inf
    elif wanted.gpus < 1:
        by_gpu = math.floor(1 / wanted.gpus + 1e-9) * math.floor(gpus)
    else:
        by_gpu = math.floor(gpus / wanted.gpus)
    return int(min(by_cpu, by_gpu))
