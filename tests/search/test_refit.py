"""--refit from end to end: what it trains, keeps and says, and that a kill half way costs no more than an epoch.

One run has members of two image sizes; the other is of digits, whose epochs are long enough to be killed in.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from rich.console import Console

from search import cluster as clusters
from search import ensemble
from search import refit as refit_module
from search.cluster import Cluster, Resources
from search.record import lock
from search.run import main
from search.tuning import Stop
from tests.search.test_run import Commands
from tests.trainable.tiny import config
from trainable.checkpoint import file_hash, load_best
from trainable.keeper import WORKER
from trainable.refit import Refit

SHORT = "--trials 2 --scheduler none --max-concurrent 1 --gpus-per-trial 0".split()
ROOT = Path(__file__).parents[2]
PATIENCE = 240.0  # seconds for anything that should take few


def manifest_of(run: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((run / "ensemble.json").read_text())
    return manifest


def times_of(run: Path) -> dict[str, int]:
    """When each file of a run's refits was written."""
    return {str(path.relative_to(run)): path.stat().st_mtime_ns for path in run.glob("refits/*/*")}


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"in vain for {PATIENCE:g} s"
        time.sleep(0.01)


# Members of two image sizes


@pytest.fixture(scope="module")
def people(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the images that a test may change."""
    return shutil.copytree(faces, tmp_path_factory.mktemp("people") / "data")


@pytest.fixture(scope="module")
def two_sizes(people: Path, cache: Path, cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the space resolution at 28 and 42 pixels, with an ensemble of both and of their refits."""
    out = tmp_path_factory.mktemp("runs")
    data = ["--data", str(people / "people.csv"), "--inputs", "Gender", "--image-size", "28", "--epochs", "1"]
    where = ["--out", str(out), "--cache", str(cache), "--name", "sizes", "--address", cluster]
    assert main(["--space", "resolution", *SHORT, *data, *where]) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # where no Ray is: --address comes first
        test = ["--test", str(people / "test.csv"), "--method", "uniform"]
        assert ensemble.main([str(out / "sizes"), *test]) == 0
        assert ensemble.main([str(out / "sizes"), *test, "--refit", "--address", cluster]) == 0
    return out / "sizes"


@pytest.fixture
def refitted(two_sizes: Path, tmp_path: Path) -> Path:
    """A copy of `two_sizes` that a test may damage."""
    return shutil.copytree(two_sizes, tmp_path / "sizes")


def test_members_of_two_image_sizes_make_one_ensemble(two_sizes: Path) -> None:
    (without,) = [path for path in two_sizes.glob("ensembles/*") if manifest_of(path)["members"][0]["refit"] is None]
    sizes = {
        load_best(two_sizes / "trials" / member["trial"] / "best.safetensors").preprocessing.image_size
        for member in manifest_of(without)["members"]
    }
    assert sizes == {28, 42}
    assert [member["weight"] for member in manifest_of(without)["members"]] == [0.5, 0.5]
    assert len((without / "submission.csv").read_text().splitlines()) == 1 + 5


def test_each_member_is_trained_on_everything_for_its_best_number_of_epochs(two_sizes: Path) -> None:
    for member in manifest_of(two_sizes)["members"]:
        trial = load_best(two_sizes / "trials" / member["trial"] / "best.safetensors")
        folder = two_sizes / "refits" / member["trial"]
        assert sorted(path.name for path in folder.iterdir()) == ["best.safetensors", "metrics.csv", "refit.json"]
        again = load_best(folder / "best.safetensors")
        assert (again.config, again.epoch) == (trial.config, trial.epoch)
        assert again.preprocessing.image_size == trial.preprocessing.image_size
        assert again.preprocessing.mean != trial.preprocessing.mean  # of 60 images, not of 42
        assert member["refit"] == {
            "path": f"refits/{member['trial']}/best.safetensors",
            "sha256": file_hash(folder / "best.safetensors"),
        }
        assert member["checkpoint_sha256"] == [file_hash(two_sizes / "trials" / member["trial"] / "best.safetensors")]
        assert (folder / "metrics.csv").read_text().splitlines()[0] == "epoch,train_loss,train_accuracy,lr,seconds"


def test_the_manifest_says_which_rows_each_stage_saw(two_sizes: Path) -> None:
    by_trials = {
        "trials_learnt_from": "42 train",
        "trials_ranked_on": "9 valid",
        "weights_and_temperature_fitted_on": "9 holdout, by the trials' own networks",
        "methods_scored_on": "9 holdout, cross-fitted",
        "predicting_networks_learnt_from": "42 train",
        "an_image_is_predicted_by": "one network a member",
    }
    everything = "all 60, for as many epochs as were best before"
    rows = [manifest_of(path)["rows"] for path in two_sizes.glob("ensembles/*")]
    assert by_trials in rows
    assert {**by_trials, "predicting_networks_learnt_from": everything} in rows
    assert len(rows) == 2


def test_a_refit_changes_the_prediction_and_not_the_weights(two_sizes: Path) -> None:
    one, other = (manifest_of(path) for path in two_sizes.glob("ensembles/*"))
    assert one["scores"] == other["scores"]
    assert one["temperature"] == other["temperature"]
    assert one["sha256"]["probabilities.npz"] != other["sha256"]["probabilities.npz"]


def test_verify_makes_it_again_byte_for_byte(refitted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = refitted / "ensemble.json"
    assert ensemble.main(["--verify", str(path)]) == 0
    assert capsys.readouterr().out.endswith(
        f"{path} holds: checkpoints, split, weights and scores are the same; submission.csv and probabilities.npz made "
        "again, the same byte for byte.\n"
    )


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?")])
def test_verify_notices_a_changed_or_missing_refit(
    refitted: Path, change: Callable[[Path], object], capsys: pytest.CaptureFixture[str]
) -> None:
    path = refitted / "refits" / "0001" / "best.safetensors"
    change(path)
    assert ensemble.main(["--verify", str(refitted / "ensemble.json")]) == 1
    said = f"Changed: {path} is missing or has changed: it is the refit of trial 0001\n"
    assert said in capsys.readouterr().out


def refit(run: Path, people: Path, *arguments: str) -> int:
    test = ["--test", str(people / "test.csv"), "--method", "uniform"]
    return ensemble.main([str(run), *test, "--refit", *arguments])


def test_refits_keep_to_the_runs_own_max_concurrent(refitted: Path) -> None:
    times = times_of(refitted)
    first, second = sorted(("0000", "0001"), key=lambda trial: times[f"refits/{trial}/refit.json"])
    assert times[f"refits/{first}/refit.json"] <= times[f"refits/{second}/metrics.csv"]  # of one epoch, written once


def test_without_test_data_it_is_said_before_anything_is_trained(
    refitted: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # where no Ray is: nothing is left to train
    assert ensemble.main([str(refitted), "--method", "uniform", "--refit"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Note: no test data is known, so nothing will be predicted; name it with --test.\n")
    assert f"No test data, so no submission: name it with --test. Wrote {refitted / 'ensemble.json'}\n" in out


def test_a_second_refit_trains_nothing(
    refitted: Path, people: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # where no Ray is: it must not need one
    before, manifest = times_of(refitted), (refitted / "ensemble.json").read_bytes()
    assert len(before) == 6
    (refitted / "refits" / "0001" / "latest.pt").touch()  # of a worker that was killed before it could remove it
    assert refit(refitted, people) == 0
    assert "Trained" not in capsys.readouterr().out
    assert times_of(refitted) == before
    assert (refitted / "ensemble.json").read_bytes() == manifest


@pytest.mark.parametrize("damage", ["best.safetensors", "refit.json"])
def test_a_damaged_refit_is_trained_again_and_no_other(
    refitted: Path,
    people: Path,
    cluster: str,
    damage: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    before, manifest = times_of(refitted), (refitted / "ensemble.json").read_bytes()
    stored = load_best(refitted / "refits" / "0001" / "best.safetensors").state
    network = {name: tensor.clone() for name, tensor in stored.items()}  # what was loaded lies in the file
    del stored
    (refitted / "refits" / "0001" / damage).write_bytes(b"{}")
    assert refit(refitted, people) == 0
    out = capsys.readouterr().out
    assert f"Trained trial 0001 of {refitted.name} on all images for 1 epoch.\n" in out
    assert "Trained trial 0000" not in out
    after = times_of(refitted)
    assert {name for name in before if before[name] != after[name]} == {
        f"refits/0001/{name}" for name in ("best.safetensors", "metrics.csv", "refit.json")
    }
    again = load_best(refitted / "refits" / "0001" / "best.safetensors")
    assert all(torch.equal(tensor, again.state[name]) for name, tensor in network.items())
    assert (refitted / "ensemble.json").read_bytes() == manifest  # so the refit is the same byte for byte
    assert ensemble.main(["--verify", str(refitted / "ensemble.json")]) == 0


def test_the_checkpoint_says_what_to_train_and_no_other_file(
    refitted: Path, people: Path, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    (refitted / "trials" / "0001" / "config.json").unlink()
    path = refitted / "trials" / "0000" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "lr": 0.5, "pool": []}))
    shutil.rmtree(refitted / "refits")
    manifest = (refitted / "ensemble.json").read_bytes()
    assert refit(refitted, people) == 0
    assert (refitted / "ensemble.json").read_bytes() == manifest


def test_one_that_fails_lets_the_others_end(
    refitted: Path,
    people: Path,
    cluster: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    shutil.rmtree(refitted / "refits")
    refits = refitted / "refits"
    refits.mkdir()
    (refits / "0000").touch()  # in the way
    manifest = (refitted / "ensemble.json").read_bytes()
    assert refit(refitted, people) == 2
    output = capsys.readouterr()
    assert output.err == (
        f"Error: --refit: trial 0000 of {refitted.name} failed: [Errno 17] File exists: '{refits / '0000'}'. "
        "What was trained is kept; the same command tries again.\n"
    )
    assert output.out == f"Trained trial 0001 of {refitted.name} on all images for 1 epoch.\n"
    assert (refits / "0001" / "refit.json").exists()
    assert (refitted / "ensemble.json").read_bytes() == manifest


def test_a_run_that_is_worked_on_is_not_refitted_but_read(
    refitted: Path, people: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = times_of(refitted)
    with lock(refitted):
        assert refit(refitted, people) == 2
        assert capsys.readouterr().err == f"Error: {refitted} is being worked on by process {os.getpid()}.\n"
        assert times_of(refitted) == before
        assert ensemble.main([str(refitted)]) == 0


def test_data_that_moved_are_missed(refitted: Path, people: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = people / "people.csv"
    moved = path.rename(people / "moved.csv")
    try:
        assert refit(refitted, people) == 2
    finally:
        moved.rename(path)
    assert capsys.readouterr().err == (
        f"Error: --refit: {refitted} was made with the data at {path}, where they no longer are; say where they are: "
        f"python -m search.run --resume {refitted.name} --out {refitted.parent} --data PLACE\n"
    )


def test_other_data_are_refused(refitted: Path, people: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = people / "people.csv"
    before = path.read_text()
    try:
        path.write_text(before.replace(",0,0\n", ",1,0\n", 1))  # somebody's Gender
        assert path.read_text() != before
        assert refit(refitted, people) == 2
    finally:
        path.write_text(before)
    message = f"Error: --refit: the data at {path} are not those that {refitted} was made with.\n"
    assert capsys.readouterr().err == message


# A kill half way


@pytest.fixture(scope="module")
def digits(cache: Path, tiny: str, cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    where = ["--out", str(out), "--cache", str(cache), "--name", "digits", "--address", cluster]
    assert main(["--space", tiny, *SHORT, "--trials", "1", "--epochs", "6", *where]) == 0
    return out / "digits"


def test_a_refit_that_was_killed_goes_on_and_gives_the_same_network(
    digits: Path, cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    epochs = load_best(digits / "trials" / "0000" / "best.safetensors").epoch
    assert epochs > 2  # or there is nothing to be half way through
    whole, broken = (shutil.copytree(digits, tmp_path / name) for name in ("whole", "broken"))
    assert ensemble.main([str(whole), "--refit"]) == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "search.ensemble", str(broken), "--refit"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    folder = broken / "refits" / "0000"
    wait_for(lambda: (folder / "latest.pt").exists() or process.poll() is not None)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    time.sleep(2)  # until its worker has heard of it
    left = read_metrics_of_refit(folder)
    assert 0 < len(left) < epochs
    assert (folder / "latest.pt").exists() and not (folder / "refit.json").exists()
    assert not (broken / "ensemble.json").exists()

    capsys.readouterr()
    assert ensemble.main([str(broken), "--refit"]) == 0
    out = capsys.readouterr().out
    assert f"Trained trial 0000 of broken on all images for {epochs} epochs.\n" in out
    assert "Predicted by networks trained again on all labelled images;" in out
    rows = read_metrics_of_refit(folder)
    assert len(rows) == epochs
    assert rows[: len(left) - 1] == left[:-1]  # with their seconds, which tell an epoch from its repetition
    assert sorted(path.name for path in folder.iterdir()) == ["best.safetensors", "metrics.csv", "refit.json"]
    one, other = (load_best(run / "refits" / "0000" / "best.safetensors") for run in (whole, broken))
    assert all(torch.equal(tensor, other.state[name]) for name, tensor in one.state.items())
    assert (one.config, one.preprocessing, one.epoch) == (other.config, other.preprocessing, other.epoch)
    assert manifest_of(whole)["sha256"] == manifest_of(broken)["sha256"]  # of what they predict


def test_a_refit_whose_worker_dies_is_begun_again_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dying(job: Refit, worker: str, *rest: object) -> None:
        assert (job.folder / WORKER).read_text() == worker
        (job.folder / worker).touch()
        os._exit(1)

    monkeypatch.setattr(refit_module, "_refit", dying)
    monkeypatch.setattr(refit_module, "WORKER_RETRIES", 1)
    job = Refit(tmp_path / "run" / "refits" / "0001", config(epochs=1), 1)
    there, console = Cluster(Resources(1.0, 0.0), None, None, None), Console(file=StringIO())
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        failed = refit_module._trained([job], ray.put(None), there, 1, Stop(None), console)
    finally:
        ray.shutdown()
    assert failed == ["trial 0001 of run failed: its worker died again and again"]
    assert len([path for path in job.folder.iterdir() if path.name != WORKER]) == 2


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_ends_it_in_order_and_it_goes_on(
    digits: Path, cluster: str, cache: Path, tmp_path: Path, name: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(digits, tmp_path / "digits")
    commands = Commands(tmp_path, cache)
    mark, value = commands.mark.split("=")
    own_ray = {key: text for key, text in os.environ.items() if key != "RAY_ADDRESS"}
    process = subprocess.Popen(
        [sys.executable, "-m", "search.ensemble", str(run), "--refit"],
        cwd=ROOT,
        env={**own_ray, mark: value},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    folder = run / "refits" / "0000"
    try:
        wait_for(lambda: (folder / "latest.pt").exists() or process.poll() is not None)
        process.send_signal(signal.Signals[name])
        done = commands.end(process)
        assert (done.code, done.err) == (code, "")
        assert done.out == f"Interrupted by {name}. The same command goes on where it was.\n"
        time.sleep(2)
        assert commands.processes() == {}
    finally:
        commands.kill_all()
    left = read_metrics_of_refit(folder)
    assert not (folder / "refit.json").exists()
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    assert ensemble.main([str(run), "--refit"]) == 0
    assert read_metrics_of_refit(folder)[: len(left) - 1] == left[:-1]


def read_metrics_of_refit(folder: Path) -> list[str]:
    """The rows of a refit's metrics.csv, which has no validation."""
    return (folder / "metrics.csv").read_text().splitlines()[1:]


def test_a_refit_needs_room_on_the_cluster(
    digits: Path, cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    monkeypatch.setattr(clusters, "PATIENCE_SECONDS", 0.0)
    run = shutil.copytree(digits, tmp_path / "digits")
    record = json.loads((run / "run.json").read_text())
    record["arguments"]["cpus_per_trial"] = 3
    (run / "run.json").write_text(json.dumps(record))
    assert ensemble.main([str(run), "--refit"]) == 2
    assert capsys.readouterr().err == (
        "Error: A trial asks for 3 CPU and 0 GPU, but the cluster has 2 CPU and 0 GPU on 1 node: not one trial fits. "
        "Lower --cpus-per-trial or --gpus-per-trial.\n"
    )
    assert not (run / "ensemble.json").exists()
