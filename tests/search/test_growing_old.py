"""What becomes of runs that older versions made: tests/assets/README.md says how."""

import csv
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from results.members import FORMAT
from search import confirm, ensemble, report, run
from trainable.checkpoint import FORMAT as CHECKPOINT

ASSETS = Path(__file__).parents[1] / "assets" / "formats"
NAMES = sorted(path.name for path in ASSETS.iterdir() if path.is_dir())
AGAIN = "read it with the version that wrote it."


@pytest.fixture
def old(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A copy of the run that the parameter names."""
    return Path(shutil.copytree(ASSETS / request.param, tmp_path / request.param))


def said(
    main: Callable[[list[str]], int], command: Sequence[object], capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """Exit code, and the last line of a command."""
    code = main([str(part) for part in command])
    output = capsys.readouterr()
    return code, (output.err or output.out).splitlines()[-1]


def resume(old: Path, cache: Path) -> list[object]:
    return ["--resume", old.name, "--out", old.parent, "--space", ASSETS / "tiny.py", "--cache", cache]


def test_there_is_a_run_of_todays_format() -> None:
    assert f"{FORMAT}-{CHECKPOINT}" in NAMES


@pytest.mark.parametrize("old", ["1-1"], indirect=True)
def test_a_run_of_format_1_is_left_to_the_version_that_made_it(
    old: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    why = f"has format 1, not 2: {AGAIN}"
    refused = (2, f"Error: {old / 'run.json'} {why}")
    assert said(report.main, [old], capsys) == refused
    assert said(ensemble.main, [old], capsys) == refused
    assert said(confirm.main, [old], capsys) == refused
    assert said(run.main, resume(old, cache), capsys) == refused
    manifest = old / "ensemble.json"
    assert said(ensemble.main, ["--verify", manifest], capsys) == (2, f"Error: {manifest} {why}")


@pytest.mark.parametrize("old", [name for name in NAMES if name.startswith("2-")], indirect=True)
def test_a_run_of_format_2_is_reported_on(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([str(old), "--format", "json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["runs"]
    with open(old / "leaderboard.csv", newline="") as file:
        accuracies = [float(row["valid_accuracy"]) for row in csv.DictReader(file)]
    assert [trial["valid_accuracy"] for trial in found["leaderboard"]] == pytest.approx(accuracies, abs=1e-6)
    assert said(report.main, [old], capsys) == (0, f"Wrote {old / 'report.html'}")


@pytest.mark.parametrize(("old", "found"), [("2-1", 1), ("2-2", 2)], indirect=["old"])
def test_of_older_checkpoints_nothing_is_made(
    old: Path, found: int, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = old / "trials" / "0001" / "best.safetensors"
    why = f"has format {found}, not 3: {AGAIN}"
    assert said(ensemble.main, [old, "--cache", cache], capsys) == (2, f"Error: {checkpoint} {why}")
    manifest = old / "ensemble.json"
    code, line = said(ensemble.main, ["--verify", manifest, "--cache", cache], capsys)
    if found == 1:  # the manifest's number stayed while it changed on its first day
        assert (code, line) == (
            2,
            f"Error: {manifest} is not an ensemble's manifest, or is damaged ('folds' is missing).",
        )
    else:
        assert (code, line) == (1, f"{manifest} cannot be made again as it was.")


@pytest.mark.parametrize("old", ["2-3", "2-3-before-audit"], indirect=True)
def test_an_ensemble_of_todays_checkpoints_is_made_again(
    old: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = old / "ensemble.json"
    code, line = said(ensemble.main, ["--verify", manifest, "--cache", cache], capsys)
    assert code == 0 and line.startswith(f"{manifest} holds: checkpoints, split, weights and scores are the same")
    assert said(ensemble.main, [old, "--cache", cache], capsys)[0] == 0


@pytest.mark.parametrize("old", ["2-1", "2-2", "2-3-before-audit"], indirect=True)
def test_a_search_whose_trials_would_get_other_settings_now_does_not_go_on(
    old: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    why = "its starts, its grid, or what it or this version of the program sets for a trial"
    code, line = said(run.main, resume(old, cache), capsys)
    assert code == 2
    assert line.endswith(f"has changed since the run '{old.name}' was made: {why}. Choose another --name.")


@pytest.mark.parametrize("old", ["2-3"], indirect=True)
def test_a_search_of_today_goes_on(old: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main([str(part) for part in resume(old, cache)]) == 0
    assert "has its 2 trials already: nothing is left to train." in capsys.readouterr().out


@pytest.mark.parametrize("old", ["2-3"], indirect=True)
def test_a_run_of_a_format_to_come_is_one_sentence(old: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = old / "run.json"
    path.write_text(json.dumps({"format": 3, "whatever": "it says"}))
    refused = (2, f"Error: {path} has format 3, not 2: {AGAIN}")
    for main in (report.main, ensemble.main, confirm.main):
        assert said(main, [old], capsys) == refused
    assert said(run.main, resume(old, cache), capsys) == refused
