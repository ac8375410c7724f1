"""A search of digits with an audit: its study is that of one without, and a kill inside an audit changes nothing."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from results.leaderboard import read_metrics
from search import ensemble, report
from search.run import main
from search.study import stored_trials

EPOCHS, PATIENCE = 8, 120.0
SEARCH = ["--trials", "5", "--epochs", str(EPOCHS), "--seed", "1", "--max-concurrent", "1", "--gpus-per-trial", "0"]


@dataclass(frozen=True)
class Runs:
    """The same search three times."""

    without: Path
    whole: Path  # with an audit
    broken: Path  # with one, killed with one audited trial under way
    said: str  # by `whole`
    resumed: str  # by the resumption of `broken`


@pytest.fixture(scope="module")
def runs(tiny: str, cache: Path, cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    out = tmp_path_factory.mktemp("runs")
    where = ["--out", str(out), "--cache", str(cache), "--address", cluster]
    search = ["--space", tiny, *SEARCH, *where]
    said = []
    for name, audit in (("without", []), ("whole", ["--audit", "0.5"])):
        with redirect_stdout(StringIO()) as text:
            assert main([*search, "--name", name, *audit]) == 0
        said.append(text.getvalue())
    (audited, *_) = [trial for trial in stored_trials(out / "whole") if trial.user_attrs["end"].get("audited")]
    metrics = out / "broken" / "trials" / f"{audited.number:04}" / "metrics.csv"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "search.run", *search, "--name", "broken", "--audit", "0.5"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + PATIENCE
    while len(read_metrics(metrics)) < audited.user_attrs["end"]["epoch"] + 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(read_metrics(metrics)) < EPOCHS
    with redirect_stdout(StringIO()) as text:
        assert main(["--resume", "broken", *where]) == 0
    return Runs(out / "without", out / "whole", out / "broken", said[1], text.getvalue())


def study(run: Path) -> list[tuple[Any, ...]]:
    """All that the study says, but for the mark."""
    found = []
    for trial in stored_trials(run):
        end = {name: value for name, value in trial.user_attrs["end"].items() if name != "audited"}
        found.append(
            (trial.state, trial.params, trial.values, trial.intermediate_values, trial.user_attrs["config"], end)
        )
    return found


def audited(run: Path) -> dict[str, int]:
    """The audited trials, and the epochs at which they were to be stopped."""
    ends = {f"{trial.number:04}": trial.user_attrs["end"] for trial in stored_trials(run)}
    return {trial: end["epoch"] for trial, end in ends.items() if end.get("audited")}


def metrics(run: Path) -> dict[str, list[dict[str, float]]]:
    """Each trial's rows but for the seconds."""
    return {
        path.parent.name: [{k: v for k, v in row.items() if k != "seconds"} for row in read_metrics(path)]
        for path in sorted(run.glob("trials/*/metrics.csv"))
    }


def leaderboard(run: Path) -> list[dict[str, str]]:
    with open(run / "leaderboard.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def test_the_study_is_that_of_a_search_without_an_audit(runs: Runs) -> None:
    assert audited(runs.without) == {} and audited(runs.whole)
    assert TrialState.PRUNED in [trial.state for trial in stored_trials(runs.whole)]
    assert study(runs.whole) == study(runs.without)


def test_an_audited_trial_was_trained_to_its_end_and_no_other_that_was_stopped(runs: Runs) -> None:
    whole, without = metrics(runs.whole), metrics(runs.without)
    for trial, rows in without.items():
        assert whole[trial][: len(rows)] == rows
        assert len(whole[trial]) == (EPOCHS if trial in audited(runs.whole) else len(rows))
    assert list(runs.whole.glob("trials/*/latest.pt")) == []


def test_the_leaderboard_is_that_of_a_search_without_but_for_a_mark(runs: Runs) -> None:
    rows = leaderboard(runs.whole)
    marks = {row["trial"]: row.pop("audited") for row in rows}
    assert rows == leaderboard(runs.without)
    assert marks == {trial: str(EPOCHS) if trial in audited(runs.whole) else "" for trial in marks}


def test_its_end_says_what_stopping_cost(runs: Runs) -> None:
    # Which are stopped follows from figures that processors with and without bfloat16 give in other digits.
    stopped = [trial.state for trial in stored_trials(runs.whole)].count(TrialState.PRUNED)
    were = f"{stopped} trials that were to be stopped, each" if stopped > 1 else "1 trial that was to be stopped, it"
    did = f"{len(audited(runs.whole))} did."
    assert f"\nAudit: of {were} was to run to its end with probability 0.5; {did}" in runs.said
    assert "\nTo take the best after one epoch (Egele et al. 2023) would have given trial " in runs.said


def test_a_kill_inside_an_audit_changes_nothing(runs: Runs) -> None:
    assert "Going on with 1 unfinished trial." in runs.resumed
    assert audited(runs.broken) == audited(runs.whole)
    assert study(runs.broken) == study(runs.whole)
    assert metrics(runs.broken) == metrics(runs.whole)
    assert leaderboard(runs.broken) == leaderboard(runs.whole)
    assert list(runs.broken.glob("trials/*/latest.pt")) == []


def test_the_share_is_the_runs_as_long_as_it_lives(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads((runs.whole / "run.json").read_text())["arguments"]["audit"] == 0.5
    assert main(["--resume", "whole", "--out", str(runs.whole.parent), "--audit", "0.2"]) == 2
    assert "the run 'whole' was made with --audit 0.5, not 0.2. " in capsys.readouterr().err


def test_it_is_no_member(runs: Runs, tmp_path: Path) -> None:
    copy = shutil.copytree(runs.whole, tmp_path / "run")
    assert ensemble.main([str(copy), "--method", "uniform"]) == 0
    members = {member["trial"] for member in json.loads((copy / "ensemble.json").read_text())["members"]}
    assert members and not members & set(audited(copy))


def test_the_report_says_what_the_audit_found(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert report.main([str(runs.whole), str(runs.without), "--format", "json"]) == 0
    whole, without = json.loads(capsys.readouterr().out)["runs"]
    assert without["audit"] is None
    assert all(f"{sentence}\n" in runs.said for sentence in whole["audit"]["sentences"])
    audited = [curve for curve in whole["curves"] if curve["audited"]]
    assert audited and all(len(curve["accuracies"] + curve["audited"]) == EPOCHS for curve in audited)
    # All else is as without an audit.
    assert whole["epochs_spent"] == without["epochs_spent"]
    assert whole["effects"] == without["effects"]
    assert whole["answer"][0] == without["answer"][0]
