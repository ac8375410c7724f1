"""The deaths of workers, of which Ray Tune knows one kind."""

from collections.abc import Iterator
from contextlib import contextmanager

from ray.air.execution._internal.actor_manager import RayActorManager
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.exceptions import RayActorError, RayError, RayTaskError


@contextmanager
def deaths_recognised() -> Iterator[None]:
    """Whatever error of Ray's an actor ends with inside is the death of a worker, and its trial goes on elsewhere. Tune
    knows one such error; any other, as that of a worker killed by Ray's monitor of memory, would end the search."""
    failed = RayActorManager._actor_task_failed

    def fail(manager: RayActorManager, tracked_actor_task: TrackedActorTask, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, (RayActorError, RayTaskError)):
            exception = RayActorError(error_msg=str(exception))
        failed(manager, tracked_actor_task, exception)

    RayActorManager._actor_task_failed = fail
    try:
        yield
    finally:
        RayActorManager._actor_task_failed = failed
