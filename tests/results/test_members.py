"""Which runs and trials are found, and what is said where they are unusable."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from results.members import (
    ARGUMENTS,
    check_comparable,
    distinct_trials,
    find_run,
    load_member,
    load_run,
    ranked_trials,
    trials_compared,
)
from tests.results.tiny_run import CONFIG, Data, write_csv
from trainable.checkpoint import file_hash
from trainable.errors import UserError


def edit_record(run: Path, section: str, key: str, value: object) -> None:
    record = json.loads((run / "run.json").read_text())
    (record[section] if section else record)[key] = value
    (run / "run.json").write_text(json.dumps(record))


def edit_leaderboard(run: Path, **columns: list[object]) -> None:
    rows = [dict(row) for row in load_run(run).leaderboard]
    for name, values in columns.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = str(value)
    write_csv(run / "leaderboard.csv", rows)


def names(*runs: Path) -> list[tuple[str, str]]:
    return [(run.folder.name, trial) for run, trial in ranked_trials([load_run(run) for run in runs])]


def chosen(*runs: Path, count: int = 10) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
    trials, notes = distinct_trials([load_run(run) for run in runs], count)
    return [(run.folder.name, trial) for run, trial in trials], notes


def test_a_run_is_found_by_name_by_path_and_as_the_last(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = run.parent
    older = shutil.copytree(run, out / "older")
    for file in ("run.json", "leaderboard.csv"):
        os.utime(older / file, (0, 0))
    assert find_run("faces", out) == run
    assert find_run(str(run), out / "elsewhere") == run
    assert find_run(None, out) == run


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("face", "RUN: {out} has no run called 'face'; did you mean 'faces'?"),
        ("zebra", "RUN: {out} has no run called 'zebra'."),
    ],
)
def test_an_unknown_run_is_named_with_the_nearest(run: Path, name: str, sentence: str) -> None:
    with pytest.raises(UserError) as error:
        find_run(name, run.parent)
    assert str(error.value) == sentence.format(out=run.parent)


def test_a_folder_that_is_no_run_is_called_that(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        find_run(str(tmp_path), tmp_path)
    assert str(error.value) == f"{tmp_path} is not a run's folder: it has no run.json."


def test_no_runs_at_all(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        find_run(None, tmp_path)
    assert str(error.value) == f"{tmp_path} has no runs yet; make one with: python -m search.run"


def test_members_are_the_best_trials_by_validation_however_far_they_came(run: Path) -> None:
    assert names(run) == [("faces", f"000{number}") for number in (2, 4, 6, 8)]
    edit_leaderboard(run, valid_accuracy=[0.7, 0.6, 0.5, 0.65, 0.9])  # 0008 was stopped, 0010 has failed
    assert names(run) == [("faces", f"000{number}") for number in (2, 8, 4, 6)]
    assert chosen(run, count=2) == ([("faces", "0002"), ("faces", "0008")], ())


def test_of_equal_trials_the_leaderboards_first_is_first(run: Path) -> None:
    edit_leaderboard(run, valid_accuracy=[0.6, 0.6, 0.5, 0.6, 0.6])
    assert names(run) == [("faces", f"000{number}") for number in (2, 4, 8, 6)]


def test_a_trial_whose_value_is_not_known_yet_is_no_member(run: Path) -> None:
    edit_leaderboard(run, valid_accuracy=[0.7, "", 0.5, 0.4, 0.3])
    assert names(run) == [("faces", f"000{number}") for number in (2, 6, 8)]


def test_a_trial_whose_logits_are_lost_is_left_out_and_said(run: Path) -> None:
    for trial in ("0002", "0006"):
        (run / "trials" / trial / "logits.npz").unlink()
    note = f"{run}: {{}} left out, as logits.npz is missing."
    assert chosen(run) == ([("faces", "0004"), ("faces", "0008")], (note.format("trials 0002, 0006"),))
    assert chosen(run, count=1) == ([("faces", "0004")], (note.format("trial 0002"),))  # 0006 would not be a member


def test_a_trial_without_an_epoch_has_lost_nothing(run: Path) -> None:
    edit_leaderboard(run, state=["RUNNING"] * 5, valid_accuracy=[0.7, 0.6, 0.5, 0.4, ""])
    (run / "trials/0010/logits.npz").unlink()
    assert chosen(run) == ([("faces", f"000{number}") for number in (2, 4, 6, 8)], ())


def test_no_trial_with_logits_is_refused(run: Path) -> None:
    shutil.rmtree(run / "trials")
    with pytest.raises(UserError) as error:
        names(run)
    assert str(error.value) == (
        f"{run}: no trial has finished an epoch without failing, so there is nothing to combine."
    )


def test_a_failed_trial_is_never_a_member(run: Path) -> None:
    edit_leaderboard(run, state=["FAIL", "FAIL", "RUNNING", "FAIL", "FAIL"])
    assert names(run) == [("faces", "0006")]
    edit_leaderboard(run, state=["FAIL"] * 5)
    with pytest.raises(UserError, match="no trial has finished an epoch without failing"):
        names(run)


def test_an_audited_trial_is_never_a_member(run: Path) -> None:
    edit_leaderboard(run, state=["PRUNED"] * 5, audited=["6", "", "", "6", ""])
    assert names(run) == [("faces", "0004"), ("faces", "0006"), ("faces", "0010")]


def write_configs(run: Path, *configs: tuple[float, int]) -> None:
    """config.json of the run's trials, with a learning rate and a seed."""
    for trial, (lr, seed) in zip(("0002", "0004", "0006", "0008", "0010"), configs, strict=True):
        config = replace(CONFIG, lr=lr, seed=seed).to_dict()
        (run / "trials" / trial / "config.json").write_text(json.dumps(config))


def test_a_configurations_fourth_seed_waits_for_the_other_configurations(run: Path) -> None:
    edit_leaderboard(run, state=["COMPLETE"] * 5)
    write_configs(run, (0.1, 1), (0.1, 2), (0.1, 3), (0.1, 4), (0.2, 1))
    assert [trial for _, trial in names(run)] == ["0002", "0004", "0006", "0010", "0008"]
    assert [trial for _, trial in chosen(run, count=4)[0]] == ["0002", "0004", "0006", "0010"]
    copy = shutil.copytree(run, run.parent / "copied")
    assert [trial for name, trial in names(run, copy) if name == run.name] == ["0002", "0004", "0006", "0010", "0008"]


def test_one_configuration_alone_has_all_places(run: Path) -> None:
    edit_leaderboard(run, state=["COMPLETE"] * 5)
    write_configs(run, *[(0.1, seed) for seed in range(5)])
    assert [trial for _, trial in chosen(run)[0]] == ["0002", "0004", "0006", "0008", "0010"]


def test_a_copied_run_adds_no_members_and_no_trials(run: Path, data: Data) -> None:
    copy = shutil.copytree(run, run.parent / "copy")
    members, notes = chosen(run, copy)
    assert members == [("faces", f"000{number}") for number in (2, 4, 6, 8)]
    assert notes == (f"{copy}: trials 0002, 0004, 0006, 0008 left out, as the same network is a member already.",)
    assert trials_compared([load_run(run), load_run(copy)]) == 5


def test_the_same_network_trained_in_two_runs_is_one_member(run: Path, data: Data) -> None:
    other = shutil.copytree(run, run.parent / "other")
    data.write_trial(other / "trials/0002", data.best(1))  # not copied, but made again
    assert chosen(run, other, count=2) == (
        [("faces", "0002"), ("faces", "0004")],
        (f"{other}: trial 0002 left out, as the same network is a member already.",),
    )


def test_what_is_left_out_makes_room_for_the_next(run: Path, data: Data) -> None:
    copy = shutil.copytree(run, run.parent / "copy")
    data.write_trial(copy / "trials/0004", data.best(9))
    members, notes = chosen(run, copy, count=3)
    assert members == [("faces", "0002"), ("faces", "0004"), ("copy", "0004")]
    assert notes == (f"{copy}: trial 0002 left out, as the same network is a member already.",)


@pytest.mark.parametrize(
    ("objective", "values", "order"),
    [
        ("valid_accuracy", [0.65, 0.6, 0.1, 0, 0], ["f2", "t2", "f4", "t4", "f6", "f8", "t6", "t8"]),
        ("valid_loss", [0.65, 0.7, 1.5, 0, 0], ["t8", "t2", "t4", "f2", "f4", "f6", "f8", "t6"]),
        # Of plain cross-entropy, as the other run is, the validation loss is that of the objective: 1 each.
        ("valid_objective_loss", [0.65, 0.7, 1.5, 0, 0], ["t8", "t2", "t4", "f2", "f4", "f6", "f8", "t6"]),
    ],
)
def test_two_runs_are_merged_by_their_objective(run: Path, objective: str, values: list[object], order: str) -> None:
    other = shutil.copytree(run, run.parent / "two")
    for folder in (run, other):
        edit_record(folder, "", "objective", objective)
    edit_leaderboard(other, **{objective: values})
    assert names(run, other) == [({"f": "faces", "t": "two"}[name[0]], f"000{name[1]}") for name in order]


def test_the_best_is_the_best_of_all_trials_with_a_value(run: Path) -> None:
    edit_leaderboard(run, valid_accuracy=[0.7, 0.6, 0.5, 0.4, ""])
    assert trials_compared([load_run(run)]) == 4
    other = shutil.copytree(run, run.parent / "two")
    edit_leaderboard(other, valid_accuracy=[0.7, 0.65, 0.55, 0.45, ""])  # the first is that of the other run
    assert trials_compared([load_run(run), load_run(other)]) == 7


@pytest.mark.parametrize(
    ("section", "key", "what", "was"),
    [
        ("data", "fingerprint", "data", None),
        ("data", "split_fingerprint", "split", None),
        ("", "objective", "objective", "valid_accuracy"),
    ],
)
def test_runs_that_differ_are_refused(run: Path, section: str, key: str, what: str, was: str | None) -> None:
    other = shutil.copytree(run, run.parent / "two")
    edit_record(other, section, key, "other")
    first, second = load_run(run), load_run(other)
    with pytest.raises(UserError) as error:
        check_comparable([first, second])
    assert str(error.value) == (
        f"{run} and {other} differ in {what} ({was or first.data[key]} and other); "
        "an ensemble needs runs on the same data, the same split and the same objective."
    )


def test_runs_that_read_other_columns_are_told_so(run: Path) -> None:
    other = shutil.copytree(run, run.parent / "two")
    edit_record(other, "data", "fingerprint", "other")
    edit_record(other, "arguments", "inputs", ["Hair", "Race"])
    edit_record(other, "arguments", "target", "Height")
    with pytest.raises(UserError) as error:
        check_comparable([load_run(run), load_run(other)])
    assert str(error.value) == (
        f"{run} reads the columns Age, Gender, Race and {other} Age, Gender, Race, Hair, Height, so that their data "
        "cannot be compared; search with the same --inputs and --target to combine runs."
    )


def test_columns_that_are_always_read_are_no_excuse_for_other_data(run: Path) -> None:
    other = shutil.copytree(run, run.parent / "two")
    edit_record(other, "data", "fingerprint", "other")
    edit_record(other, "arguments", "inputs", ["Age"])
    with pytest.raises(UserError, match=" differ in data "):
        check_comparable([load_run(run), load_run(other)])


def test_a_member_is_what_its_trial_left(run: Path, data: Data) -> None:
    loaded = load_run(run)
    member = load_member(loaded, "0004")
    assert (member.trial, member.state, member.value) == ("0004", "COMPLETE", 0.6)
    path = run / "trials/0004/best.safetensors"
    assert (member.checkpoints, member.sha256, member.predicting) == ((path,), (file_hash(path),), (path,))
    assert member.logits.shape == (len(loaded.holdout_ids), 3)
    images = data.labelled.table.images
    labels = data.labelled.table.labels
    assert labels is not None
    assert [labels[images.index(image)] for image in loaded.holdout_ids] == loaded.holdout_labels.tolist()


def replace_logits(run: Path, **arrays: object) -> None:
    path = run / "trials/0002/logits.npz"
    with np.load(path) as stored:
        np.savez(path, **{**stored, **arrays})


def test_logits_of_another_split_are_refused(run: Path) -> None:
    replace_logits(run, holdout_ids=np.array(["a.png"]))
    with pytest.raises(UserError) as error:
        load_member(load_run(run), "0002")
    assert str(error.value) == f"{run}/trials/0002/logits.npz holds other holdout images than {run}/splits.csv."


@pytest.mark.parametrize("logits", [np.zeros((2, 3)), np.full((24, 3), np.nan)], ids=["shape", "nan"])
def test_logits_that_cannot_be_used_are_refused(run: Path, logits: object) -> None:
    replace_logits(run, holdout=logits)
    with pytest.raises(UserError) as error:
        load_member(load_run(run), "0002")
    assert str(error.value) == (
        f"{run}/trials/0002/logits.npz has holdout logits that are not finite, or not one for each image and class."
    )


def test_logits_of_another_epoch_than_the_checkpoint_are_refused(run: Path, data: Data) -> None:
    logits = (run / "trials/0002/logits.npz").read_bytes()
    data.write_trial(run / "trials/0002", data.best(9))
    (run / "trials/0002/logits.npz").write_bytes(logits)  # as after a kill between the two
    with pytest.raises(UserError) as error:
        load_member(load_run(run), "0002")
    assert str(error.value) == f"{run}, trial 0002: its logits are not its checkpoint's; resume the run."


@pytest.mark.parametrize("name", ["holdout", "holdout_ids", "checkpoints"])
def test_arrays_of_another_kind_are_refused(run: Path, name: str) -> None:
    path = run / "trials/0002/logits.npz"
    with np.load(path) as stored:
        np.savez(path, **{**stored, name: np.array("x")})
    with pytest.raises(UserError) as error:
        load_member(load_run(run), "0002")
    assert str(error.value) == f"{path} is damaged (its arrays are of another kind)."


def test_logits_that_do_not_name_their_checkpoint_are_refused(run: Path) -> None:
    path = run / "trials/0002/logits.npz"
    with np.load(path) as stored:
        np.savez(path, **{name: array for name, array in stored.items() if name != "checkpoints"})
    with pytest.raises(UserError) as error:
        load_member(load_run(run), "0002")
    assert (
        str(error.value) == f"{path} is missing or damaged (There is no item named 'checkpoints.npy' in the archive)."
    )


def test_a_cut_off_file_is_refused_by_name(run: Path) -> None:
    path = run / "trials/0002/logits.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"^.*/trials/0002/logits\.npz is missing or damaged \(.*\)\.$"):
        load_member(load_run(run), "0002")


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("run.json", "{", "{run}/run.json is not the record of a run, or is damaged"),
        (
            "run.json",
            '{"format": 9}',
            "{run}/run.json has format 9, not 2: read it with the version that wrote it.",
        ),
        (
            "run.json",
            '{"format": 2}',
            "{run}/run.json is not the record of a run, or is damaged ('objective' is missing).",
        ),
        ("leaderboard.csv", "rank,trial\n", "{run}/leaderboard.csv has no column state."),
        (
            "splits.csv",
            "Image,Label,Split\na,9,holdout\nb,0,holdout\n",
            "{run}/splits.csv has the label '9', which {run}/run.json does not list as a class.",
        ),
        (
            "splits.csv",
            "Image,Label,Split\na,0,holdout\nb,0,train\n",
            "{run}/splits.csv has fewer than two holdout images: none to fit weights on and others to score them on.",
        ),
    ],
)
def test_an_unusable_file_of_a_run_is_named(run: Path, file: str, content: str, sentence: str) -> None:
    (run / file).write_text(content)
    with pytest.raises(UserError) as error:
        load_run(run)
    assert str(error.value).startswith(sentence.format(run=run))


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("there", [False, True])
def test_a_record_that_lacks_a_setting_is_damaged(run: Path, name: str, there: bool) -> None:
    record = json.loads((run / "run.json").read_text())
    del record["arguments"][name]
    if there:
        record["arguments"][name] = {}  # of no setting's type
    fault = f"{name} is {{}}" if there else f"'{name}' is missing"
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError) as error:
        load_run(run)
    assert str(error.value) == f"{run}/run.json is not the record of a run, or is damaged ({fault})."


@pytest.mark.parametrize("classes", [["0", "1", []], ["0", "1", "1"]])
def test_classes_are_texts_that_differ(run: Path, classes: list[object]) -> None:
    edit_record(run, "data", "classes", classes)
    with pytest.raises(UserError) as error:
        load_run(run)
    assert str(error.value) == (
        f"{run}/run.json is not the record of a run, or is damaged (the classes are no texts that differ)."
    )


def test_a_record_without_settings_is_damaged(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    del record["arguments"]
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError) as error:
        load_run(run)
    assert str(error.value) == f"{run}/run.json is not the record of a run, or is damaged ('arguments' is missing)."


@pytest.mark.parametrize(
    ("file", "content", "what", "remedy"),
    [
        (
            "leaderboard.csv",
            b"rank,trial,state\n1,0000\n",
            "row 2 has not a cell for each column",
            "restore it from a copy, or resume the run, which writes it anew",
        ),
        (
            "leaderboard.csv",
            b"rank,trial,state\n1,0000,COMPLETE\n2,0001,FAIL,7\n",
            "row 3 has not a cell for each column",
            "restore it from a copy, or resume the run, which writes it anew",
        ),
        (
            "leaderboard.csv",
            b"rank,trial,state\n1,\xff,COMPLETE\n",
            "'utf-8' codec can't decode byte 0xff in position 19: invalid start byte",
            "restore it from a copy, or resume the run, which writes it anew",
        ),
        (
            "splits.csv",
            b"Image,Label,Split\na.png,0,holdout\nb.png,0",
            "row 3 has not a cell for each column",
            "restore it from a copy",
        ),
    ],
)
def test_a_damaged_table_of_a_run_is_told_how_to_mend_it(
    run: Path, file: str, content: bytes, what: str, remedy: str
) -> None:
    (run / file).write_bytes(content)
    with pytest.raises(UserError) as error:
        load_run(run)
    assert str(error.value) == f"{run / file} is damaged ({what}); {remedy}."


def test_a_run_without_a_leaderboard_is_told_so(run: Path) -> None:
    (run / "leaderboard.csv").unlink()
    with pytest.raises(UserError) as error:
        load_run(run)
    assert str(error.value) == (
        f"{run}/leaderboard.csv does not exist; the run has not come that far, or is not complete."
    )
