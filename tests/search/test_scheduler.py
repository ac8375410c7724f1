"""Early stopping with numbers worked out by hand, and a scheduler rebuilt from the study."""

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray import tune
from ray.tune.search import BasicVariantGenerator

from search import options
from search.scheduler import SCHEDULERS, Scheduler, lot
from search.tuning import PENDING
from trainable.config import Objective

CONTINUE, STOP = "CONTINUE", "STOP"
Arrival = tuple[str, int, float]  # trial, epoch, value


def tell(scheduler: Scheduler, trial: str, epoch: int, value: float, objective: Objective = "valid_accuracy") -> str:
    row = {"valid_loss": 1.0, objective: value, "training_iteration": epoch}
    return scheduler.on_trial_result(None, SimpleNamespace(config={"trial": trial}), row)


def test_the_command_line_offers_them_all() -> None:
    assert options.SCHEDULERS == tuple(SCHEDULERS)


def test_epochs_that_the_study_has_lost_stand_at_their_rungs_and_are_not_judged() -> None:
    scheduler = Scheduler("asha", 7, "valid_accuracy")
    assert tell(scheduler, "0000", 1, 0.9) == CONTINUE
    earlier = [{"epoch": 1, "valid_loss": 1.0, "valid_accuracy": 0.5}]
    row = {"valid_loss": 1.0, "valid_accuracy": 0.5, "training_iteration": 2, "earlier": earlier}
    assert scheduler.on_trial_result(None, SimpleNamespace(config={"trial": "0001"}), row) == CONTINUE
    # At the rung after epoch 1 there are 0.90 and 0.50, of which the cutoff is 0.7668: below 0.90 alone.
    assert tell(scheduler, "0002", 1, 0.77) == CONTINUE
    assert tell(scheduler, "0003", 1, 0.76) == STOP


# What has arrived at a rung decides: percentile 66.7 of it, by linear interpolation, is the cutoff.
@pytest.mark.parametrize(
    ("objective", "arrivals"),
    [
        (
            "valid_accuracy",
            [
                (0.50, CONTINUE),  # the first passes
                (0.40, STOP),  # of 0.50: 0.50
                (0.60, CONTINUE),  # of 0.40 0.50: 0.4667
                (0.47, STOP),  # of 0.40 0.50 0.60: 0.5333
                (0.50, CONTINUE),  # of 0.40 0.47 0.50 0.60: 0.50, and equal is not below
            ],
        ),
        (
            "valid_loss",
            [
                (2.0, CONTINUE),
                (2.5, STOP),  # of 2.0: 2.0
                (1.5, CONTINUE),  # of 2.5 2.0: 2.1667
                (2.0, STOP),  # of 2.5 2.0 1.5: 1.8333
                (1.8, CONTINUE),  # of 2.5 2.0 2.0 1.5: 2.0
            ],
        ),
    ],
)
def test_asha_stops_what_is_worse_than_the_top_third_so_far(
    objective: Objective, arrivals: list[tuple[float, str]]
) -> None:
    scheduler = Scheduler("asha", 7, objective)
    decisions = [tell(scheduler, f"{n:04}", 1, value, objective) for n, (value, _) in enumerate(arrivals)]
    assert decisions == [decision for _, decision in arrivals]
    assert scheduler.stopped == {f"{n:04}" for n, (_, decision) in enumerate(arrivals) if decision == STOP}


def test_asha_compares_at_rungs_alone() -> None:
    scheduler = Scheduler("asha", 7, "valid_accuracy")
    for epoch, value in enumerate((0.90, 0.97, 0.98, 0.98, 0.98, 0.98, 0.98), start=1):
        assert tell(scheduler, "0000", epoch, value) == CONTINUE
    assert tell(scheduler, "0001", 1, 0.95) == CONTINUE
    assert tell(scheduler, "0001", 2, 0.1) == CONTINUE
    assert tell(scheduler, "0001", 3, 0.96) == STOP  # rung 3 has 0.98


@pytest.mark.parametrize("objective", ["valid_accuracy", "valid_loss"])
def test_asha_compares_what_trials_are_worth_which_is_their_best_so_far(objective: Objective) -> None:
    sign = 1 if objective == "valid_accuracy" else -1
    curve = {1: sign * 0.5, 2: sign * 0.7, 3: sign * 0.6}
    live = Scheduler("asha", 7, objective)
    for epoch, value in curve.items():
        assert tell(live, "0000", epoch, value, objective) == CONTINUE
    for scheduler in (live, Scheduler("asha", 7, objective, [("0000", curve)])):
        assert tell(scheduler, "0001", 1, sign * 0.55, objective) == CONTINUE
        assert tell(scheduler, "0001", 3, sign * 0.65, objective) == STOP  # rung 3 has 0.7, of epoch 2
        assert tell(scheduler, "0002", 1, sign * 0.8, objective) == CONTINUE
        assert tell(scheduler, "0002", 3, sign * 0.1, objective) == CONTINUE  # its own best is 0.8


def test_median_stops_what_is_below_the_median_of_running_means() -> None:
    scheduler = Scheduler("median", 5, "valid_accuracy")
    curves = {"0000": (0.2, 0.4), "0001": (0.3, 0.5), "0002": (0.4, 0.6)}
    for trial, curve in curves.items():
        assert [tell(scheduler, trial, epoch, value) for epoch, value in enumerate(curve, 1)] == [CONTINUE] * 2
    # Means up to epoch 1: 0.2 0.3 0.4; up to epoch 2: 0.3 0.4 0.5. A trial's best epoch is what is compared.
    assert tell(scheduler, "0003", 1, 0.35) == CONTINUE
    assert tell(scheduler, "0003", 2, 0.39) == STOP
    assert tell(scheduler, "0004", 1, 0.29) == STOP
    assert tell(scheduler, "0005", 1, 0.45) == CONTINUE
    assert tell(scheduler, "0005", 2, 0.10) == CONTINUE


def test_none_never_stops() -> None:
    scheduler = Scheduler("none", 3, "valid_accuracy")
    for trial in range(9):
        assert [tell(scheduler, f"{trial:04}", epoch, 1.0 / (trial + epoch)) for epoch in (1, 2, 3)] == [CONTINUE] * 3
    assert scheduler.stopped == set()


@pytest.mark.parametrize("name", list(SCHEDULERS))
@pytest.mark.parametrize("epoch", [1, 3])
def test_a_single_trial_is_never_stopped_even_at_its_last_epoch(name: str, epoch: int) -> None:
    assert tell(Scheduler(name, 3, "valid_accuracy"), "0000", epoch, 0.0) == CONTINUE


def test_an_audited_trial_runs_on_and_its_later_epochs_count_for_none() -> None:
    audit = Scheduler("asha", 7, "valid_accuracy", audit=1.0, seed=0)
    plain = Scheduler("asha", 7, "valid_accuracy")
    for scheduler in (audit, plain):
        assert tell(scheduler, "0000", 1, 0.5) == CONTINUE
        assert tell(scheduler, "0001", 1, 0.4) == (CONTINUE if scheduler is audit else STOP)
    assert [tell(audit, "0001", epoch, 0.9) for epoch in (2, 3, 4)] == [CONTINUE] * 3
    assert (audit.stopped, audit.audited) == (set(), {"0001"})
    for scheduler in (audit, plain):  # at rung 3 there is no 0.9
        assert [tell(scheduler, "0000", epoch, 0.1) for epoch in (2, 3)] == [CONTINUE] * 2


def test_a_resumed_scheduler_lets_the_audited_run_on() -> None:
    history: list[tuple[str, dict[int, float]]] = [("0000", {1: 0.5}), ("0001", {1: 0.4})]
    scheduler = Scheduler("asha", 7, "valid_accuracy", history, audit=0.1, audited=["0001"])
    assert [tell(scheduler, "0001", epoch, 0.3) for epoch in (1, 2, 3, 4)] == [CONTINUE] * 4
    assert scheduler.stopped == set()


def test_a_lot_is_the_trials_own_and_a_share_of_them_is_audited() -> None:
    lots = [lot(5, f"{number:04}") for number in range(1000)]
    assert lots == [lot(5, f"{number:04}") for number in range(1000)]
    assert lots != [lot(6, f"{number:04}") for number in range(1000)]
    assert sum(one < 0.1 for one in lots) == pytest.approx(100, abs=30)
    scheduler = Scheduler("asha", 7, "valid_accuracy", audit=0.1, seed=5)
    tell(scheduler, "2000", 1, 0.9)
    for number in range(1000):  # each worse than all before
        tell(scheduler, f"{number:04}", 1, 0.5 - number / 10_000)
    assert scheduler.audited == {f"{number:04}" for number, one in enumerate(lots) if one < 0.1}
    assert len(scheduler.audited | scheduler.stopped) == 1000


def test_an_epoch_told_again_is_ignored() -> None:
    scheduler = Scheduler("asha", 7, "valid_accuracy")
    tell(scheduler, "0000", 1, 0.5)
    assert tell(scheduler, "0001", 1, 0.6) == CONTINUE
    assert tell(scheduler, "0001", 1, 0.1) == CONTINUE  # as after a worker's death
    assert tell(scheduler, "0002", 1, 0.55) == STOP  # the cutoff of 0.5 and 0.6 is 0.5667
    assert tell(scheduler, "0003", 1, 0.56) == STOP  # still 0.5667; it would be 0.55 if 0.1 had counted


@pytest.mark.parametrize("result", [{"failed": "nan in epoch 1"}, {"halt": "disk full"}])
def test_a_result_without_an_epoch_is_ignored(result: dict[str, Any]) -> None:
    scheduler = Scheduler("asha", 7, "valid_accuracy")
    trial = SimpleNamespace(config={"trial": "0000"})
    assert scheduler.on_trial_result(None, trial, {**result, "training_iteration": 1}) == CONTINUE
    scheduler.on_trial_complete(None, trial, {**result, "training_iteration": 1})
    assert tell(scheduler, "0001", 1, 0.0) == CONTINUE  # the first at its rung


def test_the_last_epoch_counts_though_only_the_end_tells_it() -> None:
    scheduler = Scheduler("asha", 3, "valid_accuracy")
    trial = SimpleNamespace(config={"trial": "0000"})
    tell(scheduler, "0000", 1, 0.5)
    tell(scheduler, "0000", 2, 0.5)
    scheduler.on_trial_complete(None, trial, {"valid_loss": 1.0, "valid_accuracy": 0.9, "training_iteration": 3})
    tell(scheduler, "0001", 1, 0.6)
    assert tell(scheduler, "0001", 3, 0.8) == STOP  # rung 3 has 0.9


def arrivals(name: str, objective: Objective, seed: int, epochs: int = 7) -> list[tuple[Arrival, str]]:
    """A search of twelve trials, four at once, in random order of arrival; each with the decision that it met."""
    rng = random.Random(seed)
    scheduler = Scheduler(name, epochs, objective)
    waiting = [f"{number:04}" for number in range(12)]
    quality = {trial: rng.random() for trial in waiting}
    running: dict[str, int] = {}
    met = []
    while waiting or running:
        while waiting and len(running) < 4:
            running[waiting.pop(0)] = 0
        trial = rng.choice(list(running))
        running[trial] += 1
        value = quality[trial] + 0.3 * rng.random()
        decision = tell(scheduler, trial, running[trial], value, objective)
        met.append(((trial, running[trial], value), decision))
        if decision == STOP or running[trial] == epochs:
            del running[trial]
    return met


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("objective", ["valid_accuracy", "valid_loss"])
@pytest.mark.parametrize("name", list(SCHEDULERS))
def test_one_rebuilt_from_the_history_decides_as_the_unbroken_one(name: str, objective: Objective, seed: int) -> None:
    met = arrivals(name, objective, seed)
    assert any(decision == STOP for _, decision in met) == (name != "none")
    for split in range(len(met)):
        history: dict[str, dict[int, float]] = {}
        for (trial, epoch, value), _ in met[:split]:
            history.setdefault(trial, {})[epoch] = value
        rebuilt = Scheduler(name, 7, objective, sorted(history.items()))
        assert rebuilt.stopped == set()
        for (trial, epoch, value), decision in met[split:]:
            assert tell(rebuilt, trial, epoch, value, objective) == decision


@pytest.fixture
def ray_of_two() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def test_workers_that_start_slowly_are_waited_for_while_others_train(
    ray_of_two: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class SlowToStart(tune.Trainable):  # type: ignore[misc]  # Ray's class is untyped
        """A worker that says so when it starts, and takes its time unless it is the first."""

        def setup(self, config: dict[str, Any]) -> None:
            with open(tmp_path / "workers", "a") as file:
                file.write(f"{os.getpid()}\n")
            try:
                (tmp_path / "first").touch(exist_ok=False)
            except FileExistsError:
                time.sleep(3)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            return True

        def step(self) -> dict[str, Any]:
            time.sleep(0.1)
            return {"training_iteration": 1, "valid_loss": 1.0, "valid_accuracy": 0.5, "done": True}

    monkeypatch.setenv("TUNE_MAX_PENDING_TRIALS_PG", PENDING)
    trials = tune.Tuner(
        SlowToStart,
        param_space={"trial": tune.grid_search([f"{number:04d}" for number in range(60)])},
        tune_config=tune.TuneConfig(
            scheduler=Scheduler("none", 1, "valid_accuracy"),
            search_alg=BasicVariantGenerator(max_concurrent=2),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            storage_path=str(tmp_path), verbose=0, checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False)
        ),
    ).fit()
    assert len(trials) == 60 and trials.num_errors == 0
    started = (tmp_path / "workers").read_text().split()
    assert len(started) == 2
    assert {result.metrics["pid"] for result in trials} == set(map(int, started))
