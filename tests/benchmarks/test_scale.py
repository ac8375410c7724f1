import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.scale import Sample, Searched, cost_seconds, sleeping_epochs
from benchmarks.train_throughput import random_examples
from trainable.config import TrialConfig
from trainable.device import choose


@pytest.mark.parametrize(
    "ends", [[0.0, 0.0, 1.0, 1.0, 2.0, 2.0], [0.0, 0.5, 1.0, 1.5, 2.0]], ids=["in step", "alternating"]
)
def test_what_a_trial_costs_is_its_time_on_a_slot_without_the_sleep(ends: list[float]) -> None:
    assert cost_seconds(ends, [0.9] * len(ends), slots=2) == pytest.approx(0.1)


def test_a_stage_is_what_the_trials_before_it_took() -> None:
    samples = [Sample(moment=second, memory=300 + second, cpu=0.25 * second) for second in range(20)]
    found = Searched(0.0, 20.0, [float(end) for end in range(2, 18)], [0.5] * 16, samples, files=0)
    assert found.stage(trial=11, window=5) == {
        "from one trial's end to the next, ms": 1000.0,
        "the driver's processor time a trial, ms": 250.0,
        "the driver's share of a core, %": 25.0,
        "the driver's memory, MB": 313.0,  # of the first sample after the trial's end
    }


def test_sleeping_epochs_are_those_of_a_trial() -> None:
    config = TrialConfig(depth=4, widths=(4, 4, 4, 4), image_size=28, epochs=5, seed=1)
    examples = random_examples(40, 28)
    epochs = list(sleeping_epochs(0.01, config, [examples], choose("cpu")))
    accuracies = [epoch.row["valid_accuracy"] for epoch in epochs]
    assert [epoch.row["epoch"] for epoch in epochs] == [1, 2, 3, 4, 5]
    assert [epoch.improved for epoch in epochs] == [
        all(value > earlier for earlier in accuracies[:index]) for index, value in enumerate(accuracies)
    ]
    assert epochs[0].valid_logits.shape == (6, 5)
    (network,) = epochs[2].networks()
    assert network.epoch == 3
    other = next(sleeping_epochs(0.01, dataclasses.replace(config, seed=2), [examples], choose("cpu")))
    assert other.row["valid_accuracy"] != accuracies[0]


def test_a_search_of_bare_workers_says_what_the_driver_took(tmp_path: Path) -> None:
    out = tmp_path / "scale.json"
    options = f"--trials 6 --seconds 0.2 --slots 2 --bare --sampler random --out {out}"
    done = subprocess.run([sys.executable, "-m", "benchmarks.scale", *options.split()], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "6 finished of 6" in done.stderr
    took, *_, memory = json.loads(out.read_text())["figures"]
    assert took["what"].startswith("6 trials of 0.2 s on 2 slots, sampler random, s;")
    assert took["peer"] == pytest.approx(0.6) and took["ours"] > took["peer"]
    assert memory["what"].endswith("the driver's memory, MB; ours at trial 6, peer at 3")
    assert memory["peer"] > 100
