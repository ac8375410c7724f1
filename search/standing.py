"""How a running search stands: what its view, its lines and its gauges say of it."""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from search.study import StudyRecord
from search.tally import End
from search.usage import Usage
from trainable.config import Objective, maximised
from trainable.fit import objective_value
from trainable.paths import trial_name

ENDED = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "stopped early",
    TrialState.FAIL: "failed",
}
RATE_EPOCHS = 30  # the latest, that the throughput is of


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Snapshot:
    """How a search stands at one moment."""

    objective: Objective  # what trials are compared by
    epochs: int  # of a trial that runs its course
    planned: int  # trials that the search shall have
    trial: Callable[[str], FrozenTrial]  # of that name, as the study has it
    running: Mapping[str, Running]
    best: Best | None
    counts: Mapping[str, int]  # trials by state; all that are planned, together
    rungs: Sequence[Rung]  # those that a trial has reached
    epochs_a_second: float | None  # over the latest epochs of all trials; None before the first
    images_a_second: float | None  # that are learnt from
    lost: float | None  # share of the slots' time that was neither training nor validation; None before the first epoch
    elapsed: float  # seconds since the command began
    remaining: float | None  # seconds that the search will still take, about; None while nothing is known

    @property
    def ended(self) -> int:
        """How many trials have ended, however."""
        return sum(self.counts[word] for word in ENDED.values())


class Standing:
    """Follows the trials of a session; what was before it, it knows from the study.

    Args:
        usage: is told each epoch that was trained in this session.
        compared: the epochs at which the scheduler compares, if it does so at fixed ones.
        images: that a trial learns from in an epoch.
        began: time.monotonic() at the command's start.
        deadline: time.monotonic() by which all must be done, or None.
    """

    def __init__(
        self,
        record: StudyRecord,
        usage: Usage,
        compared: Sequence[int],
        images: int,
        began: float,
        deadline: float | None,
    ) -> None:
        self.record = record
        self._usage = usage
        self._compared = compared
        self._images = images
        self._began = began
        self._deadline = deadline
        self._started = time.monotonic()
        self._running: dict[str, Running] = {}
        self._best: Best | None = None
        self._trained = 0  # epochs, in this session
        self._epoch_ends: deque[float] = deque(maxlen=RATE_EPOCHS + 1)  # the first is the first step's beginning
        for trial in record.frozen():
            for epoch, value in trial.intermediate_values.items():
                self._improve(value, trial_name(trial.number), epoch)

    def start(self, name: str) -> None:
        """The trial is being trained."""
        self._running.setdefault(name, Running(time.monotonic()))

    def hear(self, name: str, result: dict[str, Any]) -> None:
        """Takes in a trial's epoch; anything else that a trial reports is passed over."""
        if "valid_loss" not in result:
            return
        now, epoch = time.monotonic(), result["training_iteration"]
        value = objective_value(result, self.record.settings.objective)
        self._running[name] = Running(now, epoch, value, result["valid_accuracy"])
        if name not in self.record.audited or epoch in self.record.trial(name).intermediate_values:
            self._improve(value, name, epoch)
        if "kept_seconds" in result:  # else it was trained in an earlier session
            self._usage.add(name, result, now)
            if not self._epoch_ends:
                self._epoch_ends.append(self._usage.first_step)
            self._epoch_ends.append(now)
            self._trained += 1

    def end(self, name: str) -> Running | None:
        """The trial is no longer trained. Returns how far it was; None where it never started."""
        return self._running.pop(name, None)

    def snapshot(self) -> Snapshot:
        """How the search stands now. Another thread than the one that follows the trials may ask, too."""
        best, running = self._best, self._running.copy()
        now = time.monotonic()
        # One that is audited has its end in the study while it is being trained.
        ends = self.record.tally.ends(apart=running)
        waiting = max(0, self.record.trials - len(running) - sum(ends.values()))
        counts = {
            word: sum(trials for end, trials in ends.items() if end.state == state) for state, word in ENDED.items()
        }
        rate = self._epochs_a_second(now)
        return Snapshot(
            objective=self.record.settings.objective,
            epochs=self.record.settings.epochs,
            planned=self.record.trials,
            trial=self.record.trial,
            running=running,
            best=best,
            counts={"running": len(running), "waiting": waiting, **counts},
            rungs=self._rungs(),
            epochs_a_second=rate,
            images_a_second=None if rate is None else rate * self._images,
            lost=self._usage.lost(now, [trial.since for trial in running.values()]),
            elapsed=now - self._began,
            remaining=self._remaining(now, ends, running, waiting),
        )

    def _rungs(self) -> list[Rung]:
        """What the scheduler did at those of the epochs at which it compares that a trial has reached."""
        stopped: Counter[int] = Counter()
        for end, trials in self.record.tally.ends().items():
            if end.state == TrialState.PRUNED:
                stopped[end.epochs] += trials
        heard = self.record.tally.heard
        return [Rung(epoch, heard[epoch], heard[epoch] - stopped[epoch]) for epoch in self._compared if heard[epoch]]

    def _improve(self, value: float, name: str, epoch: int) -> None:
        sign = 1 if maximised(self.record.settings.objective) else -1
        if self._best is None or sign * value > sign * self._best.value:
            self._best = Best(value, name, epoch)

    def _epochs_a_second(self, now: float) -> float | None:
        if len(self._epoch_ends) < 2:
            return None
        return (len(self._epoch_ends) - 1) / (now - self._epoch_ends[0])

    def _remaining(
        self, now: float, ends: Mapping[End, int], running: Mapping[str, Running], waiting: int
    ) -> float | None:
        estimates = []
        if any(ends.values()) and self._trained:
            epochs = self.record.settings.epochs
            lengths: Counter[int] = Counter()
            for end, trials in ends.items():
                lengths[epochs if end.audited else end.epochs] += trials
            left = epochs_left(lengths, [trial.epoch for trial in running.values()], waiting, epochs)
            # All slots together take so long for all, and one of them for the longest: at a search's end most have
            # nothing left to do, and the longest decides (Graham 1969).
            together = (now - self._started) / self._trained
            alone = (self._usage.trained + self._usage.kept) / self._trained
            estimates.append(max(together * sum(left), alone * max(left, default=0.0)))
        if self._deadline is not None:
            estimates.append(max(0.0, self._deadline - now))
        return min(estimates) if estimates else None


def epochs_left(ended: Mapping[int, int], running: Sequence[int], waiting: int, epochs: int) -> list[float]:
    """How many epochs each trial will still be trained, in expectation.

    After each epoch a trial is taken to go on as often as those did that were trained so far, by the product-limit
    estimate (Kaplan and Meier 1958): the mean of the ended ones alone would be too short, as the first to end are
    those that are stopped early.

    Args:
        ended: how many trials have ended, by the epochs that they were trained for.
        running: for how many each was that is being trained.
        waiting: how many trials have not begun.
        epochs: of a trial that runs its course.
    Returns: one for each that is running, then one for each that is waiting.
    """
    under_way = Counter(running)
    came = sum(ended.values()) + len(running)
    goes_on = []  # by epoch, from 0: of the trials that came so far, the share that went on
    for epoch in range(epochs + 1):
        goes_on.append(1 - ended.get(epoch, 0) / came if came else 1.0)
        came -= ended.get(epoch, 0) + under_way[epoch]
    left = [0.0] * (epochs + 1)  # by epoch: of a trial that goes on after it
    for epoch in reversed(range(epochs)):
        left[epoch] = 1 + goes_on[epoch + 1] * left[epoch + 1]
    return [left[epoch] for epoch in running] + [goes_on[0] * left[0]] * waiting
