"""How a search stands: its best, its trials by state, its rungs, its throughput and the time that is left."""

import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from search import standing
from search.standing import Best, Rung, epochs_left
from tests.search.follow import Search
from trainable.config import Objective


@pytest.mark.parametrize(("objective", "value"), [("valid_loss", 0.2), ("valid_accuracy", 0.8)])
def test_the_best_is_by_the_objectives_direction_and_knows_earlier_trials(
    tmp_path: Path, objective: Objective, value: float
) -> None:
    search = Search(tmp_path, objective=objective)
    trial = search.start()
    search.epoch(trial, 1, 0.2)
    search.epoch(trial, 2, 0.4)
    again = Search(tmp_path, objective=objective)
    assert search.standing.snapshot().best == again.standing.snapshot().best == Best(value, "0000", 1)


def test_the_states_add_up_to_all_trials(tmp_path: Path) -> None:
    search = Search(tmp_path)
    now = search.standing.snapshot()
    assert now.counts == {"running": 0, "waiting": 4, "finished": 0, "stopped early": 0, "failed": 0}
    search.start(), search.start()
    search.record.fail("0001", "why")
    search.standing.end("0001")
    now = search.standing.snapshot()
    assert now.counts == {"running": 1, "waiting": 2, "finished": 0, "stopped early": 0, "failed": 1}
    assert now.ended == 1


def test_a_rung_lets_on_all_but_those_that_are_stopped_there(tmp_path: Path) -> None:
    search = Search(tmp_path, compared=[1, 2])
    assert search.standing.snapshot().rungs == []
    for trial in (search.start(), search.start()):
        search.epoch(trial, 1, 0.5)
    search.start()  # has reached none
    search.record.prune("0001", 1, 0.5)
    assert search.standing.snapshot().rungs == [Rung(1, reached=2, let_on=1)]
    search.record.complete("0000", 2, 0.4)
    assert search.standing.snapshot().rungs == [Rung(1, reached=2, let_on=1), Rung(2, reached=1, let_on=1)]


def test_the_throughput_is_unknown_before_the_first_epochs_end(tmp_path: Path) -> None:
    now = Search(tmp_path).standing.snapshot()
    assert (now.epochs_a_second, now.images_a_second, now.lost) == (None, None, None)


def test_the_throughput_counts_from_the_first_steps_beginning(tmp_path: Path) -> None:
    search = Search(tmp_path)
    search.epoch(search.start(), 1, 0.5)  # began a second ago
    now = search.standing.snapshot()
    assert now.epochs_a_second is not None and 0 < now.epochs_a_second <= 1
    assert now.images_a_second == 100 * now.epochs_a_second


def test_an_epoch_of_an_earlier_session_is_no_throughput(tmp_path: Path) -> None:
    search = Search(tmp_path)
    search.start()
    search.standing.hear("0000", {"valid_loss": 0.5, "valid_accuracy": 0.5, "training_iteration": 1})
    assert search.standing.snapshot().running["0000"].epoch == 1
    assert search.standing.snapshot().epochs_a_second is None


def test_the_time_that_is_left_is_unknown_before_the_first_end(tmp_path: Path) -> None:
    search = Search(tmp_path)
    assert search.standing.snapshot().remaining is None
    search.epoch(search.start(), 1, 0.25)
    assert search.standing.snapshot().remaining is None
    search.record.complete("0000", 2, 0.5)
    search.standing.end("0000")
    assert search.standing.snapshot().remaining is not None


def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What time it is to how a search stands; a test sets `now`."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(standing, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def run_course(search: Search) -> None:
    trial = search.start()
    search.epoch(trial, 1, 0.5)
    search.epoch(trial, 2, 0.5)
    name = trial.config["trial"]
    search.record.complete(name, 2, 0.5)
    search.standing.end(name)


def test_the_time_that_is_left_is_that_of_all_epochs_to_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    time_is = clock(monkeypatch)
    search = Search(tmp_path)
    run_course(search)
    search.epoch(search.start(), 1, 0.5)
    time_is.now = 12.0
    # Of 4 trials of 2 epochs, 3 epochs are trained, in 4 s each; 5 are to come.
    assert search.standing.snapshot().remaining == pytest.approx(20.0)


def test_the_time_that_is_left_is_at_least_the_longest_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    time_is = clock(monkeypatch)
    search = Search(tmp_path)
    for _ in range(3):
        run_course(search)
    search.start()
    time_is.now = 3.0
    # On two slots the 6 epochs of a second took 3 s together; the last two are one after the other.
    assert search.standing.snapshot().remaining == pytest.approx(2.0)


def test_an_audited_trial_has_run_its_course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    time_is = clock(monkeypatch)
    search = Search(tmp_path)
    search.epoch(search.start(), 1, 0.5)
    search.record.prune("0000", 1, 0.5, audited=True)
    search.standing.end("0000")
    time_is.now = 4.0
    assert search.standing.snapshot().remaining == pytest.approx(4 * 3 * 2)  # none of the 3 to come is stopped early


@pytest.mark.parametrize(
    ("ended", "running", "waiting", "epochs", "left"),
    [
        # Who came so far goes on: after epoch 1, 4 of 6; after epoch 2, 2 of 3; after epoch 3, 2 of 2.
        ([1, 1, 2, 4], [1, 3], 1, 4, [1 + 2 / 3 + 2 / 3, 1, 1 + 2 / 3 + 2 * 4 / 9]),
        ([3, 3], [1, 3], 1, 3, [2, 0, 3]),  # nothing stops a trial
        ([1] * 9, [5], 1, 10, [5, 1 + 9 / 10]),  # one that is longer than the ended ones is not at its end
        ([0, 2], [], 2, 2, [1, 1]),  # half of them fail before their first epoch
        ([1], [], 1, 3, [1]),
        ([], [], 0, 3, []),
    ],
)
def test_the_epochs_to_come_are_by_how_many_went_on_after_each(
    ended: list[int], running: list[int], waiting: int, epochs: int, left: list[float]
) -> None:
    assert epochs_left(Counter(ended), running, waiting, epochs) == pytest.approx(left)


def test_the_time_that_is_left_is_never_more_than_the_budget(tmp_path: Path) -> None:
    remaining = Search(tmp_path, deadline=time.monotonic() + 60).standing.snapshot().remaining
    assert remaining is not None and 0 < remaining <= 60
