"""What must hold of a run's folder, whatever has happened to the search.

`history` reads the folder, and each rule is a function from that to what is wrong, in sentences; none if all is well.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from optuna.storages.journal._storage import JournalOperation
from optuna.trial import FrozenTrial, TrialState

from results.leaderboard import read_metrics
from results.rungs import rungs
from search.study import JOURNAL, watched_trials
from trainable.checkpoint import checkpoint_names, file_hash, load_best
from trainable.config import Objective
from trainable.errors import UserError
from trainable.fit import Row, merit, objective_value
from trainable.paths import trial_name

TEMPORARY = ".tmp"  # a killed writer's, which nobody reads
ENDS = ("COMPLETE", "PRUNED", "FAIL")


@dataclass(frozen=True)
class Told:
    """What the study says of a trial."""

    state: str
    values: Mapping[int, float]  # the objective's, by epoch
    end: Mapping[str, Any] | None  # as search.study writes it ahead


@dataclass(frozen=True)
class Files:
    """What a trial's folder holds."""

    rows: Sequence[Row]  # of metrics.csv
    best_epoch: int | None  # by its checkpoint; None: it has none
    logits_of_best: bool  # whether logits.npz is of that checkpoint, finite
    has_holdout: bool
    left_over: tuple[str, ...]  # files that an ended trial does not have


@dataclass(frozen=True)
class History:
    """All that a run's folder says of its search. By trial, where nothing else is said."""

    trials: int  # that the search was to have
    epochs: int  # of one that runs its course
    scheduler: str
    objective: Objective
    told: Mapping[str, Told]
    ends: Mapping[str, Sequence[str]]  # each end state that was written into the journal
    steps: Mapping[str, Sequence[int]]  # each epoch whose value was written into the journal
    files: Mapping[str, Files]
    trained: Mapping[str, Sequence[int]]  # the epochs that Ray heard had just been trained, in that order
    ranked: Sequence[tuple[str, str, int]]  # trial, state, epochs: the rows of leaderboard.csv; empty: there is none


def history(run: Path) -> History:
    """Reads a run's folder, whose command has ended.

    Raises: UserError for a study or metrics that are damaged; OSError, ValueError or KeyError where a part is missing.
    """
    record = json.loads((run / "run.json").read_text())
    arguments = record["arguments"]
    ends: dict[str, list[str]] = {}
    steps: dict[str, list[int]] = {}
    names: list[str] = []  # by Optuna's trial id, which counts from 0 in a journal of one study
    for line in (run / JOURNAL).read_text().splitlines():
        log = json.loads(line)
        if log["op_code"] == JournalOperation.CREATE_TRIAL:
            names.append(trial_name(len(names)))
        elif log["op_code"] == JournalOperation.SET_TRIAL_STATE_VALUES:
            state = TrialState(log["state"])
            if state.is_finished():
                ends.setdefault(names[log["trial_id"]], []).append(state.name)
        elif log["op_code"] == JournalOperation.SET_TRIAL_INTERMEDIATE_VALUE:
            steps.setdefault(names[log["trial_id"]], []).append(log["step"])
    return History(
        trials=arguments["trials"],
        epochs=arguments["epochs"],
        scheduler=arguments["scheduler"],
        objective=record["objective"],
        told=acknowledged(run),
        ends=ends,
        steps=steps,
        files={folder.name: _files(folder) for folder in sorted(run.glob("trials/*"))},
        trained={path.parent.name: _trained(path) for path in sorted(run.glob("tune/*/result.json"))},
        ranked=_ranked(run / "leaderboard.csv"),
    )


def acknowledged(run: Path) -> dict[str, Told]:
    """What the study says, also of a search that has not ended: none of it may be lost."""
    return {trial_name(trial.number): _told(trial) for trial in watched_trials(run)}


def _told(trial: FrozenTrial) -> Told:
    return Told(trial.state.name, dict(trial.intermediate_values), trial.user_attrs.get("end"))


def _files(folder: Path) -> Files:
    (checkpoint,) = checkpoint_names(1)
    names = {path.name for path in folder.iterdir() if not path.name.endswith(TEMPORARY)}
    best = load_best(folder / checkpoint).epoch if checkpoint in names else None
    of_best, has_holdout = False, False
    if "logits.npz" in names:
        with np.load(folder / "logits.npz", allow_pickle=False) as arrays:
            logits = {name: arrays[name] for name in arrays.files}
        finite = all(np.isfinite(logits[name]).all() for name in ("valid", "holdout") if name in logits)
        of_best = finite and logits["checkpoints"].tolist() == [file_hash(folder / checkpoint)]
        has_holdout = "holdout" in logits
    known = {"config.json", "metrics.csv", "error.txt", "logits.npz", checkpoint}
    return Files(read_metrics(folder / "metrics.csv"), best, of_best, has_holdout, tuple(sorted(names - known)))


def _trained(path: Path) -> list[int]:
    """The epochs in a result.json of Ray's; a line that a kill has torn is left out."""
    found = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if "kept_seconds" in row:
            found.append(int(row["training_iteration"]))
    return found


def _ranked(path: Path) -> list[tuple[str, str, int]]:
    if not path.exists():
        return []
    table = pd.read_csv(path, dtype={"trial": str})
    return [(row["trial"], row["state"], int(row["epochs"])) for _, row in table.iterrows()]


def each_trial_ends_once(run: History) -> list[str]:
    """All trials that were asked for are there, each with one end state, which was written once."""
    wrong = []
    expected = {trial_name(number) for number in range(run.trials)}
    if set(run.told) != expected:
        wrong.append(f"the study has the trials {sorted(run.told)}, not {sorted(expected)}")
    for name, told in run.told.items():
        if told.state not in ENDS:
            wrong.append(f"trial {name} is {told.state}")
        if list(run.ends.get(name, [])) != [told.state]:
            wrong.append(f"trial {name} is {told.state}, and was ended as {run.ends.get(name, [])}")
        if told.end is None or told.end["state"] != told.state:
            wrong.append(f"trial {name} is {told.state}, and its end is {told.end}")
    return wrong


def epochs_are_consecutive(run: History) -> list[str]:
    """In each trial's metrics, and in the study, which was told each once."""
    wrong = []
    for name, told in run.told.items():
        rows = [int(row["epoch"]) for row in run.files[name].rows] if name in run.files else []
        if rows != list(range(1, len(rows) + 1)):
            wrong.append(f"trial {name}: metrics.csv has the epochs {rows}")
        steps = list(run.steps.get(name, []))
        if steps != list(range(1, len(steps) + 1)):
            wrong.append(f"trial {name}: the study was told the epochs {steps}")
        if told.state != "FAIL" and rows != steps:
            wrong.append(f"trial {name}: metrics.csv has {len(rows)} epochs, and the study was told {len(steps)}")
    return wrong


def ends_are_where_trials_end(run: History) -> list[str]:
    """A trial is complete after its last epoch, and stopped only after one at which the scheduler compares."""
    wrong = []
    judged = rungs(run.epochs) if run.scheduler == "asha" else []
    for name, told in run.told.items():
        last = max(told.values, default=0)
        if told.state == "COMPLETE" and last != run.epochs:
            wrong.append(f"trial {name} is complete after epoch {last} of {run.epochs}")
        if told.state == "PRUNED" and last not in judged:
            wrong.append(f"trial {name} was stopped after epoch {last}, and {run.scheduler} compares after {judged}")
    return wrong


def values_are_the_metrics(run: History) -> list[str]:
    """What the study was told of an epoch is what its trial's files say."""
    wrong = []
    for name, told in run.told.items():
        rows = run.files[name].rows if name in run.files else []
        metrics = {int(row["epoch"]): objective_value(row, run.objective) for row in rows}
        for epoch, value in told.values.items():
            if not math.isclose(metrics.get(epoch, math.nan), value, rel_tol=1e-12):
                wrong.append(f"trial {name}, epoch {epoch}: told {value}, and metrics.csv has {metrics.get(epoch)}")
    return wrong


def files_are_whole(run: History) -> list[str]:
    """A trial's network is its best epoch's, its logits are that network's, and nothing else is left."""
    wrong = []
    for name, files in run.files.items():
        if files.left_over:
            wrong.append(f"trial {name} has ended, and has left {', '.join(files.left_over)}")
        if name not in run.told:
            wrong.append(f"the study knows nothing of trial {name}, which has a folder")
            continue
        state = run.told[name].state
        if state == "FAIL" or not files.rows:
            continue
        best = int(max(files.rows, key=lambda row: merit(row, run.objective))["epoch"])
        if files.best_epoch != best:
            wrong.append(f"trial {name}: its network is of epoch {files.best_epoch}, and the best is {best}")
        if not files.logits_of_best:
            wrong.append(f"trial {name}: its logits are not its network's")
        if state == "COMPLETE" and not files.has_holdout:
            wrong.append(f"trial {name} is complete, and has no logits of the holdout")
    return wrong


def the_leaderboard_has_each_trial_once(run: History) -> list[str]:
    """With its state and its epochs."""
    expected = Counter(
        (name, told.state, len(run.files[name].rows) if name in run.files else 0) for name, told in run.told.items()
    )
    ranked = Counter(run.ranked)
    wrong = [f"leaderboard.csv has {row} {ranked[row]} times" for row in ranked if ranked[row] != expected[row]]
    return wrong + [f"leaderboard.csv lacks {row}" for row in expected if row not in ranked]


RULES: tuple[Callable[[History], list[str]], ...] = (
    each_trial_ends_once,
    epochs_are_consecutive,
    ends_are_where_trials_end,
    values_are_the_metrics,
    files_are_whole,
    the_leaderboard_has_each_trial_once,
)


def budget_is_kept(run: History, kills: int, damaged: Collection[str] = ()) -> list[str]:
    """No trial was trained for more epochs than it has but one for each kill; each time that a file of its was damaged
    it may have begun anew."""
    times = Counter(damaged)
    wrong = []
    for name, trained in run.trained.items():
        more = len(trained) - len(set(trained))
        allowed = kills + run.epochs * times[name]
        if more > allowed:
            wrong.append(f"trial {name}: {more} epochs were trained again after {kills} kills: {list(trained)}")
    return wrong


def nothing_is_lost(before: Mapping[str, Told], after: Mapping[str, Told]) -> list[str]:
    """What the study had been told is what it says later."""
    wrong = []
    for name, then in before.items():
        now = after.get(name)
        if now is None:
            # A trial that was half asked for is asked for again, and the search may have its trials without.
            if then.values or then.end:
                wrong.append(f"trial {name} has gone from the study")
            continue
        if any(now.values.get(epoch) != value for epoch, value in then.values.items()):
            wrong.append(f"trial {name} was told {dict(then.values)}, and has {dict(now.values)}")
        if then.end is not None and now.end != then.end:
            wrong.append(f"trial {name} ended as {then.end}, and then as {now.end}")
    return wrong


def numbers_are_those_of(run: History, unbroken: History) -> list[str]:
    """Each trial's metrics are, bit for bit, those of the same trial of a search in which nothing happened and no trial
    was stopped, as far as it came."""
    wrong = []
    for name, files in run.files.items():
        expected = unbroken.files[name].rows[: len(files.rows)]
        if [_without_seconds(row) for row in files.rows] != [_without_seconds(row) for row in expected]:
            wrong.append(f"trial {name}: its metrics are not those of a search that nothing happened to")
    return wrong


def _without_seconds(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "seconds"}


def check(
    run: Path,
    kills: int,
    damaged: Collection[str],
    before: Sequence[Mapping[str, Told]],
    unbroken: History | None,
) -> list[str]:
    """All that is wrong with a run whose search has said that it is done.

    Args:
        kills: that may have cost an epoch.
        damaged: a trial for each file that was damaged.
        before: what the study had been told at moments on the way.
        unbroken: as for `numbers_are_those_of`; None: that is not asked.
    """
    try:
        found = history(run)
    except (UserError, OSError, ValueError, KeyError) as error:
        return [f"the run cannot be read: {type(error).__name__}: {error}"]
    wrong = [sentence for rule in RULES for sentence in rule(found)]
    wrong += budget_is_kept(found, kills, damaged)
    wrong += [sentence for then in before for sentence in nothing_is_lost(then, found.told)]
    return wrong + (numbers_are_those_of(found, unbroken) if unbroken else [])
