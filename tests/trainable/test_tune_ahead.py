"""The trainable where the next epoch trains while the files of the one before are written."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.results.tiny_run import data
from tests.trainable.test_tune import actor, names, numbers, shared, table, trained
from tests.trainable.tiny import config
from trainable import fit, tune
from trainable.paths import trial_folder
from trainable.tune import ConvNetTrial, Shared

__all__ = ["data", "shared"]  # fixtures


@pytest.fixture
def going_on(shared: Shared) -> Shared:
    """Of a search that lets its trials run their course."""
    return replace(shared, run=shared.run.with_name("going_on"), judged=frozenset())


def watched(monkeypatch: pytest.MonkeyPatch) -> tuple[Callable[[int], bool], list[int]]:
    """Whether an epoch has begun, waiting for it a while; and those that have."""
    begun: list[int] = []
    real = fit._Training.epoch

    def epoch(self: Any, number: int) -> Any:
        begun.append(number)
        return real(self, number)

    def has_begun(number: int) -> bool:
        deadline = time.monotonic() + 30
        while number not in begun and time.monotonic() < deadline:
            time.sleep(0.01)
        return number in begun

    monkeypatch.setattr(fit._Training, "epoch", epoch)
    return has_begun, begun


def done(worker: ConvNetTrial) -> None:
    """Returns when it has trained what it has begun."""
    worker.trainer.submit(lambda: None).result()


def test_the_next_epoch_trains_while_files_are_written(
    shared: Shared, going_on: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(actor(shared, "0000", config()))
    has_begun, _ = watched(monkeypatch)
    real, seen = tune.save_latest, []

    def save(path: Path, state: dict[str, Any]) -> None:
        seen.append(has_begun(len(state["rows"]) + 1) if len(state["rows"]) < 3 else False)
        real(path, state)

    monkeypatch.setattr(tune, "save_latest", save)
    results = trained(actor(going_on, "0000", config()))
    assert seen == [True, True, False]
    assert [result["epoch"] for result in results] == [1, 2, 3]
    # What is written is the epoch that it was, not what trains already.
    assert numbers(trial_folder(going_on.run, "0000")) == numbers(trial_folder(shared.run, "0000"))


def test_what_is_resumed_from_is_the_epoch_that_it_was(
    shared: Shared, going_on: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(actor(shared, "0000", config()))
    real = tune.save_latest
    worker = actor(going_on, "0000", config())

    def save(path: Path, state: dict[str, Any]) -> None:
        if len(state["rows"]) == 1:
            done(worker)  # with the second epoch
        real(path, state)

    monkeypatch.setattr(tune, "save_latest", save)
    worker.step()  # and it dies
    assert [result["epoch"] for result in trained(actor(going_on, "0000", config()))] == [1, 2, 3]
    assert numbers(trial_folder(going_on.run, "0000")) == numbers(trial_folder(shared.run, "0000"))


def test_no_epoch_is_begun_that_the_driver_may_not_want(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    _, begun = watched(monkeypatch)
    worker = actor(replace(shared, judged=frozenset({1})), "0000", config())
    worker.step()
    done(worker)
    assert begun == [1]
    assert [result["epoch"] for result in trained(worker)] == [2, 3]


def test_what_fails_ahead_is_told_in_its_turn(going_on: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = actor(going_on, "0000", config())
    real = fit._Training.epoch

    def epoch(self: Any, number: int) -> Any:
        if number == 2:
            raise ValueError("no second")
        return real(self, number)

    monkeypatch.setattr(fit._Training, "epoch", epoch)
    assert worker.step()["epoch"] == 1
    assert worker.step() == {"trial": "0000", "failed": "ValueError: no second", "done": True}
    folder = trial_folder(going_on.run, "0000")
    assert names(folder) == {"metrics.csv", "best.safetensors", "logits.npz", "latest.pt", "error.txt"}
    assert len(table(folder)) == 1


def test_the_threads_that_are_asked_for_are_those_of_training(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    found, real = [], fit._Training.epoch

    def epoch(self: Any, number: int) -> Any:
        found.append(torch.get_num_threads())
        return real(self, number)

    monkeypatch.setattr(fit._Training, "epoch", epoch)
    before = torch.get_num_threads()
    try:
        trained(actor(replace(shared, threads=3), "0000", config(epochs=2)))
    finally:
        torch.set_num_threads(before)
    assert found == [3, 3]
