"""What a search has to say, of a run whose figures are known."""

import json
import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from results.answer import answer
from results.facts import Facts, Improvement, gather
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


def test_what_was_confirmed_is_the_answer(run: Path) -> None:
    said = CONFIRMED | {"sentences": ["The winner is worth 55 %.", "How it is meant."]}
    (run / "confirm.json").write_text(json.dumps(said))
    assert answer(facts(run))[0] == "The winner is worth 55 %."


def test_a_confirmation_that_cannot_be_read_is_named(run: Path) -> None:
    (run / "confirm.json").mkdir()
    assert facts(run).notes == (f"{run}/confirm.json cannot be read (Is a directory).",)


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


@pytest.mark.parametrize(("trials", "ended"), [(5, True), (6, False)])
def test_a_run_has_ended_when_all_its_trials_have(run: Path, trials: int, ended: bool) -> None:
    assert facts(run, trials=trials).ended is ended


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
