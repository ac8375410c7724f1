"""Early stopping by name: Ray's schedulers, whose state is rebuilt from the study when a search goes on.

Ray neither saves a scheduler's rungs nor tells which trials it stopped. Both depend on nothing but the values that the
trials reported, in whatever order, so `Scheduler` replays them from the study into a fresh one.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from trainable.config import Objective, maximised
from trainable.fit import objective_value

VALUE, EPOCH = "value", "training_iteration"
REDUCTION_FACTOR = 3


@dataclass(frozen=True)
class SchedulerRow:
    """One scheduler: from (epochs of a trial, mode 'max' or 'min') to Ray's."""

    name: str
    summary: str
    build: Callable[[int, str], TrialScheduler]


def grace_period(epochs: int) -> int:
    """Epochs that every trial gets: a quarter of them, at least one. After the very first epochs differences between
    configurations are smaller than those between seeds, so an earlier rung would stop trials by chance."""
    return max(1, epochs // 4)


def rungs(epochs: int) -> list[int]:
    """The epochs at which ASHA compares: the grace period times powers of the reduction factor, below the end."""
    found = [grace_period(epochs)]
    while found[-1] * REDUCTION_FACTOR < epochs:
        found.append(found[-1] * REDUCTION_FACTOR)
    return [rung for rung in found if rung < epochs]


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
        SchedulerRow("asha", "asynchronous successive halving, a third goes on (Li et al. 2020)", _asha),
        SchedulerRow("median", "stops what is below the median of running means (Golovin et al. 2017)", _median),
        SchedulerRow("none", "every trial runs to its end", lambda epochs, mode: FIFOScheduler()),
    )
}


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
    """

    def __init__(
        self, name: str, epochs: int, objective: Objective, history: Iterable[tuple[str, Mapping[int, float]]] = ()
    ) -> None:
        super().__init__()
        self._objective = objective
        self._inner = SCHEDULERS[name].build(epochs, "max" if maximised(objective) else "min")
        self._seen: dict[str, int] = {}  # trial -> its last epoch
        self.stopped: set[str] = set()
        for trial, values in history:
            for epoch in sorted(values):
                self._note(trial, epoch, values[epoch])

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        name = trial.config["trial"]
        if "valid_loss" not in result or result[EPOCH] <= self._seen.get(name, 0):  # no epoch, or one known already
            return str(TrialScheduler.CONTINUE)
        decision = self._judge(name, result[EPOCH], objective_value(result, self._objective))
        if decision == TrialScheduler.STOP:
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
        self._inner.on_trial_complete(None, entrant, {EPOCH: epoch, VALUE: value})
        self._inner.on_trial_add(None, entrant)
        self._seen[trial] = epoch

    def _judge(self, trial: str, epoch: int, value: float) -> str:
        entrant = _Entrant(trial)
        if trial not in self._seen:
            self._inner.on_trial_add(None, entrant)
        self._seen[trial] = epoch
        return str(self._inner.on_trial_result(None, entrant, {EPOCH: epoch, VALUE: value}))
