"""How a running search stands: what its view, its lines and its gauges say of it."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from search.study import StudyRecord, trial_name
from search.usage import Usage
from trainable.config import maximised
from trainable.fit import objective_value

ENDED = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "stopped early",
    TrialState.FAIL: "failed",
}
RATE_EPOCHS = 30  # the latest, that the throughput is of


@dataclass
class Running:
    """A trial that is being trained."""

    since: float  # time.monotonic() of its latest epoch's report, or of its start
    epoch: int = 0
    value: float | None = None  # the objective's
    accuracy: float | None = None  # on validation


@dataclass(frozen=True)
class Best:
    """The best epoch of all trials."""

    value: float
    trial: str
    epoch: int


@dataclass(frozen=True)
class Rung:
    """An epoch at which the scheduler compares."""

    epoch: int
    reached: int  # trials
    let_on: int  # of these


class Standing:
    """Follows the trials of a session; what was before it, it knows from the study.

    Args:
        usage: is told each epoch that was trained in this session.
        rungs: the epochs at which the scheduler compares, if it does so at fixed ones.
        images: that a trial learns from in an epoch.
        began: time.monotonic() at the command's start.
        deadline: time.monotonic() by which all must be done, or None.
    """

    def __init__(
        self,
        record: StudyRecord,
        usage: Usage,
        rungs: Sequence[int],
        images: int,
        began: float,
        deadline: float | None,
    ) -> None:
        self.record = record
        self.running: dict[str, Running] = {}
        self.best: Best | None = None
        self._usage = usage
        self._rungs = rungs
        self._images = images
        self._began = began
        self._deadline = deadline
        self._started = time.monotonic()
        self._epochs = 0  # heard of in this session
        self._reports: deque[float] = deque(maxlen=RATE_EPOCHS + 1)  # when; the first is the first step's beginning
        for trial in record.frozen():
            for epoch, value in trial.intermediate_values.items():
                self._improve(value, trial_name(trial.number), epoch)

    @property
    def objective(self) -> str:
        """What trials are compared by."""
        return self.record.settings.objective

    def start(self, name: str) -> None:
        """The trial is being trained."""
        self.running.setdefault(name, Running(time.monotonic()))

    def hear(self, name: str, result: dict[str, Any]) -> None:
        """Takes in a trial's epoch; anything else that a trial reports is passed over."""
        if "valid_loss" not in result:
            return
        now, epoch = time.monotonic(), result["training_iteration"]
        value = objective_value(result, self.record.settings.objective)
        self.running[name] = Running(now, epoch, value, result["valid_accuracy"])
        self._epochs += 1
        if name not in self.record.audited or epoch in self.trial(name).intermediate_values:
            self._improve(value, name, epoch)
        if "kept_seconds" in result:  # else it was trained in an earlier session
            self._usage.add(name, result, now)
            if not self._reports:
                self._reports.append(self._usage.first_step)
            self._reports.append(now)

    def end(self, name: str) -> Running | None:
        """The trial is no longer trained. Returns how far it was; None where it never started."""
        return self.running.pop(name, None)

    def _improve(self, value: float, name: str, epoch: int) -> None:
        sign = 1 if maximised(self.record.settings.objective) else -1
        if self.best is None or sign * value > sign * self.best.value:
            self.best = Best(value, name, epoch)

    def trial(self, name: str) -> FrozenTrial:
        """A trial as the study has it."""
        return self.record.frozen()[int(name)]

    def counts(self) -> dict[str, int]:
        """How many trials are in which state; all that the search shall have, together."""
        states = [trial.state for trial in self._ended()]
        ended = {word: states.count(state) for state, word in ENDED.items()}
        waiting = max(0, self.record.trials - len(self.running) - len(states))
        return {"running": len(self.running), "waiting": waiting, **ended}

    def ended(self) -> int:
        """How many trials have ended, however."""
        return len(self._ended())

    def _ended(self) -> list[FrozenTrial]:
        # One that is audited has its end in the study while it is being trained.
        trials = [trial for trial in self.record.frozen() if trial.state in ENDED]
        return [trial for trial in trials if trial_name(trial.number) not in self.running]

    def rungs(self) -> list[Rung]:
        """What the scheduler did at each of its rungs that a trial has reached."""
        ends = [
            (max(trial.intermediate_values), trial.state == TrialState.PRUNED)
            for trial in self.record.frozen()
            if trial.intermediate_values
        ]
        found = []
        for rung in self._rungs:
            reached = sum(last >= rung for last, _ in ends)
            stopped = sum(last == rung and pruned for last, pruned in ends)
            if reached:
                found.append(Rung(rung, reached, reached - stopped))
        return found

    def epochs_a_second(self) -> float | None:
        """Over the latest epochs of all trials; None before the first."""
        if not self._reports:
            return None
        return (len(self._reports) - 1) / (time.monotonic() - self._reports[0])

    def images_a_second(self) -> float | None:
        """That are learnt from; None before the first epoch's end."""
        epochs = self.epochs_a_second()
        return None if epochs is None else epochs * self._images

    def lost(self) -> float | None:
        """Which share of the slots' time was neither training nor validation; None before the first epoch's end."""
        now = time.monotonic()
        return self._usage.lost(now, [running.since for running in self.running.values()])

    def elapsed(self) -> float:
        """Seconds since the command began."""
        return time.monotonic() - self._began

    def remaining(self) -> float | None:
        """Seconds that the search will still take, about; None while nothing is known."""
        elapsed = time.monotonic() - self._started
        lengths = [len(trial.intermediate_values) for trial in self._ended()]
        estimates = []
        if lengths and self._epochs:
            # A trial is taken to be as long as the ended ones on average; one that is longer is taken to be at its end.
            length = sum(lengths) / len(lengths)
            under_way = sum(max(0.0, length - running.epoch) for running in self.running.values())
            to_come = max(0, self.record.trials - len(lengths) - len(self.running)) * length
            estimates.append(elapsed / self._epochs * (under_way + to_come))
        if self._deadline is not None:
            estimates.append(max(0.0, self._deadline - time.monotonic()))
        return min(estimates) if estimates else None
