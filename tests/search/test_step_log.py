import json
from pathlib import Path
from types import SimpleNamespace

from search.step_log import StepLog

TRIAL = SimpleNamespace(config={"trial": "0003"})


def hear(run: Path, epoch: int) -> None:
    """A result, by a driver that has just been started."""
    StepLog(run).on_trial_result(0, [], TRIAL, {"training_iteration": epoch})


def test_a_result_is_in_the_runs_folder_as_soon_as_it_is_heard(tmp_path: Path) -> None:
    path = tmp_path / "tune" / "0003" / "result.json"
    for epoch in (1, 2):
        hear(tmp_path, epoch)
        assert json.loads(path.read_text().splitlines()[-1]) == {"training_iteration": epoch}
    assert path.read_text().count("\n") == 2


def test_a_torn_line_costs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "tune" / "0003" / "result.json"
    hear(tmp_path, 1)
    path.write_bytes(path.read_bytes()[:-5])
    hear(tmp_path, 2)
    assert path.read_text().splitlines() == ['{"training_iteration"', '{"training_iteration": 2}']
