"""What Ray Tune is taught of the deaths of workers."""

from types import SimpleNamespace
from typing import Any

import pytest
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.air.execution._internal.tracked_actor import TrackedActor
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.exceptions import (
    ActorDiedError,
    NodeDiedError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RuntimeEnvSetupError,
)

from search.deaths import deaths_recognised


def told_of(exception: RayError) -> list[Exception]:
    """What Tune is told when the step of a worker ends with an exception of Ray's."""
    told: list[Exception] = []
    freed: list[Any] = []
    manager = RayActorManager(SimpleNamespace(free_resources=lambda acquired_resource: freed.append(acquired_resource)))
    actor = TrackedActor(0, on_error=lambda actor, error: told.append(error))
    manager._live_actors_to_ray_actors_resources[actor] = (None, "a CPU")
    task = TrackedActorTask(actor, on_error=lambda actor, error: told.append(error))
    manager._actor_task_failed(tracked_actor_task=task, exception=exception)
    assert freed == ["a CPU"]
    return told


KILLED = OutOfMemoryError("1 worker(s) were killed due to the node running low on memory")


@pytest.mark.parametrize(
    "exception", [KILLED, NodeDiedError("gone"), RuntimeEnvSetupError("no room"), ActorDiedError()]
)
def test_whatever_ray_says_of_a_worker_is_its_death(exception: Any) -> None:
    with deaths_recognised():
        told = told_of(exception)
    assert len(told) == 2  # of the actor and of its step
    for error in told:
        assert isinstance(error, RayActorError)
        assert str(exception) in str(error)


def test_tune_alone_would_end_a_search_for_a_worker_that_was_killed_for_memory() -> None:
    with pytest.raises(RuntimeError, match="^Caught unexpected exception: 1 worker"):
        told_of(KILLED)
