"""The live view: what it says, and that it keeps within a terminal's width and height."""

import math
from pathlib import Path

import pytest

from search.view import clock, sparkline
from tests.search.follow import Search


def test_it_has_a_row_for_each_running_trial_and_one_for_the_best(tmp_path: Path) -> None:
    search = Search(tmp_path, terminal=True, objective="valid_accuracy", rungs=[1])
    best, running = search.start(), search.start()
    search.start()
    search.epoch(best, 1, 0.25)
    search.epoch(best, 2, 0.5)
    search.record.complete("0000", 2, 0.5)
    search.progress.on_trial_complete(0, [], best)
    search.epoch(running, 1, 0.75)
    lines = [line.split() for line in search.view().splitlines()]
    assert "1 of 4 trials, 0:00:00 elapsed, about 0:00:00 left".split() in [line[1:] for line in lines]
    assert "2 running, 1 waiting, 1 finished".split() in lines
    assert "let on: 2 of 2 after epoch 1".split() in lines
    assert "best so far valid_accuracy 0.7500 (trial 0000, epoch 1)".split() in lines
    assert ["0000", "2/2", "0.7500", "█▅", "lr=0.01"] in lines
    assert ["0001", "1/2", "0.2500", "▁"] in [line[:4] for line in lines]
    assert ["0002", "0/2", "-"] in [line[:3] for line in lines]
    assert any(line[1:4] == ["epochs", "a", "minute,"] for line in lines)


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
    assert len(lines) == 6  # the bar, states, throughput, the best, the table's header and its row


def test_trials_that_the_terminal_has_no_room_for_are_counted(tmp_path: Path) -> None:
    search = Search(tmp_path, terminal=True, size=(80, 7))
    for _ in range(4):
        search.start()
    lines = search.view().splitlines()
    assert len(lines) < 7
    assert lines[-1].split() == ["...", "3", "more"]


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
