"""What the study hears of a trial that Ray ran, for each way in which it may end."""

import json
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from search.scheduler import Scheduler
from search.searcher import StudySearcher
from search.study import Settings, StudyRecord
from spaces.space import Space
from trainable.config import TrialConfig
from trainable.errors import UserError

EPOCHS = 4


def sample(trial: optuna.Trial) -> TrialConfig:
    return TrialConfig(lr=trial.suggest_float("lr", 1e-4, 1e-1, log=True))


class Driver:
    """Ray's side: shows results to the scheduler, and then to the searcher what Ray would."""

    def __init__(self, run: Path, trials: int = 3, audit: float | None = None, slots: int = 9) -> None:
        self.run = run
        self.trial_seconds = 1000.0
        settings = Settings(EPOCHS, 28, (), None, "valid_accuracy", 0)
        self.record = StudyRecord(run, Space("mine", "", sample), "random", settings, trials)
        history = [(f"{trial.number:04}", trial.intermediate_values) for trial in self.record.frozen()]
        audited = self.record.audited
        self.scheduler = Scheduler("asha", EPOCHS, "valid_accuracy", history, audit, seed=0, audited=audited)
        self.searcher = StudySearcher(self.record, self.scheduler, run, slots)

    def suggest(self, ray_id: str) -> Any:
        return self.searcher.suggest(ray_id)

    def result(self, ray_id: str, name: str, epoch: int, accuracy: float) -> str:
        row = {"valid_loss": 1.0, "valid_accuracy": accuracy, "training_iteration": epoch}
        row["time_total_s"] = self.trial_seconds
        if epoch == EPOCHS:
            self.scheduler.on_trial_complete(None, SimpleNamespace(config={"trial": name}), row)
            self.searcher.on_trial_complete(ray_id, result=row)
            return "ENDED"
        decision = self.scheduler.on_trial_result(None, SimpleNamespace(config={"trial": name}), row)
        if decision == "STOP":
            self.searcher.on_trial_complete(ray_id, result=row)
        else:
            self.searcher.on_trial_result(ray_id, row)
        return decision

    def trial(self, number: int = 0) -> FrozenTrial:
        return self.record.frozen()[number]

    def latest(self, name: str) -> Path:
        path = self.run / "trials" / name / "latest.pt"
        path.touch()
        return path


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    return Driver(tmp_path)


def test_a_suggestion_is_the_studys_next_trial_and_stands_in_its_folder(driver: Driver) -> None:
    suggestion = driver.suggest("ray-a")
    assert suggestion["trial"] == "0000"
    assert suggestion["config"] == driver.trial().user_attrs["config"]
    assert json.loads((driver.run / "trials" / "0000" / "config.json").read_text()) == suggestion["config"]


def test_when_the_study_has_all_its_trials_the_search_is_finished(tmp_path: Path) -> None:
    driver = Driver(tmp_path, trials=1)
    driver.suggest("ray-a")
    assert driver.suggest("ray-b") == Searcher.FINISHED


def test_no_more_trials_are_open_than_there_are_slots(tmp_path: Path) -> None:
    driver = Driver(tmp_path, slots=1)
    driver.suggest("ray-a")
    assert driver.suggest("ray-b") is None
    driver.searcher.slots = 2
    assert driver.suggest("ray-b")["trial"] == "0001"


def asked(driver: Driver) -> int:
    return len(driver.record.frozen())


def ended(driver: Driver, ray_id: str, name: str, seconds: float) -> None:
    """The trial runs its course, in so many seconds."""
    driver.trial_seconds = seconds
    driver.searcher.started(ray_id)
    driver.result(ray_id, name, EPOCHS, 0.5)


def test_where_asking_is_dear_the_next_trial_is_asked_for_while_others_train(tmp_path: Path) -> None:
    driver = Driver(tmp_path, trials=5, slots=2)
    driver.suggest("ray-a"), driver.suggest("ray-b")
    ended(driver, "ray-a", "0000", 1e-9)
    driver.searcher.started("ray-b")
    assert driver.suggest("ray-c")["trial"] == "0002"
    assert driver.suggest("ray-d") is None and asked(driver) == 3  # first a worker shall begin what it was given
    driver.searcher.started("ray-c")
    assert driver.suggest("ray-d") is None and asked(driver) == 4
    assert driver.suggest("ray-d") is None and asked(driver) == 4
    ended(driver, "ray-b", "0001", 1e-9)
    assert driver.suggest("ray-d")["trial"] == "0003" and asked(driver) == 4


@pytest.mark.parametrize(("slots", "seconds"), [(2, 1000.0), (1, 1e-9)])
def test_else_it_is_asked_for_when_a_slot_is_free(tmp_path: Path, slots: int, seconds: float) -> None:
    driver = Driver(tmp_path, trials=5, slots=slots)
    for number in range(slots):
        driver.suggest(f"ray-{number}")
    ended(driver, "ray-0", "0000", seconds)
    driver.suggest("ray-next")
    driver.searcher.started("ray-next"), driver.searcher.started("ray-1")
    assert driver.suggest("ray-later") is None and asked(driver) == slots + 1


def test_a_natural_end_is_complete_with_the_best_epochs_value(driver: Driver) -> None:
    driver.suggest("ray-a")
    latest = driver.latest("0000")
    for epoch, accuracy in enumerate((0.2, 0.6, 0.5, 0.4), start=1):
        driver.result("ray-a", "0000", epoch, accuracy)
    trial = driver.trial()
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.6)
    assert trial.intermediate_values == {1: 0.2, 2: 0.6, 3: 0.5, 4: 0.4}
    assert not latest.exists()


def test_the_schedulers_stop_is_pruned_with_the_epoch_that_it_saw(driver: Driver) -> None:
    driver.suggest("ray-a")
    driver.suggest("ray-b")
    assert driver.result("ray-a", "0000", 1, 0.9) == "CONTINUE"
    latest = driver.latest("0001")
    assert driver.result("ray-b", "0001", 1, 0.5) == "STOP"
    trial = driver.trial(1)
    assert (trial.state, trial.intermediate_values) == (TrialState.PRUNED, {1: 0.5})
    assert not latest.exists()


def test_a_worker_that_died_for_good_is_a_failure_with_a_reason(driver: Driver) -> None:
    driver.suggest("ray-a")
    driver.result("ray-a", "0000", 1, 0.5)
    latest = driver.latest("0000")
    driver.searcher.on_trial_complete(trial_id="ray-a", result=None, error=True)
    trial = driver.trial()
    assert (trial.state, trial.intermediate_values) == (TrialState.FAIL, {1: 0.5})
    assert "worker died" in trial.user_attrs["end"]["reason"]
    assert not latest.exists()


def test_a_worker_that_was_killed_for_memory_is_a_failure_with_what_to_do(driver: Driver) -> None:
    driver.suggest("ray-a")
    driver.searcher.short_of_memory("ray-a")
    driver.searcher.on_trial_complete(trial_id="ray-a", result=None, error=True)
    assert driver.trial().user_attrs["end"]["reason"] == (
        "its worker was killed again and again, as its machine's memory ran short: have fewer trials at once "
        "(--max-concurrent), or search smaller batches and networks"
    )


def test_a_failed_row_is_a_failure_with_its_reason(driver: Driver) -> None:
    driver.suggest("ray-a")
    latest = driver.latest("0000")
    driver.searcher.on_trial_result("ray-a", {"failed": "nan in epoch 1", "training_iteration": 1})
    driver.searcher.on_trial_complete("ray-a", result={"failed": "nan in epoch 1", "training_iteration": 1})
    trial = driver.trial()
    assert (trial.state, trial.user_attrs["end"]["reason"]) == (TrialState.FAIL, "nan in epoch 1")
    assert trial.intermediate_values == {}
    assert not latest.exists()


@pytest.mark.parametrize(
    "result",
    [
        {
            "valid_loss": 1.0,
            "valid_accuracy": 0.5,
            "training_iteration": 2,
            "time_total_s": 1.0,
        },  # a time budget, Ctrl-C
        {"halt": "disk full", "training_iteration": 2},
    ],
)
def test_a_trial_that_was_cut_short_stays_open_and_can_go_on(driver: Driver, result: dict[str, Any]) -> None:
    suggestion = driver.suggest("ray-a")
    latest = driver.latest("0000")
    driver.result("ray-a", "0000", 1, 0.4)
    driver.searcher.on_trial_complete("ray-a", result=result)
    assert driver.trial().state == TrialState.RUNNING
    assert latest.exists()
    again = Driver(driver.run)
    assert again.suggest("ray-b") == suggestion


def test_a_trial_that_goes_on_repeats_its_last_epoch_without_harm(driver: Driver) -> None:
    driver.suggest("ray-a")
    driver.result("ray-a", "0000", 1, 0.4)
    driver.searcher.on_trial_result("ray-a", {"valid_loss": 1.0, "valid_accuracy": 0.4, "training_iteration": 1})
    driver.result("ray-a", "0000", 2, 0.5)
    assert driver.trial().intermediate_values == {1: 0.4, 2: 0.5}


@pytest.mark.parametrize("epoch", [3, EPOCHS])
def test_epochs_that_the_study_has_lost_are_told_again_by_a_trial_that_goes_on(driver: Driver, epoch: int) -> None:
    driver.suggest("ray-a")
    driver.result("ray-a", "0000", 1, 0.4)
    earlier = [{"epoch": n, "valid_loss": 1.0, "valid_accuracy": 0.3 + n / 10} for n in range(1, epoch)]
    row = {"valid_loss": 1.0, "valid_accuracy": 0.8, "training_iteration": epoch, "time_total_s": 1.0}
    row["earlier"] = earlier
    if epoch == EPOCHS:
        driver.searcher.on_trial_complete("ray-a", result=row)
    else:
        driver.searcher.on_trial_result("ray-a", row)
    assert driver.trial().intermediate_values == {**{n: 0.3 + n / 10 for n in range(1, epoch)}, epoch: 0.8}
    assert driver.trial().state == (TrialState.COMPLETE if epoch == EPOCHS else TrialState.RUNNING)


END = {"state": "PRUNED", "epoch": 1, "value": 0.5, "audited": True}


@pytest.fixture
def audited(tmp_path: Path) -> Driver:
    """Two trials, the second of which is audited after its first epoch."""
    driver = Driver(tmp_path, trials=2, audit=1.0)
    driver.suggest("ray-a")
    driver.suggest("ray-b")
    driver.latest("0001")
    driver.result("ray-a", "0000", 1, 0.9)
    assert driver.result("ray-b", "0001", 1, 0.5) == "CONTINUE"
    return driver


def is_as_if_stopped(driver: Driver) -> bool:
    trial = driver.trial(1)
    return (trial.state, trial.intermediate_values, trial.user_attrs["end"]) == (TrialState.PRUNED, {1: 0.5}, END)


def test_an_audited_trial_is_pruned_at_once_and_nothing_is_heard_of_it_any_more(audited: Driver) -> None:
    assert is_as_if_stopped(audited)
    latest = audited.run / "trials" / "0001" / "latest.pt"
    assert [audited.result("ray-b", "0001", epoch, 0.99) for epoch in (2, 3)] == ["CONTINUE"] * 2
    assert latest.exists()
    assert audited.result("ray-b", "0001", EPOCHS, 0.99) == "ENDED"
    assert is_as_if_stopped(audited) and not latest.exists()
    assert Driver(audited.run, trials=2, audit=1.0).record.unfinished() == 1  # 0000


@pytest.mark.parametrize("how", [{"result": None, "error": True}, {"result": {"failed": "nan in epoch 2"}}])
def test_an_audit_that_fails_is_over_and_the_study_does_not_hear_of_it(audited: Driver, how: dict[str, Any]) -> None:
    audited.searcher.on_trial_complete("ray-b", **how)
    assert is_as_if_stopped(audited)
    assert not (audited.run / "trials" / "0001" / "latest.pt").exists()


@pytest.mark.parametrize(
    "result",
    [
        {"valid_loss": 1.0, "valid_accuracy": 0.99, "training_iteration": 3},
        {"halt": "disk full", "training_iteration": EPOCHS},
    ],
)
def test_an_audit_that_was_cut_short_goes_on(audited: Driver, result: dict[str, Any]) -> None:
    config = audited.trial(1).user_attrs["config"]
    audited.searcher.on_trial_complete("ray-b", result=result)
    again = Driver(audited.run, trials=2, audit=1.0)
    assert again.record.unfinished() == 2
    assert again.suggest("ray-c") == {"trial": "0001", "config": config}
    assert [again.result("ray-c", "0001", epoch, 0.99) for epoch in (1, 2, 3)] == ["CONTINUE"] * 3
    assert again.result("ray-c", "0001", EPOCHS, 0.99) == "ENDED"
    assert is_as_if_stopped(again)
    assert again.suggest("ray-d")["trial"] == "0000"
    assert again.suggest("ray-e") == Searcher.FINISHED


def test_a_driver_killed_while_it_notes_an_audit_notes_it_when_it_goes_on(driver: Driver) -> None:
    driver.suggest("ray-a")
    driver.latest("0000")
    trial = optuna.Trial(driver.record.study, driver.trial()._trial_id)
    trial.set_user_attr("end", END)
    again = Driver(driver.run)
    assert (again.trial().state, again.trial().intermediate_values) == (TrialState.PRUNED, {1: 0.5})
    assert (again.record.unfinished(), again.scheduler.audited) == (1, {"0000"})
    assert again.suggest("ray-b")["trial"] == "0000"


def test_pickling_drops_everything(driver: Driver) -> None:
    driver.suggest("ray-a")
    assert vars(pickle.loads(pickle.dumps(driver.searcher))) == {}


def test_rays_own_restore_says_how_it_is_done_here(driver: Driver) -> None:
    with pytest.raises(UserError, match="resume with: python -m search.run --resume NAME"):
        driver.searcher.restore("checkpoint")
