"""Predictions come from checkpoints alone, and their files are always the same bytes."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from results.members import Member, Run, load_member, load_run
from results.scores import probabilities
from results.submission import (
    PROBABILITIES,
    SUBMISSION,
    Submission,
    check_sample,
    make_submission,
    npz_bytes,
    own_test,
    submission_bytes,
)
from tests.results.tiny_run import CONFIG, TESTS, Data, write_csv
from trainable.config import Augmentation
from trainable.errors import UserError

IDS = [f"{index}.png" for index in range(66, 59, -1)]


def submit(members: list[Member], weights: list[float], data: Data, test: str, temperature: float = 1.0) -> Submission:
    return make_submission(members, weights, temperature, test, sample=None, cache=data.cache, progress=False)


def arrays(submission: Submission) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(submission.files[PROBABILITIES]), allow_pickle=False) as loaded:
        return dict(loaded)


@pytest.fixture
def members(run: Path) -> list[Member]:
    return [load_member(load_run(run), trial) for trial in ("0002", "0004", "0006")]


def test_a_submission_has_the_test_tables_ids_in_its_order(members: list[Member], data: Data) -> None:
    submission = submit(members, [0.5, 0.25, 0.25], data, str(data.folder / "testdata.csv"))
    header, *rows = submission.files[SUBMISSION].decode().splitlines()
    assert header == "Id,Category"
    assert [row.split(",")[0] for row in rows] == IDS
    shares = arrays(submission)
    assert shares["ids"].tolist() == IDS
    assert shares["classes"].tolist() == ["0", "1", "2"]
    assert shares["probabilities"].sum(axis=1).tolist() == pytest.approx([1.0] * TESTS)
    assert [int(row.split(",")[1]) for row in rows] == shares["probabilities"].argmax(axis=1).tolist()
    assert submission.test["images"] == TESTS


def test_the_test_path_computes_what_the_holdout_path_computed(
    members: list[Member], data: Data, tmp_path: Path
) -> None:
    # The holdout images as a test table: the pooled logits must be those that the weights were fitted on.
    table = data.labelled.table
    rows = data.labelled.split.weighed
    test = data.folder / "holdout.csv"
    write_csv(test, [{"Image": table.images[row], "Gender": table.columns["Gender"][row]} for row in rows])
    submission = submit(members, [0.5, 0.25, 0.25], data, str(test), temperature=2.0)
    logits = np.tensordot([0.5, 0.25, 0.25], [member.logits for member in members], axes=1)
    assert arrays(submission)["probabilities"] == pytest.approx(probabilities(logits / 2), abs=1e-6)


def test_no_training_transform_meets_a_test_image(run: Path, data: Data) -> None:
    # Two checkpoints that differ in every setting of training alone, flips always and never among them.
    never = replace(CONFIG, augment=Augmentation(flip=0.0))
    augment = Augmentation(flip=1.0, rotation=90.0, shift=0.5, brightness=0.9, randaugment=3, holes=8, mixup=1.0)
    always = replace(CONFIG, augment=augment, loss="focal", lr=0.5, batch_size=2, seed=9, head_dropout=0.9, ema=0.9)
    for trial, config in (("0002", never), ("0004", always)):
        data.write_trial(run / "trials" / trial, replace(data.best(7), config=config))
    plain, flipped = (load_member(load_run(run), trial) for trial in ("0002", "0004"))
    test = str(data.folder / "testdata.csv")
    assert submit([plain], [1.0], data, test) == submit([flipped], [1.0], data, test)


def test_preprocessing_is_read_from_the_checkpoint(run: Path, data: Data) -> None:
    best = data.best(7)
    shifted = replace(best.preprocessing, mean=(0.0, 0.1, 0.9), std=(0.1, 0.2, 1.0))
    larger = replace(best.preprocessing, image_size=29)  # 28 and 29 pixels come down to 1 alike
    test = str(data.folder / "testdata.csv")
    found = []
    for preprocessing in (best.preprocessing, shifted, larger):
        # config.image_size stays 28: a second place that disagrees, and must not be read
        data.write_trial(run / "trials/0002", replace(best, preprocessing=preprocessing))
        found.append(arrays(submit([load_member(load_run(run), "0002")], [1.0], data, test))["probabilities"])
    assert np.abs(found[0] - found[1]).max() > 1e-4
    assert np.abs(found[0] - found[2]).max() > 1e-4


def test_a_member_without_weight_is_not_needed(members: list[Member], data: Data) -> None:
    members[1].checkpoints[0].unlink()
    assert submit(members, [0.5, 0.0, 0.5], data, str(data.folder / "testdata.csv")).test["images"] == TESTS


def test_a_test_table_without_an_input_column_is_refused(members: list[Member], data: Data, tmp_path: Path) -> None:
    test = data.folder / "no-gender.csv"
    write_csv(test, [{"Image": "60.png"}])
    with pytest.raises(UserError, match="^.*no-gender.csv has .*; nothing was predicted"):
        submit(members, [1.0, 0.0, 0.0], data, str(test))
    assert submit(members, [0.0, 0.0, 1.0], data, str(test)).test["images"] == 1  # 0006 reads no column


def test_a_folder_is_a_test_table(members: list[Member], data: Data, tmp_path: Path) -> None:
    for name in ("60.png", "61.png"):
        (tmp_path / name).write_bytes((data.folder / name).read_bytes())
    submission = submit(members, [0.0, 0.0, 1.0], data, str(tmp_path))
    assert arrays(submission)["ids"].tolist() == ["60.png", "61.png"]


def test_the_fingerprint_follows_images_order_and_columns(members: list[Member], data: Data) -> None:
    def fingerprint(rows: list[tuple[str, int]]) -> str:
        path = data.folder / "some.csv"
        write_csv(path, [{"Image": image, "Gender": gender} for image, gender in rows])
        found: str = submit(members, [1.0, 0.0, 0.0], data, str(path)).test["fingerprint"]
        return found

    tables = [[("60.png", 0), ("61.png", 1)], [("61.png", 1), ("60.png", 0)], [("60.png", 1), ("61.png", 1)]]
    assert len({fingerprint(rows) for rows in tables}) == 3
    assert fingerprint(tables[0]) == fingerprint(tables[0])


def test_categories_are_class_names() -> None:
    assert submission_bytes(["a.jpg", "b, c.jpg"], ["cat", "dog"]) == b'Id,Category\na.jpg,cat\n"b, c.jpg",dog\n'


def test_npz_bytes_do_not_depend_on_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    first = npz_bytes({"a": np.arange(3)})
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert npz_bytes({"a": np.arange(3)}) == first
    with np.load(io.BytesIO(first)) as loaded:
        assert loaded["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["id,label", "a,0"], " has the header 'id,label' instead of 'Id,Category'."),
        ([], " has the header '' instead of 'Id,Category'."),
        (["Id,Category", "a,0", "c,0"], ", row 3 is 'c' but the test table has 'b'."),
        (
            ["Id,Category", "b,0", "a,0"],
            ", row 2 is 'b' but the test table has 'a'; the ids are the same in another order.",
        ),
        (["Id,Category", "a,0"], " has 1 rows but the test table has 2."),
        (["Id,Category", "a,0", "b,0", "c,0"], " has 3 rows but the test table has 2."),
    ],
)
def test_a_sample_submission_that_differs_is_refused(tmp_path: Path, lines: list[str], sentence: str) -> None:
    path = tmp_path / "sample.csv"
    path.write_text("\n".join(lines))
    with pytest.raises(UserError) as error:
        check_sample(path, ["a", "b"])
    assert str(error.value) == f"--sample-submission: {path}{sentence}"


def test_a_sample_submission_that_fits_is_taken(data: Data) -> None:
    check_sample(data.folder / "sample.csv", IDS)


def test_a_missing_sample_submission_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^--sample-submission: .*/no\.csv cannot be read as a CSV file \(.*\)\.$"):
        check_sample(tmp_path / "no.csv", [])


def run_of(**data: Any) -> Run:
    return Run(Path("runs/faces"), {"data": data}, [], (), np.array([], np.int64))


def test_own_test_data_are_where_the_record_says(tmp_path: Path) -> None:
    for part in ("train", "test"):  # which may be two classes
        (tmp_path / part).mkdir()
    assert own_test(run_of(source=str(tmp_path), test=None), tmp_path) is None
    assert own_test(run_of(source="moved", test=str(tmp_path / "test")), tmp_path) == str(tmp_path / "test")
    assert own_test(run_of(source="digits", test="digits"), tmp_path) == str(tmp_path / "digits" / "testdata.csv")


@pytest.mark.parametrize("data", [{}, {"test": 5}, {"test": False}])
def test_a_record_that_does_not_say_whether_there_are_test_data_is_named(data: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        own_test(run_of(**data), tmp_path)
    assert str(error.value) == (
        "runs/faces/run.json does not say whether the data has a test part of its own; name the images by --test."
    )
