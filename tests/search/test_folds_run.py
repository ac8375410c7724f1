"""--folds from end to end: which rows each network saw, and that a trial's networks are one member."""

import csv
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from results.leaderboard import read_metrics
from results.scores import probabilities
from search import ensemble
from search.run import main
from trainable.checkpoint import file_hash, load_best
from trainable.config import TrialConfig
from trainable.dataset import decode, load_labelled, load_test
from trainable.evaluate import predict

FOLDS = 3
ROWS = [f"fold{number}" for number in (1, 2, 3)]
CHECKPOINTS = [f"{name}.safetensors" for name in ROWS]


@pytest.fixture(scope="module")
def arguments(faces: Path, cache: Path, tiny: str) -> list[str]:
    """Of a run of two trials over three folds, two epochs each."""
    data = ["--data", str(faces / "people.csv"), "--inputs", "Gender,Race", "--image-size", "28", "--folds", f"{FOLDS}"]
    short = "--trials 2 --epochs 2 --scheduler none --max-concurrent 1 --gpus-per-trial 0".split()
    return ["--space", tiny, *data, *short, "--cache", str(cache), "--name", "folds"]


@pytest.fixture(scope="module")
def folded(arguments: list[str], cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    assert main([*arguments, "--out", str(out), "--address", cluster]) == 0
    return out / "folds"


def test_each_image_is_in_one_fold_with_a_third_of_its_class(folded: Path) -> None:
    with open(folded / "splits.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert Counter((row["Split"], row["Label"]) for row in rows) == {
        (fold, label): 4 for fold in ROWS for label in "01234"
    }
    record = json.loads((folded / "run.json").read_text())
    assert record["data"]["counts"] == dict.fromkeys(ROWS, 20)
    assert record["arguments"]["folds"] == FOLDS


def test_a_trial_keeps_a_network_a_fold(folded: Path) -> None:
    for trial in ("0000", "0001"):
        names = sorted(path.name for path in (folded / "trials" / trial).iterdir())
        assert names == ["config.json", *CHECKPOINTS, "logits.npz", "metrics.csv"]
        networks = {file_hash(folded / "trials" / trial / name) for name in CHECKPOINTS}
        assert len(networks) == FOLDS


def test_a_row_is_judged_by_the_network_that_did_not_learn_from_it(folded: Path, faces: Path, cache: Path) -> None:
    data = load_labelled(
        str(faces / "people.csv"),
        inputs=("Gender", "Race"),
        image_size=28,
        fractions=(0.7, 0.15, 0.15),
        folds=FOLDS,
        seed=0,
        cache=cache,
        progress=False,
        split_file=folded / "splits.csv",
    )
    pixels = data.pixels.open()
    for trial in ("0000", "0001"):
        folder = folded / "trials" / trial
        with np.load(folder / "logits.npz") as stored:
            logits = dict(stored)
        assert logits["holdout_ids"].tolist() == logits["valid_ids"].tolist() == list(data.table.images)
        assert logits["checkpoints"].tolist() == [file_hash(folder / name) for name in CHECKPOINTS]
        epochs = set()
        for fold, name in enumerate(CHECKPOINTS):
            best = load_best(folder / name)
            epochs.add(best.epoch)
            out_of_fold = data.split.sides == fold
            expected = predict(best, pixels, data.table.columns)[out_of_fold]
            for part in ("holdout", "valid"):
                assert logits[part][out_of_fold] == pytest.approx(expected, abs=1e-5)
        (epoch,) = epochs  # one for all folds
        row = read_metrics(folder / "metrics.csv")[epoch - 1]
        hits = logits["valid"].argmax(axis=1) == data.table.labels
        assert row["valid_accuracy"] == pytest.approx(hits.mean())


def test_the_folds_networks_are_one_member_whose_logits_are_their_mean(
    folded: Path, faces: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(folded, tmp_path / "folds")
    test = faces / "test.csv"
    assert ensemble.main([str(run), "--test", str(test), "--method", "uniform"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "On 60 images, each by the networks that did not learn from it, with 95 % intervals: " in out
    manifest = json.loads((run / "ensemble.json").read_text())
    assert (manifest["folds"], manifest["holdout_images"]) == (FOLDS, 60)
    seen = "60 out of fold, the same that the trials are ranked on"
    assert manifest["rows"] == {
        "trials_learnt_from": "3 networks, each on all of 60 but its fold",
        "trials_ranked_on": "60 out of fold",
        "weights_and_temperature_fitted_on": f"{seen}, by the trials' own networks",
        "methods_scored_on": f"{seen}, cross-fitted",
        "predicting_networks_learnt_from": "3 networks, each on all of 60 but its fold",
        "an_image_is_predicted_by": "the mean of a member's networks",
    }
    table, _ = load_test(str(test), {}, image_size=28, cache=cache, progress=False)
    with open(test, newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {name: [row[name] for row in rows] for name in ("Gender", "Race")}
    pixels = decode(table, 28, cache, progress=False).open()
    pooled = np.zeros((5, 5))
    for member in manifest["members"]:
        paths = [run / "trials" / member["trial"] / name for name in CHECKPOINTS]
        assert member["checkpoint_sha256"] == [file_hash(path) for path in paths]
        pooled += member["weight"] * np.mean([predict(load_best(path), pixels, columns) for path in paths], axis=0)
    with np.load(run / "probabilities.npz") as stored:
        assert stored["probabilities"] == pytest.approx(probabilities(pooled / manifest["temperature"]), abs=1e-5)
    assert ensemble.main(["--verify", str(run / "ensemble.json")]) == 0
    path = run / "trials" / manifest["members"][0]["trial"] / CHECKPOINTS[1]
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    capsys.readouterr()
    assert ensemble.main(["--verify", str(run / "ensemble.json")]) == 1
    assert f"Changed: {path} has changed: trial {path.parent.name} is another network now\n" in capsys.readouterr().out


def test_a_refit_is_one_network_of_the_trials_own_seed(
    folded: Path, cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    run = shutil.copytree(folded, tmp_path / "folds")
    command = [str(run), "--method", "single", "--refit"]
    assert ensemble.main(command) == 0
    (entry,) = [member for member in json.loads((run / "ensemble.json").read_text())["members"] if member["weight"]]
    trial = run / "trials" / entry["trial"]
    again, first = load_best(run / entry["refit"]["path"]), load_best(trial / CHECKPOINTS[0])
    said = json.loads((trial / "config.json").read_text())
    assert again.config == TrialConfig.from_dict(said)
    assert again.config == replace(first.config, seed=said["seed"]) != first.config
    assert again.epoch == first.epoch
    assert ensemble.main(["--verify", str(run / "ensemble.json")]) == 0

    # All but the seed is of the checkpoint, and that seed alone is the trial's.
    (trial / "config.json").write_text(json.dumps({"seed": said["seed"], "lr": 0.5, "pool": []}))
    refit = file_hash(run / entry["refit"]["path"])
    assert ensemble.main(command) == 0
    assert file_hash(run / entry["refit"]["path"]) == refit
    capsys.readouterr()
    (trial / "config.json").write_text(json.dumps({**said, "seed": 7}))
    assert ensemble.main(command) == 2
    path = trial / "config.json"
    assert capsys.readouterr().err == (
        f"Error: {path}: its seed is not the one that trial {trial.name} was trained with.\n"
    )
    path.unlink()
    assert ensemble.main(command) == 2
    assert capsys.readouterr().err == (
        f"Error: {path} is missing or damaged ([Errno 2] No such file or directory: '{path}').\n"
    )


def test_a_missing_folds_network_is_missed(folded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = shutil.copytree(folded, tmp_path / "folds")
    path = run / "trials" / "0001" / CHECKPOINTS[2]
    path.unlink()
    assert ensemble.main([str(run)]) == 2
    assert capsys.readouterr().err == f"Error: {path} does not exist.\n"


def test_the_same_command_again_trains_nothing_and_other_folds_are_refused(
    arguments: list[str], folded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (folded / "splits.csv").read_bytes()
    assert main([*arguments, "--out", str(folded.parent)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("people.csv, 60 images of 5 classes: 20 fold1, 20 fold2, 20 fold3")
    assert lines[1] == "The run 'folds' has its 2 trials already: nothing is left to train."
    assert (folded / "splits.csv").read_bytes() == before
    assert main([*arguments, "--out", str(folded.parent), "--folds", "4"]) == 2
    assert capsys.readouterr().err.startswith("Error: the run 'folds' was made with --folds 3, not 4. Choose another")
    assert main([*arguments, "--out", str(folded.parent), "--target", "Age"]) == 2
    assert capsys.readouterr().err.startswith("Error: the run 'folds' was made with --target none, not Age. Choose ")


def test_a_run_of_folds_has_no_split_to_change(
    arguments: list[str], folded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(folded.parent), "--split", "80/10/10"]
    assert main(["--resume", "folds", *out]) == 2
    assert capsys.readouterr().err == (
        "Error: --split and --folds divide the images in two ways; the run 'folds' has --folds 3.\n"
    )
    place = arguments.index("--folds")
    assert main([*arguments[:place], *arguments[place + 2 :], *out]) == 2
    assert capsys.readouterr().err.startswith("Error: the run 'folds' was made with --folds 3, not 0. Choose another ")


def test_a_changed_fold_is_refused(
    arguments: list[str], folded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(folded, tmp_path / "folds")
    path = run / "splits.csv"
    path.write_text(path.read_text().replace(",fold1", ",fold2", 1))
    assert main([*arguments, "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"Error: the split of the run 'folds' has changed: {path} has 20 fold1, 20 fold2, 20 fold3 then, 19 fold1, "
        "21 fold2, 20 fold3 now. Put the file back as it was, or delete it to have it made again, or choose another "
        "--name.\n"
    )


def test_more_folds_than_the_smallest_class_has_images_are_refused(
    arguments: list[str], tmp_path: Path, faces: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--out", str(tmp_path), "--folds", "13"]) == 2
    problems = "".join(f"  class {label} has 12 images; --folds 13 needs at least 13\n" for label in range(5))
    assert capsys.readouterr().err == (
        f"Error: {faces}/people.csv has 5 problems; nothing was trained. Correct or remove them.\n{problems}"
    )
