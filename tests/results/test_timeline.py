"""Which worker trained what when, by Ray's log."""

import json
from pathlib import Path

import pytest

from results.timeline import Session, Stretch, Use, sessions_of, steps, stretches, use


def log(run: Path, trial: str, rows: list[tuple[int, int, float]], pid: int = 7, tail: str = "", **more: float) -> None:
    """Epochs as (number, whole second in which it ended, seconds of training); half a second of files each."""
    folder = run / "tune" / trial
    folder.mkdir(parents=True)
    lines = [
        json.dumps(
            {"trial": trial, "training_iteration": epoch, "node_ip": "127.0.0.1", "pid": pid, "timestamp": ended}
            | {"seconds": seconds, "kept_seconds": 0.5, **more}
        )
        for epoch, ended, seconds in rows
    ]
    (folder / "result.json").write_text("\n".join(lines) + "\n" + tail)


def test_a_trial_s_epochs_on_a_worker_are_one_stretch(tmp_path: Path) -> None:
    log(tmp_path, "0000", [(1, 110, 9.5), (2, 120, 9.5)])
    log(tmp_path, "0001", [(1, 130, 9.5)])
    found = steps(tmp_path)
    assert [(step.trial, step.epoch) for step in found] == [("0000", 1), ("0000", 2), ("0001", 1)]
    assert stretches(found) == [
        Stretch("0000", "127.0.0.1:7", 100.0, 120.0, 2),
        Stretch("0001", "127.0.0.1:7", 120.0, 130.0, 1),
    ]


def test_the_shares_are_of_all_slots_time_from_a_session_s_start_on(tmp_path: Path) -> None:
    log(tmp_path, "0000", [(1, 110, 9.5), (2, 120, 9.5)], pid=1)
    log(tmp_path, "0001", [(1, 110, 9.5)], pid=2)
    found = use(steps(tmp_path), [Session(began=95.0, slots=2)])
    assert found == Use(slots=2, seconds=25.0, trained=28.5 / 50, files=1.5 / 50)


def test_what_files_took_from_training_is_theirs(tmp_path: Path) -> None:
    log(tmp_path, "0000", [(1, 110, 9.5), (2, 120, 9.5)], beside_seconds=0.25)
    found = use(steps(tmp_path), [Session(began=100.0, slots=1)])
    assert found == Use(slots=1, seconds=20.0, trained=18.5 / 20, files=1.5 / 20)


def test_a_worker_that_waits_between_its_epochs_lowers_the_share(tmp_path: Path) -> None:
    log(tmp_path, "0000", [(epoch, 100 + 10 * epoch, 0.5) for epoch in range(1, 11)])
    found = use(steps(tmp_path), [Session(began=100.0, slots=None)])
    assert found == Use(slots=1, seconds=100.0, trained=0.05, files=0.05)


def test_a_pause_between_sessions_is_not_counted(tmp_path: Path) -> None:
    log(tmp_path, "0000", [(1, 110, 9.5)], pid=1)
    log(tmp_path, "0001", [(1, 1110, 9.5)], pid=2)
    found = use(
        steps(tmp_path), [Session(100.0, 1), Session(500.0, 1), Session(1090.0, 2)]
    )  # the second trained nothing
    assert found == Use(slots=2, seconds=30.0, trained=19 / 50, files=1 / 50)


def test_sessions_are_those_of_the_record() -> None:
    began = "2026-01-02T03:04:05+0100"
    assert sessions_of({"sessions": [{"began": began}, {"began": began, "slots": 3}]}) == [
        Session(1767319445.0, None),
        Session(1767319445.0, 3),
    ]


@pytest.mark.parametrize("tail", ['{"trial": "0000", "trai', '{"trial": "0000", "halt": "disk full"}\n', "[]\n"])
def test_a_line_that_is_no_epoch_or_not_whole_is_left_out(tmp_path: Path, tail: str) -> None:
    log(tmp_path, "0000", [(1, 110, 9.5)], tail=tail)
    assert len(steps(tmp_path)) == 1


def test_a_run_without_a_log_has_no_timeline(tmp_path: Path) -> None:
    assert steps(tmp_path) == [] and use([], []) is None
