"""What a search has to say, of a run whose figures are known."""

import json
import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from results.facts import Facts, Improvement, answer, gather
from trainable.errors import UserError

LR = {"lr": FloatDistribution(1e-4, 1e-1, log=True)}
HEADER = "epoch,train_loss,train_accuracy,valid_loss,valid_accuracy,lr,seconds"
# A trial each: its state, and its validation accuracies.
TRIALS: list[tuple[str, list[float]]] = [
    ("COMPLETE", [0.3, 0.5, 0.55]),
    ("PRUNED", [0.2]),
    ("COMPLETE", [0.4, 0.6, 0.58]),
    ("PRUNED", [0.35, 0.36]),
    ("FAIL", []),
]


def trial(number: int, state: str, accuracies: list[float], lr: float = 0.01) -> FrozenTrial:
    end = {"end": {"state": "FAIL", "reason": "ConfigError: no such network"}} if state == "FAIL" else {}
    return FrozenTrial(
        number=number,
        trial_id=number,
        state=TrialState[state],
        value=max(accuracies) if state == "COMPLETE" else None,
        params={"lr": lr},
        distributions=LR,
        datetime_start=None,
        datetime_complete=None,
        user_attrs=end,
        system_attrs={},
        intermediate_values=dict(enumerate(accuracies, 1)),
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    rows = [f"{n}.png,{'ab'[n % 2]},{'train' if n < 60 else 'valid' if n < 80 else 'holdout'}" for n in range(100)]
    (tmp_path / "splits.csv").write_text("\n".join(["Image,Label,Split", *rows]) + "\n")
    for number, (_, accuracies) in enumerate(TRIALS):
        folder = tmp_path / "trials" / f"{number:04d}"
        folder.mkdir(parents=True)
        lines = [f"{epoch},1,0.5,{2 - value},{value},0.01,10" for epoch, value in enumerate(accuracies, 1)]
        (folder / "metrics.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    return tmp_path


def record(trials: int = len(TRIALS), scheduler: str = "asha") -> dict[str, Any]:
    return {
        "objective": "valid_accuracy",
        "arguments": {"epochs": 3, "trials": trials, "folds": 0, "scheduler": scheduler, "sampler": "tpe"},
        "sessions": [],
        "data": {"classes": ["a", "b"], "counts": {"holdout": 20, "train": 60, "valid": 20}},
    }


def facts(run: Path, **said: Any) -> Facts:
    trials = [trial(number, state, values) for number, (state, values) in enumerate(TRIALS)]
    return gather(run, record(**said), trials)


def test_trials_are_counted_and_ranked(run: Path) -> None:
    found = facts(run)
    assert found.states == {"COMPLETE": 2, "PRUNED": 2, "FAIL": 1}
    assert list(found.board["trial"]) == ["0002", "0000", "0003", "0001", "0004"]
    assert (found.compared, found.spent, found.images) == (4, 9, 20)
    assert found.rungs == {1: 1, 2: 1}
    assert found.reasons == {"0004": "ConfigError: no such network"}
    assert found.balance == tuple(
        (name, part, n) for name in "ab" for part, n in (("train", 30), ("valid", 10), ("holdout", 10))
    )


def test_the_best_so_far_is_by_the_epochs_spent(run: Path) -> None:
    assert facts(run).improvements == (
        Improvement(1, 0.3, "0000", 1),
        Improvement(2, 0.5, "0000", 2),
        Improvement(3, 0.55, "0000", 3),
        Improvement(6, 0.6, "0002", 2),
    )


def test_epochs_are_in_the_order_in_which_they_ended_where_that_is_known(run: Path) -> None:
    for number, ends in ((0, (10, 40, 50)), (2, (20, 30, 60))):
        folder = run / "tune" / f"{number:04d}"
        folder.mkdir(parents=True)
        lines = [
            json.dumps(
                {"trial": folder.name, "training_iteration": epoch, "node_ip": "x", "pid": number, "timestamp": end}
                | {"seconds": 5, "kept_seconds": 0}
            )
            for epoch, end in enumerate(ends, 1)
        ]
        (folder / "result.json").write_text("\n".join(lines))
    assert [(one.epochs, one.value) for one in facts(run).improvements] == [(1, 0.3), (2, 0.4), (3, 0.6)]


def test_the_answer_says_what_was_found_and_what_flatters_it(run: Path) -> None:
    assert answer(facts(run)) == [
        "The best of 4 trials is trial 0002: 60.0 ± 11.0 % on 20 validation images (± one standard error over the "
        "images). As the luckiest of so many it looks better than it is: confirm it before you believe it.",
        "2 trials of 5 were stopped early, which saved 3 of 12 epochs.",  # of the failed trial there were none
        "1 trial failed; the first, 0004: ConfigError: no such network.",
    ]


def test_repeats_are_compared_over_seeds(run: Path) -> None:
    values = [[0.60], [0.50], [0.62], [0.52], [0.61], [0.51]]
    trials = [trial(number, "COMPLETE", one, lr=(0.01, 0.001)[number % 2]) for number, one in enumerate(values)]
    for number, (one,) in enumerate(values):
        folder = run / "trials" / f"{number:04d}"
        folder.mkdir(exist_ok=True)
        (folder / "metrics.csv").write_text(f"{HEADER}\n1,1,0.5,1,{one},0.01,10\n")
    found = gather(run, record(6, "none"), trials)
    assert answer(found)[0] == (
        # A difference of runs is at least an image's: so is the error, 1/20 over the root of three.
        "The best configuration over seeds is lr=0.01: 61.0 ± 2.9 % (3 seeds). Not told apart from it: lr=0.001."
    )
    assert found.effects is None  # they are compared as what they are


def test_what_was_confirmed_is_the_answer(run: Path) -> None:
    said = CONFIRMED | {"sentences": ["The winner is worth 55 %.", "How it is meant."]}
    (run / "confirm.json").write_text(json.dumps(said))
    assert answer(facts(run))[0] == "The winner is worth 55 %."


def test_a_confirmation_that_cannot_be_read_is_named(run: Path) -> None:
    (run / "confirm.json").mkdir()
    assert facts(run).notes == (f"{run}/confirm.json cannot be read (Is a directory).",)


def test_where_all_failed_it_is_said_and_why(run: Path) -> None:
    trials = [trial(number, "FAIL", []) for number in (4, 5)]
    found = gather(run, record(2), trials)
    assert answer(found) == ["All 2 trials failed; the first, 0004: ConfigError: no such network."]


def test_the_best_is_one_that_has_an_accuracy(run: Path) -> None:
    """The first of the leaderboard ran its course, but its metrics are gone."""
    (run / "trials" / "0000" / "metrics.csv").unlink()
    (run / "trials" / "0002" / "metrics.csv").unlink()
    assert answer(facts(run))[0].startswith("The best of 2 trials is trial 0003: 36.0 ± 10.7 % on 20 validation images")


def test_while_trials_are_to_come_the_best_is_so_far(run: Path) -> None:
    said = answer(facts(run, trials=9))[0]
    assert said.startswith("So far, the best of 4 trials is trial 0002: ") and said.endswith(
        "it looks better than it is."
    )


def test_a_choice_of_none_is_no_absence(run: Path) -> None:
    choices = {"lr": CategoricalDistribution((None, 0.1))}
    trials = []
    for number, (value, accuracy) in enumerate(((None, 0.6), (0.1, 0.5), (None, 0.62), (0.1, 0.51))):
        made = trial(number, "COMPLETE", [accuracy])
        made.params, made.distributions = {"lr": value}, dict(choices)
        trials.append(made)
        folder = run / "trials" / f"{number:04d}"
        (folder / "metrics.csv").write_text(f"{HEADER}\n1,1,0.5,1,{accuracy},0.01,10\n")
    assert answer(gather(run, record(4, "none"), trials))[0].startswith(
        "The best configuration over seeds is lr=None: "
    )


# A confirmation's row, which may lack nothing that a report reads.
ROW: dict[str, Any] = {
    "tried": {"name": "0002", "accuracies": {"7": 0.5}, "seconds": 1.5, "settings": {"lr": 0.01}},
    "fresh": {"value": 0.5, "low": 0.4, "high": 0.6},
    "error": 0.05,
    "best_probability": 0.7,
    "against_best": None,
    "against_default": {"value": 0.1, "margin": 0.2},
}
CONFIRMED: dict[str, Any] = {"rows": [ROW], "tied": ["0002"], "images": 20, "sentences": ["It is.", "How it is meant."]}


def test_a_whole_confirmation_is_read(run: Path) -> None:
    (run / "confirm.json").write_text(json.dumps(CONFIRMED))
    assert facts(run).confirmation == CONFIRMED


@pytest.mark.parametrize(
    "content",
    [
        [],
        CONFIRMED | {"sentences": []},
        CONFIRMED | {"sentences": ["It is.", 3]},
        CONFIRMED | {"tied": None},
        CONFIRMED | {"tied": [["0002"]]},
        CONFIRMED | {"rows": []},
        CONFIRMED | {"rows": [3]},
        *(CONFIRMED | {"rows": [{name: ROW[name] for name in ROW if name != gone}]} for gone in ROW),
        CONFIRMED | {"rows": [ROW | {"tried": {"name": "0002"}}]},
        CONFIRMED | {"rows": [ROW | {"fresh": {"value": 0.5, "low": 0.4, "high": math.nan}}]},
        CONFIRMED | {"rows": [ROW | {"against_best": {"value": "0.1", "margin": 0.2}}]},
    ],
)
def test_half_a_confirmation_is_damage(run: Path, content: Any) -> None:
    (run / "confirm.json").write_text(json.dumps(content))
    found = facts(run)
    (note,) = found.notes
    assert note.startswith(f"{run}/confirm.json is damaged (")
    assert note.endswith("); confirm the run again to have it made anew.")
    assert found.confirmation is None and answer(found)  # the rest is told all the same


@pytest.mark.parametrize(
    "text", [None, "", "Image,Label,Split\n", "Image,Label\na.png,a\n", "Image,Label,Split\na.png,a,other\n", "\xff"]
)
def test_a_damaged_split_is_named(run: Path, text: str | None) -> None:
    path = run / "splits.csv"
    path.unlink()
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError) as caught:
        facts(run)
    said = str(caught.value)
    assert said.startswith(f"{path} is missing or damaged (")
    assert said.endswith("; restore it from a copy, or delete it and resume the run, which makes it again.")


def test_parameters_that_are_no_numbers_are_unknown(run: Path) -> None:
    (run / "leaderboard.csv").write_text("trial,parameters\n0000,123\n0001,many\n0002,inf\n0003,\n")
    board = facts(run).board.set_index("trial")["parameters"]
    assert board["0000"] == 123
    assert board[["0001", "0002", "0003", "0004"]].isna().all()


def test_a_run_without_trials_has_no_answer_yet(run: Path) -> None:
    found = gather(run, record(), [])
    assert answer(found) == ["No trial has finished an epoch yet, so there is nothing to rank."]
    assert not found.ended


@pytest.mark.parametrize(("trials", "ended"), [(5, True), (6, False)])
def test_a_run_has_ended_when_all_its_trials_have(run: Path, trials: int, ended: bool) -> None:
    assert facts(run, trials=trials).ended is ended


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
