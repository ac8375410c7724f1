"""A search with an audit, its confirmation and its ensemble, killed at every write point and gone on with.

    python -m benchmarks.write_points --folder points

`python -m search.run --audit --confirm --ensemble --test` is run once unbroken, which counts its write points (see
killable.py: Ray and the training are stood in for, all else is real). One run is killed again and again, at the first
point of each kind that it comes to. Then each point has a run of its own: driver and worker are killed there, and the
same command goes on, with --resume where there is something to resume; and each of the worker's points one more, with
the worker killed alone. What each leaves must be what the unbroken run left: the study, and every file below the run
byte for byte, but for moments, processes and the sessions of run.json.

It says which points failed, and ends with code 1 where any did.
"""

import argparse
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
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
    """Fatal is the first point of each kind, and of each line that a study may end with.

    Attributes:
        folder: below which the points are.
        been: a file of those that have been, as whoever asks this is killed thereupon.
    """

    folder: Path
    been: Path

    def __call__(self, point: Point) -> bool:
        text = kind(point)
        if point.path.endswith(JOURNAL):
            text += f", {last_operation(self.folder / point.path)}"
        if self.been.exists() and text in self.been.read_text().splitlines():
            return False
        with open(self.been, "a") as file:
            file.write(f"{text}\n")
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


def killed_at(place: Place, number: int, alone: bool, expected: dict[str, Any], code: int) -> list[str]:
    """What differs where a run was killed at one point, and went on. Nothing is left of one that is as it should be."""
    name = f"{'worker' if alone else 'all'}-{number:04d}"

    def fatal(point: Point) -> bool:
        return point.number == number

    ended = place.run(name, fatal, alone)
    faults = [] if alone or ended == KILLED else [f"it was not killed, but ended with code {ended}"]
    if not alone:
        ended = place.run(name, lambda point: False)
    if ended != code:
        faults.append(f"it ended with code {ended}")
    faults += differences(expected, outcome(place.home / name))
    if not faults:
        shutil.rmtree(place.home / name)
        for path in (place.log(name), place.home / f"{name}.out"):
            path.unlink()
    return faults


def killed_at_each_kind(place: Place, name: str, alone: bool, most: int) -> int:
    """Runs the command until it is not killed any more. Returns its exit code.

    Args:
        alone: whether only the worker is killed, and at its own points.
        most: how many kills there may be.
    """
    once = OnceEach(place.home / name, place.home / f"{name}.kinds")

    def fatal(point: Point) -> bool:
        return (point.worker or not alone) and once(point)

    for _ in range(most + 1):
        code = place.run(name, fatal, alone)
        if code != KILLED:
            return code
    raise AssertionError(f"it is still killed after {most} times")


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
    code = place.run("unbroken", lambda point: False)
    expected = outcome(place.home / "unbroken")
    points = points_of(place.log("unbroken"))
    kinds = {kind(point) for point in points}
    faults: dict[str, list[str]] = {}
    for name, alone in (("kinds", False), ("kinds-worker", True)):
        ended = killed_at_each_kind(place, name, alone, most=3 * len(kinds))
        found = differences(expected, outcome(place.home / name))
        if ended != code or found:
            faults[name] = [f"it ended with code {ended}", *found]
    part, parts = arguments.part
    # In an order of chance: what is broken off has been at a fair sample.
    order = np.random.default_rng(0).permutation(len(points))[part::parts]
    chosen = [] if arguments.kinds else [points[number] for number in order]
    began = time.monotonic()
    for done, point in enumerate(chosen):
        for alone in (False, True) if point.worker else (False,):
            found = killed_at(place, point.number, alone, expected, code)
            if found:
                faults[f"{point.number} {'worker alone' if alone else 'all'}, {kind(point)}"] = found
                print(point, alone, found, file=sys.stderr, flush=True)
        if done % 50 == 49:
            print(f"{done + 1} of {len(chosen)}, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    kills = len(chosen) + sum(point.worker for point in chosen)
    figures = [
        Figure("write points of a search, its confirmation and its ensemble", len(points), 1),
        Figure("kills after which the outcome was another", len(faults), kills, goal=Goal("ours", "<=", 0)),
    ]
    details = {"points": len(points), "kinds": sorted(kinds), "worker": sum(point.worker for point in points)}
    finish("write_points", machine, figures, {**details, "code": code, "faults": faults}, arguments.out)
    return 1 if faults else 0


if __name__ == "__main__":
    main()
