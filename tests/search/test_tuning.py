"""What is kept of a trial that has ended."""

import pytest
from ray.tune.experiment import Trial

from search.tuning import Forget, Leave, _Stopped


def test_of_a_trial_that_has_ended_ray_keeps_the_last_result_alone() -> None:
    trial = Trial(
        "stub", config={"trial": "0000", "config": {"lr": 0.1}}, stub=True, evaluated_params={"config/lr": 0.1}
    )
    row = {"training_iteration": 1, "valid_loss": 2.0}
    trial.update_last_result({**row, "config": trial.config})
    assert set(trial.run_metadata.metric_analysis) >= set(row)
    Forget().on_trial_complete(1, [trial], trial)
    assert trial.run_metadata.metric_analysis == trial.run_metadata.metric_n_steps == {}
    assert trial.evaluated_params == {}
    assert row.items() <= trial.last_result.items() and "config" not in trial.last_result
    assert trial.config["trial"] == "0000"


def test_a_searchs_end_is_its_end_and_a_faults_stays_the_faults() -> None:
    with pytest.raises(_Stopped):
        Leave().on_experiment_end([])
    try:
        raise OSError
    except OSError:
        Leave().on_experiment_end([])
