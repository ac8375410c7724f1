"""What is kept of a trial that has ended, and how a search ends."""

import pytest
from ray.tune.experiment import Trial

from search.tuning import Forget, Leave, _Stopped


def test_of_a_trial_that_has_ended_ray_keeps_the_name() -> None:
    trial = Trial(
        "stub", config={"trial": "0000", "config": {"lr": 0.1}}, stub=True, evaluated_params={"config/lr": 0.1}
    )
    trial.update_last_result({"training_iteration": 1, "valid_loss": 2.0})
    Forget().on_trial_complete(1, [trial], trial)
    kept = trial.run_metadata
    assert kept.metric_analysis == kept.metric_n_steps == kept.last_result == trial.evaluated_params == {}
    assert trial.config == {"trial": "0000"}


def test_a_searchs_end_is_its_end_and_a_faults_stays_the_faults() -> None:
    with pytest.raises(_Stopped):
        Leave().on_experiment_end([])
    try:
        raise OSError
    except OSError:
        Leave().on_experiment_end([])
