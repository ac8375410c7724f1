"""What is shown of a running search: a line a trial in a pipe, a live view in a terminal."""

import pickle
import re
from pathlib import Path

import pytest

from search import progress
from tests.search.follow import Search


def test_a_finished_trial_is_a_line_with_its_best_and_the_searchs(tmp_path: Path) -> None:
    search = Search(tmp_path)
    trial = search.start()
    search.epoch(trial, 1, 0.25)
    search.record.complete("0000", 2, 0.5)
    search.progress.on_trial_complete(0, [], trial)
    (line,) = search.text.getvalue().splitlines()
    assert re.match(r"\[\d:\d\d:\d\d\] trial 0000 finished after 1 epoch", line)
    for part in (
        "valid_loss 0.2500",
        "best so far valid_loss 0.2500 (trial 0000, epoch 1)",
        "0 running, 3 waiting, 1 finished",
    ):
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
    assert "best so far valid_loss 0.5000 (trial 0000, epoch 1); 0 running, 3 waiting, 1 stopped early of 4" in line


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


def test_a_trial_that_begins_anew_says_why(tmp_path: Path) -> None:
    search = Search(tmp_path)
    trial = search.start()
    row = {"valid_loss": 0.5, "valid_accuracy": 0.5, "training_iteration": 1}
    search.progress.on_trial_result(0, [], trial, {**row, "anew": "its best.safetensors is damaged"})
    assert search.text.getvalue() == "Trial 0000: its best.safetensors is damaged; it begins anew.\n"


def test_why_workers_are_slower_is_told_once_each(tmp_path: Path) -> None:
    search = Search(tmp_path)
    row = {"valid_loss": 0.5, "valid_accuracy": 0.5, "training_iteration": 1}
    for why in ("there is no [C++] compiler", "there is no [C++] compiler", "on node b, c++ failed"):
        search.progress.on_trial_result(0, [], search.start(), {**row, "slower": why})
    assert search.text.getvalue().splitlines() == [
        f"Warning: epochs take longer than they need to, as a part is not compiled: {why}."
        for why in ("there is no [C++] compiler", "on node b, c++ failed")
    ]


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


def test_a_terminal_is_told_of_a_failure_at_once_and_of_no_other_end(tmp_path: Path) -> None:
    search = Search(tmp_path, terminal=True)
    with search.progress:
        stopped, failed = search.start(), search.start()
        search.epoch(stopped, 1, 0.5)
        search.record.prune("0000", 1, 0.5)
        search.progress.on_trial_complete(0, [], stopped)
        search.record.fail("0001", "the loss is nan")
        search.progress.on_trial_complete(0, [], failed)
    assert "trial 0001 failed after 0 epochs (the loss is nan)" in search.text.getvalue()
    assert "trial 0000" not in search.text.getvalue().split("best so far")[0]


def test_a_terminal_that_cannot_erase_is_told_in_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    search = Search(tmp_path, terminal=True)
    with search.progress:
        trial = search.start()
        search.epoch(trial, 1, 0.25)
        search.record.complete("0000", 2, 0.5)
        search.progress.on_trial_complete(0, [], trial)
    assert "trial 0000 finished after 1 epoch" in search.text.getvalue()
    assert "\x1b" not in search.text.getvalue()


def test_a_pipe_hears_of_a_long_trial_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = Search(tmp_path)
    search.epoch(search.start(), 1, 0.25)
    search.progress.on_step_end(0, [])
    assert search.text.getvalue() == ""
    monkeypatch.setattr(progress, "SILENCE_SECONDS", -1.0)
    search.progress.on_step_end(0, [])
    (line,) = search.text.getvalue().splitlines()
    assert re.match(r"\[0:00:\d\d\] 1 running, 3 waiting; .* epochs a minute, .*; best so far valid_loss 0.2500 ", line)
