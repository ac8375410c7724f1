"""A refit without Ray: what it leaves, and that no kill or leftover changes the network. A death is forgetting it."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from tests.results.tiny_run import CONFIG, Data, data
from tests.trainable.tiny import FLOAT32
from trainable.checkpoint import load_best
from trainable.refit import Refit

__all__ = ["data"]  # a fixture

KEPT = ["best.safetensors", "metrics.csv", "refit.json"]


def refit(folder: Path, epochs: int = 3) -> Refit:
    return Refit(folder, replace(CONFIG, seed=4), epochs, "float32")


def train(job: Refit, data: Data, limit: int | None = None) -> list[float]:
    """Trains all that is left, or dies after `limit` epochs. Returns the numbers of the epochs."""
    return [row["epoch"] for row in islice(job.train(data.labelled, FLOAT32), limit)]


def network(job: Refit) -> bytes:
    return job.checkpoint.read_bytes()


@pytest.fixture(scope="module")
def whole(data: Data, tmp_path_factory: pytest.TempPathFactory) -> dict[int, bytes]:
    """The checkpoints of unbroken refits by their number of epochs."""
    jobs = [refit(tmp_path_factory.mktemp("whole"), epochs) for epochs in (1, 2, 3)]
    for job in jobs:
        train(job, data)
    return {job.epochs: network(job) for job in jobs}


def test_a_refit_leaves_its_network_and_says_that_it_is_done(data: Data, tmp_path: Path) -> None:
    job = refit(tmp_path / "0002")
    assert not job.done(data.labelled)
    assert train(job, data) == [1, 2, 3]
    assert sorted(path.name for path in job.folder.iterdir()) == KEPT
    best = load_best(job.checkpoint)
    assert (best.config, best.epoch) == (job.config, 3)
    assert job.done(data.labelled)
    assert job.epochs_done() == 3
    for other in (replace(job, epochs=2), replace(job, config=CONFIG), replace(job, precision="bfloat16")):
        assert not other.done(data.labelled)
    assert not job.done(replace(data.labelled, fingerprint="other"))


@pytest.mark.parametrize(("epochs", "left"), [(1, [2, 3]), (2, [3]), (3, [3])])
def test_a_refit_that_was_killed_goes_on_and_gives_the_same_bytes(
    data: Data, tmp_path: Path, whole: dict[int, bytes], epochs: int, left: list[float]
) -> None:
    job = refit(tmp_path / "0002")
    assert len(train(job, data, epochs)) == epochs
    assert not job.done(data.labelled)
    assert train(job, data) == left
    assert job.done(data.labelled)
    assert network(job) == whole[3]
    assert sorted(path.name for path in job.folder.iterdir()) == KEPT


@pytest.mark.parametrize("content", [None, b"{}"], ids=["missing", "damaged"])
def test_a_checkpoint_lost_after_the_last_epoch_is_made_again(
    data: Data, tmp_path: Path, whole: dict[int, bytes], content: bytes | None
) -> None:
    job = refit(tmp_path / "0002")
    train(job, data, 3)  # killed before refit.json
    job.checkpoint.unlink()
    if content is not None:
        job.checkpoint.write_bytes(content)
    train(job, data)
    assert job.done(data.labelled)
    assert network(job) == whole[3]


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_state_of_as_many_epochs_or_more_is_not_gone_on_from(
    data: Data, tmp_path: Path, whole: dict[int, bytes], epochs: int
) -> None:
    train(refit(tmp_path / "0002"), data, 2)  # leaves the state of two epochs
    job = refit(tmp_path / "0002", epochs)
    assert train(job, data) == list(range(1, epochs + 1))
    assert load_best(job.checkpoint).epoch == epochs
    assert job.done(data.labelled)
    assert network(job) == whole[epochs]


def test_a_state_of_another_configuration_is_not_gone_on_from(
    data: Data, tmp_path: Path, whole: dict[int, bytes]
) -> None:
    job = refit(tmp_path / "0002")
    train(replace(job, config=CONFIG), data, 2)
    assert train(job, data) == [1, 2, 3]
    assert network(job) == whole[3]
