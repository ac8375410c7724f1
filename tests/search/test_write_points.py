"""A search with an audit, its confirmation and its ensemble, killed at every kind of write point.

Two runs end here after many deaths, one of driver and worker together and one of the worker alone, and are compared
with one that was let be. `python -m benchmarks.write_points` kills at each single point.
"""

import json
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from benchmarks.killable import Point, final_name, points_of
from benchmarks.runs import frozen_trials
from benchmarks.write_points import Place, differences, kind, outcome


@dataclass(frozen=True)
class Killed:
    """What was done in a folder."""

    place: Place
    found: dict[str, Any]  # what the benchmark says

    @property
    def unbroken(self) -> Path:
        return self.place.home / "unbroken" / "runs" / "run"

    @property
    def points(self) -> list[Point]:
        """Of the unbroken run."""
        return points_of(self.place.log("unbroken"))


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    folder = tmp_path_factory.mktemp("points")
    # A process of its own, which forks: this one has threads.
    command = [sys.executable, "-m", "benchmarks.write_points", "--kinds", "--folder", str(folder)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    return Killed(Place(folder), json.loads(done.stdout))


def test_the_unbroken_run_has_all_that_a_run_can_have(killed: Killed) -> None:
    trials = frozen_trials(killed.unbroken)
    states = [trial.state for trial in trials]
    assert {*states} == {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL}
    audited = [trial.user_attrs["end"].get("audited", False) for trial in trials if trial.state == TrialState.PRUNED]
    assert {*audited} == {True, False}
    found = json.loads((killed.unbroken / "confirm.json").read_text())
    assert found["whole"] and len(found["rows"]) == 2
    members = json.loads((killed.unbroken / "ensemble.json").read_text())["members"]
    assert len([member for member in members if member["weight"] > 0]) > 1
    assert (killed.unbroken / "submission.csv").read_text().startswith("Id,Category\n")


@pytest.mark.parametrize("name", ["kinds", "worker"])
def test_a_run_that_was_killed_at_every_kind_of_point_ends_as_the_unbroken_one(killed: Killed, name: str) -> None:
    assert differences(outcome(killed.place.home / "unbroken"), outcome(killed.place.home / name)) == []
    assert killed.found["details"]["faults"] == {}  # nor was an exit code another


def test_there_was_a_kill_at_every_kind_of_point(killed: Killed) -> None:
    kinds = {*map(kind, killed.points)}
    every = {*killed.place.kills("kinds")}
    assert {name.partition(", ")[0] for name in every} >= kinds
    # Lines that were torn by another kill, and trials half asked for.
    assert "driver: truncate study.journal, nothing" in every
    assert "driver: truncate study.journal, set_trial_param" in every
    ends = ["create_study", "set_trial_user_attr config", "set_trial_intermediate_value", "set_trial_state_values"]
    within = ["create_trial", "set_trial_param", "set_trial_user_attr end"]  # written together with what follows
    assert {f"driver: open study.journal, {operation}" for operation in (*ends, *within)} <= every
    assert {f"driver: write study.journal, {operation}" for operation in ends} <= every
    assert {*killed.place.kills("worker")} >= {name for name in kinds if name.startswith("worker: ")}


def test_no_file_comes_unseen_and_none_in_part(killed: Killed) -> None:
    """Below the run there is no file, and no folder, without a write point."""
    folder = killed.place.home / "unbroken"
    seen = {point.path for point in killed.points}
    assert {str(path.relative_to(folder)) for path in folder.rglob("*")} - seen == set()
    opened, renamed = ({point.path for point in killed.points if point.call == call} for call in ("open", "rename"))
    assert {Path(path).name for path in opened - renamed} == {".lock"}  # all others come whole


def test_what_differs_is_found(killed: Killed) -> None:
    expected = outcome(killed.place.home / "unbroken")
    changed = {**expected, "runs/run/leaderboard.csv": "", "runs/run/trials/0000/latest.pt": ""}
    del changed["runs/run/submission.csv"]
    files = ["leaderboard.csv", "submission.csv", "trials/0000/latest.pt"]
    assert differences(expected, changed) == [f"runs/run/{name}" for name in files]
    assert {"runs/run: study", "runs/run: record", "runs/run/confirm/2: study"} < {*expected}


@pytest.mark.parametrize(
    ("path", "expected"),
    [("runs/.run.json.HOST-4.123-0.tmp", "runs/run.json"), (".a.HOST-4.1-22.tmp", "a"), ("runs/.lock", "runs/.lock")],
)
def test_a_temporary_file_is_known_by_what_it_will_be(path: str, expected: str) -> None:
    assert final_name(path.replace("HOST", socket.gethostname())) == expected


def test_points_of_other_trials_and_images_are_of_one_kind() -> None:
    def named(path: str, worker: bool = False) -> str:
        return kind(Point(0, worker, "open", path))

    assert named("runs/run/trials/0001/best.safetensors", worker=True) == "worker: open best.safetensors"
    assert named("runs/run/confirm/2/trials/0001") == named("runs/run/trials/0009") == "driver: open *"
    assert named(f"cache/{'0a' * 16}-28px-v1.npy") == "driver: open *-28px-v1.npy"
