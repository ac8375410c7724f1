"""What is useful after a report, by how a run stands."""

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd

from search.findings import following, read, read_all


def test_what_is_useful_next_follows_from_how_the_run_stands(run: Path) -> None:
    whole = replace(read(run), confirmation={"whole": True})
    assert following(whole)[1] == f"python -m search.ensemble --verify {run}/ensemble.json"
    assert following(replace(whole, ensemble=None))[1] == f"python -m search.ensemble {run}"
    assert following(replace(whole, confirmation=None))[1] == f"python -m search.confirm {run}"
    (run / "confirm").mkdir()
    (run / "confirm" / "plan.json").touch()
    for confirmation in (None, {"whole": False}):
        words, command = following(replace(whole, confirmation=confirmation))
        assert words == "It is being confirmed; if that has stopped, go on with:"
        assert command == f"python -m search.confirm {run}"
    assert following(whole)[1] == f"python -m search.ensemble --verify {run}/ensemble.json"
    under_way = replace(whole, states={**whole.states, "RUNNING": 1})
    # With what the session was asked for; of a run from before that was noted, of which nothing is known, without.
    then = f"python -m search.run --resume run --out {run.parent}"
    assert following(under_way)[1].startswith(f"{then} --ensemble --address ")
    sessions = [{"began": "", "command": ""}]
    assert following(replace(under_way, record={**whole.record, "sessions": sessions}))[1] == then
    assert following(replace(under_way, record={**whole.record, "sessions": []}))[1] == then
    failed = replace(whole, board=whole.board.assign(state="FAIL", valid_accuracy=pd.NA))
    words, command = following(failed)
    assert words == "Mend that, and search again under another name:"
    assert command.startswith("python -m search.run --space ") and command.endswith(" --data digits --name NAME")


def test_runs_of_one_name_are_told_apart_by_their_folders(run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, tmp_path / "elsewhere" / "run")
    assert [facts.name for facts in read_all([run])] == ["run"]
    assert [facts.name for facts in read_all([run, other])] == [f"{tmp_path.name}/run", "elsewhere/run"]
