"""--repeats from end to end: each point again with another seed, and what is said of the configurations."""

import csv
import json
from pathlib import Path

import pytest

from search.run import main
from spaces import report

SHORT = "--image-size 28 --epochs 1 --max-concurrent 1 --gpus-per-trial 0".split()


@pytest.fixture
def arguments(faces: Path, cache: Path, cluster: str, tmp_path: Path) -> list[str]:
    where = ["--out", str(tmp_path), "--cache", str(cache), "--address", cluster, "--name", "run"]
    return [*SHORT, "--data", str(faces / "people.csv"), *where]


def ours(run: Path) -> dict[str, list[float]]:
    """The validation accuracies of each model."""
    with open(run / "leaderboard.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return {row["model"]: [float(r["valid_accuracy"]) for r in rows if r["model"] == row["model"]] for row in rows}


def test_repeated_points_are_compared_over_their_seeds(
    arguments: list[str], tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    command = ["--space", tiny, "--repeats", "2", *arguments]
    assert main([*command, "--trials", "3"]) == 0  # not yet all of them
    assert main([*command, "--trials", "4"]) == 0
    run = tmp_path / "run"
    configs = [json.loads((run / "trials" / f"{n:04}" / "config.json").read_text()) for n in range(4)]
    assert [config["lr"] for config in configs] == [1e-3, 1e-2, 1e-3, 1e-2]
    seeds = [config["seed"] for config in configs]
    assert seeds == [seeds[0], seeds[0], seeds[3], seeds[3]] and seeds[0] != seeds[3]
    lines = capsys.readouterr().out.splitlines()
    said = [line.split() for line in lines if line.rstrip().endswith(("lr=0.001", "lr=0.01"))][-2:]
    assert [words[2] for words in said] == ["2", "2"]  # seeds
    assert [line for line in lines if line.startswith("Mean accuracy of each configuration ")][-1].startswith(
        "Mean accuracy of each configuration on 9 validation images, ± one standard error over its seeds, or over the "
        "images where it ran once; against the best of 2 with intervals that hold together at 95 % (in pairs over the "
        "seeds that they share, Tukey's test), 'noise' where they hold 0."
    )
    assert main([*command, "--repeats", "3"]) == 2
    assert capsys.readouterr().err.startswith("Error: the run 'run' was made with --repeats 2, not 3. Choose another ")


TWICE = """
from spaces.space import Space
from trainable.config import TrialConfig

def sample(trial):
    lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
    return TrialConfig(depth=4, widths=(4, 8, 8, 8), lr=lr, batch_size=32)

SPACE = Space("twice", "two known starts that are one", sample, starts=[{"lr": 1e-3}, {"lr": 1e-3}])
"""


@pytest.mark.parametrize("scheduler", ["none", "asha"])
def test_where_trials_may_be_stopped_no_configurations_are_compared(
    arguments: list[str], scheduler: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "twice.py").write_text(TWICE)
    command = ["--space", str(tmp_path / "twice.py"), "--trials", "2", "--scheduler", scheduler]
    assert main([*command, *arguments]) == 0
    said = capsys.readouterr().out
    assert "the first is the best of 2, which flatters it.\n" in said
    assert ("Mean accuracy of each configuration" in said) == (scheduler == "none")


def test_the_report_stands_beside_its_figures(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["--space", "report", *arguments, "--trials", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = ours(tmp_path / "run")
    assert set(found) == {"do1", "do2"}
    header = next(line for line in lines if line.startswith("configuration  "))
    assert header.split() == ["configuration", "ours,", "%", "seeds", "published,", "%"]
    assert report.SPACE.published is not None
    for line in lines[lines.index(header) + 1 : lines.index(header) + 3]:
        model, accuracy, _, seeds, published, margin = line.split()
        assert accuracy == f"{100 * found[model][0]:.1f}"
        figure = report.SPACE.published[model][0]
        assert (seeds, published) == ("1", f"{100 * figure:.1f}")
        assert margin == f"±{196 * (figure * (1 - figure) / 822) ** 0.5:.1f}"
    assert lines[lines.index(header) + 3 :][:4] == [
        "Each with its own 95 % interval: ours over its seeds, or over the 9 validation images where it ran once; the "
        "published one over its 822. Published: the report's leaderboard: faces in five age groups at 224 pixels, with "
        f"gender and race, 30 epochs. Ours: {arguments[arguments.index('--data') + 1]} at 28 pixels, no metadata, "
        "1 epoch, on validation.",
        "Of 1 pair with a figure on both sides, 0 differ beyond the noise here and 0 there, by intervals that hold "
        "together at 95 % on each side.",
        "On both sides, in the same order: none.",
        "On both sides, here the other way round: none.",
    ]
