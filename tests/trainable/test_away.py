"""A worker on another node: what it fetches and what it sends. The Keeper is an actor of a real Ray; the worker is an
object here, which takes the driver's node for another.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import tune
from ray.exceptions import RayActorError

from tests.results.tiny_run import Data, data
from tests.trainable.garbling import Garbling
from tests.trainable.test_tune import actor, asked, names, numbers, trained
from tests.trainable.tiny import config
from trainable import away
from trainable.away import Away
from trainable.config import TrialConfig
from trainable.dataset import LabelledData
from trainable.errors import UserError
from trainable.keeper import Keeper, assign, release
from trainable.paths import trial_folder
from trainable.tune import ConvNetTrial, Shared

__all__ = ["data"]  # a fixture


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the other node has of decoded images."""
    monkeypatch.setattr(away, "CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def kept_by(kind: type[Keeper], run: Path, labelled: LabelledData) -> Any:
    return ray.remote(kind).options(num_cpus=0).remote([run], [labelled.pixels.path])


def elsewhere(labelled: LabelledData) -> LabelledData:
    """The data as another node has them: the decoded images are not where they are at the driver."""
    gone = Path("/nowhere") / labelled.pixels.path.name
    return replace(labelled, pixels=replace(labelled.pixels, path=gone))


@pytest.fixture
def shared(cluster: None, data: Data, tmp_path: Path) -> Shared:
    """As a worker on another node has it."""
    run = tmp_path / "run"
    keeper = kept_by(Keeper, run, data.labelled)
    beside = Shared(run, "tiny", {28: data.labelled}, "cpu", "float32", threads=1)
    judged = frozenset(range(1, 9))  # a death here is forgetting an actor, which would train on
    return replace(beside, data={28: elsewhere(data.labelled)}, node="another", keeper=keeper, judged=judged)


def worker_of(shared: Shared, trial: str, config: TrialConfig, name: str = "a") -> ConvNetTrial:
    """A worker to which the driver has given a trial; it has no actor's name here."""
    assign(trial_folder(shared.run, trial), name)
    worker = actor(shared, trial, config)
    worker.away = Away(shared.keeper, name)
    return worker


def epochs_kept(run: Path, trial: str) -> list[str]:
    with open(trial_folder(run, trial) / "metrics.csv", newline="") as file:
        return [row["epoch"] for row in csv.DictReader(file)]


def test_a_trial_on_another_node_leaves_at_the_driver_what_one_there_leaves(
    shared: Shared, data: Data, tmp_path: Path
) -> None:
    run = tmp_path / "beside"
    keeper = kept_by(Keeper, run, data.labelled)
    beside = replace(shared, run=run, data={28: data.labelled}, node=None, keeper=keeper)
    worker = worker_of(shared, "0000", config(epochs=3))
    assert trained(worker)[-1]["done"] and trained(actor(beside, "0000", config(epochs=3)))[-1]["done"]
    folders = [trial_folder(run, "0000") for run in (shared.run, beside.run)]
    release(folders[0])
    assert names(folders[0]) == names(folders[1]) == {"best.safetensors", "latest.pt", "logits.npz", "metrics.csv"}
    assert numbers(folders[0]) == numbers(folders[1])
    assert worker.folder.exists() and not worker.folder.is_relative_to(shared.run)
    worker.cleanup()
    assert not worker.folder.exists()


@pytest.mark.parametrize("fails", [False, True], ids=["", "and fails"])
def test_a_worker_at_the_driver_writes_nothing_to_a_trial_that_is_anothers_by_now(
    shared: Shared, data: Data, fails: bool
) -> None:
    beside = replace(shared, data={28: data.labelled}, node=None)
    folder = trial_folder(shared.run, "0000")
    assign(folder, "a")
    worker = actor(beside, "0000", config(epochs=3))
    worker.worker = "a"  # it has no actor's name here
    worker.step()
    release(folder)  # by the next driver; this worker's Ray has lost its head, and it trains on
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    if fails:
        worker.rows = None
        worker.shared = replace(beside, data={})
    with pytest.raises(SystemExit):
        worker.step()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_files_are_there_when_the_driver_hears_of_their_epoch(shared: Shared) -> None:
    worker = worker_of(shared, "0000", config(epochs=4))
    for epoch in range(1, 5):
        worker.step()
        assert epochs_kept(shared.run, "0000") == [str(number) for number in range(1, epoch + 1)]
    worker.cleanup()


def test_a_worker_that_dies_costs_its_trial_at_most_an_epoch(shared: Shared) -> None:
    lost = worker_of(shared, "0000", config(epochs=5))
    for _ in range(4):
        lost.step()
    # It dies without a word.
    again = worker_of(shared, "0000", config(epochs=5), "b")
    assert [row["training_iteration"] for row in trained(again)] == [4, 5]
    assert epochs_kept(shared.run, "0000") == ["1", "2", "3", "4", "5"]


def test_a_worker_takes_the_next_trial_with_nothing_of_the_last(shared: Shared) -> None:
    worker = worker_of(shared, "0000", config(epochs=2))
    trained(worker)
    before = worker.folder
    assign(trial_folder(shared.run, "0001"), "a")
    worker.reset_config({"trial": "0001", "config": config(epochs=2).to_dict()})
    assert [row["training_iteration"] for row in trained(worker)] == [1, 2]
    assert epochs_kept(shared.run, "0001") == ["1", "2"]
    assert not before.exists()


def test_a_failure_is_told_at_the_driver(shared: Shared) -> None:
    worker = worker_of(shared, "0000", config(epochs=1))
    worker.trial_config["depth"] = 99
    assert worker.step()["failed"].startswith("ConfigError: depth is 99")
    assert "ConfigError" in (trial_folder(shared.run, "0000") / "error.txt").read_text()


def test_pixels_are_fetched_once_a_node(
    shared: Shared, data: Data, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(away, "PART", 10_000)  # some fifteen parts
    there = Away(shared.keeper, "a").with_pixels(elsewhere(data.labelled))
    path = data.labelled.pixels.path
    assert there.pixels.path == cache / path.name
    assert there.pixels.path.read_bytes() == path.read_bytes()
    written = there.pixels.path.stat()
    assert Away(shared.keeper, "a").with_pixels(elsewhere(data.labelled)).pixels == there.pixels
    assert there.pixels.path.stat() == written
    there.pixels.path.write_bytes(b"cut short")
    Away(shared.keeper, "a").with_pixels(elsewhere(data.labelled))
    assert there.pixels.path.read_bytes() == path.read_bytes()


def test_a_cache_that_the_nodes_share_is_used(shared: Shared, data: Data, cache: Path) -> None:
    assert Away(shared.keeper, "a").with_pixels(data.labelled).pixels == data.labelled.pixels
    assert not cache.exists()


def test_pixels_that_come_garbled_are_refused(cluster: None, data: Data, tmp_path: Path, cache: Path) -> None:
    keeper = kept_by(Garbling, tmp_path / "run", data.labelled)
    with pytest.raises(
        UserError, match=r"^node [\d.]+: \w+-28px-v1-pillow[\w.]+\.npy did not come as it is at the driver\.$"
    ):
        Away(keeper, "a").with_pixels(elsewhere(data.labelled))
    assert not list(cache.glob("*.npy"))


def test_a_disk_at_the_driver_that_takes_nothing_stops_the_search(shared: Shared) -> None:
    worker = worker_of(shared, "0000", config(epochs=3))
    worker.step()
    kept = trial_folder(shared.run, "0000") / "metrics.csv"
    kept.unlink()
    kept.mkdir()
    said = worker.step()["halt"]
    assert re.fullmatch(rf".*Is a directory: .*'{re.escape(str(kept))}' \(on the driver's node\)", said)


def test_a_worker_whose_trial_another_has_ends_itself_and_the_other_goes_on(shared: Shared) -> None:
    lost = worker_of(shared, "0000", config(epochs=3))
    lost.step()
    other = worker_of(shared, "0000", config(epochs=3), "b")
    assert other.step()["training_iteration"] == 1
    with pytest.raises(SystemExit):
        lost.step()
    assert not lost.folder.exists()
    assert trained(other)[-1]["done"]
    assert epochs_kept(shared.run, "0000") == ["1", "2", "3"]


def test_ray_takes_its_end_for_the_actors_death(shared: Shared) -> None:
    assign(trial_folder(shared.run, "0000"), "another worker")
    made = ray.remote(tune.with_parameters(ConvNetTrial, shared=shared)).remote(asked("0000", config(epochs=1)))
    with pytest.raises(RayActorError):
        ray.get(made.train.remote())
