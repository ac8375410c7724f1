"""As many trials at once as a cluster has room for, while its nodes come and go."""

import time
from typing import Any

from ray.tune import Callback
from rich.console import Console

from search.cli import say
from search.cluster import PATIENCE_SECONDS, Cluster
from search.searcher import StudySearcher
from search.tuning import Stop
from search.unpickled import Unpickled
from search.usage import Usage

CHECK_SECONDS = 2.0


class Elastic(Unpickled, Callback):  # type: ignore[misc]  # Ray's class is untyped
    """Follows the cluster's room.

    Args:
        searcher: is told how many trials may be open, and when a worker begins one.
        most: that may be open however much room there is; None: as many as fit.
        usage: is told how many slots there are.
        stop: is told where the cluster has had no room for too long.
        console: is told, once, where others have held all of it for as long.
    """

    def __init__(
        self, cluster: Cluster, searcher: StudySearcher, most: int | None, usage: Usage, stop: Stop, console: Console
    ) -> None:
        self._cluster, self._searcher, self._most, self._usage, self._stop = cluster, searcher, most, usage, stop
        self._console = console
        self._checked = self._had_room = self._had_worker = time.monotonic()
        self._told = False

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        now = time.monotonic()
        if now - self._checked < CHECK_SECONDS:
            return
        self._checked = now
        slots = self._cluster.slots()
        if slots:
            self._had_room = now
            self._searcher.slots = min(slots, self._most or slots)
            self._usage.resize(self._searcher.slots, now)
        elif now - self._had_room > PATIENCE_SECONDS:
            self._stop.fault = f"the cluster has no room for a trial any more: {self._cluster.shortage()}"
        if not slots or any(trial.status == "RUNNING" for trial in trials):
            self._had_worker = now
        elif now - self._had_worker > PATIENCE_SECONDS and not self._told:
            self._told = True
            say(self._console, f"Warning: trials wait for workers: of the cluster {self._cluster.free()} are free.")

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._searcher.started(trial.trial_id)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        # A trial may lose as many workers as it likes, if only it trains an epoch in between.
        if "kept_seconds" in result:
            trial.run_metadata.num_failures = 0
