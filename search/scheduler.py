"""Early stopping by name: Ray's schedulers, whose state is rebuilt from the study when a search goes on.

Ray neither saves a scheduler's rungs nor tells which trials it stopped. Both depend on nothing but the values that the
trials reported, in whatever order, so `Scheduler` replays them from the study into a fresh one.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from results.rungs import REDUCTION_FACTOR, grace_period, rungs
from trainable.config import Objective, maximised
from trainable.fit import objective_value

VALUE, EPOCH = "value", "training_iteration"


@dataclass(frozen=True)
class SchedulerRow:
    """One scheduler."""

    name: str
    summary: str
    build: Callable[[int, str], TrialScheduler]  # from (epochs of a trial, mode 'max' or 'min') to Ray's
    judged: Callable[[int], Iterable[int]]  # from the epochs of a trial to those after which one may be stopped
    by_best: bool = False  # whether a trial is judged by its best epoch so far, which is what it is worth; else by each


def _asha(epochs: int, mode: str) -> TrialScheduler:
    # An epoch more than a trial has: Ray would stop a trial at max_t itself, and its logarithm may lose the last rung.
    return AsyncHyperBandScheduler(
        time_attr=EPOCH,
        metric=VALUE,
        mode=mode,
        max_t=epochs + 1,
        grace_period=grace_period(epochs),
        reduction_factor=REDUCTION_FACTOR,
        brackets=1,
    )


def _median(epochs: int, mode: str) -> TrialScheduler:
    # An infinite time slice: the rule shall never pause a trial to let another run, which would need Ray's checkpoints.
    return MedianStoppingRule(
        time_attr=EPOCH,
        metric=VALUE,
        mode=mode,
        grace_period=grace_period(epochs),
        min_samples_required=3,
        min_time_slice=math.inf,
    )


SCHEDULERS = {
    row.name: row
    for row in (
        SchedulerRow(
            "asha", "asynchronous successive halving, a third goes on (Li et al. 2020)", _asha, rungs, by_best=True
        ),
        SchedulerRow("median", "stops what is below the median of running means (Golovin et al. 2017)", _median, range),
        SchedulerRow("none", "every trial runs to its end", lambda epochs, mode: FIFOScheduler(), lambda epochs: ()),
    )
}


def lot(seed: int, trial: str) -> float:
    """In [0, 1): a trial that is to be stopped is audited where its lot is below the share of the audit.

    It is the trial's own, so that a search that is resumed draws the same.
    """
    # The 3 keeps it apart from all that are drawn from a trial's number.
    return float(np.random.default_rng([seed, int(trial), 3]).random())


@dataclass(frozen=True)
class _Entrant:
    """All that Ray's schedulers look at in a trial."""

    trial_id: str


class Scheduler(FIFOScheduler):  # type: ignore[misc]  # Ray's class is untyped
    """Ray's scheduler of that name behind our trial names. It sees each epoch of each trial once.

    Args:
        name: of SCHEDULERS.
        epochs: of a trial that runs its course.
        objective: what is compared.
        history: for each earlier trial its values by epoch, replayed.
        audit: the share of the trials to be stopped that are let run, whose later epochs count for no other trial.
        seed: of the audit's lots.
        audited: the earlier trials that are let run.
    Attributes:
        stopped: trials that were told to stop.
        audited: trials that were to be stopped, and are let run.
    """

    def __init__(
        self,
        name: str,
        epochs: int,
        objective: Objective,
        history: Iterable[tuple[str, Mapping[int, float]]] = (),
        audit: float | None = None,
        seed: int = 0,
        audited: Iterable[str] = (),
    ) -> None:
        super().__init__()
        self._objective = objective
        self._inner = SCHEDULERS[name].build(epochs, "max" if maximised(objective) else "min")
        self._better: Callable[[float, float], float] = max if maximised(objective) else min
        self._best: dict[str, float] | None = {} if SCHEDULERS[name].by_best else None  # of each trial, so far
        self._seen: dict[str, int] = {}  # trial -> its last epoch
        self._audit, self._seed = audit, seed
        self.stopped: set[str] = set()
        self.audited = set(audited)
        for trial, values in history:
            for epoch in sorted(values):
                self._note(trial, epoch, values[epoch])

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """None: each trial begins in its turn, as its worker is there.

        FIFO's choice would be the first that waits, and Ray would give it the next worker to come free and kill the one
        that was starting for it: where trials end sooner than workers start, no second worker would ever be there.
        """

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        name = trial.config["trial"]
        known = name in self.audited or result[EPOCH] <= self._seen.get(name, 0)
        if known or "valid_loss" not in result:
            return str(TrialScheduler.CONTINUE)
        for row in result.get("earlier", ()):  # of a trial that goes on: the study may have lost some
            if row["epoch"] > self._seen.get(name, 0):
                self._note(name, row["epoch"], objective_value(row, self._objective))
        decision = self._judge(name, result[EPOCH], objective_value(result, self._objective))
        if decision == TrialScheduler.STOP:
            if self._audit is not None and lot(self._seed, name) < self._audit:
                self.audited.add(name)
                return str(TrialScheduler.CONTINUE)
            self.stopped.add(name)
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        # The last epoch of a trial that ends by itself comes here alone.
        self.on_trial_result(tune_controller, trial, result)

    def _note(self, trial: str, epoch: int, value: float) -> None:
        """Takes in an epoch that was judged in its time, between other trials' epochs than are known now."""
        entrant = _Entrant(trial)
        self._inner.on_trial_add(None, entrant)
        # The one call that takes a value and decides nothing. ASHA forgets the trial with it, but not its value.
        self._inner.on_trial_complete(None, entrant, {EPOCH: epoch, VALUE: self._worth(trial, value)})
        self._inner.on_trial_add(None, entrant)
        self._seen[trial] = epoch

    def _judge(self, trial: str, epoch: int, value: float) -> str:
        entrant = _Entrant(trial)
        if trial not in self._seen:
            self._inner.on_trial_add(None, entrant)
        self._seen[trial] = epoch
        return str(self._inner.on_trial_result(None, entrant, {EPOCH: epoch, VALUE: self._worth(trial, value)}))

    def _worth(self, trial: str, value: float) -> float:
        """What an epoch is judged by, from its own value."""
        if self._best is None:
            return value
        self._best[trial] = self._better(self._best.get(trial, value), value)
        return self._best[trial]
