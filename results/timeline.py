"""Which worker trained which trial when, from what Ray Tune logs beside its experiment."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path


@dataclass(frozen=True)
class Step:
    """An epoch as a worker trained it. Times are in seconds since 1970."""

    trial: str
    epoch: int
    worker: str  # 'node:process'
    ended: float
    seconds: float  # of training and validation
    kept_seconds: float  # of files


@dataclass(frozen=True)
class Stretch:
    """Epochs that a worker trained of a trial without doing anything else."""

    trial: str
    worker: str
    began: float
    ended: float
    epochs: int


@dataclass(frozen=True)
class Use:
    """Where the time of the slots went, from each session's first step to its last."""

    slots: int  # the most trials at once
    seconds: float  # of wall-clock
    trained: float  # share of the slots' time
    files: float


def steps(run: Path) -> list[Step]:
    """The steps of a run's sessions in the order of their ends. A line that is not whole (yet) is left out."""
    found = {}
    for path in sorted(run.glob("tune/*/result.json")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
                step = Step(
                    trial=str(row["trial"]),
                    epoch=int(row["training_iteration"]),
                    worker=f"{row['node_ip']}:{row['pid']}",
                    ended=float(row["timestamp"]),
                    seconds=float(row["seconds"]),
                    kept_seconds=float(row["kept_seconds"]),
                )
            except (ValueError, KeyError, TypeError):  # torn; or no epoch; or one of an earlier session
                continue
            found[step.trial, step.epoch] = step  # of an epoch that was trained twice the one that counted
    return sorted(found.values(), key=lambda step: (step.ended, step.trial, step.epoch))


def stretches(found: Sequence[Step]) -> list[Stretch]:
    """The steps of each worker, those of a trial that follow each other as one."""
    workers: dict[str, list[Step]] = {}
    for step in found:
        workers.setdefault(step.worker, []).append(step)
    together = []
    for worker, own in workers.items():
        free = -math.inf  # Ray's times are whole seconds: a worker's stretches would seem to overlap
        for trial, part in groupby(own, key=lambda step: step.trial):
            first, *others = part
            last = others[-1] if others else first
            began = max(free, first.ended - first.seconds - first.kept_seconds)
            together.append(Stretch(trial, worker, began, last.ended, 1 + len(others)))
            free = last.ended
    return sorted(together, key=lambda stretch: (stretch.began, stretch.trial))


def use(found: Sequence[Step]) -> Use | None:
    """Where the time went; None where there are no steps.

    A pause in which no trial was under way, as between two sessions, is not counted.
    """
    if not found:
        return None
    parts = stretches(found)
    ends = sorted([(part.began, 1) for part in parts] + [(part.ended, -1) for part in parts])  # at a time ends first
    running, slots, seconds = 0, 0, 0.0
    for (when, change), (after, _) in pairwise([*ends, ends[-1]]):
        running += change
        slots = max(slots, running)
        seconds += (after - when) if running else 0.0
    whole = slots * seconds
    if whole <= 0:
        return None
    trained = sum(step.seconds for step in found)
    return Use(slots, seconds, min(1.0, trained / whole), min(1.0, sum(step.kept_seconds for step in found) / whole))
