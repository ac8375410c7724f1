"""Accuracy on images that no side sees against wall-clock: a search of ours and a Tune script, one after the other.

    python -m benchmarks.search_quality --data faces/data.csv --folder quality --out search_quality.json

The labelled images are cut once: the untouched ones judge, all others are what both sides search on, the space of
quality_space.py at the same size, epochs, seed and --minutes, each with the whole machine. Ours is
`python -m search.run` with the budget as its --time-budget, which bounds the whole command, start-up and ensemble
included; it is given the untouched images to predict, whose labels it never reads. The peer is
benchmarks/tune_script.py, whose budget, too, runs from its command's start, and whose accuracy is that of its best
trial's best network by validation.

Curves are judged afterwards. Every --every seconds our run is kept as it stands, and asked later for the ensemble and
the best single network that `python -m search.ensemble` would have given then; of the peer every epoch's network is
kept. The last point of ours is what the command itself left: its own submission.

A half, one side of one seed, is written to FOLDER when it is judged, and never done again: the same command goes on
where an earlier one ended. A half that was cut short begins anew.
"""

import argparse
import csv
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from benchmarks.figures import Figure, Goal, Machine, finish, parser
from benchmarks.pictures import read_rows, write_part
from benchmarks.results import machine_text
from benchmarks.runs import check, run, start
from benchmarks.tune_script import Photos, decoded, kept_accuracy, network
from results.submission import SUBMISSION
from search.ensemble import EnsembleOptions, build_ensemble
from trainable.checkpoint import file_hash
from trainable.files import write_json, write_text

SHARE = 0.15  # of the images, untouched
SPACE = Path(__file__).with_name("quality_space.py")
SEARCHED, UNTOUCHED, CACHE = "searched.csv", "untouched.csv", "cache"
Point = dict[str, float]  # minutes since the command's start, and accuracies by name


def cut(data: Path, folder: Path) -> None:
    """Writes the CSVs of the untouched images, as many of each class as its share, and of all others."""
    by_class: dict[str, list[dict[str, str]]] = {}
    for row in read_rows(data):
        by_class.setdefault(row["Label"], []).append(row)
    untouched = [row for rows in by_class.values() for row in rows[: round(SHARE * len(rows))]]
    searched = [row for rows in by_class.values() for row in rows[round(SHARE * len(rows)) :]]
    write_part(data, untouched, folder / UNTOUCHED)
    write_part(data, searched, folder / SEARCHED)


def common(arguments: argparse.Namespace, seed: int) -> dict[str, object]:
    """The options that both sides have."""
    options = {name: getattr(arguments, name.replace("-", "_")) for name in ("image-size", "epochs", "trials")}
    return {**options, "data": arguments.folder / SEARCHED, "seed": seed}


def accuracy_of(submission: Path, untouched: Path) -> float:
    """Of a submission's classes."""
    with open(submission, newline="") as answers, open(untouched, newline="") as truth:
        pairs = list(zip(csv.DictReader(answers), csv.DictReader(truth), strict=True))
    return statistics.mean(answer["Category"] == row["Label"] for answer, row in pairs)


def ours(arguments: argparse.Namespace, seed: int, work: Path) -> list[Point]:
    """Searches, keeping the run as it stands every so often; then judges what was kept."""
    home, untouched = work / "ours", arguments.folder / UNTOUCHED
    options = {**common(arguments, seed), "space": SPACE, "out": work, "name": home.name}
    options |= {"time-budget": f"{60 * arguments.minutes:g}s", "cache": arguments.folder / CACHE, "test": untouched}
    began, process = time.time(), start("search.run", options)
    moments: list[float] = []
    while process.returncode is None:
        next_moment = began + arguments.every * (len(moments) + 1)
        try:
            said, _ = process.communicate(timeout=max(0.1, next_moment - time.time()))
        except subprocess.TimeoutExpired:
            keep(home, work / str(len(moments)))
            moments.append(time.time())
    ended = time.time()
    check("search.run", process, said)
    if not (home / SUBMISSION).exists():
        sys.exit(f"search.run made no ensemble:\n{said[-2000:]}")

    def asked(run: Path, method: str) -> float:
        with tempfile.TemporaryDirectory() as output:
            wanted = EnsembleOptions((str(run),), test=str(untouched), method=method, output=Path(output))
            build_ensemble(wanted)
            return accuracy_of(Path(output, SUBMISSION), untouched)

    points = [
        {"minutes": (moment - began) / 60, "ensemble": asked(run, "auto"), "single": asked(run, "single")}
        for run, moment in ((work / str(number), moment) for number, moment in enumerate(moments))
        if (run / "leaderboard.csv").exists()
    ]
    final = {"ensemble": accuracy_of(home / SUBMISSION, untouched), "single": asked(home, "single")}
    return [*points, {"minutes": (ended - began) / 60, **final}]


def keep(run: Path, to: Path) -> None:
    """Keeps a run that goes on as it stands, as a run of its own, if a trial has finished an epoch.

    Checkpoints and logits are linked, not copied: what the run writes anew is another file.
    """
    rows = []
    for trial in sorted((run / "trials").glob("*")):
        folder = to / "trials" / trial.name
        if linked(trial, folder):
            with open(folder / "metrics.csv", newline="") as file:
                epochs = list(csv.DictReader(file))
            best = max(epochs, key=lambda row: (float(row["valid_accuracy"]), -float(row["valid_loss"])))
            config = json.loads((trial / "config.json").read_text())
            state = "COMPLETE" if len(epochs) == config["epochs"] else "PRUNED"
            rows.append((float(best["valid_accuracy"]), -float(best["valid_loss"]), trial.name, state))
    if not rows:
        return
    for name in ("run.json", "splits.csv"):
        shutil.copy(run / name, to / name)
    lines = [f"{trial},{state},{accuracy}" for accuracy, _, trial, state in sorted(rows, reverse=True)]
    write_text(to / "leaderboard.csv", "\n".join(["trial,state,valid_accuracy", *lines, ""]))


def linked(trial: Path, to: Path) -> bool:
    """Links a trial's best network and its logits. Returns False, with nothing linked, where it has none, or where
    it is writing them too often to find two that belong together."""
    to.mkdir(parents=True)
    for _ in range(5):
        with suppress(FileNotFoundError):
            for name in ("logits.npz", "best.safetensors", "metrics.csv"):
                (to / name).unlink(missing_ok=True)
                os.link(trial / name, to / name)
            with np.load(to / "logits.npz") as arrays:
                if arrays["checkpoints"].tolist() == [file_hash(to / "best.safetensors")]:
                    return True
        time.sleep(0.2)
    shutil.rmtree(to)
    return False


def peer(arguments: argparse.Namespace, seed: int, work: Path) -> list[Point]:
    """Searches, keeping all networks; then judges the best by validation of each moment."""
    options = {**common(arguments, seed), "time-budget": 60 * arguments.minutes}
    done = run("benchmarks.tune_script", {**options, "keep": work / "peer", "out": work / "peer.json"})
    epochs = json.loads((work / "peer.json").read_text())["epochs"]
    images, labels = decoded(arguments.folder / UNTOUCHED, arguments.image_size)
    photos = Photos(images, labels, np.arange(len(labels)), flip=False)
    classes = 1 + max(int(row["Label"]) for row in read_rows(arguments.folder / SEARCHED))

    @cache
    def judged(number: int) -> float:
        epoch = epochs[number]
        model = network(epoch["config"], arguments.image_size, classes)
        return kept_accuracy(model, Path(epoch["checkpoint"]), photos)

    points = []
    moments = np.arange(1, done.seconds // arguments.every + 1) * arguments.every
    for passed in [*moments, done.seconds]:
        there = [number for number, epoch in enumerate(epochs) if epoch["wall_clock"] - done.started <= passed]
        if there:
            best = max(there, key=lambda number: epochs[number]["valid_accuracy"])
            points.append({"minutes": float(passed) / 60, "best": judged(best)})
    return points


def half(arguments: argparse.Namespace, side: str, seed: int) -> dict[str, Any]:
    """One side of one seed: as it was done before, or done now."""
    path, work = arguments.folder / f"{side}-{seed}.json", arguments.folder / f"{side}-{seed}"
    names = ("image_size", "epochs", "trials", "minutes", "every")
    settings = {"data": arguments.data.name, "space": SPACE.stem, **{name: getattr(arguments, name) for name in names}}
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text())
        if found["settings"] != settings:
            sys.exit(f"{path} was made with {found['settings']}, not {settings}; give another --folder.")
        if not alike(found["machine"], here := asdict(Machine.now())):
            sys.exit(
                f"{path} was made on {machine_text(found['machine'])}; this is {machine_text(here)}. "
                "Give another --folder."
            )
        if found["machine"]["code"] != Machine.now().code:
            print(f"{side}, seed {seed} was made by other code than this.", file=sys.stderr)
        return found
    shutil.rmtree(work, ignore_errors=True)  # of a command that was cut short
    work.mkdir()
    print(f"{side}, seed {seed}: {arguments.minutes:g} minutes, then judging", file=sys.stderr)
    points = {"ours": ours, "peer": peer}[side](arguments, seed, work)
    found = {"side": side, "seed": seed, "settings": settings, "points": points, "machine": asdict(Machine.now())}
    write_json(path, found)
    shutil.rmtree(work)
    return found


def alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether what two halves say of their machines is the same. Before f604d68 a CPU was told without its family."""
    short, long = sorted((one["cpu"], other["cpu"]), key=len)
    same = ("cores", "bf16", "memory_gb", "gpu", "system", "versions")
    return (short == long or long.startswith(f"{short} family ")) and all(one[name] == other[name] for name in same)


def at(points: Sequence[Point], name: str, minutes: float) -> float | None:
    """A curve's value at a moment; None before its first."""
    values = [point[name] for point in points if point["minutes"] <= minutes]
    return values[-1] if values else None


def mean_curve(halves: Sequence[Mapping[str, Any]], name: str, moments: Sequence[float]) -> list[float | None]:
    """The mean over seeds at each moment (minutes); None where a seed has nothing yet."""
    curve: list[float | None] = []
    for minutes in moments:
        values = [value for one in halves if (value := at(one["points"], name, minutes)) is not None]
        curve.append(statistics.mean(values) if len(values) == len(halves) else None)
    return curve


def ahead_from(curve: Sequence[float | None], moments: Sequence[float], final: float) -> float:
    """The minute from which on a curve is above a value until its end; infinity where it never is."""
    found = math.inf
    for value, minutes in reversed(list(zip(curve, moments, strict=True))):
        if value is None or value <= final:
            break
        found = minutes
    return found


def difference(mine: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """The mean of ours less the peer's, seed by seed, and the half width of its 95 % interval by Student's t."""
    differences = [a - b for a, b in zip(mine, theirs, strict=True)]
    n = len(differences)
    width = float(student.ppf(0.975, n - 1)) * statistics.stdev(differences) / math.sqrt(n) if n > 1 else math.inf
    return statistics.mean(differences), width


def summary(mine: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]], images: int) -> tuple[list[Figure], Any]:
    """Figures and curves of both sides' halves, a seed each, that were judged on so many images."""
    settings, n = mine[0]["settings"], len(mine)
    minutes = settings["minutes"]
    marks = int(60 * minutes // settings["every"])
    moments = [settings["every"] * number / 60 for number in range(1, marks)]
    moments.append(max(half["points"][-1]["minutes"] for half in (*mine, *theirs)))  # what the commands left
    finals = {name: [half["points"][-1][name] for half in mine] for name in ("ensemble", "single")}
    finals["peer"] = [half["points"][-1]["best"] for half in theirs]
    level = statistics.mean(finals["peer"])
    curves = {name: mean_curve(mine, name, moments) for name in ("ensemble", "single")}
    curves["peer"] = mean_curve(theirs, "best", moments)
    figures = []
    for name in ("ensemble", "single"):
        gain, width = difference(finals[name], finals["peer"])
        passed = ahead_from(curves[name], moments, level)
        after = f"accuracy on {images} untouched images after {minutes:g} min, %: ours {name}"
        figures += [
            Figure(f"{after}, the peer its best", 100 * statistics.mean(finals[name]), n, 100 * level),
            Figure(
                f"{after} less the peer's, {100 * gain:+.2f} ± {100 * width:.2f}, low end of its 95 % interval",
                ours=100 * (gain - width),
                n=n,
                goal=Goal("ours", ">", 0.0) if name == "ensemble" else None,
            ),
            Figure(
                f"minutes until ours {name} stays above the peer's final accuracy; ratio of ours over the peer's",
                ours=passed,
                peer=minutes,
                ratio=passed / minutes,
                n=n,
                goal=Goal("ratio", "<=", 1 / 3) if name == "ensemble" else None,
            ),
        ]
    errors = {name: [math.sqrt(p * (1 - p) / images) for p in values] for name, values in finals.items()}
    details = {"untouched_images": images, "finals": finals, "standard_errors": errors, "minutes": moments}
    return figures, {**details, "mean_curves": curves, "halves": [*mine, *theirs]}


def show_curves(details: Mapping[str, Any]) -> None:
    """Prints the curves to stderr, a line a moment."""
    curves = details["mean_curves"]
    print("minutes" + "".join(f"{name:>10}" for name in curves), file=sys.stderr)
    for minutes, *values in zip(details["minutes"], *curves.values(), strict=True):
        cells = ("-" if value is None else f"{100 * value:.2f}" for value in values)
        print(f"{minutes:7.1f}" + "".join(f"{cell:>10}" for cell in cells), file=sys.stderr)


def main() -> None:
    machine = Machine.now()
    command = parser(__doc__)
    command.add_argument("--data", type=Path, required=True, metavar="CSV", help="with Image,Label")
    command.add_argument("--folder", type=Path, required=True, metavar="DIR", help="where what is done is kept")
    command.add_argument("--minutes", type=float, default=30, help="of each half")
    command.add_argument("--seeds", type=int, default=3)
    command.add_argument("--every", type=float, default=60, metavar="SECONDS", help="between two points of a curve")
    command.add_argument("--image-size", type=int, default=64)
    command.add_argument("--epochs", type=int, default=30, help="of a trial that runs its course")
    command.add_argument("--trials", type=int, default=1000, help="at most; the default is more than there is time for")
    arguments = command.parse_args()
    arguments.folder = arguments.folder.absolute()
    arguments.folder.mkdir(parents=True, exist_ok=True)

    cut(arguments.data, arguments.folder)
    pairs = [(half(arguments, "ours", seed), half(arguments, "peer", seed)) for seed in range(arguments.seeds)]
    mine, theirs = zip(*pairs, strict=True)
    figures, details = summary(mine, theirs, len(read_rows(arguments.folder / UNTOUCHED)))
    show_curves(details)
    finish("search_quality", machine, figures, details, arguments.out)


if __name__ == "__main__":
    main()
