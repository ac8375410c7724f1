"""A thousand trials that only wait, through the whole search, against the time that the waiting alone takes.

    python -m benchmarks.scale --trials 1000 --seconds 0.5 --slots 2
    python -m benchmarks.scale --trials 100 --seconds 6 --epochs 30 --images 20000
    python -m benchmarks.scale --trials 10000 --seconds 3.2 --slots 64 --bare --sampler random

`python -m search.run` runs in this process, with all that it does: the study and TPE over eleven parameters, ASHA, Ray,
the actors and their reuse, each trial's files, the view, the leaderboard. The network alone computes nothing: the
worker's trainable is a subclass that sleeps instead of training, and takes random numbers for logits. So the
checkpoints are real, but of a narrow network.

A trial that runs its course trains for --seconds, in --epochs equal parts; the ideal time is what the trials trained,
divided by the slots. What a trial costs beside is the time between two ends on one slot, less that. Memory is the
resident set of this process, the driver. How the search goes late is compared with how it went at its 1,000th trial, or
early where they are fewer than 10,000. The view goes to stderr, the result to stdout.
"""

import argparse
import bisect
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ray import tune

import search.tuning
import trainable.logits
import trainable.tune
from benchmarks.figures import Figure, Goal, Machine, finish, parser
from benchmarks.pictures import CLASSES, SIZE, write_images
from benchmarks.runs import frozen_trials
from search.run import main as search_main
from search.samplers import SAMPLERS
from trainable.checkpoint import Best
from trainable.config import TrialConfig
from trainable.device import Device
from trainable.examples import Examples
from trainable.fit import WORST, Epoch, Row, merit
from trainable.network import build_network

SPACE = """
import dataclasses

from spaces import dropout
from spaces.space import Space

def sample(trial):
    return dataclasses.replace(dropout.sample(trial), widths=(4,) * dropout.DEPTH)

SPACE = Space("narrow", "the space dropout with narrow networks", sample, starts=dropout.SPACE.starts)
"""
WINDOW = 100  # trials over which a figure is a mean, at most


def random_logits(rng: np.random.Generator, images: int) -> NDArray[np.float32]:
    return rng.standard_normal((images, CLASSES), dtype=np.float32)


def random_predictions(
    best: Best,
    pixels: NDArray[np.uint8],
    columns: Mapping[str, Sequence[str]],
    device: str = "cpu",
    rows: NDArray[np.int64] | None = None,
) -> NDArray[np.float32]:
    """In place of `evaluate.predict`."""
    return random_logits(np.random.default_rng(best.config.seed), len(pixels) if rows is None else len(rows))


def sleeping_epochs(
    seconds: float,
    config: TrialConfig,
    parts: Sequence[Examples],
    device: Device,
    latest: dict[str, Any] | None = None,
) -> Iterator[Epoch]:
    """In place of `fit_parts`: epochs of which each takes its part of the seconds, with random logits."""
    started = time.perf_counter()
    (examples,) = parts
    rng = np.random.default_rng(config.seed)
    state = build_network(config, examples.preprocessing).state_dict()
    best = WORST
    rows: list[Row] = []

    for epoch in range(1, config.epochs + 1):
        time.sleep(max(0.0, started + seconds / config.epochs - time.perf_counter()))
        loss, accuracy = rng.uniform(1, 2), rng.uniform(0, 1)
        row = {"epoch": epoch, "train_loss": loss, "train_accuracy": accuracy, "valid_loss": loss}
        row |= {"valid_accuracy": accuracy, "lr": config.lr, "seconds": seconds / config.epochs}
        rows.append(row)
        improved = merit(row, config.objective) > best
        best = max(best, merit(row, config.objective))
        network = Best(config, examples.preprocessing, state, epoch)
        resumable = {"config": config.to_dict(), "preprocessing": examples.preprocessing.to_json(), "model": state}
        yield Epoch(
            row,
            improved,
            torch.from_numpy(random_logits(rng, len(examples.valid))),
            networks=lambda network=network: (network,),  # type: ignore[misc]  # mypy: no defaults
            latest=lambda resumable=resumable: {**resumable, "rows": list(rows)},  # type: ignore[misc]
        )
        started = time.perf_counter()


def stub_trial(seconds: float) -> type[trainable.tune.ConvNetTrial]:
    """A ConvNetTrial whose worker sleeps instead of training. A local class, which Ray sends to the worker whole."""

    class StubTrial(trainable.tune.ConvNetTrial):
        def setup(self, config: dict[str, Any], shared: trainable.tune.Shared) -> None:
            trainable.tune.fit_parts = partial(sleeping_epochs, seconds)  # type: ignore[attr-defined]
            trainable.logits.predict = random_predictions  # type: ignore[attr-defined]
            super().setup(config, shared)

    return StubTrial


class BareTrial(tune.Trainable):  # type: ignore[misc]  # Ray's class is untyped
    """A trial whose worker has not even PyTorch, so that very many of them fit on a machine: it sleeps, writes its
    metrics.csv and nothing else, and tells the search what a trial tells."""

    def setup(self, config: dict[str, Any], seconds: float, run: str) -> None:
        self.seconds, self.run = seconds, run
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.trial, self.settings = new_config["trial"], new_config["config"]
        self.rows: list[dict[str, float]] = []
        return True

    def step(self) -> dict[str, Any]:
        epochs, epoch = self.settings["epochs"], len(self.rows) + 1
        time.sleep(self.seconds / epochs)
        drawn = random.Random(f"{self.settings['seed']} {epoch}")
        loss, accuracy = drawn.uniform(1, 2), drawn.random()
        row = {"epoch": epoch, "train_loss": loss, "train_accuracy": accuracy, "valid_loss": loss}
        row |= {"valid_accuracy": accuracy, "lr": self.settings["lr"], "seconds": self.seconds / epochs}
        self.rows.append(row)
        with open(f"{self.run}/trials/{self.trial}/metrics.csv", "w") as file:
            for cells in (row, *(row.values() for row in self.rows)):
                file.write(",".join(map(str, cells)) + "\n")
        told = {"trial": self.trial, "training_iteration": epoch, "done": epoch == epochs}
        return {**row, **told, "kept_seconds": 0.0, "beside_seconds": 0.0, "lost_seconds": 0.0}


def stand_in(seconds: float, bare: bool) -> None:
    """Has the search of this process train with sleeping trials."""
    if not bare:
        search.tuning.ConvNetTrial = stub_trial(seconds)  # type: ignore[attr-defined]
        return
    search.tuning.ConvNetTrial = BareTrial  # type: ignore[attr-defined]
    with_parameters = tune.with_parameters
    # What all trials share is of our classes, with which PyTorch would come.
    tune.with_parameters = lambda trial, shared: with_parameters(trial, seconds=seconds, run=str(shared.run))


@dataclass(frozen=True)
class Sample:
    """What the driver, this process, has taken so far."""

    moment: float  # seconds since 1970
    memory: float  # megabytes of its resident set
    cpu: float  # seconds of processor time, of all its threads


@contextmanager
def watched() -> Iterator[list[Sample]]:
    """Samples of this process, twice a second until the end."""
    samples: list[Sample] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            samples.append(Sample(time.time(), pages * os.sysconf("SC_PAGE_SIZE") / 1e6, time.process_time()))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()


def cost_seconds(ends: Sequence[float], slept: Sequence[float], slots: int) -> float:
    """What a trial takes of its slot beside its sleep, the mean over trials in the order of their ends."""
    between = [later - earlier for earlier, later in zip(ends, ends[slots:], strict=False)]
    return statistics.mean(between) - statistics.mean(slept[slots:])


@dataclass(frozen=True)
class Searched:
    """What a search of sleeping trials left. Moments are seconds since 1970."""

    began: float
    ended: float
    ends: list[float]  # of the trials, in order
    slept: list[float]  # seconds, of each
    samples: list[Sample]  # of the driver
    files: int  # bytes

    def driver(self, moment: float) -> Sample:
        """The driver at a moment, by the next sample."""
        after = bisect.bisect(self.samples, moment, key=lambda sample: sample.moment)
        return self.samples[min(after, len(self.samples) - 1)]

    def stage(self, trial: int, window: int) -> dict[str, float]:
        """How the search went as its trial of that number ended, over so many trials before."""
        began, ended = self.ends[trial - window], self.ends[trial - 1]
        cpu = self.driver(ended).cpu - self.driver(began).cpu
        return {
            "from one trial's end to the next, ms": 1000 * (ended - began) / (window - 1),
            "the driver's processor time a trial, ms": 1000 * cpu / (window - 1),
            "the driver's share of a core, %": 100 * cpu / (ended - began),
            "the driver's memory, MB": self.driver(ended).memory,
        }


def searched(arguments: argparse.Namespace, folder: Path) -> Searched:
    """Runs the search, with all that it writes below the folder."""
    stand_in(arguments.seconds, arguments.bare)
    os.environ.pop("RAY_ADDRESS", None)  # a Ray of its own
    space = folder / "narrow.py"
    space.write_text(SPACE)
    options = {
        "space": space,
        "data": write_images(folder, arguments.images),
        "image-size": SIZE,
        "trials": arguments.trials,
        "sampler": arguments.sampler,
        "epochs": arguments.epochs,
        "max-concurrent": arguments.slots,
        # Sleeping trials share a core where there are more of them than cores.
        "cpus-per-trial": min(1.0, (os.cpu_count() or 1) / arguments.slots),
        "out": folder / "runs",
        "name": "scale",
        "cache": folder / "cache",
    }
    began = time.time()
    with watched() as samples, redirect_stdout(sys.stderr):
        code = search_main([part for name, value in options.items() for part in (f"--{name}", str(value))])
    ended = time.time()
    if code:
        sys.exit(f"search.run ended with code {code}.")
    told = sorted(
        (trial.datetime_complete.timestamp(), len(trial.intermediate_values) * arguments.seconds / arguments.epochs)
        for trial in frozen_trials(folder / "runs" / "scale")
        if trial.datetime_complete is not None
    )
    files = sum(file.stat().st_size for file in (folder / "runs").rglob("*") if file.is_file())
    return Searched(began, ended, [end for end, _ in told], [slept for _, slept in told], samples, files)


def report(arguments: argparse.Namespace, machine: Machine, found: Searched) -> None:
    """Prints and writes what the search took, against the sleep alone."""
    slots, ends, slept, window = arguments.slots, found.ends, found.slept, window_of(arguments.trials)
    first, last = (
        1000 * cost_seconds(ends[part], slept[part], slots) for part in (slice(None, window), slice(-window, None))
    )
    ideal, took = sum(slept) / slots, found.ended - found.began
    grown = found.driver(ends[-1]).memory - found.driver(ends[0]).memory
    what = f"{len(ends)} trials of {arguments.seconds:g} s on {slots} slots, sampler {arguments.sampler}"
    figures = [
        Figure(f"{what}, s; ratio of ours over the sleep", took, 1, ideal, took / ideal, Goal("ratio", "<=", 1.1)),
        Figure(f"{what}: growth of the driver's memory, MB", grown, 1, goal=Goal("ours", "<=", 50)),
        Figure(
            f"{what}: a trial's cost beside its sleep, ms; ours the last {window}, peer the first {window} trials",
            ours=last,
            peer=first,
            ratio=last / first,
            n=window,
        ),
    ]
    early, late = max(window, min(1000, len(ends) // 10)), len(ends)
    before = found.stage(early, window)
    figures += [
        Figure(f"{what}: {name}; ours at trial {late}, peer at {early}", now, window, before[name], now / before[name])
        for name, now in found.stage(late, window).items()
        if before[name]
    ]
    details = {
        "epochs": arguments.epochs,
        "images": arguments.images,
        "before_the_first_trial_seconds": round(ends[0] - slept[0] - found.began, 1),
        "after_the_last_trial_seconds": round(found.ended - ends[-1], 1),
        "driver_memory_mb_at_the_first_end": round(found.driver(ends[0]).memory, 1),
        "files_mb": round(found.files / 1e6, 1),
    }
    finish("scale", machine, figures, details, arguments.out)


def window_of(trials: int) -> int:
    """Over how many trials a figure is a mean."""
    return min(WINDOW, trials // 2)


def main() -> None:
    machine = Machine.now()
    command = parser(__doc__)
    command.add_argument("--trials", type=int, default=1000)
    command.add_argument("--seconds", type=float, default=0.5, help="of a trial that runs its course")
    command.add_argument("--slots", type=int, default=2)
    command.add_argument("--epochs", type=int, default=1, help="of a trial that runs its course")
    command.add_argument("--images", type=int, default=200)
    command.add_argument("--sampler", choices=SAMPLERS, default="tpe", help="as of a search (default: tpe)")
    command.add_argument("--bare", action="store_true", help="workers without PyTorch, of which very many fit here")
    arguments = command.parse_args()
    if sys.platform != "linux":
        sys.exit("The driver's memory is read from /proc/self/statm, which only Linux has; run this on Linux.")
    if window_of(arguments.trials) <= arguments.slots:
        sys.exit(
            f"--trials: {arguments.trials} on {arguments.slots} slots are too few to tell the first from the last; "
            "give more."
        )
    with tempfile.TemporaryDirectory() as folder:
        found = searched(arguments, Path(folder))
    report(arguments, machine, found)


if __name__ == "__main__":
    main()
