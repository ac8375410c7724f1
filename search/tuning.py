"""One Ray Tune experiment: the study's trials on the cluster's slots, until there are no more or `Stop` says so."""

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray import tune
from ray.air._internal import usage
from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig, Stopper, TuneConfig, TuneError, Tuner
from ray.tune.execution.tune_controller import TuneController

from search.cluster import Cluster
from search.deaths import deaths_recognised
from search.scheduler import Scheduler
from search.searcher import StudySearcher
from search.step_log import StepLog
from search.unpickled import Unpickled
from trainable.errors import storage_fault
from trainable.keeper import assign, release
from trainable.paths import trial_folder
from trainable.tune import ConvNetTrial, Shared

WORKER_RETRIES = 3  # of a trial whose worker died: it goes on from its last epoch; see `Elastic` for those in between
PENDING = "64"  # trials that wait for their workers to start: Ray's default would be one, or as many as were at first
VARIABLES = {  # by which Ray is told
    "TUNE_MAX_PENDING_TRIALS_PG": PENDING,
    # Ray's own signal handling would end fit() without a word; ours is in `Stop`.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Of what Ray's loggers write we need the JSON alone, see `StepLog`.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # A trial that fails has no metric to show.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
}


class _Stopped(BaseException):
    """Ends fit(); not an Exception, which Ray would take for a fault."""


class Stop(Stopper):  # type: ignore[misc]  # Ray's class is untyped
    """Says when everything shall stop: at the deadline, on a signal, or when the machine is at fault.

    Args:
        deadline: time.monotonic() by which all must be done, or None.
        closing_epochs: what is to be done after the last trial, in units of an epoch's time.
    Attributes:
        signal: the signal that came, or None.
        fault: what is wrong with the machine, or None.
    """

    def __init__(self, deadline: float | None, closing_epochs: float = 0.0) -> None:
        self._deadline = deadline
        self._closing_epochs = closing_epochs
        self._epoch_seconds = 0.0
        self.signal: signal.Signals | None = None
        self.fault: str | None = None

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        self.fault = result.get("halt", self.fault)
        self._epoch_seconds = max(self._epoch_seconds, result.get("seconds", 0.0))
        return False

    @property
    def due(self) -> bool:
        """Whether it is time."""
        return self.signal is not None or self.fault is not None or self.out_of_time

    def stop_all(self) -> bool:
        if self.due:
            # Ray would wait ten seconds for the epochs under way. What is worth keeping is on disk: leave at once, and
            # let the workers end with Ray.
            raise _Stopped
        return False

    @property
    def out_of_time(self) -> bool:
        """Whether the time that is left is needed for what comes after the trials."""
        if self._deadline is None:
            return False
        return time.monotonic() >= self._deadline - self._closing_epochs * self._epoch_seconds

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM stop the search inside; a second SIGINT interrupts at once."""
        earlier = self.take_signals()
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)

    def take_signals(self) -> dict[signal.Signals, Any]:
        """Handles the signals from now on (ray.init takes SIGTERM for itself); returns the handlers before."""

        def handle(number: int, frame: Any) -> None:
            if self.signal is not None and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.signal = self.signal or signal.Signals(number)

        return {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}


class Assigned(Unpickled, Callback):  # type: ignore[misc]  # Ray's class is untyped
    """Says, before each start of a trial, whose it is, so that no worker that was only thought dead writes to it.

    Args:
        run: the run's folder.
        stop: is told where the disk does not take it.
    """

    def __init__(self, run: Path, stop: Stop) -> None:
        self._run, self._stop = run, stop

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        # Ray has the actor, new or reused, and sends it nothing of the trial's training before this returns.
        worker = trial.temporary_state.ray_actor._actor_id.hex()
        try:
            assign(trial_folder(self._run, trial.config["trial"]), worker)
        except OSError as error:
            self._stop.fault = storage_fault(error) or str(error)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        release(trial_folder(self._run, trial.config["trial"]))

    on_trial_error = on_trial_complete


class Forget(Unpickled, Callback):  # type: ignore[misc]  # Ray's class is untyped
    """Frees what Ray keeps of a trial that has ended and nobody reads: its config, its last result and each metric's
    statistics. The driver has every trial of a search in memory. To be after the callbacks that read it."""

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        for kept in (
            trial.run_metadata.metric_analysis,
            trial.run_metadata.metric_n_steps,
            trial.run_metadata.last_result,
            trial.evaluated_params,
        ):
            kept.clear()
        trial.config.pop("config", None)


class Leave(Unpickled, Callback):  # type: ignore[misc]  # Ray's class is untyped
    """Ends fit() when its last trial has ended. To be the last callback, so that all others have heard of it.

    Ray would read each trial's steps into a table that nobody asks for: seconds, of a thousand trials.
    """

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        # It comes here in a fault, too, which it is about to raise again.
        if sys.exception() is None:
            raise _Stopped


@contextmanager
def _told(variables: Mapping[str, str]) -> Iterator[None]:
    """The environment has them inside, and is as it was for what is started later, another Ray Tune script perhaps."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _quicker() -> Iterator[None]:
    """Ray writes no state of its own inside, from which nobody resumes: it would be all trials anew every few seconds.
    Nor does it count callbacks by their kind for its usage statistics: it would import all that a search might be
    tracked by, seconds where that is installed."""
    checkpoint, tag = TuneController.checkpoint, usage.tag_callbacks
    TuneController.checkpoint = lambda controller, force=False, wait=False: None
    usage.tag_callbacks = lambda callbacks: False
    try:
        yield
    finally:
        TuneController.checkpoint, usage.tag_callbacks = checkpoint, tag


def tune_trials(
    cluster: Cluster,
    shared: Shared,
    searcher: StudySearcher,
    scheduler: Scheduler,
    stop: Stop,
    callbacks: Sequence[Callback],
) -> None:
    """Runs trials until the searcher has no more, or `stop` says so. Trials cut short stay open in the study."""
    # Its errors are told by our own view, with the trial's name and the reason.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    trainable = tune.with_resources(
        tune.with_parameters(ConvNetTrial, shared=shared), {"cpu": cluster.trial.cpus, "gpu": cluster.trial.gpus}
    )
    # The name under which the dashboard lists the actors; Ray's wrapper has none that speaks.
    trainable.__name__ = trainable.__qualname__ = ConvNetTrial.__name__
    assigned = [] if shared.keeper is None else [Assigned(shared.run, stop)]
    tuner = Tuner(
        trainable,
        tune_config=TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=-1,
            # A new actor costs 2 to 3 s, a reused one 8 ms.
            reuse_actors=True,
            trial_name_creator=lambda trial: f"trial-{trial.config['trial']}",
            trial_dirname_creator=lambda trial: trial.config["trial"],
        ),
        run_config=RunConfig(
            name="tune",
            storage_path=str(shared.run),
            stop=stop,
            callbacks=[StepLog(shared.run), *assigned, *callbacks, Forget(), Leave()],
            # A trial's own folder holds what it resumes from; a class trainable would save at its end all the same.
            checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
            failure_config=FailureConfig(max_failures=WORKER_RETRIES),
            verbose=0,
        ),
    )
    try:
        with _told(VARIABLES), deaths_recognised(searcher.short_of_memory), _quicker():
            tuner.fit()
    except _Stopped:
        pass
    except TuneError as error:
        stop.fault = storage_fault(error)
        if stop.fault is None:
            raise
