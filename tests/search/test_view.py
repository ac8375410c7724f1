"""The live view: what it says, and that it keeps within a terminal's width and height."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from optuna.trial import FrozenTrial

from search.tally import End
from search.view import clock, sparkline, throughput_text
from tests.search.follow import Search


def test_it_has_a_row_for_each_running_trial_and_one_for_the_best(tmp_path: Path) -> None:
    search = Search(tmp_path, terminal=True, objective="valid_accuracy", compared=[1])
    best, running = search.start(), search.start()
    search.start()
    search.epoch(best, 1, 0.25)
    search.epoch(best, 2, 0.5)
    search.record.complete("0000", 2, 0.5)
    search.progress.on_trial_complete(0, [], best)
    search.epoch(running, 1, 0.75)
    lines = [line.split() for line in search.view().splitlines()]
    # The longest that is to come has two epochs of a second.
    assert "1 of 4 trials, 0:00:00 elapsed, about 0:00:02 left".split() in [line[1:] for line in lines]
    assert "2 running, 1 waiting, 1 finished".split() in lines
    assert "let on: 2 of 2 after epoch 1".split() in lines
    assert "best so far valid_accuracy 0.7500 (trial 0000, epoch 1)".split() in lines
    assert ["0000", "2/2", "0.7500", "█▅", "lr=0.01"] in lines
    assert ["0001", "1/2", "0.2500", "▁"] in [line[:4] for line in lines]
    assert ["0002", "0/2", "-"] in [line[:3] for line in lines]
    assert any(line[1:4] == ["epochs", "a", "minute,"] for line in lines)


@pytest.mark.parametrize("height", [24, 8])
def test_the_best_trial_is_the_first_where_it_is_running_too(tmp_path: Path, height: int) -> None:
    search = Search(tmp_path, terminal=True, objective="valid_accuracy", size=(80, height))
    other, best = search.start(), search.start()
    search.start()
    search.epoch(other, 1, 0.5)
    search.epoch(best, 1, 0.25)
    search.epoch(best, 2, 0.5)
    lines = [line.split() for line in search.view().splitlines()]
    first = lines.index(["trial", "epoch", "valid_accuracy", "curve", "searched"]) + 1
    assert lines[first][:4] == ["0001", "2/2", "0.5000", "█▁"]  # its latest epoch, as of all that are running


def end_while_it_is_read(search: Search, trial: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial fails as the view, which another thread renders, reads the study."""
    ends = search.record.tally.ends

    def read(apart: Iterable[str]) -> Mapping[End, int]:
        monkeypatch.undo()
        search.record.fail(trial.config["trial"], "out of memory")
        search.progress.on_trial_error(0, [], trial)
        return ends(apart)

    monkeypatch.setattr(search.record.tally, "ends", read)


def test_a_trial_that_ends_without_an_epoch_as_the_view_is_rendered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = Search(tmp_path, terminal=True)
    end_while_it_is_read(search, search.start(), monkeypatch)
    assert ["0000", "0/2", "-", "lr=0.01"] in [line.split() for line in search.view().splitlines()]


def test_a_trial_that_ends_as_the_view_is_rendered_has_its_own_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = Search(tmp_path, terminal=True)
    best, trial = search.start(), search.start()
    search.epoch(best, 1, 0.25)
    search.record.complete("0000", 2, 0.5)
    search.progress.on_trial_complete(0, [], best)
    search.epoch(trial, 1, 0.75)
    end_while_it_is_read(search, trial, monkeypatch)
    rows = [line.split()[:3] for line in search.view().splitlines()[-2:]]
    assert rows == [["0000", "2/2", "0.2500"], ["0001", "1/2", "0.7500"]]


def test_a_study_that_cannot_be_read_is_told_in_the_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = Search(tmp_path, terminal=True)
    search.start()

    def read(name: str) -> FrozenTrial:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(search.record, "trial", read)
    assert search.view() == "no view: OSError(5, 'Input/output error')\n"


def test_before_the_first_epoch_it_says_so(tmp_path: Path) -> None:
    view = Search(tmp_path, terminal=True).view()
    assert "remaining time unknown yet" in view
    assert "no epoch yet" in view


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_terminal(tmp_path: Path, width: int) -> None:
    search = Search(tmp_path, terminal=True, size=(width, 24))
    search.epoch(search.start(), 1, 0.25)
    lines = search.view().splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines[-1]) <= width - 2  # there is room for the ^C that a terminal writes behind it
    assert len(lines) == 6  # the bar, states, throughput, the best, the table's header and its row


def test_trials_that_the_terminal_has_no_room_for_are_counted(tmp_path: Path) -> None:
    search = Search(tmp_path, terminal=True, size=(80, 7))
    for _ in range(4):
        search.start()
    lines = search.view().splitlines()
    assert len(lines) < 7
    assert lines[-1].split() == ["...", "3", "more"]


@pytest.mark.parametrize(("epochs", "text"), [(0.1234, "0.123"), (21.84, "21.8"), (999.7, "1,000"), (13098, "13,098")])
def test_a_rate_is_written_without_an_exponent(tmp_path: Path, epochs: float, text: str) -> None:
    now = Search(tmp_path).standing.snapshot()
    now = replace(now, epochs_a_second=epochs / 60, images_a_second=2500.0, lost=None)
    assert throughput_text(now) == [f"{text} epochs a minute, 2,500 images a second"]


@pytest.mark.parametrize(
    ("values", "curve"),
    [
        ({1: 0.0, 2: 0.5, 4: 1.0}, "▁▅ █"),  # 3.5 of 7 steps is rounded to the even 4
        ({1: -5.0, 2: 5.0}, "▁█"),
        ({1: math.nan, 2: 0.0}, " ▁"),
        ({}, ""),
    ],
)
def test_a_curve_has_a_bar_an_epoch(values: dict[int, float], curve: str) -> None:
    assert sparkline(values, epochs=4, width=4, low=0.0, high=1.0) == curve


def test_a_curve_of_many_epochs_shows_the_latest_of_each_part() -> None:
    assert sparkline({1: 0.0, 2: 1.0, 3: 0.0, 4: 1.0, 5: 0.0}, epochs=8, width=4, low=0.0, high=1.0) == "██▁"


def test_equal_values_are_a_level_curve() -> None:
    assert sparkline({1: 0.5, 2: 0.5}, epochs=2, width=2, low=0.5, high=0.5) == "▅▅"


def test_a_clock_has_hours() -> None:
    assert [clock(seconds) for seconds in (0, 61.9, 36000)] == ["0:00:00", "0:01:01", "10:00:00"]
