"""run.json and the lock: what a run is, and what is said to a command that would make something else of it."""

import dataclasses
import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

from search import record
from search.options import Options, parser, resolve
from search.run import main
from spaces.space import Space, load
from tests.results.tiny_run import Data, data
from trainable.dataset import load_split
from trainable.errors import UserError

__all__ = ["data"]  # a fixture


def options(folder: Path, *arguments: str) -> Options:
    given = vars(parser().parse_args(["--out", str(folder), "--name", "faces", "--inputs", "Gender", *arguments]))
    return resolve(given, load("dropout"))


@pytest.fixture
def written(data: Data, tmp_path: Path) -> Options:
    """The options of a run that has just been recorded."""
    made = options(tmp_path, "--data", str(data.folder / "data.csv"), "--image-size", "28")
    made.run.mkdir()
    record.write(made, load("dropout"), data.labelled, None)
    return made


def stored(made: Options) -> dict[str, Any]:
    found = record.stored(made.run)
    assert found is not None
    return found


def check(made: Options, now: Options, space: Space | None = None, labelled: Any = None) -> None:
    record.check_same(stored(made), now, space or load(now.space), labelled)


def test_it_says_what_the_run_is(written: Options, data: Data) -> None:
    found = stored(written)
    assert found["format"] == 1
    assert found["arguments"]["inputs"] == ["Gender"]
    assert found["arguments"]["trials"] == 24
    assert found["data"]["fingerprint"] == data.labelled.fingerprint
    assert found["data"]["images"] == sum(found["data"]["counts"].values()) == 60
    assert found["data"]["vocabulary"] == {"Gender": ["0", "1"]}
    assert found["space"]["starts"] == [dict(start) for start in load("dropout").starts]
    assert load_split(written.run / "splits.csv", data.labelled.table).tolist() == data.labelled.split.tolist()


def test_writing_again_changes_only_what_may_change(written: Options, data: Data) -> None:
    before = stored(written)
    again = dataclasses.replace(written, trials=40, cpus_per_trial=2.0)
    record.write(again, load("dropout"), data.labelled, before)
    after = stored(written)
    assert after["sessions"] == before["sessions"]
    assert (after["arguments"].pop("trials"), after["arguments"].pop("cpus_per_trial")) == (40, 2.0)
    del before["arguments"]["trials"], before["arguments"]["cpus_per_trial"]
    assert after == before


def test_each_session_is_noted_and_other_code_is_warned_of(written: Options) -> None:
    assert record.add_session(written.run) == []
    assert record.add_session(written.run) == []
    path = written.run / "run.json"
    noted = json.loads(path.read_text())
    assert len(noted["sessions"]) == 2
    noted["sessions"][-1]["code"] = "another"
    path.write_text(json.dumps(noted))
    assert record.add_session(written.run) == [
        "the code changed since the run's last session; trials from before and after may not compare"
    ]
    assert [session["code"] == "another" for session in stored(written)["sessions"]] == [False, True, False]


def test_a_changed_objective_is_refused(written: Options, data: Data) -> None:
    space = dataclasses.replace(load("dropout"), objective="valid_loss")
    with pytest.raises(UserError) as error:
        record.check_same(stored(written), written, space, data.labelled)
    assert str(error.value).endswith("its objective is valid_loss, was valid_accuracy. Choose another --name.")


def test_the_same_run_may_go_on(written: Options, data: Data) -> None:
    check(written, dataclasses.replace(written, trials=99, max_concurrent=1, time_budget=60.0), None, data.labelled)


def test_data_that_was_moved_is_the_same_data(written: Options, data: Data) -> None:
    check(written, dataclasses.replace(written, data="elsewhere/data.csv"), None, data.labelled)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"epochs": 10}, "--epochs 30, not 10"),
        ({"seed": 1, "split": "80/10/10"}, "--split 70/15/15, not 80/10/10; --seed 0, not 1"),
        ({"inputs": ()}, "--inputs Gender, not none"),
        ({"precision": "float32"}, "--precision auto, not float32"),
    ],
)
def test_other_settings_are_refused(written: Options, changes: dict[str, Any], difference: str) -> None:
    with pytest.raises(UserError) as error:
        check(written, dataclasses.replace(written, **changes))
    assert str(error.value) == (
        f"the run 'faces' was made with {difference}. Choose another --name, or go on with its own settings: "
        "python -m search.run --resume faces"
    )


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"starts": []}, "its starts, its grid or the settings that it gives to a trial"),
        ({"sample": load("gridsearch").sample}, "dropout_1 is gone, was 0..0.6; "),
    ],
)
def test_a_changed_space_is_refused(written: Options, changes: dict[str, Any], difference: str) -> None:
    changed = dataclasses.replace(load("dropout"), **changes)
    with pytest.raises(UserError) as error:
        check(written, written, changed)
    start = f"the space 'dropout' has changed since the run 'faces' was made: {difference}"
    assert str(error.value).startswith(start)
    assert str(error.value).endswith(". Choose another --name.")


def test_changed_data_are_refused(written: Options, data: Data) -> None:
    changed = dataclasses.replace(data.labelled, fingerprint="0123")
    with pytest.raises(UserError) as error:
        check(written, written, None, changed)
    assert str(error.value) == (
        "the data of the run 'faces' has changed (the same number of images, 60; "
        f"fingerprint {data.labelled.fingerprint}, not 0123). Choose another --name."
    )


def test_resuming_fills_in_the_runs_own_settings(written: Options) -> None:
    given = record.resumed({"trials": 40, "epochs": None}, written.out, "faces")
    assert (given["trials"], given["epochs"], given["inputs"], given["name"]) == (40, 30, ("Gender",), "faces")
    assert (given["data"], given["cpus_per_trial"]) == (written.data, 1.0)


@pytest.mark.parametrize(("name", "hint"), [("facs", "; did you mean 'faces'?"), ("zzz", ".")])
def test_an_unknown_run_is_named(written: Options, name: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(written.out), "--resume", name]) == 2
    assert capsys.readouterr().err == f"Error: --resume: {written.out} has no run called '{name}'{hint}\n"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}"])
def test_a_damaged_record_is_refused(written: Options, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = written.run / "run.json"
    path.write_text(text)
    assert main(["--out", str(written.out), "--resume", "faces"]) == 2
    message = f"Error: {path} is damaged, so the run cannot go on. Choose another --name.\n"
    assert capsys.readouterr().err == message


def test_another_format_is_refused(written: Options, capsys: pytest.CaptureFixture[str]) -> None:
    path = written.run / "run.json"
    path.write_text(json.dumps({**stored(written), "format": 2}))
    assert main(["--out", str(written.out), "--resume", "faces"]) == 2
    assert capsys.readouterr().err == f"Error: {path} has format 2; this version reads format 1.\n"


def test_a_run_that_is_worked_on_is_refused_with_the_process(
    written: Options, capsys: pytest.CaptureFixture[str]
) -> None:
    with record.lock(written.run):
        assert main(["--out", str(written.out), "--resume", "faces"]) == 2
    message = f"Error: {written.run} is being worked on by process {os.getpid()}.\n"
    assert capsys.readouterr().err == message


def hold(run: Path, held: Any) -> None:
    with record.lock(run):
        held.set()
        os.kill(os.getpid(), 9)


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    process = context.Process(target=hold, args=(tmp_path / "run", held))
    process.start()
    process.join()
    assert held.is_set() and process.exitcode == -9
    with record.lock(tmp_path / "run"):
        assert (tmp_path / "run" / ".lock").read_text() == str(os.getpid())
