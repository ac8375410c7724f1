"""All that a finished or running search has to say, gathered once for the page and for programs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from optuna.trial import FrozenTrial

from results.audit import Audit, audit
from results.comparison import Compared, compared, seeds_of
from results.effects import Effects, effects
from results.leaderboard import (
    COLUMNS,
    counted_rows,
    error_over_images,
    is_audited,
    leaderboard,
    read_metrics,
    searched_columns,
)
from results.manifest import MANIFEST, read_manifest
from results.members import NUMBER, check_types
from results.predictions import Predictions, of_ensemble, of_trial
from results.timeline import Stretch, Use, sessions_of, steps, stretches, use
from results.weights import METHODS
from trainable.config import Objective, maximised
from trainable.errors import UserError, reason
from trainable.fit import Row, objective_value
from trainable.paths import trial_folder, trial_name
from trainable.untrusted import parse_json

CONFIRMATION = "confirm.json"


@dataclass(frozen=True)
class Curve:
    """A trial's epochs."""

    trial: str
    state: str
    accuracies: tuple[float, ...]  # on validation, an epoch each
    losses: tuple[float, ...]
    audited: tuple[float, ...] = ()  # the epochs after those, which were trained for the audit alone


@dataclass(frozen=True)
class Improvement:
    """A new best value of the search."""

    epochs: int  # of all trials together, until then
    value: float
    trial: str
    epoch: int  # of the trial


@dataclass(frozen=True)
class Facts:
    """A search as it stands."""

    run: Path
    name: str
    record: Mapping[str, Any]  # run.json
    objective: Objective
    epochs: int  # of a trial that runs its course
    states: Mapping[str, int]  # trials by state
    reasons: Mapping[str, str]  # why trials failed
    images: int  # that trials are ranked on
    board: pd.DataFrame  # the leaderboard
    curves: tuple[Curve, ...]
    rungs: Mapping[int, int]  # epochs after which trials were stopped, and how many
    improvements: tuple[Improvement, ...]
    spent: int  # epochs of all trials, without the audit's
    audit: Audit | None
    effects: Effects | None
    configurations: tuple[Compared, ...]  # where nothing was stopped early
    timeline: tuple[Stretch, ...]
    use: Use | None
    balance: tuple[tuple[str, str, int], ...]  # class, part, images
    predictions: tuple[Predictions, ...]  # of the best trial; and of the ensemble, if there is one
    ensemble: Mapping[str, Any] | None  # its manifest
    confirmation: Mapping[str, Any] | None  # confirm.json
    # How far a confirmation is that has begun and is not at its end, in words: `search.findings` knows.
    confirming: str | None
    notes: tuple[str, ...]  # what could not be had

    @property
    def ended(self) -> bool:
        """Whether all its trials are done."""
        open_trials = self.states.get("RUNNING", 0) + self.states.get("WAITING", 0)
        return open_trials == 0 and sum(self.states.values()) >= self.record["arguments"]["trials"]

    @property
    def repeated(self) -> bool:
        """Whether a configuration ran its course with several seeds: then they are compared as what they are."""
        return repeated(self.configurations)

    @property
    def ranked(self) -> pd.DataFrame:
        """The leaderboard's trials that have an accuracy and did not fail, the best first."""
        return ranked(self.board)

    @property
    def compared(self) -> int:
        """How many trials the best is the best of."""
        return len(self.ranked)

    @property
    def judged(self) -> str:
        """What trials are ranked on, in words."""
        return "images out of fold" if self.record["arguments"]["folds"] else "validation images"

    def error(self, accuracy: float) -> float:
        """One standard error of a trial's accuracy, over the images."""
        return error_over_images(accuracy, self.images)


def gather(run: Path, record: Mapping[str, Any], trials: Sequence[FrozenTrial]) -> Facts:
    """Reads a run, which may be under way.

    Args:
        run: its folder.
        record: its run.json.
        trials: of its study.
    Raises:
        UserError: where a file of it is damaged that there is no report without.
    """
    objective: Objective = record["objective"]
    rows = {trial.number: counted_rows(run, trial) for trial in trials}
    curves = [
        Curve(
            trial_name(trial.number),
            trial.state.name,
            tuple(row["valid_accuracy"] for row in rows[trial.number]),
            tuple(row["valid_loss"] for row in rows[trial.number]),
            _audited(run, trial, len(rows[trial.number])),
        )
        for trial in trials
    ]
    stopped = [len(curve.accuracies) for curve in curves if curve.state == "PRUNED"]
    states: dict[str, int] = {}
    for trial in trials:
        states[trial.state.name] = states.get(trial.state.name, 0) + 1
    board = leaderboard(run, trials, objective, {}) if trials else pd.DataFrame(columns=list(COLUMNS))
    counts: Mapping[str, int] = record["data"]["counts"]
    images = sum(counts.values()) if record["arguments"]["folds"] else counts["valid"]
    found = steps(run)
    improvements, spent = _improvements(rows, [(step.trial, step.epoch) for step in found], objective)
    configurations: list[Compared] = []
    if record["arguments"]["scheduler"] == "none" and trials:
        configurations = compared(board, searched_columns(board), images, seeds_of(trials))
    accuracies = {number: [row["valid_accuracy"] for row in own] for number, own in rows.items()}
    predictions, manifest, notes = _predictions(run, record, board)
    confirmation, damage = _confirmation(run)
    return Facts(
        run=run,
        name=run.resolve().name,
        record=record,
        objective=objective,
        epochs=record["arguments"]["epochs"],
        states=states,
        reasons={
            trial_name(trial.number): trial.user_attrs["end"]["reason"]
            for trial in trials
            if "reason" in trial.user_attrs.get("end", {})
        },
        images=images,
        board=board,
        curves=tuple(curves),
        rungs={epoch: stopped.count(epoch) for epoch in sorted(set(stopped))},
        improvements=improvements,
        spent=spent,
        audit=audit(run, trials, record),
        effects=None if repeated(configurations) else effects(trials, accuracies),
        configurations=tuple(configurations),
        timeline=tuple(stretches(found)),
        use=use(found, sessions_of(record)),
        balance=_balance(run, record["data"]),
        predictions=predictions,
        ensemble=manifest,
        confirmation=confirmation,
        confirming=None,
        notes=(*notes, *damage),
    )


def repeated(configurations: Sequence[Compared]) -> bool:
    """Whether one of the configurations has several accuracies."""
    return any(len(one.accuracies) > 1 for one in configurations)


def ranked(board: pd.DataFrame) -> pd.DataFrame:
    """The trials of a leaderboard that have an accuracy and did not fail."""
    return board[board["valid_accuracy"].notna() & (board["state"] != "FAIL")]


def _audited(run: Path, trial: FrozenTrial, counted: int) -> tuple[float, ...]:
    """The accuracies of the epochs that were trained for the audit alone."""
    if not is_audited(trial):
        return ()
    rows = read_metrics(trial_folder(run, trial_name(trial.number)) / "metrics.csv")
    return tuple(row["valid_accuracy"] for row in rows[counted:])


def _improvements(
    rows: Mapping[int, Sequence[Row]], order: Sequence[tuple[str, int]], objective: Objective
) -> tuple[tuple[Improvement, ...], int]:
    """When the search's best value rose, by epochs of all trials in the order of time; and how many there were.

    Args:
        order: trials and epochs as they ended, where that is known; the others come last, a trial after the other.
    """
    known = {(trial_name(number), int(row["epoch"])): row for number, own in rows.items() for row in own}
    ordered = dict.fromkeys([*(key for key in order if key in known), *known])
    sign = 1 if maximised(objective) else -1
    found: list[Improvement] = []
    for spent, key in enumerate(ordered, start=1):
        value = objective_value(known[key], objective)
        if math.isfinite(value) and (not found or sign * value > sign * found[-1].value):
            found.append(Improvement(spent, value, *key))
    return tuple(found), len(ordered)


def _balance(run: Path, data: Mapping[str, Any]) -> tuple[tuple[str, str, int], ...]:
    path, classes = run / "splits.csv", data["classes"]
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        sizes = table.groupby(["Label", "Split"]).size()
        parts = list(dict.fromkeys(table["Split"]))
        if set(parts) != set(data["counts"]):
            raise ValueError(f"its parts are {', '.join(parts) or 'none'}")
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{path} is missing or damaged ({reason(error)}); restore it from a copy, or delete it and resume the run, "
            "which makes it again."
        ) from None
    order = [part for part in ("train", "valid", "holdout") if part in parts] or sorted(parts)
    return tuple((name, part, int(sizes.get((name, part), 0))) for name in classes for part in order)


def _predictions(
    run: Path, record: Mapping[str, Any], board: pd.DataFrame
) -> tuple[tuple[Predictions, ...], dict[str, Any] | None, tuple[str, ...]]:
    """What the best trial and the ensemble said; the ensemble's manifest; and why a part of it cannot be had."""
    found: list[Predictions] = []
    manifest, notes = None, []
    classes, folds = record["data"]["classes"], record["arguments"]["folds"]
    try:
        if len(ranked(board)):
            best = of_trial(run, ranked(board).iloc[0]["trial"], classes, folds)
            found += [best] if best else []
    except UserError as error:
        notes.append(str(error))
    try:
        if (run / MANIFEST).is_file():
            read, home = read_manifest(run / MANIFEST)
            _check_scores(run / MANIFEST, read)
            manifest = read
            found.append(of_ensemble(home, manifest))
    except UserError as error:
        notes.append(str(error))
    return tuple(found), manifest, tuple(notes)


def _check_scores(path: Path, manifest: Mapping[str, Any]) -> None:
    """Raises UserError unless the scores that a report shows are in an ensemble's manifest."""
    try:
        for score in (manifest["scores"][row.name] for row in METHODS):
            for name in ("log_loss", "accuracy", "calibration_error", "accuracy_gain"):
                check_types(score[name], dict.fromkeys(("value", "low", "high"), NUMBER))
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} lacks scores, or is damaged ({reason(error)}).") from None


def _confirmation(run: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """confirm.json, or what is wrong with it."""
    path = run / CONFIRMATION
    try:
        found: dict[str, Any] = parse_json(path.read_text(encoding="utf-8"), finite=True)
        _check_confirmation(found)
    except FileNotFoundError:
        return None, []
    except OSError as error:
        return None, [f"{path} cannot be read ({reason(error)})."]
    except (ValueError, KeyError, TypeError) as error:
        return None, [f"{path} is damaged ({reason(error)}); confirm the run again to have it made anew."]
    return found, []


def _check_confirmation(found: Mapping[str, Any]) -> None:
    """Raises KeyError, TypeError or ValueError unless what a report reads is there and of its type."""
    check_types(found, {"rows": list, "sentences": list, "tied": list, "images": int})
    for name in ("sentences", "tied"):
        if not found[name] or not all(isinstance(text, str) for text in found[name]):
            raise ValueError(f"{name} are none, or no text")
    if not found["rows"]:
        raise ValueError("rows are none")
    for row in found["rows"]:
        check_types(row, {"tried": dict, "fresh": dict, "error": NUMBER, "best_probability": NUMBER})
        check_types(row["tried"], {"name": str, "accuracies": dict, "seconds": NUMBER, "settings": dict})
        check_types(row["fresh"], dict.fromkeys(("value", "low", "high"), NUMBER))
        for name in ("against_best", "against_default"):
            if row[name] is not None:
                check_types(row[name], {"value": NUMBER, "margin": NUMBER})
