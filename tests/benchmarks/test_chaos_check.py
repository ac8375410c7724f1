"""Each rule of the checker finds nothing in a history as it should be, and what is wrong in one that violates it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.chaos_check import (
    RULES,
    Files,
    History,
    Told,
    budget_is_kept,
    each_trial_ends_once,
    ends_are_where_trials_end,
    epochs_are_consecutive,
    files_are_whole,
    nothing_is_lost,
    numbers_are_those_of,
    the_leaderboard_has_each_trial_once,
    values_are_the_metrics,
)
from trainable.fit import Row

ACCURACIES = {"0000": [0.2, 0.5, 0.4, 0.6], "0001": [0.1], "0002": []}
STATES = {"0000": "COMPLETE", "0001": "PRUNED", "0002": "FAIL"}


def row(epoch: int, accuracy: float) -> Row:
    return {"epoch": epoch, "valid_accuracy": accuracy, "valid_loss": 1 - accuracy, "seconds": 0.1}


def files(accuracies: list[float], **changes: Any) -> Files:
    """Of a trial whose last epoch is its best."""
    rows = [row(epoch, accuracy) for epoch, accuracy in enumerate(accuracies, start=1)]
    return replace(Files(rows, len(rows) or None, bool(rows), len(rows) == 4, ()), **changes)


def told(name: str, **changes: Any) -> Told:
    values = dict(enumerate(ACCURACIES[name], start=1))
    return replace(Told(STATES[name], values, {"state": STATES[name]}), **changes)


WELL = History(
    trials=3,
    epochs=4,
    scheduler="asha",
    objective="valid_accuracy",
    told={name: told(name) for name in STATES},
    ends={name: [state] for name, state in STATES.items()},
    steps={name: list(range(1, 1 + len(values))) for name, values in ACCURACIES.items()},
    files={name: files(values) for name, values in ACCURACIES.items()},
    trained={"0000": [1, 2, 3, 4], "0001": [1]},
    ranked=[("0000", "COMPLETE", 4), ("0001", "PRUNED", 1), ("0002", "FAIL", 0)],
)


def with_told(name: str, **changes: Any) -> History:
    return replace(WELL, told={**WELL.told, name: told(name, **changes)})


def with_files(name: str, accuracies: list[float], **changes: Any) -> History:
    return replace(WELL, files={**WELL.files, name: files(accuracies, **changes)})


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_search_as_it_should_be_breaks_no_rule(rule: Callable[[History], list[str]]) -> None:
    assert rule(WELL) == []


BROKEN = [
    (each_trial_ends_once, replace(WELL, trials=4), "the study has the trials ['0000', '0001', '0002'], not"),
    (each_trial_ends_once, with_told("0001", state="RUNNING"), "trial 0001 is RUNNING"),
    (
        each_trial_ends_once,
        replace(WELL, ends={**WELL.ends, "0001": ["PRUNED", "PRUNED"]}),
        "trial 0001 is PRUNED, and was ended as ['PRUNED', 'PRUNED']",
    ),
    (each_trial_ends_once, with_told("0000", end={"state": "FAIL"}), "trial 0000 is COMPLETE, and its end is"),
    (each_trial_ends_once, with_told("0000", end=None), "trial 0000 is COMPLETE, and its end is None"),
    (
        epochs_are_consecutive,
        with_files("0000", [], rows=[row(1, 0.2), row(2, 0.5), row(2, 0.5), row(3, 0.4)]),
        "trial 0000: metrics.csv has the epochs [1, 2, 2, 3]",
    ),
    (
        epochs_are_consecutive,
        replace(WELL, steps={**WELL.steps, "0000": [1, 2, 4]}),
        "trial 0000: the study was told the epochs [1, 2, 4]",
    ),
    (epochs_are_consecutive, with_files("0001", [0.1, 0.2]), "trial 0001: metrics.csv has 2 epochs, and the study"),
    (
        ends_are_where_trials_end,
        with_told("0000", values={1: 0.2, 2: 0.5, 3: 0.4}),
        "trial 0000 is complete after epoch 3 of 4",
    ),
    (
        ends_are_where_trials_end,
        with_told("0001", values={1: 0.1, 2: 0.2}),
        "trial 0001 was stopped after epoch 2, and asha compares after [1, 3]",
    ),
    (ends_are_where_trials_end, replace(WELL, scheduler="none"), "trial 0001 was stopped after epoch 1, and none"),
    (values_are_the_metrics, with_told("0001", values={1: 0.3}), "trial 0001, epoch 1: told 0.3, and metrics.csv has"),
    (values_are_the_metrics, with_files("0001", []), "trial 0001, epoch 1: told 0.1, and metrics.csv has None"),
    (
        files_are_whole,
        with_files("0000", ACCURACIES["0000"], left_over=("latest.pt",)),
        "trial 0000 has ended, and has left latest.pt",
    ),
    (
        files_are_whole,
        replace(WELL, files={**WELL.files, "0003": files([])}),
        "the study knows nothing of trial 0003, which has a folder",
    ),
    (
        files_are_whole,
        with_files("0000", ACCURACIES["0000"], best_epoch=2),
        "trial 0000: its network is of epoch 2, and the best is 4",
    ),
    (
        files_are_whole,
        with_files("0001", ACCURACIES["0001"], best_epoch=None),
        "trial 0001: its network is of epoch None, and the best is 1",
    ),
    (
        files_are_whole,
        with_files("0001", ACCURACIES["0001"], logits_of_best=False),
        "trial 0001: its logits are not its network's",
    ),
    (
        files_are_whole,
        with_files("0000", ACCURACIES["0000"], has_holdout=False),
        "trial 0000 is complete, and has no logits of the holdout",
    ),
    (
        the_leaderboard_has_each_trial_once,
        replace(WELL, ranked=[*WELL.ranked, WELL.ranked[0]]),
        "leaderboard.csv has ('0000', 'COMPLETE', 4) 2 times",
    ),
    (
        the_leaderboard_has_each_trial_once,
        replace(WELL, ranked=WELL.ranked[1:]),
        "leaderboard.csv lacks ('0000', 'COMPLETE', 4)",
    ),
]


@pytest.mark.parametrize(
    ("rule", "history", "sentence"),
    BROKEN,
    ids=[f"{rule.__name__} {number}" for number, (rule, *_) in enumerate(BROKEN)],
)
def test_a_rule_finds_what_breaks_it(rule: Callable[[History], list[str]], history: History, sentence: str) -> None:
    assert rule(history)[0].startswith(sentence)


def test_a_kill_may_cost_an_epoch_and_a_damaged_file_a_trial() -> None:
    again = replace(WELL, trained={"0000": [1, 2, 2, 3, 1, 4]})
    assert budget_is_kept(again, kills=2) == []
    assert budget_is_kept(again, kills=1) == [
        "trial 0000: 2 epochs were trained again after 1 kills: [1, 2, 2, 3, 1, 4]"
    ]
    assert budget_is_kept(again, kills=0, damaged=["0000"]) == []
    assert len(budget_is_kept(again, kills=0, damaged=["0001"])) == 1
    twice = replace(again, trained={"0000": [*range(1, again.epochs + 1)] * 3})
    assert budget_is_kept(twice, kills=0, damaged=["0000", "0000"]) == []
    assert len(budget_is_kept(twice, kills=0, damaged=["0000"])) == 1


def test_what_the_study_was_told_is_there_later() -> None:
    running = Told("RUNNING", {1: 0.2}, None)
    assert nothing_is_lost({"0000": running, "0001": WELL.told["0001"]}, WELL.told) == []
    assert nothing_is_lost({"0009": Told("RUNNING", {}, None)}, WELL.told) == []  # half asked for
    assert nothing_is_lost({"0009": running}, WELL.told) == ["trial 0009 has gone from the study"]
    assert len(nothing_is_lost({"0000": Told("RUNNING", {1: 0.3}, None)}, WELL.told)) == 1
    assert len(nothing_is_lost({"0000": Told("RUNNING", {5: 0.3}, None)}, WELL.told)) == 1
    assert len(nothing_is_lost({"0000": Told("PRUNED", {1: 0.2}, {"state": "PRUNED"})}, WELL.told)) == 1


def test_each_trials_numbers_are_those_of_a_search_that_nothing_happened_to() -> None:
    unbroken = replace(WELL, files={name: files([0.1, 0.2, 0.3, 0.4]) for name in STATES})
    assert numbers_are_those_of(with_files("0000", [0.1, 0.2, 0.3, 0.4]), unbroken) == []
    assert len(numbers_are_those_of(WELL, unbroken)) == 1
    later = [{**row(1, 0.1), "seconds": 9.0}]
    assert numbers_are_those_of(replace(WELL, files={"0001": files([], rows=later)}), unbroken) == []
