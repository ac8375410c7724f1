"""The benchmark's own machinery, and a few of its schedules on a real Ray."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import chaos
from benchmarks.chaos_run import Outcome, cut_line
from benchmarks.chaos_schedule import Fault, Schedule

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found by /proc")

OUTCOME = Outcome("seed 7, asha, 1 node: worker@1+0.0s/0.500", ["worker@1+0.0s/0.500"], 1, 1, 12.3, [])


@pytest.mark.parametrize(
    ("chance", "expected"),
    [
        (0.0, b'{"a": 1}\n{"b": 2}\n{'),
        (0.4, b'{"a": 1}\n{"b": 2}\n{"b"'),
        (0.6, b'{"a": 1}\n{"b":'),
        (0.999, b'{"a": 1}\n{"b": 2}'),
    ],
)
def test_a_line_is_left_without_its_end(tmp_path: Path, chance: float, expected: bytes) -> None:
    journal = tmp_path / "study.journal"
    journal.write_bytes(b'{"a": 1}\n{"b": 2}\n')
    assert cut_line(journal, chance)
    assert journal.read_bytes() == expected


def test_where_there_is_no_line_none_is_cut(tmp_path: Path) -> None:
    assert not cut_line(tmp_path / "study.journal", 0.5)
    (tmp_path / "study.journal").touch()
    assert not cut_line(tmp_path / "study.journal", 0.5)


def test_an_outcome_is_a_line() -> None:
    assert chaos.line(OUTCOME) == f"{OUTCOME.line}: 1 came, 1 workers died, 1 commands, 12 s: came through"
    wrong = replace(OUTCOME, wrong=["a", "b", "c", "d", "e"])
    assert chaos.line(wrong).endswith(": a; b; c; and 2 more")


def test_what_a_folder_has_is_not_run_again(tmp_path: Path) -> None:
    for seed in (7, 8):
        (tmp_path / f"{seed}.json").write_text(json.dumps(vars(OUTCOME)))
    assert chaos.outcomes([7, 8], tmp_path) == {7: OUTCOME, 8: OUTCOME}


def test_a_search_comes_through_kills_a_torn_file_and_a_jump_of_the_clock() -> None:
    """A worker dies, the clock jumps back by half a day; then the command dies, and a file of an open trial is torn."""
    faults = (Fault("worker", 2, 0.0, 0.5), Fault("clock", 4, 0.0, 0.25), Fault("torn", 9, 0.0, 0.3))
    with chaos.arena(root=False) as arena:
        outcome = arena.outcome(Schedule(0, "none", 1, (2,), faults), None)
    assert outcome.wrong == []
    assert (outcome.happened, outcome.sessions) == ([str(fault) for fault in faults], 2)
