"""The study behind Ray Tune's Searcher interface: it only asks and tells.

Ray's own OptunaSearch tells an early-stopped trial as complete, leaves one with a NaN running, and enqueues the known
starts again at each restart; hence our own.
"""

import math
import time
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from search.scheduler import Scheduler
from search.study import Ask, StudyRecord
from search.unpickled import Unpickled
from trainable import files
from trainable.errors import UserError
from trainable.fit import objective_value
from trainable.paths import trial_folder

DEAR = 0.02  # of a trial's time: where to ask for the next takes more, that is done while others train

DIED = "its worker died again and again; the last one's log is in the Ray dashboard"
SHORT_OF_MEMORY = (
    "its worker was killed again and again, as its machine's memory ran short: have fewer trials at once "
    "(--max-concurrent), or search smaller batches and networks"
)


class StudySearcher(Unpickled, Searcher):  # type: ignore[misc]  # Ray's class is untyped
    """Hands the study's trials to Ray, and each trial's epochs and end to the study.

    A trial that Ray stops for any reason but its end, its failure or the scheduler's word (a time budget, Ctrl-C) is
    left open in the study, and goes on when the search is resumed. So does one that is audited, until it has run its
    course or failed; the study hears of it what it would of a trial that was stopped.

    A sampler takes the longer the more trials it learns from. Where trials are so short that slots would wait for it,
    the next trial is asked for while the others train, and so learns from one trial less. Not with a single slot: what
    it is asked for then never depends on the time that something took.

    Args:
        slots: how many trials may be open at once.
    """

    def __init__(self, record: StudyRecord, scheduler: Scheduler, run: Path, slots: int) -> None:
        super().__init__()
        self.slots = slots
        self._record = record
        self._scheduler = scheduler
        self._run = run
        self._names: dict[str, str] = {}  # Ray's trial id -> ours
        self._waiting: set[str] = set()  # trials, by Ray's id, that no worker has begun
        self._short_of_memory: set[str] = set()  # trials, by Ray's id, of which that has killed a worker
        self._ahead: Ask | None = None
        self._ask_seconds = 0.0  # of the last time
        self._trial_seconds = math.inf  # of the last trial that ended by itself or the scheduler

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        return True  # the study knows its objective

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if len(self._names) >= self.slots:
            dear = self._ask_seconds > DEAR * self._trial_seconds
            if dear and self.slots > 1 and self._ahead is None and not self._waiting:
                self._ahead = self._ask()
            return None
        asked, self._ahead = self._ahead or self._ask(), None
        if asked is None:
            return str(Searcher.FINISHED)
        self._names[trial_id] = asked.trial
        self._waiting.add(trial_id)
        return {"trial": asked.trial, "config": asked.config.to_dict()}

    def _ask(self) -> Ask | None:
        began = time.perf_counter()
        asked = self._record.ask()
        if asked is not None:
            folder = trial_folder(self._run, asked.trial)
            files.make_folder(folder)
            files.write_json(folder / "config.json", asked.config.to_dict())
        self._ask_seconds = time.perf_counter() - began
        return asked

    def started(self, trial_id: str) -> None:
        """A worker begins the trial."""
        self._waiting.discard(trial_id)

    def short_of_memory(self, trial_id: str) -> None:
        """Ray has killed the trial's worker, as the memory of its machine ran short."""
        self._short_of_memory.add(trial_id)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        name = self._names[trial_id]
        if "valid_loss" not in result or name in self._record.audited:
            return
        self._catch_up(name, result)
        epoch, value = result["training_iteration"], objective_value(result, self._record.settings.objective)
        if name in self._scheduler.audited:
            self._record.prune(name, epoch, value, audited=True)
        else:
            self._record.report(name, epoch, value)

    def _catch_up(self, name: str, result: dict[str, Any]) -> None:
        """Tells the study of the epochs before the one that a trial goes on from: it may have lost some."""
        for row in result.get("earlier", ()):
            self._record.report(name, row["epoch"], objective_value(row, self._record.settings.objective))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        name = self._names.pop(trial_id)
        self._waiting.discard(trial_id)
        if name in self._record.audited:  # its record is closed, however the audit ends
            if not (error or result is None or "failed" in result or self._at_end(result)):
                return
        elif error or result is None:
            self._record.fail(name, SHORT_OF_MEMORY if trial_id in self._short_of_memory else DIED)
        elif "failed" in result:
            self._record.fail(name, result["failed"])
        elif "valid_loss" not in result:
            return
        else:
            epoch = result["training_iteration"]
            value = objective_value(result, self._record.settings.objective)
            self._trial_seconds = result["time_total_s"]
            self._catch_up(name, result)
            if self._at_end(result):
                self._record.complete(name, epoch, value)
            elif name in self._scheduler.stopped:
                self._record.prune(name, epoch, value)
            else:
                return
        files.remove(trial_folder(self._run, name) / "latest.pt")

    def _at_end(self, result: dict[str, Any]) -> bool:
        """Whether it is an epoch, and a trial's last."""
        return "valid_loss" in result and result["training_iteration"] >= self._record.settings.epochs

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is saved at each call."""

    def restore(self, checkpoint_path: str) -> None:
        raise UserError("Ray's own restore is not used here; resume with: python -m search.run --resume NAME")
