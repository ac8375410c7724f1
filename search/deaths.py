"""The deaths of workers, of which Ray Tune knows one kind."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ray.air.execution._internal.actor_manager import RayActorManager
from ray.air.execution._internal.tracked_actor import TrackedActor
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial


class ShortOfMemory(RayActorError):  # type: ignore[misc]  # Ray's class is untyped
    """A worker that Ray's monitor of memory has killed."""


@contextmanager
def deaths_recognised(short_of_memory: Callable[[str], None]) -> Iterator[None]:
    """Whatever error of Ray's an actor ends with inside is the death of a worker, and its trial goes on elsewhere.

    Tune knows one such error; any other, as that of a worker killed by Ray's monitor of memory, would end the search.
    And a trial whose worker dies as it takes it would wait for another worker, only to be failed for the same death:
    Tune hears of it twice, from the worker and from the call.

    Args:
        short_of_memory: is told the id of a trial whose worker the monitor has killed.
    """
    failed, actor_failed = RayActorManager._actor_task_failed, TuneController._actor_failed

    def fail(manager: RayActorManager, tracked_actor_task: TrackedActorTask, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, (RayActorError, RayTaskError)):
            kind = ShortOfMemory if isinstance(exception, OutOfMemoryError) else RayActorError
            exception = kind(error_msg=str(exception))
        failed(manager, tracked_actor_task, exception)

    def fail_actor(controller: TuneController, tracked_actor: TrackedActor, exception: Exception) -> None:
        trial = controller._actor_to_trial[tracked_actor]
        if isinstance(exception, ShortOfMemory | OutOfMemoryError):  # the latter as a worker begins
            short_of_memory(trial.trial_id)
        if trial in controller._resetting_trials:
            # As if it had begun: it waits from when Tune hears of the call, and no sooner.
            controller._resetting_trials.remove(trial)
            controller._unstage_trial_with_resources(trial)
            controller._set_trial_status(trial, Trial.RUNNING)
        actor_failed(controller, tracked_actor, exception)

    RayActorManager._actor_task_failed, TuneController._actor_failed = fail, fail_actor
    try:
        yield
    finally:
        RayActorManager._actor_task_failed, TuneController._actor_failed = failed, actor_failed
