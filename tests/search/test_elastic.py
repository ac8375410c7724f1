"""A search whose driver's node has no CPU for trials: the other node dies while it trains one, and another joins."""

import csv
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from rich.console import Console

from search import cluster as search_cluster
from search import elastic
from search import run as search_run

TRIALS, EPOCHS = 2, 16  # of a second or less


@pytest.fixture
def search(tiny: str) -> list[str]:
    return ["--space", tiny, "--trials", str(TRIALS), "--epochs", str(EPOCHS), "--scheduler", "none", "--name", "run"]


@pytest.fixture
def where(cache: Path, tmp_path: Path) -> list[str]:
    return ["--gpus-per-trial", "0", "--cache", str(cache), "--out", str(tmp_path / "runs")]


@pytest.fixture
def two() -> Iterator[Cluster]:
    """A head, which the driver is on, and another node, which has the only CPU."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


def wait_for(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def results(run: Path) -> dict[str, list[dict[str, Any]]]:
    """What Ray heard of each trial."""
    return {
        path.parent.name: [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
        for path in sorted(run.glob("tune/*/result.json"))
    }


def nodes_of(run: Path) -> set[str]:
    return {row["pid"] for rows in results(run).values() for row in rows}


def test_a_node_that_dies_costs_an_epoch_and_one_that_joins_is_used(
    two: Cluster, search: list[str], where: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "runs" / "run"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-u", "-m", "search.run", *search, *where, "--address", two.address]
    process = subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    wait_for(lambda: any(len(rows) >= 2 for rows in results(run).values()), process)
    (other,) = two.worker_nodes
    two.remove_node(other, allow_graceful=False)
    before = nodes_of(run)
    two.add_node(num_cpus=1)
    said = process.communicate(timeout=180)[0]
    assert process.returncode == 0, said
    assert said.count("its worker died; it goes on from epoch ") == 1
    assert len(nodes_of(run) - before) == 1  # the worker of the node that has joined
    for trial in (f"{number:04d}" for number in range(TRIALS)):
        with open(run / "trials" / trial / "metrics.csv", newline="") as file:
            assert [int(row["epoch"]) for row in csv.DictReader(file)] == list(range(1, EPOCHS + 1))
        trained = [row["training_iteration"] for row in results(run)[trial] if "kept_seconds" in row]
        assert len(trained) <= EPOCHS + 1
        names = {path.name for path in (run / "trials" / trial).iterdir()}
        assert names == {"best.safetensors", "logits.npz", "config.json", "metrics.csv"}  # it is no worker's any more


def test_a_cluster_without_room_for_a_trial_stops_the_search_which_goes_on_when_there_is_some(
    search: list[str],
    where: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(elastic, "PATIENCE_SECONDS", 4.0)
    run = tmp_path / "runs" / "run"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        node = cluster.add_node(num_cpus=1)
        joined = [*where, "--address", cluster.address]

        def remove() -> None:
            while sum(map(len, results(run).values())) < 2:
                time.sleep(0.05)
            cluster.remove_node(node, allow_graceful=False)

        removing = threading.Thread(target=remove, daemon=True)
        removing.start()
        assert search_run.main([*search, *joined]) == 1
        removing.join()
        said = (
            "Stopped: the cluster has no room for a trial any more: a trial asks for 1 CPU and 0 GPU, but the cluster "
            "has 0 CPU and 0 GPU on 1 node. Mend it and go on with: python -m search.run --resume run"
        )
        assert said in capsys.readouterr().out
        # The first node that has room may join later than the command.
        command = [sys.executable, "-u", "-m", "search.run", "--resume", "run", *joined]
        process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("Waiting"):
                break
        assert line == (
            "Waiting for nodes, 5 minutes at most: a trial asks for 1 CPU and 0 GPU, but the cluster has 0 CPU and 0 "
            "GPU on 1 node.\n"
        )
        cluster.add_node(num_cpus=1)
        rest = process.communicate(timeout=180)[0]
        assert process.returncode == 0, rest
        assert "Waiting" not in rest
    finally:
        cluster.shutdown()
    for trial in ("0000", "0001"):
        with open(run / "trials" / trial / "metrics.csv", newline="") as file:
            assert [row["epoch"] for row in csv.DictReader(file)] == [str(epoch) for epoch in range(1, EPOCHS + 1)]


def test_a_head_that_ends_while_nodes_are_waited_for_is_told(search: list[str], where: list[str]) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    address = cluster.address
    try:
        command = [sys.executable, "-u", "-m", "search.run", *search, *where, "--address", address]
        process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("Waiting"):
                break
        assert line.startswith("Waiting")
    finally:
        cluster.shutdown()
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 1, said
    assert said.startswith(f"Stopped: the head of the cluster, {address}, has ended. Mend it and go on with: python")
    assert "Traceback" not in said


def test_that_others_hold_the_cluster_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elastic, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(elastic, "CHECK_SECONDS", 0.0)
    console = Console(file=io.StringIO(), width=200)
    held, nothing = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}), None
    try:
        ray.init(held.address, log_to_driver=False, logging_level="ERROR")
        holder = ray.remote(lambda: time.sleep(60)).options(num_cpus=1).remote()
        cluster = search_cluster.Cluster(search_cluster.Resources(1.0, 0.0), None, None, None)
        deadline = time.monotonic() + 60
        while cluster.free() != "0 of 1 CPU":
            assert time.monotonic() < deadline
        searcher, usage = SimpleNamespace(slots=0), SimpleNamespace(resize=lambda slots, now: None)
        follower = elastic.Elastic(cluster, searcher, None, usage, nothing, console)  # type: ignore[arg-type]
        waiting, running = SimpleNamespace(status="PENDING"), SimpleNamespace(status="RUNNING")
        for trials in ([running], [waiting], [waiting]):
            time.sleep(0.2)
            follower.on_step_begin(0, trials)
        ray.cancel(holder, force=True)
    finally:
        ray.shutdown()
        held.shutdown()
    assert console.file.getvalue() == "Warning: trials wait for workers: of the cluster 0 of 1 CPU are free.\n"  # type: ignore[attr-defined]


def test_a_worker_that_starts_where_there_was_no_room_is_not_said_to_wait_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(elastic, "PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(elastic, "CHECK_SECONDS", 0.0)
    console, room = Console(file=io.StringIO()), [1, 0, 0, 1, 1]
    cluster: Any = SimpleNamespace(slots=lambda: room.pop(0), free=lambda: "1 of 1 CPU", shortage=lambda: "none")
    searcher, usage, stop = SimpleNamespace(slots=0), SimpleNamespace(resize=lambda slots, now: None), SimpleNamespace()
    follower = elastic.Elastic(cluster, searcher, None, usage, stop, console)  # type: ignore[arg-type]
    waiting, running = SimpleNamespace(status="PENDING"), SimpleNamespace(status="RUNNING")
    for trial in (running, waiting, waiting, waiting):  # its node dies, and another joins
        time.sleep(0.2)
        follower.on_step_begin(0, [trial])
    assert console.file.getvalue() == ""  # type: ignore[attr-defined]
    time.sleep(0.4)
    follower.on_step_begin(0, [waiting])
    assert console.file.getvalue().startswith("Warning: trials wait for workers:")  # type: ignore[attr-defined]


@pytest.mark.parametrize(("result", "failures"), [({"kept_seconds": 0.1}, 0), ({"earlier": []}, 3), ({}, 3)])
def test_a_trial_that_tells_an_old_epoch_again_has_not_got_on(result: dict[str, Any], failures: int) -> None:
    """Else one whose every worker dies in the same epoch would be tried for ever."""
    trial = SimpleNamespace(run_metadata=SimpleNamespace(num_failures=3))
    nothing: Any = None
    follower = elastic.Elastic(nothing, nothing, None, nothing, nothing, nothing)
    follower.on_trial_result(0, [], trial, {"training_iteration": 1, **result})
    assert trial.run_metadata.num_failures == failures
