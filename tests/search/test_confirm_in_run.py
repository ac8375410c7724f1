"""A search that confirms its best in the same command."""

import json
import shutil
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from optuna.trial import TrialState

from search.run import main
from search.study import stored_trials


@pytest.fixture(scope="module")
def where(tiny: str, cache: Path, faces: Path, cluster: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    data = ["--space", tiny, "--data", str(faces / "people.csv"), "--image-size", "28", "--cache", str(cache)]
    out = tmp_path_factory.mktemp("runs")
    return [*data, "--out", str(out), "--address", cluster, "--gpus-per-trial", "0", "--max-concurrent", "2"]


@pytest.fixture(scope="module")
def done(where: list[str]) -> tuple[Path, str]:
    """The run, and what the command said."""
    options = ["--trials", "3", "--epochs", "1", "--scheduler", "none", "--name", "run", "--confirm", "--ensemble"]
    with redirect_stdout(StringIO()) as text:
        assert main([*where, *options]) == 0
    return Path(where[where.index("--out") + 1]) / "run", text.getvalue()


def test_it_searches_confirms_and_builds_the_ensemble_of_both(done: tuple[Path, str]) -> None:
    run, said = done
    found = json.loads((run / "confirm.json").read_text())
    assert (found["top"], found["seeds"], found["whole"], len(found["rows"])) == (8, 5, True, 3)
    assert all(f"{sentence}\n" in said for sentence in found["sentences"])
    manifest = json.loads((run / "ensemble.json").read_text())
    assert [part["path"] for part in manifest["runs"]] == [".", "confirm/1", "confirm/2"]
    assert "Next: " not in said
    order = [said.index(what) for what in ("leaderboard.csv", "confirm.json", "ensemble.json")]
    assert order == sorted(order)


def test_the_parts_say_which_command_trained_them(done: tuple[Path, str]) -> None:
    runs = (done[0], done[0] / "confirm" / "1", done[0] / "confirm" / "2")
    records = [json.loads((run / "run.json").read_text()) for run in runs]
    commands = [session["command"] for record in records for session in record["sessions"]]
    assert len(commands) == 3 and len(set(commands)) == 1
    assert commands[0].startswith("python -m search.run --space ") and commands[0].endswith(" --confirm --ensemble")


def test_resuming_it_goes_on_with_the_confirmation(
    done: tuple[Path, str], where: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(done[0], tmp_path / "run")
    shutil.rmtree(run / "confirm" / "2")
    (run / "confirm.json").unlink()
    again = ["--resume", "run", "--out", str(tmp_path), "--confirm", *where[where.index("--address") :]]
    assert main(again) == 0
    said = capsys.readouterr().out
    assert "The run 'run' has its 3 trials already: nothing is left to train.\n" in said
    assert "The run 'run/confirm/1' has its 6 trials already: nothing is left to train.\n" in said
    assert f"Run: {run / 'confirm' / '2'}, " in said
    assert json.loads((run / "confirm.json").read_text())["whole"]
    assert said.splitlines()[-1] == f"Next: python -m search.ensemble {run}"


def test_more_trials_are_noted_and_the_choice_stays(
    done: tuple[Path, str], where: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(done[0], tmp_path / "run")
    before = (run / "confirm" / "plan.json").read_bytes()
    again = [
        "--resume",
        "run",
        "--trials",
        "4",
        "--out",
        str(tmp_path),
        "--confirm",
        *where[where.index("--address") :],
    ]
    assert main(again) == 0
    note = "Note: these are the best of 3 configurations, and the search has compared 4 by now; to choose again, move "
    assert f"{note}{run / 'confirm'} away to begin anew.\n" in capsys.readouterr().out
    assert (run / "confirm" / "plan.json").read_bytes() == before


def test_where_nothing_ran_its_course_it_says_so(
    where: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hopeless = tmp_path / "hopeless.py"
    hopeless.write_text(Path(where[1]).read_text().replace("lr=lr", 'lr=1e30, optimizer="sgd"'))
    options = ["--trials", "1", "--epochs", "1", "--name", "hopeless", "--confirm"]
    assert main(["--space", str(hopeless), *where[2:], *options]) == 1
    said = capsys.readouterr().out
    assert "Not confirmed: " in said and "no trial has run its course yet, so there is nothing to confirm.\n" in said


def test_the_last_two_fifths_of_a_time_budget_are_for_confirming(
    where: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Trials without end are ended when three fifths of the time are over; what has run its course is confirmed."""
    options = ["--trials", "9999", "--epochs", "2", "--name", "budget", "--confirm", "--time-budget", "150s"]
    assert main([*where, *options]) == 0
    said = capsys.readouterr().out
    assert "The trials' 60 % of the time budget are used up.\n" in said
    run = Path(where[where.index("--out") + 1]) / "budget"
    trials = stored_trials(run)
    assert len(trials) < 9999 and TrialState.COMPLETE in [trial.state for trial in trials]
    assert stored_trials(run / "confirm" / "1")
    assert (run / "confirm.json").exists() or "The time budget is used up. Go on with: " in said


def test_a_budget_of_which_too_little_is_left_for_confirming_is_refused(
    where: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*where, "--name", "short", "--confirm", "--time-budget", "40s"]) == 2
    # 40 % of 70 s are 28 s: 8 s for Ray to end, 12 s to start again, and 8 s to end.
    assert capsys.readouterr().err == "Error: --time-budget: too short to train anything; 70s would be the least.\n"
