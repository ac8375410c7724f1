import json
import sys
from pathlib import Path

import pytest

from benchmarks.figures import Figure, Goal, Machine, finish


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        (Goal("ratio", ">=", 4.0), True),
        (Goal("ratio", ">=", 4.5), False),
        (Goal("ours", "<=", 0.2), False),
        (None, None),
    ],
)
def test_a_goal_is_reached_or_not(goal: Goal | None, met: bool | None) -> None:
    assert Figure("images/s", ours=40.0, n=3, peer=10.0, ratio=4.0, goal=goal).met is met


def test_the_machine_is_said() -> None:
    machine = Machine.now()
    assert machine.cores >= 1 and machine.memory_gb > 0 and machine.cpu and machine.commit
    assert machine.bf16 in ("amx", "avx512", "none") and set(machine.versions) == {"python", "torch", "ray", "optuna"}


def test_a_result_names_no_folder_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["scale", "--data", "/somewhere/deep/faces/data.csv", "--trials", "3"])
    path = tmp_path / "new" / "scale.json"
    finish("scale", Machine.now(), [Figure("s", 2.0, 1, goal=Goal("ours", "<=", 3.0))], {"seen": 1}, path)
    result = json.loads(path.read_text())
    assert result == json.loads(capsys.readouterr().out)
    assert result["command"] == "python -m benchmarks.scale --data faces/data.csv --trials 3"
    (figure,) = result["figures"]
    assert (figure["goal"], figure["met"], figure["peer"]) == ("ours <= 3", True, None)
