"""run.json and the lock: what a run is, and what is said to a command that would make something else of it."""

import csv
import dataclasses
import json
import math
import multiprocessing
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from results.members import Run
from results.submission import own_test
from search import confirm, record
from search.options import Options, parser, resolve
from search.run import main
from search.study import JOURNAL, Settings, StudyRecord
from spaces.loading import load
from spaces.space import Space
from tests.results.tiny_run import SIZE, Data, data, write_csv
from trainable import named
from trainable.dataset import load_labelled, load_split
from trainable.errors import UserError

__all__ = ["data"]  # a fixture


def options(folder: Path, *arguments: str) -> Options:
    given = vars(parser().parse_args(["--out", str(folder), "--name", "faces", "--inputs", "Gender", *arguments]))
    return resolve(given, load("dropout"))


@pytest.fixture
def written(data: Data, tmp_path: Path) -> Options:
    """The options of a run that has just been recorded."""
    made = options(tmp_path, "--data", str(data.folder / "data.csv"), "--image-size", "28", "--split", "40/20/40")
    made.run.mkdir()
    record.write(made, load("dropout"), data.labelled, None)
    return made


def ask(made: Options) -> str:
    """Asks the run's study for a trial, as a search does before it trains one. Its name."""
    settings = Settings(made.epochs, made.image_size, made.inputs, made.target, "valid_accuracy", made.seed)
    asked = StudyRecord(made.run, load("dropout"), "tpe", settings, trials=3).ask()
    assert asked is not None
    return asked.trial


@pytest.fixture
def begun(written: Options) -> Options:
    """The options of a run with one trial in its study and in its folder."""
    (written.run / "trials" / ask(written)).mkdir()
    return written


def resume(made: Options, data: Data, *arguments: str) -> int:
    """The command that goes on with a run; for so short a time that it never trains."""
    command = ["--out", str(made.out), "--resume", made.name, "--cache", str(data.cache), "--time-budget", "1s"]
    return main([*command, *arguments])


def content_of(run: Path) -> dict[str, bytes]:
    """Every file of a run but its lock, which says who held it last."""
    files = [path for path in run.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


def edit_split(run: Path, *swapped: str) -> None:
    """Gives each of two images the side of the other."""
    with open(run / "splits.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    one, other = (row for row in rows if row["Image"] in swapped)
    one["Split"], other["Split"] = other["Split"], one["Split"]
    write_csv(run / "splits.csv", rows)


def sides(data: Data) -> tuple[str, str]:
    """An image of the training part and one of the holdout."""
    split, images = data.labelled.split.sides.tolist(), data.labelled.table.images
    return images[split.index(0)], images[split.index(2)]


def stored(made: Options) -> dict[str, Any]:
    found = record.stored(made.run)
    assert found is not None
    return found


def check(made: Options, now: Options, space: Space | None = None, labelled: Any = None) -> None:
    record.check_same(stored(made), now, space or load(now.space), labelled)


def test_it_says_what_the_run_is(written: Options, data: Data) -> None:
    found = stored(written)
    assert found["format"] == 2
    assert found["arguments"]["inputs"] == ["Gender"]
    assert found["arguments"]["trials"] == 24
    assert found["data"]["fingerprint"] == data.labelled.fingerprint
    assert found["data"]["images"] == sum(found["data"]["counts"].values()) == 60
    assert found["data"]["vocabulary"] == {"Gender": ["0", "1"]}
    assert found["space"]["starts"] == [dict(start) for start in load("dropout").starts]
    assert found["data"]["counts"] == {"train": 24, "valid": 12, "holdout": 24}
    split = load_split(written.run / "splits.csv", data.labelled.table)
    assert (split.sides.tolist(), split.folds) == (data.labelled.split.sides.tolist(), 0)


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
    assert record.add_session(written, 2) == []
    assert record.add_session(written, 2) == []
    path = written.run / "run.json"
    noted = json.loads(path.read_text())
    assert len(noted["sessions"]) == 2
    noted["sessions"][-1]["code"] = "another"
    path.write_text(json.dumps(noted))
    assert record.add_session(written, 2) == [
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
        ({"seed": 1, "split": "80/10/10"}, "--split 40/20/40, not 80/10/10; --seed 0, not 1"),
        ({"inputs": ()}, "--inputs Gender, not none"),
        ({"audit": 0.1}, "--audit none, not 0.1"),
        ({"precision": "float32"}, "--precision auto, not float32"),
    ],
)
def test_other_settings_are_refused(written: Options, changes: dict[str, Any], difference: str) -> None:
    with pytest.raises(UserError) as error:
        check(written, dataclasses.replace(written, **changes))
    assert str(error.value) == (
        f"the run 'faces' was made with {difference}. Choose another --name, or go on with its own settings: "
        f"python -m search.run --resume faces --out {written.out}"
    )


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        (
            {"starts": []},
            "its starts, its grid, or what it or this version of the program sets for a trial",
        ),
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


def test_other_data_are_refused_by_name(begun: Options, data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    fewer = data.folder / "fewer.csv"
    fewer.write_text("\n".join((data.folder / "data.csv").read_text().splitlines()[:25]))
    before = content_of(begun.run)
    assert resume(begun, data, "--data", str(fewer)) == 2
    assert capsys.readouterr().err == (
        f"Error: the run 'faces' was made with other data: {begun.data} (60 images), not {fewer} (24 images). "
        "Choose another --name.\n"
    )
    assert content_of(begun.run) == before


def test_the_same_images_under_other_names_are_refused(
    begun: Options, data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open(data.folder / "data.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    shutil.copytree(data.folder, tmp_path / "photos", ignore=shutil.ignore_patterns("cache", "*.csv"))
    write_csv(tmp_path / "renamed.csv", [{**row, "Image": f"photos/{row['Image']}"} for row in rows])
    assert resume(begun, data, "--data", str(tmp_path / "renamed.csv")) == 2
    assert capsys.readouterr().err == (
        f"Error: {begun.run}/splits.csv is not of {tmp_path}/renamed.csv: it lacks 60 images, such as photos/0.png, "
        "photos/1.png, photos/2.png. Put the data and the split back as they were, or choose another --name.\n"
    )


# The split


def test_a_changed_split_is_refused(begun: Options, data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    edit_split(begun.run, *sides(data))
    before = content_of(begun.run)
    assert resume(begun, data) == 2
    path = begun.run / "splits.csv"
    advice = "Put the file back as it was, or delete it to have it made again, or choose another --name."
    assert capsys.readouterr().err == (
        f"Error: the split of the run 'faces' has changed: {path} has 24 train, 12 valid, 24 holdout as before, but "
        f"other images. {advice}\n"
    )
    path.write_text(path.read_text().replace(",valid", ",train", 1))
    assert resume(begun, data) == 2
    said = f"{path} has 24 train, 12 valid, 24 holdout then, 25 train, 11 valid, 24 holdout now. {advice}\n"
    assert capsys.readouterr().err.endswith(said)
    path.write_bytes(before["splits.csv"])
    assert content_of(begun.run) == before


def test_a_missing_split_is_made_again_as_it_was(begun: Options, data: Data) -> None:
    before = content_of(begun.run)
    (begun.run / "splits.csv").unlink()
    assert resume(begun, data) == 2  # for want of time
    after = content_of(begun.run)
    assert after["splits.csv"] == before["splits.csv"]


def test_a_missing_split_that_would_be_another_is_refused(
    begun: Options, data: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    path = begun.run / "run.json"
    path.write_text(path.read_text().replace(data.labelled.split_fingerprint, "0123"))
    (begun.run / "splits.csv").unlink()
    before = content_of(begun.run)
    assert resume(begun, data) == 2
    assert capsys.readouterr().err == (
        f"Error: {begun.run}/splits.csv is missing, and the split that would be made now is not the run's. "
        "Put the file back, or choose another --name.\n"
    )
    assert content_of(begun.run) == before


def test_a_damaged_split_is_refused(begun: Options, data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    path = begun.run / "splits.csv"
    path.write_text("Image,Label,Split\n0.png,0,nowhere\n")
    assert resume(begun, data) == 2
    assert capsys.readouterr().err == (
        f"Error: {path} is not a saved split (Image,Label,Split with train, valid, holdout). "
        "Put the data and the split back as they were, or choose another --name.\n"
    )


# What a run goes on from


@pytest.mark.parametrize(
    ("gone", "named"),
    [
        (["trials"], "trials/ is"),
        (["study.journal"], "study.journal with its trials is"),
        (["run.json"], "run.json is"),
        (["run.json", "trials"], "run.json and trials/ are"),
        (["run.json", "study.journal"], "run.json and study.journal with its trials are"),
    ],
)
def test_a_run_that_has_lost_a_part_is_left_as_it_is(
    begun: Options, data: Data, capsys: pytest.CaptureFixture[str], gone: Sequence[str], named: str
) -> None:
    for name in gone:
        path = begun.run / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    before = content_of(begun.run)
    message = (
        f"Error: {begun.run} has trials, but {named} missing. "
        "Put back what is missing, or make the run anew under another name.\n"
    )
    for go_on in (["--resume", "faces"], ["--name", "faces", "--data", begun.data]):
        assert main(["--out", str(begun.out), "--cache", str(data.cache), *go_on]) == 2
        assert capsys.readouterr().err == message
    assert content_of(begun.run) == before


def test_a_study_that_has_lost_its_trials_is_missed(begun: Options) -> None:
    (begun.run / JOURNAL).write_bytes(b"")
    with pytest.raises(UserError, match=r"has trials, but study.journal with its trials is missing\."):
        record.to_go_on_with(begun.run)


def test_a_run_killed_before_its_first_trial_has_a_folder_goes_on(written: Options) -> None:
    assert record.to_go_on_with(written.run) is None
    ask(written)
    assert not any((written.run / "trials").iterdir())
    assert record.to_go_on_with(written.run) == stored(written)


def test_a_run_that_failed_before_its_first_trial_begins_anew(
    written: Options, data: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = written.run / JOURNAL
    assert resume(written, data) == 2  # for want of time, and the study has no trial yet
    assert journal.exists()
    assert record.to_go_on_with(written.run) is None
    changed = dataclasses.replace(written, epochs=3)
    record.write(changed, load("dropout"), data.labelled, record.to_go_on_with(written.run))
    assert not journal.exists()
    assert stored(written)["arguments"]["epochs"] == 3


def test_a_session_that_is_refused_is_not_noted(begun: Options, data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    assert resume(begun, data) == 2
    assert capsys.readouterr().err.startswith("Error: --time-budget: too short to train anything; ")
    assert stored(begun)["sessions"] == []


# The data's own test part


def test_the_record_says_whether_the_data_brought_a_test_part(tmp_path: Path) -> None:
    def own_test_of(name: str, *folders: str) -> str | None:
        """The test part of a run on a folder of photos with these folders, three images in each."""
        root = tmp_path / name
        for number, folder in enumerate(folders):
            (root / folder).mkdir(parents=True)
            for shade in range(3):
                Image.new("L", (SIZE, SIZE), 20 * number + shade).save(root / folder / f"{shade}.png")
        made = resolve(
            vars(parser().parse_args(["--out", str(tmp_path), "--name", f"run-{name}", "--data", str(root)])),
            load("dropout"),
        )
        labelled = load_labelled(
            str(root),
            inputs=[],
            image_size=SIZE,
            fractions=(0.4, 0.3, 0.3),
            seed=0,
            cache=tmp_path / "cache",
            progress=False,
        )
        made.run.mkdir()
        record.write(made, load("dropout"), labelled, None)
        run = Run(made.run, stored(made), [], (), labelled.split.sides.astype("int64"))
        return own_test(run, tmp_path / "cache")

    assert own_test_of("split", "train/a", "train/b", "test") == str(tmp_path / "split" / "test")
    assert own_test_of("classes", "train", "test", "other") is None
    (tmp_path / "empty" / "test").mkdir(parents=True)
    assert own_test_of("empty", "train/a", "train/b") is None


def test_resuming_fills_in_the_runs_own_settings(written: Options) -> None:
    given = record.resumed({"trials": 40, "epochs": None}, written.out, "faces")
    assert (given["trials"], given["epochs"], given["inputs"], given["name"]) == (40, 30, ("Gender",), "faces")
    assert (given["data"], given["cpus_per_trial"], given["cache"]) == (written.data, 1.0, written.cache)


def test_a_tracked_run_is_tracked_when_it_goes_on_unless_said_otherwise(written: Options, data: Data) -> None:
    tracked = dataclasses.replace(written, track=("mlflow", "wandb"))
    record.write(tracked, load("dropout"), data.labelled, stored(written))
    assert record.resumed({}, written.out, "faces")["track"] == ("mlflow", "wandb")
    given = vars(parser().parse_args(["--track", "none"]))
    assert record.resumed(given, written.out, "faces")["track"] == []


def test_a_mirrored_run_is_mirrored_when_it_goes_on_unless_said_otherwise(written: Options, data: Data) -> None:
    mirrored = dataclasses.replace(written, storage="s3://bucket/runs")
    named.note({"storage": mirrored.storage})
    record.write(mirrored, load("dropout"), data.labelled, stored(written))
    assert record.resumed({}, written.out, "faces")["storage"] == "s3://bucket/runs"
    given = vars(parser().parse_args(["--storage", "none"]))
    assert record.resumed(given, written.out, "faces")["storage"] == ""


def test_the_runs_own_command_remembers_its_storage_too(
    begun: Options, data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    mirrored = dataclasses.replace(begun, storage=f"{tmp_path}/file/there")
    named.note({"storage": mirrored.storage})
    record.write(mirrored, load("dropout"), data.labelled, stored(begun))
    command = ["--space", "depth", "--name", begun.name, "--out", str(begun.out)]
    assert main(command) == 2
    assert capsys.readouterr().err.startswith(f"Error: --storage: {tmp_path}/file/there cannot be used")
    assert main([*command, "--storage", "none"]) == 2  # it has another space
    assert "--storage" not in capsys.readouterr().err


def test_a_confirmation_is_mirrored_where_its_run_is_unless_said_otherwise(
    begun: Options, data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    mirrored = dataclasses.replace(begun, storage=f"{tmp_path}/file/there")
    named.note({"storage": mirrored.storage})
    record.write(mirrored, load("dropout"), data.labelled, stored(begun))
    assert confirm.main([str(begun.run)]) == 2
    assert capsys.readouterr().err.startswith(f"Error: --storage: {tmp_path}/file/there cannot be used")
    assert confirm.main([str(begun.run), "--storage", "none"]) == 2  # it has no trial to confirm
    assert "--storage" not in capsys.readouterr().err


def test_a_run_from_before_the_audit_tracking_and_mirrors_has_none(written: Options) -> None:
    content = stored(written)
    del content["arguments"]["audit"], content["arguments"]["track"], content["arguments"]["storage"]
    (written.run / "run.json").write_text(json.dumps(content))
    given = record.resumed({}, written.out, "faces")
    assert (given["audit"], given["track"], given["storage"]) == (None, (), "")


@pytest.mark.parametrize(("name", "hint"), [("facs", "; did you mean 'faces'?"), ("zzz", ".")])
def test_an_unknown_run_is_named(written: Options, name: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(written.out), "--resume", name]) == 2
    assert capsys.readouterr().err == f"Error: --resume: {written.out} has no run called '{name}'{hint}\n"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"format": 2}', '{"format": 2, "arguments": []}'])
def test_a_damaged_record_is_refused(written: Options, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = written.run / "run.json"
    path.write_text(text)
    assert main(["--out", str(written.out), "--resume", "faces"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"Error: {path} is not the record of a run, or is damaged (") and said.count("\n") == 1
    assert said.endswith("). Put it back from a copy, or make the run anew under another name.\n")


@pytest.mark.parametrize(
    "place",
    ["seed", "created", "sessions", "objective", "arguments.folds", "arguments.trials", "arguments.scheduler"]
    + ["data.cache", "data.split_fingerprint", "data.classes", "data.image_size", "data.counts.valid"]
    + ["space.parameters", "sessions.0.command", "sessions.0.hardware.cpus", "sessions.0.versions.torch"],
)
@pytest.mark.parametrize("instead", [None, 1.5])  # None: the part is gone
def test_a_record_that_lacks_a_part_is_refused(written: Options, place: str, instead: float | None) -> None:
    record.add_session(written, 2)
    content = part = stored(written)
    *parents, name = place.split(".")
    for parent in parents:
        part = part[int(parent) if parent.isdigit() else parent]
    del part[name]
    if instead is not None:
        part[name] = instead
    (written.run / "run.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"run\.json is not the record of a run, or is damaged \("):
        record.stored(written.run)


@pytest.mark.parametrize(
    ("name", "value"),
    [("cpus_per_trial", 0), ("gpus_per_trial", 1.5), ("trials", -1), ("seed", 2**32), ("folds", 1), ("image_size", 1e9)]
    + [("max_concurrent", 0), ("audit", 2.0), ("cpus_per_trial", math.inf)],
)
def test_a_number_that_no_option_takes_is_refused(
    written: Options, name: str, value: float, capsys: pytest.CaptureFixture[str]
) -> None:
    content = stored(written)
    content["arguments"][name] = value
    (written.run / "run.json").write_text(json.dumps(content))
    assert main(["--out", str(written.out), "--resume", "faces"]) == 2
    said = f"Error: {written.run}/run.json is not the record of a run, or is damaged ({name}: '{value}' is not "
    assert capsys.readouterr().err.startswith(said)


@pytest.mark.parametrize("classes", [["0", []], ["0", "1", "0"]])
def test_classes_that_are_no_texts_that_differ_are_refused(written: Options, classes: list[object]) -> None:
    content = stored(written)
    content["data"]["classes"] = classes
    path = written.run / "run.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError) as error:
        record.stored(written.run)
    assert str(error.value) == (
        f"{path} is not the record of a run, or is damaged (the classes are no texts that differ). Put it back from a "
        "copy, or make the run anew under another name."
    )


def test_what_a_session_was_asked_for_is_a_text_where_it_is_known(written: Options) -> None:
    record.add_session(written, 2)
    content = stored(written)
    for asked in (None, 5, ["--confirm"]):
        content["sessions"][-1]["asked"] = asked
        (written.run / "run.json").write_text(json.dumps(content))
        with pytest.raises(UserError, match=rf"damaged \({re.escape(f'asked is {asked!r}')}\)"):
            record.stored(written.run)
    del content["sessions"][-1]["asked"]
    (written.run / "run.json").write_text(json.dumps(content))
    assert record.stored(written.run) is not None


@pytest.mark.parametrize("name", ["sampler", "scheduler", "precision"])
def test_a_name_that_no_option_takes_is_refused(written: Options, name: str) -> None:
    content = stored(written)
    content["arguments"][name] = "evil"
    (written.run / "run.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"damaged \({name} is 'evil'\)"):
        record.stored(written.run)


def test_an_objective_that_is_none_is_refused(written: Options) -> None:
    (written.run / "run.json").write_text(json.dumps(stored(written) | {"objective": "speed"}))
    with pytest.raises(UserError, match=r"damaged \(objective is 'speed'"):
        record.stored(written.run)


def test_another_format_is_refused(written: Options, capsys: pytest.CaptureFixture[str]) -> None:
    path = written.run / "run.json"
    path.write_text(json.dumps({**stored(written), "format": 1}))
    assert main(["--out", str(written.out), "--resume", "faces"]) == 2
    assert capsys.readouterr().err == f"Error: {path} has format 1, not 2: read it with the version that wrote it.\n"


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


@pytest.mark.skipif(sys.platform != "linux", reason="has no /proc")
def test_where_nobody_can_make_a_run_is_one_sentence() -> None:
    with pytest.raises(UserError) as error, record.lock(Path("/proc/none/faces")):
        pass
    assert str(error.value) == "--out: /proc/none/faces cannot be a folder (No such file or directory)."


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    process = context.Process(target=hold, args=(tmp_path / "run", held))
    process.start()
    process.join()
    assert held.is_set() and process.exitcode == -9
    with record.lock(tmp_path / "run"):
        assert (tmp_path / "run" / ".lock").read_text() == str(os.getpid())
