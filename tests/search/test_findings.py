"""What is useful after a report, by how a run stands."""

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from results.sections import status
from search.findings import following, read, read_all


def test_what_is_useful_next_follows_from_how_the_run_stands(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = replace(read(run), confirmation={"whole": True})
    assert following(whole)[1] == f"python -m search.ensemble --verify {run}/ensemble.json"
    assert following(replace(whole, ensemble=None))[1] == f"python -m search.ensemble {run}"
    assert following(replace(whole, confirmation=None))[1] == f"python -m search.confirm {run}"
    under_way = replace(whole, states={**whole.states, "RUNNING": 1})
    # With what the session was asked for; of a run from before that was noted, of which nothing is known, without.
    then = f"python -m search.run --resume run --out {run.parent}"
    assert following(under_way) == (
        "If it has stopped, go on with (on a cluster, with its --address):",
        f"{then} --ensemble",
    )
    sessions = [{"began": "", "command": ""}]
    assert following(replace(under_way, record={**whole.record, "sessions": sessions}))[1] == then
    assert following(replace(under_way, record={**whole.record, "sessions": []}))[1] == then
    for asked, said in (
        (" --confirm --test 'my photos/'", " --confirm --test='my photos/'"),
        ("; rm -rf ~", ""),
        (" $(id)\n--confirm", " --confirm"),
        (" --test='--space=$(id)'", " --test='--space=$(id)'"),
        (" --test --space=evil.py", ""),
        (" --ensemble --addr=evil:1 --space evil.py --cache=/bin --storage s3://evil", " --ensemble"),
        (" 'a", ""),
    ):
        record = {**whole.record, "sessions": [{"asked": asked}]}
        assert following(replace(under_way, record=record)) == ("If it has stopped, go on with:", f"{then}{said}")
    # Before the search's own trials: those of a time budget's end are never to be trained, or after that.
    confirming = replace(under_way, confirming="4 of 16 trainings of tier 1 done")
    assert following(confirming) == ("If it has stopped, go on with:", f"python -m search.confirm {run}")
    trials = f"Not at its end: {sum(whole.states.values())} of {whole.record['arguments']['trials']} trials done"
    assert status(replace(confirming, states=whole.states)) == (
        f"{trials}; their confirmation: 4 of 16 trainings of tier 1 done."
    )
    failed = replace(whole, board=whole.board.assign(state="FAIL", valid_accuracy=pd.NA))
    words, command = following(failed)
    assert words == "Mend that, and search again under another name:"
    space = whole.record["arguments"]["space"]
    assert command == f"python -m search.run --space {space} --data digits --name NAME"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another user's"))
    assert following(failed)[1] == "python -m search.run --space FILE --data digits --name NAME"


def test_a_confirmation_that_has_begun_is_told_until_it_is_whole(run: Path) -> None:
    assert read(run).confirming is None
    (run / "confirm").mkdir()
    (run / "confirm" / "plan.json").touch()
    assert read(run).confirming == "nothing trained yet"


def test_a_run_that_is_named_by_a_dot_goes_on_by_its_name(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run)
    here = read(Path("."))
    under_way = replace(here, states={**here.states, "RUNNING": 1})
    assert following(under_way)[1].startswith(f"python -m search.run --resume run --out {run.parent.resolve()} ")


def test_runs_of_one_name_are_told_apart_by_their_folders(run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, tmp_path / "elsewhere" / "run")
    assert [facts.name for facts in read_all([run])] == ["run"]
    assert [facts.name for facts in read_all([run, other])] == [f"{tmp_path.name}/run", "elsewhere/run"]
    third = shutil.copytree(run, tmp_path / "b" / "elsewhere" / "run")
    names = [facts.name for facts in read_all([run, other, third])]
    assert names == [f"{tmp_path.name}/run", f"{tmp_path.name}/elsewhere/run", "b/elsewhere/run"]
