"""Commands that benchmarks run, and what a search's own records say of its time."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from search.study import JOURNAL, open_storage


@dataclass(frozen=True)
class Finished:
    """A command that went well."""

    started: float  # seconds since 1970
    seconds: float  # wall-clock
    said: str  # on stdout


def start(module: str, options: Mapping[str, object]) -> "subprocess.Popen[str]":
    """Starts `python -m MODULE --NAME VALUE ...`; True is an option without a value, None one that is not given."""
    given = {name: value for name, value in options.items() if value is not None}
    words = [[f"--{name}"] if value is True else [f"--{name}", str(value)] for name, value in given.items()]
    # Each has a Ray of its own.
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-m", module, *(word for pair in words for word in pair)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run(module: str, options: Mapping[str, object]) -> Finished:
    """Runs a command to its end. Ends this one, showing what that one said, where it fails."""
    started = time.time()
    process = start(module, options)
    said, _ = process.communicate()
    check(module, process, said)
    return Finished(started, time.time() - started, said)


def check(module: str, process: "subprocess.Popen[str]", said: str) -> None:
    """Ends this command where that one failed."""
    if process.returncode:
        sys.exit(f"{module} ended with code {process.returncode}:\n{said[-4000:]}")


def compared(pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """(ours, peer's) seconds, pair by pair, with the ratio of the peer's over ours."""
    ratios = [theirs / mine for mine, theirs in pairs]
    return {
        "ours": [round(mine, 2) for mine, _ in pairs],
        "peer": [round(theirs, 2) for _, theirs in pairs],
        "ratio_median": round(statistics.median(ratios), 2),
        "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
    }


def frozen_trials(run: Path) -> list[FrozenTrial]:
    """The trials of a run's study, in the order of their numbers."""
    storage = open_storage(run / JOURNAL)
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)


@dataclass(frozen=True)
class Trial:
    """Where the time of a trial of a search went, by the records of its worker. Seconds."""

    name: str
    worker: int  # the process
    ended: float  # since 1970, when the driver had heard of its last epoch
    epochs: tuple[Mapping[str, float], ...]  # rows as ConvNetTrial gives them

    @property
    def began(self) -> float:
        """Since 1970: the first training step."""
        first, *later = self.epochs
        after = sum(row["seconds"] + row["kept_seconds"] + row["lost_seconds"] for row in later)
        return self.ended - first["seconds"] - first["kept_seconds"] - after

    @property
    def trained(self) -> float:
        """Training and validation."""
        return sum(row["seconds"] - row["beside_seconds"] for row in self.epochs)

    @property
    def kept(self) -> float:
        """Writing checkpoints, logits and metrics, also beside training."""
        return sum(row["kept_seconds"] + row["beside_seconds"] for row in self.epochs)

    @property
    def before(self) -> float:
        """From the worker's step before it (or the worker's start) to the first training step: the message, the
        network, the optimiser."""
        return self.epochs[0]["lost_seconds"]

    @property
    def between_epochs(self) -> float:
        """Lost between its epochs."""
        return sum(row["lost_seconds"] for row in self.epochs[1:])


def trials_of(run: Path) -> list[Trial]:
    """The trials of a run that was made in one session, in the order of their first steps."""
    trials = []
    for frozen in frozen_trials(run):
        name = f"{frozen.number:04d}"
        rows = [json.loads(line) for line in (run / "tune" / name / "result.json").read_text().splitlines()]
        if frozen.datetime_complete is None or not all("kept_seconds" in row for row in rows):
            sys.exit(f"{run}: trial {name} did not end, failed, or was resumed; its time says nothing.")
        trials.append(Trial(name, rows[0]["pid"], frozen.datetime_complete.timestamp(), tuple(rows)))
    return sorted(trials, key=lambda trial: trial.began)
