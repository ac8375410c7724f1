"""What Ray Tune is taught of the deaths of workers."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray import tune
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
    with deaths_recognised(lambda trial_id: None):
        told = told_of(exception)
    assert len(told) == 2  # of the actor and of its step
    for error in told:
        assert isinstance(error, RayActorError)
        assert str(exception) in str(error)


def test_tune_alone_would_end_a_search_for_a_worker_that_was_killed_for_memory() -> None:
    with pytest.raises(RuntimeError, match="^Caught unexpected exception: 1 worker"):
        told_of(KILLED)


@pytest.fixture
def ray_of_one() -> Iterator[None]:
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def test_a_worker_that_dies_as_it_takes_its_next_trial_has_died_once(ray_of_one: None, tmp_path: Path) -> None:
    class DiesOnce(tune.Trainable):  # type: ignore[misc]  # Ray's class is untyped
        def setup(self, config: dict[str, Any]) -> None:
            self.trial: str = config["trial"]

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.trial = new_config["trial"]
            if self.trial == "1" and not (tmp_path / "died").exists():
                (tmp_path / "died").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return True

        def step(self) -> dict[str, Any]:
            return {"trial": self.trial, "done": True}

    with deaths_recognised(lambda trial_id: None):
        trials = tune.Tuner(
            DiesOnce,
            param_space={"trial": tune.grid_search(["0", "1", "2"])},
            tune_config=tune.TuneConfig(reuse_actors=True),
            run_config=tune.RunConfig(
                storage_path=str(tmp_path),
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                failure_config=tune.FailureConfig(max_failures=1),
            ),
        ).fit()
    assert (tmp_path / "died").exists() and trials.num_errors == 0
    assert sorted(result.metrics["trial"] for result in trials) == ["0", "1", "2"]
    assert len({result.metrics["pid"] for result in trials}) == 2


def test_a_worker_that_is_killed_for_memory_is_told_of_with_its_trial(tmp_path: Path) -> None:
    class Waits(tune.Trainable):  # type: ignore[misc]  # Ray's class is untyped
        def step(self) -> dict[str, Any]:
            time.sleep(60)
            return {"done": True}

    monitor = {"memory_usage_threshold": 0.001, "memory_monitor_refresh_ms": 200}  # of the machine's memory
    ray.init(
        address="local",
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        _system_config=monitor,
    )
    told: list[str] = []
    try:
        with deaths_recognised(told.append):
            trials = tune.Tuner(
                Waits,
                run_config=tune.RunConfig(
                    storage_path=str(tmp_path),
                    verbose=0,
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                ),
            ).fit()
    finally:
        ray.shutdown()
    assert trials.num_errors == 1 and len(told) == 1
