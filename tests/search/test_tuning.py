"""What is kept of a trial that has ended, how a search ends, and what it does not import."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import ActorID
from ray.tune.experiment import Trial

from search.tuning import Assigned, Forget, Leave, Stop, _Stopped
from trainable.keeper import Gone, Keeper, Turn
from trainable.paths import trial_folder

ROOT = Path(__file__).parents[2]
COMMAND = """
import sys
from search.run import main

code = main(sys.argv[1:])
unused = ("mlflow", "wandb", "tensorboardX", "torch._dynamo")
print(code, [name for name in unused if name in sys.modules])
"""


def test_a_search_imports_nothing_large_that_it_does_not_use(
    tiny: str, cache: Path, cluster: str, tmp_path: Path
) -> None:
    """Ray would import all that it can be tracked by, to count what is used; each costs a second and more."""
    search = ["--space", tiny, "--trials", "1", "--epochs", "1", "--max-concurrent", "1", "--gpus-per-trial", "0"]
    where = ["--out", str(tmp_path), "--cache", str(cache), "--address", cluster]
    command = [sys.executable, "-c", COMMAND, *search, *where]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.stdout.splitlines()[-1] == "0 []", done


def test_of_a_trial_that_has_ended_ray_keeps_the_name() -> None:
    trial = Trial(
        "stub", config={"trial": "0000", "config": {"lr": 0.1}}, stub=True, evaluated_params={"config/lr": 0.1}
    )
    trial.update_last_result({"training_iteration": 1, "valid_loss": 2.0})
    Forget().on_trial_complete(1, [trial], trial)
    kept = trial.run_metadata
    assert kept.metric_analysis == kept.metric_n_steps == kept.last_result == trial.evaluated_params == {}
    assert trial.config == {"trial": "0000"}


def started(trial: str, actor: ActorID) -> Any:
    state = SimpleNamespace(ray_actor=SimpleNamespace(_actor_id=actor))
    return SimpleNamespace(config={"trial": trial}, temporary_state=state)


def test_a_trial_is_its_last_actors_until_its_end(tmp_path: Path) -> None:
    assigned, keeper, folder = Assigned(tmp_path, Stop(None)), Keeper([tmp_path], []), trial_folder(tmp_path, "0000")
    first, second = ActorID.from_random(), ActorID.from_random()
    assigned.on_trial_start(0, [], started("0000", first))
    assert keeper.left(folder, Turn(first.hex(), 1)) == {}
    assigned.on_trial_start(0, [], started("0000", second))
    assert keeper.left(folder, Turn(second.hex(), 1)) == {}
    with pytest.raises(Gone):
        keeper.left(folder, Turn(first.hex(), 2))
    assigned.on_trial_complete(0, [], started("0000", second))
    with pytest.raises(Gone):
        keeper.left(folder, Turn(second.hex(), 2))


def test_a_disk_that_does_not_take_whose_a_trial_is_ends_the_search(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("no folder")
    stop = Stop(None)
    Assigned(tmp_path / "run", stop).on_trial_start(0, [], started("0000", ActorID.from_random()))
    assert stop.fault == f"[Errno 20] Not a directory: '{tmp_path}/run/trials/0000'"
    with pytest.raises(_Stopped):
        stop.stop_all()


def test_a_searchs_end_is_its_end_and_a_faults_stays_the_faults() -> None:
    with pytest.raises(_Stopped):
        Leave().on_experiment_end([])
    try:
        raise OSError
    except OSError:
        Leave().on_experiment_end([])
