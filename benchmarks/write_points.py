"""A search with an audit, its confirmation and its ensemble, killed at every write point and gone on with.

    python -m benchmarks.write_points --folder points

`python -m search.run --audit --confirm --ensemble --test` is run once unbroken, which counts its write points (see
killable.py: Ray and the training are stood in for, all else is real). Then

- one run is killed again and again, at the first point of each kind that it comes to;
- of one run the worker alone is killed, at each of its points;
- each point has a run of its own, whose driver and worker are killed there.

A run that was killed is gone on with by the same command, with --resume where there is something to resume. What each
leaves must be what the unbroken run left: the study, and every file below the run byte for byte, but for moments,
processes and the sessions of run.json.

It says which points failed, and ends with code 1 where any did.
"""

import argparse
import json
import os
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from optuna.storages.journal._storage import JournalOperation

from benchmarks.figures import Figure, Goal, Machine, finish, parser
from benchmarks.killable import KILLED, Point, Watch, command, points_of, without_ray
from benchmarks.pictures import SIZE, write_images
from benchmarks.runs import frozen_trials
from search.run import main as search_main
from search.study import JOURNAL

SPACE = """
from spaces.space import Space
from trainable.config import TrialConfig

def sample(trial):
    return TrialConfig(
        depth=4,
        widths=(4, 4, 4, 4),
        head_width=4,
        dropout=(0.0, 0.0, 0.0, trial.suggest_float("dropout_4", 0.0, 0.5)),
        lr=trial.suggest_categorical("lr", [1e-4, 1e-3, 1e-2, 1e30]),
    )

SPACE = Space("points", "narrow networks; one of the learning rates cannot work", sample, starts=[{"lr": 1e-3}])
"""
SEED = 15
IMAGES, TEST_IMAGES = 60, 5
NAME = "run"
OWN = {JOURNAL, "run.json", ".lock"}  # files in which moments, processes or sessions stand


@dataclass(frozen=True)
class Place:
    """Where a command is run, again and again.

    Attributes:
        home: with the images, the space, and below it a folder for each run.
    """

    home: Path

    def prepare(self) -> None:
        """Writes the images and the space."""
        self.home.mkdir(parents=True, exist_ok=True)
        write_images(self.home, IMAGES)
        tests = "".join(f"{number}.png\n" for number in range(TEST_IMAGES))
        (self.home / "test.csv").write_text(f"Image\n{tests}")
        (self.home / "points.py").write_text(SPACE)

    def options(self, name: str, resume: bool) -> list[str]:
        """The command's, of the run in the folder of that name."""
        folder = self.home / name
        shared = ["--out", f"{folder}/runs", "--cache", f"{folder}/cache"]
        shared += ["--confirm", "--ensemble", "--test", f"{self.home}/test.csv"]
        if resume:
            return ["--resume", NAME, *shared]
        data = ["--space", f"{self.home}/points.py", "--data", f"{self.home}/data.csv", "--image-size", str(SIZE)]
        return [*data, "--trials", "6", "--epochs", "4", "--audit", "0.5", "--seed", str(SEED), "--name", NAME, *shared]

    def run(self, name: str, fatal: Callable[[Point], bool], alone: bool = False) -> int:
        """Runs the command, or goes on with it. Returns its exit code."""
        folder = self.home / name
        folder.mkdir(exist_ok=True)
        begun = (folder / "runs" / NAME / "run.json").exists()
        watch = Watch(folder, fatal, self.log(name))
        return command(self.options(name, resume=begun), watch, alone, self.home / f"{name}.out")

    def left(self, name: str, code: int) -> dict[str, Any]:
        """What a run has left, and the exit code."""
        return {**outcome(self.home / name), "exit code": code}

    def kills(self, name: str) -> list[str]:
        """At what a run has been killed, where that was noted."""
        return (self.home / f"{name}.kills").read_text().splitlines()

    def log(self, name: str) -> Path:
        """Where the points are noted."""
        return self.home / f"{name}.points"

    def warm_up(self) -> None:
        """Runs the command in this process, so that those which are forked from it find all imported."""
        torch.set_num_threads(1)  # a fork has no threads but one
        without_ray()
        sys.stdout.flush()
        with open(os.devnull, "w") as nowhere:
            stdout, sys.stdout = sys.stdout, nowhere
            search_main(self.options("warm", resume=False))
            sys.stdout = stdout


@dataclass(frozen=True)
class OnceEach:
    """Fatal is a point that is called otherwise than all before.

    Attributes:
        name: what a point is called.
        been: a file of the names that have been, as whoever asks this is killed thereupon.
    """

    name: Callable[[Point], str]
    been: Path

    def __call__(self, point: Point) -> bool:
        name = self.name(point)
        if self.been.exists() and name in self.been.read_text().splitlines():
            return False
        with open(self.been, "a") as file:
            file.write(f"{name}\n")
        return True


def last_operation(journal: Path) -> str:
    """What the last line of a study's journal tells of; nothing where it is torn, or there is none."""
    lines = journal.read_bytes().splitlines(keepends=True) if journal.exists() else []
    if not lines or not lines[-1].endswith(b"\n"):
        return "nothing"
    log = json.loads(lines[-1])
    return " ".join([JournalOperation(log["op_code"]).name.lower(), *log.get("user_attr", ())])


def kind(point: Point) -> str:
    """What a point has in common with those of other trials and tiers."""
    name = re.sub(r"^([0-9a-f]{12}|\d{4}|\d)$", "*", Path(point.path).name)  # of an ensemble, a trial, a tier
    name = re.sub(r"^[0-9a-f]{32}", "*", name)  # of images
    return f"{'worker' if point.worker else 'driver'}: {point.call} {name}"


def outcome(folder: Path) -> dict[str, Any]:
    """All that a run leaves, in values that are to be equal."""
    runs = sorted(path.parent for path in folder.rglob("run.json"))
    found: dict[str, Any] = {}
    for run in runs:
        record = json.loads((run / "run.json").read_text())
        cut = {"created", "sessions"}
        found[f"{run.relative_to(folder)}: record"] = {name: record[name] for name in record if name not in cut}
        found[f"{run.relative_to(folder)}: study"] = [
            (trial.state, trial.params, trial.values, trial.intermediate_values, trial.user_attrs)
            for trial in frozen_trials(run)
        ]
    for path in sorted(folder.rglob("*")):
        if path.name not in OWN:
            found[str(path.relative_to(folder))] = path.read_bytes() if path.is_file() else "a folder"
    values: dict[str, Any] = json.loads(json.dumps(found, default=repr).replace(f"{folder}/", ""))
    return values


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """What is not the same, by name."""
    return sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))


def killed_at(place: Place, number: int, expected: dict[str, Any]) -> list[str]:
    """What differs where a run was killed at one point, and went on. Nothing is left of one that is as it should be."""
    name = f"point-{number:04d}"
    ended = place.run(name, lambda point: point.number == number)
    faults = [] if ended == KILLED else [f"it was not killed, but ended with code {ended}"]
    faults += differences(expected, place.left(name, place.run(name, lambda point: False)))
    if not faults:
        shutil.rmtree(place.home / name)
        for path in (place.log(name), place.home / f"{name}.out"):
            path.unlink()
    return faults


def killed_at_each_kind(place: Place, name: str) -> int:
    """Kills a run at the first point of each kind, and of each line that its study may end with, until nothing kills it
    any more. Returns its exit code."""

    def named(point: Point) -> str:
        last = f", {last_operation(place.home / name / point.path)}" if point.path.endswith(JOURNAL) else ""
        return kind(point) + last

    once, code = OnceEach(named, place.home / f"{name}.kills"), KILLED
    while code == KILLED:
        code = place.run(name, once)
    return code


def worker_killed(place: Place, name: str, named: Callable[[Point], str]) -> int:
    """Kills a run's worker alone at each of its points that is called otherwise than all before. Returns the exit code
    of the run."""
    once = OnceEach(named, place.home / f"{name}.kills")
    return place.run(name, lambda point: point.worker and once(point), alone=True)


def point_of_study(folder: Path, point: Point) -> str:
    """A point of a trial as no other is called: with the length of its study, which grows by each epoch."""
    run = (folder / point.path).parents[2]
    return f"{point.call} {point.path} {(run / JOURNAL).stat().st_size}"


def main() -> None:
    machine = Machine.now()
    made = parser(__doc__)
    made.add_argument("--folder", type=Path, required=True, help="a new one; what failed stays there")
    made.add_argument("--kinds", action="store_true", help="only the runs that are killed at each kind of point")
    made.add_argument("--part", type=int, nargs=2, default=(0, 1), metavar=("K", "N"), help="the K-th of N parts")
    arguments = made.parse_args()
    sys.exit(measured(arguments, machine))


def measured(arguments: argparse.Namespace, machine: Machine) -> int:
    """Kills at the points that are asked for, says what was found, and returns the exit code."""
    place = Place(arguments.folder.absolute())
    place.prepare()
    place.warm_up()
    expected = place.left("unbroken", place.run("unbroken", lambda point: False))
    points = points_of(place.log("unbroken"))
    found = {"kinds": place.left("kinds", killed_at_each_kind(place, "kinds"))}
    named = kind if arguments.kinds else partial(point_of_study, place.home / "worker")
    found["worker"] = place.left("worker", worker_killed(place, "worker", named))
    faults = {name: differences(expected, left) for name, left in found.items() if left != expected}
    part, parts = arguments.part
    # In an order of chance: what is broken off has been at a fair sample.
    order = np.random.default_rng(0).permutation(len(points))[part::parts]
    chosen = [] if arguments.kinds else [points[number] for number in order]
    began = time.monotonic()
    for done, point in enumerate(chosen, start=1):
        if differing := killed_at(place, point.number, expected):
            faults[f"point {point.number}, {kind(point)}"] = differing
            print(point, differing, file=sys.stderr, flush=True)
        if done % 50 == 0:
            print(f"{done} of {len(chosen)}, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    runs = len(found) + len(chosen)
    figures = [
        Figure("write points of a search, its confirmation and its ensemble", len(points), 1),
        Figure("runs that were killed and ended otherwise", len(faults), runs, goal=Goal("ours", "<=", 0)),
    ]
    details = {
        "points": dict(Counter("worker" if point.worker else "driver" for point in points)),
        "kinds": sorted({kind(point) for point in points}),
        "kills": {name: len(place.kills(name)) for name in found},
        "faults": faults,
    }
    finish("write_points", machine, figures, details, arguments.out)
    return 1 if faults else 0


if __name__ == "__main__":
    main()
