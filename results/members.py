"""Runs as the search left them, and the trials in them that can be an ensemble's members.

M members, N holdout images, C classes.
"""

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from results.tree import check_tree
from trainable.checkpoint import checkpoint_names, file_hash
from trainable.config import Objective, maximised
from trainable.csv_table import INTEGER_COLUMNS
from trainable.errors import UserError, nearest, other_format, reason
from trainable.logits import NAME, has_holdout
from trainable.paths import trial_folder
from trainable.untrusted import parse_json, read_arrays

FORMAT = 2  # of run.json
SEEDS = 3  # of a configuration before others have a turn, see `_in_turns`
TRIAL = re.compile(r"[0-9]{4,9}")  # its name is that of a folder
FAILED = "FAIL"  # the state of a trial that is never a member
DATA_KEYS = (
    "source",
    "cache",
    "classes",
    "counts",
    "fingerprint",
    "split_fingerprint",
)  # what is read of its part on data
NUMBER = (int, float)
ARGUMENTS = {  # what is read of the options that it was made with, and their types
    "data": str,
    "inputs": list,
    "target": (str, type(None)),
    "age_groups": str,
    "split": str,
    "folds": int,
    "seed": int,
    "precision": str,
    "max_concurrent": (int, type(None)),
    "cpus_per_trial": NUMBER,
    "gpus_per_trial": (*NUMBER, type(None)),
}


@dataclass(frozen=True)
class Run:
    """A run's folder and what its record says."""

    folder: Path
    record: Mapping[str, Any]  # run.json
    leaderboard: Sequence[Mapping[str, str]]  # rows by rank
    holdout_ids: tuple[str, ...]  # N, in the order of splits.csv
    holdout_labels: NDArray[np.int64]  # (N,)

    @property
    def objective(self) -> Objective:
        """What the leaderboard ranks by."""
        objective: Objective = self.record["objective"]
        return objective

    @property
    def folds(self) -> int:
        """How many folds a trial trains over; 0: none, and the holdout is a part that no trial saw."""
        counts = self.data["counts"]
        return 0 if "holdout" in counts else len(counts)

    @property
    def data(self) -> Mapping[str, Any]:
        """What run.json says about the data."""
        data: Mapping[str, Any] = self.record["data"]
        return data


@dataclass(frozen=True)
class Member:
    """One trial's best network, or the networks of its folds."""

    run: Run
    trial: str
    state: str  # of the trial: COMPLETE, or how far it came
    value: float  # the objective on validation
    checkpoints: tuple[Path, ...]  # one, or one a fold, whose logits are averaged
    sha256: tuple[str, ...]  # of the checkpoint files
    logits: NDArray[np.float32]  # (N, C) on the holdout; with folds on every row, by the network that did not learn it
    refit: Path | None = None  # the checkpoint of the same configuration trained on all rows, which predicts instead

    @property
    def predicting(self) -> tuple[Path, ...]:
        """The checkpoints that the submission is made with."""
        return self.checkpoints if self.refit is None else (self.refit,)


def find_run(name: str | None, out: Path) -> Path:
    """The folder of the run called `name`: a path, or a name below `out`; None is the one worked on last.

    Raises: UserError, with the nearest name, where there is no such run.
    """
    runs = {record.parent.name: record.parent for record in sorted(out.glob("*/run.json"))}
    if name is None:
        if not runs:
            raise UserError(f"{out} has no runs yet; make one with: python -m search.run")
        return max(runs.values(), key=_last_change)
    for folder in (Path(name), out / name):
        if (folder / "run.json").exists():  # what it is, is said by what reads the run
            return folder
    if Path(name).is_dir():
        raise UserError(f"{name} is not a run's folder: it has no run.json.")
    if Path(name).name != name:
        raise UserError(f"RUN: there is no folder {name}.")
    raise UserError(f"RUN: {out} has no run called '{name}'{nearest(name, runs) or '.'}")


def with_confirmation(folder: Path) -> tuple[Path, ...]:
    """A run's folder, then those of the runs that confirm it and have a leaderboard."""
    return (folder, *(board.parent for board in sorted(folder.glob("confirm/*/leaderboard.csv"))))


def run_name(folder: Path) -> str:
    """What a run is called beside others: faces, or faces/confirm/1 of a part of its confirmation."""
    whole = folder.resolve()
    return "/".join(whole.parts[-3:]) if whole.parent.name == "confirm" else whole.name


def load_run(folder: Path) -> Run:
    """Reads a run's record, splits and leaderboard. Raises UserError, naming the file, where one is unusable, or as
    `check_tree` does."""
    path = folder / "run.json"
    if path.exists():  # else it is no run's: an ensemble may name any folder, with the whole disk below it
        check_tree(folder)
    try:
        record = parse_json(path.read_text())
        if record["format"] != FORMAT:
            raise UserError(other_format(path, record["format"], FORMAT))
        _ = [record["objective"], *(record["data"][key] for key in DATA_KEYS)]
        check_types(record["data"], {"cache": str, "classes": list})
        check_classes(record["data"]["classes"])
        check_types(record["arguments"], ARGUMENTS)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not the record of a run, or is damaged ({reason(error)}).") from None
    path = folder / "splits.csv"
    rows = _rows(path, ("Image", "Label", "Split"))
    # With folds every image is judged by a network that did not learn from it, so that all are as good as held out.
    holdout = [row for row in rows if row["Split"] == "holdout" or row["Split"].startswith("fold")]
    if len(holdout) < 2:
        raise UserError(
            f"{path} has fewer than two holdout images: none to fit weights on and others to score them on."
        )
    labels = {name: label for label, name in enumerate(record["data"]["classes"])}
    unknown = [row["Label"] for row in holdout if row["Label"] not in labels]
    if unknown:
        raise UserError(f"{path} has the label '{unknown[0]}', which {folder / 'run.json'} does not list as a class.")
    path = folder / "leaderboard.csv"
    board = _rows(path, ("trial", "state"))
    strange = [row["trial"] for row in board if not TRIAL.fullmatch(row["trial"])]
    if strange:
        raise UserError(f"{path} has a trial called {strange[0]!r}, which no search makes.")
    return Run(
        folder,
        record,
        board,
        tuple(row["Image"] for row in holdout),
        np.array([labels[row["Label"]] for row in holdout], np.int64),
    )


def check_comparable(runs: Sequence[Run]) -> None:
    """Raises UserError, naming what differs, unless all runs have the same data, split and objective."""
    first = runs[0]
    for other in runs[1:]:
        for what, one, two in (
            ("data", first.data["fingerprint"], other.data["fingerprint"]),
            ("split", first.data["split_fingerprint"], other.data["split_fingerprint"]),
            ("objective", first.objective, other.objective),
        ):
            if one != two:
                one_read, two_read = _columns(first), _columns(other)
                if what == "data" and one_read != two_read:  # the fingerprint is of the columns that are read, too
                    raise UserError(
                        f"{first.folder} reads the columns {one_read} and {other.folder} {two_read}, so that "
                        "their data cannot be compared; search with the same --inputs and --target to combine runs."
                    )
                raise UserError(
                    f"{first.folder} and {other.folder} differ in {what} ({one} and {two}); "
                    "an ensemble needs runs on the same data, the same split and the same objective."
                )


def ranked_trials(runs: Sequence[Run]) -> tuple[tuple[Run, str], ...]:
    """The trials by validation, best first, but in turns for configurations of many seeds.

    How far a trial came does not count: one that was stopped late may be better than one that ran its course, and an
    early-stopping search has few of the latter. One that failed is not among them, whatever it has left; one whose
    logits were lost is. Nor is one that was audited: its best network may be of an epoch after the one at which it was
    to be stopped, which nobody shall know.

    Args:
        runs: comparable ones. Equals are in the order of the runs and of their leaderboards.
    Raises: UserError where no trial has left logits, or a value is no number.
    """
    ranked = [
        (run, row)
        for run in runs
        for row in run.leaderboard
        if row["state"] != FAILED
        and not row.get("audited")
        and _cell(run, row)  # a trial that goes on may have left its first logits before the leaderboard has its value
    ]
    if not any(_logits(run, row["trial"]).is_file() for run, row in ranked):
        folders = ", ".join(str(run.folder) for run in runs)
        raise UserError(f"{folders}: no trial has finished an epoch without failing, so there is nothing to combine.")
    ranked.sort(key=lambda pair: _value(*pair), reverse=maximised(runs[0].objective))  # stable
    return _in_turns([(run, row["trial"]) for run, row in ranked])


def _in_turns(ranked: Sequence[tuple[Run, str]]) -> tuple[tuple[Run, str], ...]:
    """Of each configuration the first SEEDS that it was trained with, then the next of each.

    After a confirmation the seeds of the best two could take all places. But which of a configuration's seeds did best
    is luck. A mean over three of them has a third of the variance that is between them, and a fourth would take a
    twelfth more; another configuration errs elsewhere.
    """
    seeds: dict[str, dict[int, int]] = {}  # of each configuration, in their order
    turns = []
    for run, trial in ranked:
        try:
            config = parse_json((trial_folder(run.folder, trial) / "config.json").read_text(encoding="utf-8"))
            seed, key = config.pop("seed"), json.dumps(config, sort_keys=True)
        except (OSError, ValueError, KeyError, AttributeError):  # then it is taken to be the only one of its kind
            seed, key = 0, str(run.folder / trial)
        own = seeds.setdefault(key, {})
        turns.append(own.setdefault(seed, len(own)) // SEEDS)  # a copy of a run has the same seeds
    return tuple(ranked[place] for place in sorted(range(len(ranked)), key=turns.__getitem__))


def distinct_trials(runs: Sequence[Run], count: int) -> tuple[tuple[tuple[Run, str], ...], tuple[str, ...]]:
    """The best `count` trials, each network once, and a line for each run and reason of which trials were left out.

    The same network comes twice where a run was copied; of two, the later in the order of `ranked_trials` is left out.
    So is a trial whose logits were lost.

    Args:
        runs: as for `ranked_trials`.
        count: at least 1; fewer are returned where there are fewer.
    Raises: UserError as `ranked_trials` and `checkpoint_paths` do.
    """
    chosen: dict[tuple[str, ...], tuple[Run, str]] = {}
    left_out: dict[tuple[Path, str], list[str]] = {}
    for run, trial in ranked_trials(runs):
        if len(chosen) == count:
            break
        if not _logits(run, trial).is_file():
            left_out.setdefault((run.folder, "logits.npz is missing"), []).append(trial)
            continue
        network = _hashes(checkpoint_paths(run, trial))
        if network in chosen:
            left_out.setdefault((run.folder, "the same network is a member already"), []).append(trial)
        else:
            chosen[network] = run, trial
    notes = [
        f"{folder}: {'trial' if len(trials) == 1 else 'trials'} {', '.join(trials)} left out, as {reason}."
        for (folder, reason), trials in left_out.items()
    ]
    return tuple(chosen.values()), tuple(notes)


def without_holdout(trials: Iterable[tuple[Run, str]]) -> tuple[tuple[Run, str], ...]:
    """Those of some trials that were stopped before they came to the holdout."""
    return tuple((run, trial) for run, trial in trials if not has_holdout(_logits(run, trial)))


def checkpoint_paths(run: Run, trial: str) -> tuple[Path, ...]:
    """The checkpoints of a trial's best epoch, one or one a fold. Raises UserError where one is missing."""
    paths = tuple(trial_folder(run.folder, trial) / name for name in checkpoint_names(run.folds or 1))
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path} does not exist.")
    return paths


def load_member(run: Run, trial: str) -> Member:
    """Reads a trial's holdout logits and hashes its checkpoint.

    Raises: UserError, naming the file, where one is missing, damaged, of another split or of another epoch.
    """
    row = next((row for row in run.leaderboard if row["trial"] == trial), None)
    if row is None:
        raise UserError(f"{run.folder / 'leaderboard.csv'} has no trial {trial}.")
    checkpoints = checkpoint_paths(run, trial)
    sha256 = _hashes(checkpoints)
    path = _logits(run, trial)
    try:
        logits, ids, source = read_arrays(path, "holdout", "holdout_ids", "checkpoints")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is missing or damaged ({error}).") from None
    if (logits.ndim, logits.dtype.kind, ids.ndim, source.ndim) != (2, "f", 1, 1):
        raise UserError(f"{path} is damaged (its arrays are of another kind).")
    if tuple(source.tolist()) != sha256:  # the trial was killed between writing the one and the other
        raise UserError(f"{run.folder}, trial {trial}: its logits are not its checkpoint's; resume the run.")
    if tuple(ids.tolist()) != run.holdout_ids:
        raise UserError(f"{path} holds other holdout images than {run.folder / 'splits.csv'}.")
    if logits.shape != (len(ids), len(run.data["classes"])) or not np.isfinite(logits).all():
        raise UserError(f"{path} has holdout logits that are not finite, or not one for each image and class.")
    return Member(run, trial, row["state"], _value(run, row), checkpoints, sha256, logits)


def trials_compared(runs: Sequence[Run]) -> int:
    """How many trials the best one is the best of: all that have a validation value.

    The same row in two runs, but for its rank, is one trial in a run and in its copy.
    """
    first, *others = [
        {
            tuple((name, cell) for name, cell in row.items() if name != "rank")
            for row in run.leaderboard
            if _cell(run, row)
        }
        for run in runs
    ]
    return len(first.union(*others))


def check_types(part: Mapping[str, Any], types: Mapping[str, Any]) -> None:
    """Raises KeyError or TypeError unless each name is in a part of a JSON file, with a value of its type."""
    for name, expected in types.items():
        if not isinstance(part[name], expected):
            raise TypeError(f"{name} is {part[name]!r}")


def check_classes(classes: Sequence[Any]) -> None:
    """Raises ValueError unless the names of classes are texts that differ."""
    if not all(isinstance(name, str) for name in classes) or len(set(classes)) < len(classes):
        raise ValueError("the classes are no texts that differ")


def _hashes(checkpoints: Sequence[Path]) -> tuple[str, ...]:
    return tuple(map(file_hash, checkpoints))


def _logits(run: Run, trial: str) -> Path:
    return trial_folder(run.folder, trial) / NAME


def _columns(run: Run) -> str:
    """The metadata columns that its fingerprint is of, where the data have them; the first three are always read."""
    said = run.record["arguments"]
    own = {*said["inputs"], *([said["target"]] if said["target"] else [])}
    return ", ".join([*INTEGER_COLUMNS, *sorted(own - set(INTEGER_COLUMNS))])


def _cell(run: Run, row: Mapping[str, str]) -> str:
    """The objective's value in a row of the leaderboard, '' for none; as `trainable.fit.objective_value` has it."""
    value = row.get(run.objective, "")
    return value or row.get("valid_loss", "") if run.objective == "valid_objective_loss" else value


def _value(run: Run, row: Mapping[str, str]) -> float:
    try:
        return float(_cell(run, row))
    except ValueError:
        path = run.folder / "leaderboard.csv"
        raise UserError(f"{path}: trial {row['trial']} has no {run.objective}.") from None


def _last_change(folder: Path) -> float:
    files = (folder / "run.json", folder / "leaderboard.csv", folder / "confirm.json")
    return max(file.stat().st_mtime for file in files if file.exists())


def _rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a run's CSV file that has at least the given columns. Raises UserError where it is unusable."""
    remedy = "restore it from a copy"
    if path.name == "leaderboard.csv":
        remedy += ", or resume the run, which writes it anew"
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; the run has not come that far, or is not complete.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is damaged ({error}); {remedy}.") from None
    missing = [name for name in columns if name not in (reader.fieldnames or ())]
    if missing:
        raise UserError(f"{path} has no column {missing[0]}.")
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise UserError(f"{path} is damaged (row {number} has not a cell for each column); {remedy}.")
    return rows
