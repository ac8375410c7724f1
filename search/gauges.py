"""A running search as gauges, which Ray exports for Prometheus under their names with ray_ before."""

import math
import time
from typing import Any

from ray.tune import Callback
from ray.util.metrics import Gauge

from search.standing import Standing
from search.unpickled import Unpickled

# Measured with Ray 2.60.0: a series ends within 25 s after it was last set, so that of a trial does when the trial has
# ended; and so all have to be set again and again, whether they change or not.
SET_SECONDS = 2.0


class Gauges(Unpickled, Callback):  # type: ignore[misc]  # Ray's class is untyped
    """Sets the gauges to how the search stands, in the driver, which knows all of it. Needs a running Ray.

    Args:
        run: the run's name, a tag of all.
    """

    def __init__(self, standing: Standing, run: str) -> None:
        self._standing = standing
        self._run = run
        self._set_at = -math.inf  # time.monotonic()
        self._best = _gauge("best", "The objective of the best epoch so far", "objective")
        self._trials = _gauge("trials", "Trials by state", "state")
        self._accuracy = _gauge("valid_accuracy", "Accuracy on validation of a running trial's latest epoch", "trial")
        self._epoch = _gauge("epoch", "The latest epoch of a running trial", "trial")
        self._epochs = _gauge("epochs_per_second", "Over the latest epochs of all trials")
        self._images = _gauge("images_per_second", "That are learnt from, over the latest epochs of all trials")
        self._lost = _gauge("lost_ratio", "The share of the slots' time that was neither training nor validation")

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if "valid_loss" in result:  # here, too, as a trial's last epoch ends it
            self._set_trial(trial.config["trial"], result["training_iteration"], result["valid_accuracy"])

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if time.monotonic() - self._set_at < SET_SECONDS:
            return
        self._set_at = time.monotonic()
        now = self._standing.snapshot()
        if now.best is not None:
            self._best.set(now.best.value, {"run": self._run, "objective": now.objective})
        for state, number in now.counts.items():
            self._trials.set(number, {"run": self._run, "state": state})
        for name, running in now.running.items():
            self._set_trial(name, running.epoch, running.accuracy)
        for gauge, value in (
            (self._epochs, now.epochs_a_second),
            (self._images, now.images_a_second),
            (self._lost, now.lost),
        ):
            if value is not None:
                gauge.set(value, {"run": self._run})

    def _set_trial(self, name: str, epoch: int, accuracy: float | None) -> None:
        tags = {"run": self._run, "trial": name}
        self._epoch.set(epoch, tags)
        if accuracy is not None:
            self._accuracy.set(accuracy, tags)


def _gauge(name: str, text: str, *tags: str) -> Gauge:
    return Gauge(f"convsearch_{name}", text, ("run", *tags))
