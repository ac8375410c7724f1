"""--target from end to end: what it refuses, and that the classes' logits are the values' summed."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from search import ensemble
from search.run import main
from tests.search.conftest import AGES, write_csv
from trainable.checkpoint import load_best
from trainable.network import build_network

SHORT = "--image-size 28 --trials 2 --epochs 2 --scheduler none --max-concurrent 1 --gpus-per-trial 0".split()


@pytest.fixture(scope="module")
def aged(faces: Path, cache: Path, tiny: str, cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that learns the ages, with its ensemble."""
    out = tmp_path_factory.mktemp("runs")
    data = ["--data", str(faces / "people.csv"), "--target", "Age", "--test", str(faces / "test.csv")]
    where = ["--out", str(out), "--cache", str(cache), "--name", "ages", "--address", cluster]
    assert main(["--space", tiny, *SHORT, *data, *where]) == 0
    return out / "ages"


def test_its_networks_learn_the_ages_and_its_logits_are_of_the_classes(aged: Path) -> None:
    best = load_best(aged / "trials" / "0000" / "best.safetensors")
    assert best.config.target == "Age"
    assert best.preprocessing.levels == {str(age): place // 2 for place, age in enumerate(AGES)}
    network = build_network(best.config, best.preprocessing)
    assert [len(parameter) for parameter in network.parameters()][-1] == len(AGES)
    with np.load(aged / "trials" / "0000" / "logits.npz") as stored:
        assert stored["holdout"].shape == (9, 5)
        assert np.exp(stored["holdout"] - np.logaddexp.reduce(stored["holdout"], axis=1, keepdims=True)).sum(
            axis=1
        ) == pytest.approx(np.ones(9), abs=1e-5)
    header = (aged / "trials" / "0000" / "metrics.csv").read_text().splitlines()[0]
    assert header.endswith("valid_objective_loss")  # over the ages, beside the classes' valid_loss


def test_its_ensemble_predicts_people_without_an_age(aged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open(aged / "submission.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5
    assert {row["Category"] for row in rows} <= set("01234")
    manifest = json.loads((aged / "ensemble.json").read_text())
    assert manifest["data"]["classes"] == list("01234")
    assert ensemble.main(["--verify", str(aged / "ensemble.json")]) == 0
    assert "made again, the same byte for byte.\n" in capsys.readouterr().out


def test_a_misspelt_column_is_named_with_the_nearest(
    faces: Path, tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(faces / "people.csv")
    assert main(["--space", tiny, *SHORT, "--data", data, "--target", "Aeg", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (f"Error: --target: {data} has no metadata column 'Aeg'; did you mean 'Age'?\n")


def test_a_target_that_is_an_input_is_refused(
    faces: Path, tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--data", str(faces / "people.csv"), "--target", "Age", "--inputs", "Race,Age"]
    assert main(["--space", tiny, *SHORT, *arguments, "--out", str(tmp_path)]) == 2
    message = "Error: --target: the network cannot learn Age and read it by --inputs too.\n"
    assert capsys.readouterr().err == message


def test_a_value_under_two_labels_is_refused(
    faces: Path, tiny: str, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open(faces / "people.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in (rows[2], rows[4]):  # of the labels 1 and 2
        row["Age"] = "3"
    path = faces / "torn.csv"
    write_csv(path, rows)  # type: ignore[arg-type]
    arguments = ["--data", str(path), "--target", "Age", "--out", str(tmp_path), "--cache", str(cache)]
    assert main(["--space", tiny, *SHORT, *arguments]) == 2
    assert capsys.readouterr().err == (
        f"Error: {path} has 1 problem; nothing was trained. Correct or remove it.\n"
        "  --target: Age 3 is under the labels 0, 1, 2\n"
    )
    assert not any(tmp_path.glob("*/trials/*"))


def test_a_target_that_is_no_integer_is_refused(
    faces: Path, tiny: str, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open(faces / "people.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    rows[0]["Age"] = ""
    rows[1]["Age"] = "old"
    path = faces / "gaps.csv"
    write_csv(path, rows)  # type: ignore[arg-type]
    arguments = ["--data", str(path), "--target", "Age", "--out", str(tmp_path), "--cache", str(cache)]
    assert main(["--space", tiny, *SHORT, *arguments]) == 2
    assert capsys.readouterr().err == (
        f"Error: {path} has 2 bad rows; nothing was trained. Correct or remove them.\n"
        "  row 2, Age: the cell is empty\n"
        "  row 3, Age: 'old' is not an integer\n"
    )
