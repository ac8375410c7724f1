"""Which worker trained which trial when, from what Ray Tune logs beside its experiment."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from trainable.untrusted import parse_json


@dataclass(frozen=True)
class Step:
    """An epoch as a worker trained it. Times are in seconds since 1970."""

    trial: str
    epoch: int
    worker: str  # 'node:process'
    ended: float
    seconds: float  # of training and validation
    kept_seconds: float  # of files
    beside_seconds: float  # of the files' processor time while the next epoch was trained; 0 in an older run


@dataclass(frozen=True)
class Stretch:
    """Epochs that a worker trained of a trial without doing anything else."""

    trial: str
    worker: str
    began: float
    ended: float
    epochs: int


@dataclass(frozen=True)
class Session:
    """A command that trained a part of a run."""

    began: float  # seconds since 1970
    slots: int | None  # trials at once; None: an older record does not say


@dataclass(frozen=True)
class Use:
    """Where the time of the slots went, from the beginning of each session to its last epoch: start-up counts."""

    slots: int  # the most that a session had
    seconds: float  # of wall-clock, all sessions together
    trained: float  # share of the slots' time
    files: float


def steps(run: Path) -> list[Step]:
    """The steps of a run's sessions in the order of their ends. A line that is not whole (yet) is left out."""
    found = {}
    for path in sorted(run.glob("tune/*/result.json")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = parse_json(line)
                step = Step(
                    trial=str(row["trial"]),
                    epoch=int(row["training_iteration"]),
                    worker=f"{row['node_ip']}:{row['pid']}",
                    ended=float(row["timestamp"]),
                    seconds=float(row["seconds"]),
                    kept_seconds=float(row["kept_seconds"]),
                    beside_seconds=float(row.get("beside_seconds", 0.0)),
                )
            except (ValueError, OverflowError, KeyError, TypeError):  # torn; or no epoch; or one of an earlier session
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


def use(found: Sequence[Step], sessions: Sequence[Session]) -> Use | None:
    """Where the time went; None where there are no steps.

    Args:
        found: the steps in the order of their ends.
        sessions: in the order in which they began. Of one whose slots are not known it is taken to be the workers that
            trained in it.
    """
    whole, seconds, most = 0.0, 0.0, 0
    counted: list[Step] = []
    for number, session in enumerate(sessions, start=1):
        end = sessions[number].began if number < len(sessions) else math.inf
        own = [step for step in found if session.began < step.ended <= end]
        if own:
            slots = session.slots or len({step.worker for step in own})
            lasted = own[-1].ended - session.began
            whole, seconds, most = whole + slots * lasted, seconds + lasted, max(most, slots)
            counted += own
    if not counted:
        return None
    trained = sum(step.seconds - step.beside_seconds for step in counted)
    files = sum(step.kept_seconds + step.beside_seconds for step in counted)
    # Ray's times are whole seconds, so that the shares of a very short session could come to more than all of it.
    whole = max(whole, trained + files)
    return Use(most, seconds, trained / whole, files / whole)


def sessions_of(record: Mapping[str, Any]) -> list[Session]:
    """The sessions that a run.json tells of."""
    return [
        Session(datetime.fromisoformat(session["began"]).timestamp(), session.get("slots"))
        for session in record["sessions"]
    ]
