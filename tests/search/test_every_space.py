"""Every space runs three trials of one epoch, through the command and Ray, on digits and on a table with metadata."""

import csv
import json
from pathlib import Path

import pytest

from results.leaderboard import COLUMNS
from search.run import main
from spaces.loading import load, names
from spaces.space import Given
from trainable.config import TrialConfig

SHORT = "--trials 3 --epochs 1 --image-size 28 --max-concurrent 1 --gpus-per-trial 0".split()
INPUTS, TARGET = ("Gender", "Race"), "Age"
NEEDS_COLUMNS = {"inputs": "--space inputs: name the columns to choose from, as in --inputs Gender,Race."}


def check(run: Path, given: Given) -> None:
    """Three trials that ran their epoch, and a leaderboard with a column for each parameter that they were given."""
    with open(run / "leaderboard.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    assert sorted(row["trial"] for row in rows) == ["0000", "0001", "0002"]
    assert {(row["state"], row["epochs"], row["best_epoch"]) for row in rows} == {("COMPLETE", "1", "1")}
    assert all(0 <= float(row["valid_accuracy"]) <= 1 and int(row["parameters"]) > 0 for row in rows)
    record = json.loads((run / "run.json").read_text())
    space = record["space"]
    points = (space["grid"] if record["arguments"]["sampler"] == "grid" else space["starts"])[:3]
    searched = {f"{name} (searched)" if name in COLUMNS else name for point in points for name in point}
    assert set(rows[0]) - {*COLUMNS, "valid_objective_loss"} >= searched
    known = load(space["name"], given)
    for row in rows:
        folder = run / "trials" / row["trial"]
        config = TrialConfig.from_dict(json.loads((folder / "config.json").read_text()))
        if "inputs" not in known.decides:
            assert config.inputs == given.inputs
        assert config.epochs == 1
        assert {path.name for path in folder.iterdir()} == {
            "best.safetensors", "config.json", "logits.npz", "metrics.csv"
        }  # fmt: skip


@pytest.mark.parametrize("space", sorted(set(names()) - set(NEEDS_COLUMNS)))
def test_on_digits(space: str, cluster: str, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--out", str(tmp_path), "--name", "run", "--cache", str(cache), "--address", cluster]
    # Most of the 1,500 images are held out, as a pass over them costs a third of training on them.
    assert main(["--space", space, *SHORT, "--split", "10/10/80", *where]) == 0
    assert capsys.readouterr().err == ""
    check(tmp_path / "run", Given(image_size=28))


@pytest.mark.parametrize("space", NEEDS_COLUMNS)
def test_digits_have_no_columns_to_choose_from(space: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--space", space, *SHORT, "--out", str(tmp_path)]) == 2
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", f"Error: {NEEDS_COLUMNS[space]}\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("space", names())
def test_on_a_table_with_metadata(
    space: str, cluster: str, faces: Path, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--out", str(tmp_path), "--name", "run", "--cache", str(cache), "--address", cluster]
    data = ["--data", str(faces / "people.csv"), "--inputs", ",".join(INPUTS), "--target", TARGET]
    assert main(["--space", space, *SHORT, *data, *where]) == 0
    assert capsys.readouterr().err == ""
    check(tmp_path / "run", Given(INPUTS, TARGET, 28))


@pytest.mark.parametrize("target", ["Age", "Age coral", "Age soft_ordinal", "experts by Gender", "experts by Race"])
def test_every_target_is_a_known_one(target: str) -> None:
    """Those that the first three trials above do not reach are trained in tests/spaces/test_contract.py."""
    grid = load("target", Given(INPUTS, TARGET, 28)).grid
    assert grid is not None and target in grid["target"]
