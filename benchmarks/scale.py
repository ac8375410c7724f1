"""A thousand trials that only wait, through the whole search, against the time that the waiting alone takes.

    python -m benchmarks.scale --trials 1000 --seconds 0.5 --slots 2
    python -m benchmarks.scale --trials 100 --seconds 6 --epochs 30 --images 20000

`python -m search.run` runs in this process, with all that it does: the study and TPE over eleven parameters, ASHA, Ray,
the actors and their reuse, each trial's files, the view, the leaderboard. One thing is put in place of another: the
worker's trainable is a subclass whose `fit_parts` sleeps and gives random numbers instead of training. So the
checkpoints are real, but of a narrow network.

A trial that runs its course takes --seconds, in --epochs equal parts; the ideal time is what the trials slept, divided
by the slots. What a trial costs beside is the time between two ends on one slot, less the sleep. Memory is the resident
set of this process, the driver. The view goes to stderr, the result to stdout.
"""

import argparse
import bisect
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import ray
import torch
from PIL import Image

import search.tuning
import trainable.tune
from search.run import main as search_main
from search.study import JOURNAL, open_storage
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
SIZE, CLASSES = 28, 5
WINDOW = 100  # trials over which a cost is a mean


def sleeping_epochs(
    seconds: float,
    config: TrialConfig,
    parts: Sequence[Examples],
    device: Device,
    latest: dict[str, Any] | None = None,
) -> Iterator[Epoch]:
    """In place of `fit_parts`: epochs of which each sleeps its part of the seconds, with random logits."""
    (examples,) = parts
    rng = np.random.default_rng(config.seed)
    state = build_network(config, examples.preprocessing).state_dict()
    best = WORST
    rows: list[Row] = []

    def logits(images: int) -> torch.Tensor:
        return torch.from_numpy(rng.standard_normal((images, CLASSES), dtype=np.float32))

    for epoch in range(1, config.epochs + 1):
        time.sleep(seconds / config.epochs)
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
            logits(len(examples.valid)),
            holdout_logits=lambda: logits(len(examples.holdout)),
            networks=lambda network=network: (network,),  # type: ignore[misc]  # mypy: no defaults
            latest=lambda resumable=resumable: {**resumable, "rows": list(rows)},  # type: ignore[misc]
        )


def stub_trial(seconds: float) -> type[trainable.tune.ConvNetTrial]:
    """A ConvNetTrial whose worker sleeps instead of training. A local class, which Ray sends to the worker whole."""

    class StubTrial(trainable.tune.ConvNetTrial):
        def setup(self, config: dict[str, Any], shared: trainable.tune.Shared) -> None:
            trainable.tune.fit_parts = partial(sleeping_epochs, seconds)  # type: ignore[attr-defined]
            super().setup(config, shared)

    return StubTrial


def write_images(folder: Path, images: int) -> Path:
    """A CSV of random images, each class as often as any other."""
    rng = np.random.default_rng(0)
    for number in range(images):
        pixels = rng.integers(256, size=(SIZE, SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png", compress_level=1)
    path = folder / "data.csv"
    path.write_text("Image,Label\n" + "".join(f"{number}.png,{number % CLASSES}\n" for number in range(images)))
    return path


@contextmanager
def watched_memory() -> Iterator[list[tuple[float, int]]]:
    """(seconds since 1970, bytes) of this process's resident set, twice a second until the end."""
    samples: list[tuple[float, int]] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            samples.append((time.time(), pages * os.sysconf("SC_PAGE_SIZE")))

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=0.5, help="of a trial that runs its course")
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=1, help="of a trial that runs its course")
    parser.add_argument("--images", type=int, default=200)
    arguments = parser.parse_args()
    if sys.platform != "linux":
        sys.exit("The driver's memory is read from /proc/self/statm, which only Linux has; run this on Linux.")
    slots, trials = arguments.slots, arguments.trials
    window = min(WINDOW, trials // 2)
    if window <= slots:
        sys.exit(f"--trials: {trials} on {slots} slots are too few to tell the first from the last; give more.")

    search.tuning.ConvNetTrial = stub_trial(arguments.seconds)  # type: ignore[attr-defined]
    os.environ.pop("RAY_ADDRESS", None)  # a Ray of its own
    with tempfile.TemporaryDirectory() as folder:
        space = Path(folder, "narrow.py")
        space.write_text(SPACE)
        options = {
            "space": space,
            "data": write_images(Path(folder), arguments.images),
            "image-size": SIZE,
            "trials": trials,
            "epochs": arguments.epochs,
            "max-concurrent": slots,
            # Sleeping trials share a core where there are more of them than cores.
            "cpus-per-trial": min(1.0, (os.cpu_count() or 1) / slots),
            "out": Path(folder, "runs"),
            "name": "scale",
            "cache": Path(folder, "cache"),
        }
        began = time.time()
        with watched_memory() as samples, redirect_stdout(sys.stderr):
            code = search_main([part for name, value in options.items() for part in (f"--{name}", str(value))])
        ended = time.time()
        if code:
            sys.exit(f"search.run ended with code {code}.")
        storage = open_storage(Path(folder, "runs", "scale", JOURNAL))
        (name,) = optuna.get_all_study_names(storage)
        done = optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)
        kept = sum(file.stat().st_size for file in Path(folder, "runs").rglob("*") if file.is_file())

    told = sorted(
        (trial.datetime_complete.timestamp(), len(trial.intermediate_values) * arguments.seconds / arguments.epochs)
        for trial in done
        if trial.datetime_complete is not None
    )
    ends, slept = [end for end, _ in told], [seconds for _, seconds in told]
    ideal = sum(slept) / slots

    def memory(moment: float) -> float:
        """Megabytes of the driver at a time, by the next sample."""
        return samples[min(bisect.bisect(samples, (moment, 0)), len(samples) - 1)][1] / 1e6

    driver = {"first_trial": memory(ends[0]), f"trial_{window}": memory(ends[window - 1]), "last": memory(ends[-1])}
    first, last = slice(None, window), slice(-window, None)
    result = {
        "trials": len(done),
        "slots": slots,
        "seconds": arguments.seconds,
        "epochs": arguments.epochs,
        "images": arguments.images,
        "n": 1,
        "peer": "the sleep alone",
        "peer_seconds": round(ideal, 1),
        "ours_seconds": round(ended - began, 1),
        "ratio": round((ended - began) / ideal, 3),
        "before_the_first_trial_seconds": round(ends[0] - slept[0] - began, 1),
        "after_the_last_trial_seconds": round(ended - ends[-1], 1),
        f"cost_a_trial_ms_first_{window}": round(1000 * cost_seconds(ends[first], slept[first], slots), 1),
        f"cost_a_trial_ms_last_{window}": round(1000 * cost_seconds(ends[last], slept[last], slots), 1),
        "driver_memory_mb": {when: round(size, 1) for when, size in driver.items()},
        "driver_memory_growth_mb": round(driver["last"] - driver["first_trial"], 1),
        "files_mb": round(kept / 1e6, 1),
        "cpus": os.cpu_count(),
        "versions": {"optuna": optuna.__version__, "ray": ray.__version__, "torch": torch.__version__},
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
