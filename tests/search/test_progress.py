"""What is shown of a running search: a line a trial in a pipe, a view in a terminal."""

import io
import pickle
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from rich.console import Console

from search.progress import Progress
from search.study import Settings, StudyRecord
from search.usage import Usage
from spaces.space import Space
from trainable.config import Objective, TrialConfig


def sample(trial: optuna.Trial) -> TrialConfig:
    return TrialConfig(lr=trial.suggest_float("lr", 1e-4, 1e-1, log=True))


class Search:
    """A search of four trials of two epochs that tells its progress, as Ray would, to a console of 100 columns."""

    def __init__(
        self, folder: Path, terminal: bool = False, deadline: float | None = None, objective: Objective = "valid_loss"
    ) -> None:
        settings = Settings(2, 28, (), None, objective, 0)
        space = Space("mine", "", sample, starts=[{"lr": 0.01}])
        self.record = StudyRecord(folder, space, "random", settings, 4)
        self.text = io.StringIO()
        console = Console(file=self.text, force_terminal=terminal, width=100, color_system=None)
        self.usage = Usage(2, time.monotonic())
        self.progress = Progress(self.record, console, time.monotonic(), deadline, self.usage)
        self.console = console

    def start(self) -> SimpleNamespace:
        asked = self.record.ask()
        assert asked is not None
        trial = SimpleNamespace(config={"trial": asked.trial})
        self.progress.on_trial_start(0, [], trial)
        return trial

    def epoch(self, trial: SimpleNamespace, epoch: int, loss: float) -> None:
        row: dict[str, Any] = {"valid_loss": loss, "valid_accuracy": 1 - loss, "training_iteration": epoch}
        self.record.report(trial.config["trial"], epoch, row[self.record.settings.objective])
        self.progress.on_trial_result(0, [], trial, row)

    def view(self) -> str:
        self.console.print(self.progress)
        return self.text.getvalue()


def test_a_finished_trial_is_a_line_with_its_best_and_the_searchs(tmp_path: Path) -> None:
    search = Search(tmp_path)
    trial = search.start()
    search.epoch(trial, 1, 0.25)
    search.record.complete("0000", 2, 0.5)
    search.progress.on_trial_complete(0, [], trial)
    (line,) = search.text.getvalue().splitlines()
    assert re.match(r"\[\d:\d\d:\d\d\] trial 0000 finished after 1 epoch", line)
    for part in ("valid_loss 0.2500", "best so far valid_loss 0.2500 (trial 0000, epoch 1)", "0 running, 1 finished"):
        assert part in line


def test_the_later_epochs_of_an_audited_trial_are_no_best(tmp_path: Path) -> None:
    search = Search(tmp_path)
    trial = search.start()
    search.record.prune("0000", 1, 0.5, audited=True)
    for epoch, loss in ((1, 0.5), (2, 0.1)):
        row = {"valid_loss": loss, "valid_accuracy": 1 - loss, "training_iteration": epoch}
        search.progress.on_trial_result(0, [], trial, row)
    search.progress.on_trial_complete(0, [], trial)
    (line,) = search.text.getvalue().splitlines()
    assert "trial 0000 stopped early at epoch 1, audited after 2 epochs, valid_loss 0.1000; " in line
    assert "best so far valid_loss 0.5000 (trial 0000, epoch 1); 0 running, 1 stopped early of 4" in line


def test_a_stopped_and_a_failed_trial_are_told_apart(tmp_path: Path) -> None:
    search = Search(tmp_path)
    stopped, failed = search.start(), search.start()
    search.epoch(stopped, 1, 0.5)
    search.record.prune("0000", 1, 0.5)
    search.progress.on_trial_complete(0, [], stopped)
    search.record.fail("0001", "the loss is nan [in epoch 1]")
    search.progress.on_trial_error(0, [], failed)
    first, second = search.text.getvalue().splitlines()
    assert "trial 0000 stopped early after 1 epoch" in first
    assert "trial 0001 failed after 0 epochs" in second
    assert "(the loss is nan [in epoch 1])" in second
    assert "1 stopped early, 1 failed" in second


@pytest.mark.parametrize(("objective", "best"), [("valid_loss", "0.2000"), ("valid_accuracy", "0.8000")])
def test_the_best_is_by_the_objectives_direction_and_knows_earlier_trials(
    tmp_path: Path, objective: Objective, best: str
) -> None:
    search = Search(tmp_path, objective=objective)
    trial = search.start()
    search.epoch(trial, 1, 0.2)
    search.epoch(trial, 2, 0.4)
    assert f"best so far {objective} {best} (trial 0000, epoch 1)" in search.view()
    assert f"best so far {objective} {best} (trial 0000, epoch 1)" in Search(tmp_path, objective=objective).view()


def test_the_view_has_a_row_for_each_running_trial(tmp_path: Path) -> None:
    search = Search(tmp_path, terminal=True)
    trial = search.start()
    search.start()
    search.epoch(trial, 1, 0.25)
    view = search.view()
    assert "0 of 4 trials" in view
    assert "2 running" in view
    rows = [line.split() for line in view.splitlines()]
    assert ["0000", "1/2", "0.2500", "lr=0.01"] in rows
    assert ["0001", "0/2", "-"] in [row[:3] for row in rows]


def test_the_time_that_is_left_is_unknown_before_the_first_end(tmp_path: Path) -> None:
    search = Search(tmp_path)
    assert "unknown" in search.view()
    search.epoch(search.start(), 1, 0.25)
    search.record.complete("0000", 2, 0.5)
    assert "left" in search.view()


def test_the_time_that_is_left_is_never_more_than_the_budget(tmp_path: Path) -> None:
    assert re.search(r"about 0:0[01]:\d\d left", Search(tmp_path, deadline=time.monotonic() + 60).view())


def test_a_piped_view_is_lines_alone(tmp_path: Path) -> None:
    search = Search(tmp_path)
    with search.progress:
        trial = search.start()
        search.epoch(trial, 1, 0.25)
    assert search.text.getvalue() == ""


def test_a_terminals_view_is_gone_at_the_end_and_pickles_while_it_lives(tmp_path: Path) -> None:
    search = Search(tmp_path, terminal=True)
    with search.progress:
        assert vars(pickle.loads(pickle.dumps(search.progress))) == {}
    assert "\x1b[2K" in search.text.getvalue()  # a transient view erases its lines


def test_a_trial_cut_short_is_called_interrupted(tmp_path: Path) -> None:
    search = Search(tmp_path)
    trial = search.start()
    search.epoch(trial, 1, 0.25)
    search.progress.on_trial_complete(0, [], trial)
    assert "trial 0000 interrupted after 1 epoch" in search.text.getvalue()
