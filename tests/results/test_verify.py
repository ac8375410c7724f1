"""Manifests: what they hold, that nothing they stand for is lost, and that a verification sees every change."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from results.manifest import NAMES, describe, read_manifest, write_ensemble
from results.members import load_member, load_run
from results.selection import select
from results.submission import make_submission
from results.verify import Verdict, verify
from tests.results.tiny_run import Data, write_csv
from trainable.errors import UserError


def make(run: Path, data: Data, home: Path | None = None, asked: str = "auto", test: str | None = None) -> Path:
    """Makes an ensemble of the run's three complete trials; returns its own folder."""
    loaded = load_run(run)
    members = [load_member(loaded, trial) for trial in ("0002", "0004", "0006")]
    logits = np.stack([member.logits for member in members])
    selection = select(logits, loaded.holdout_labels, asked, np.random.default_rng(0))
    chosen = selection.scores[selection.method]
    submission = make_submission(
        members,
        chosen.weights,
        chosen.temperature,
        test or str(data.folder / "testdata.csv"),
        sample=None,
        cache=data.cache,
        progress=False,
    )
    home = home or run
    home.mkdir(exist_ok=True)
    manifest = describe(home, [loaded], members, selection, submission, asked=asked, seed=0)
    return write_ensemble(home, manifest, submission)


def checked(path: Path, test: str | None = None) -> Verdict:
    return verify(path, test=test, progress=False)


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_a_manifest_names_members_data_and_code(run: Path, data: Data) -> None:
    make(run, data, asked="uniform")
    manifest, home = read_manifest(run / "ensemble.json")
    assert home == run
    assert [(member["run"], member["trial"], member["state"]) for member in manifest["members"]] == [
        (".", "0002", "COMPLETE"),
        (".", "0004", "COMPLETE"),
        (".", "0006", "COMPLETE"),
    ]
    assert [member["weight"] for member in manifest["members"]] == [1 / 3] * 3
    assert all(len(member["checkpoint_sha256"]) == 64 for member in manifest["members"])
    assert (manifest["method"], manifest["asked"], manifest["seed"]) == ("uniform", "uniform", 0)
    assert manifest["holdout_images"] == 24
    assert manifest["trials_compared"] == 5
    assert list(manifest["scores"]) == ["best", "convex", "greedy", "uniform"]  # sorted, as all keys are
    assert set(manifest["scores"]["best"]["accuracy"]) == {"value", "low", "high"}
    assert manifest["data"]["fingerprint"] == data.labelled.fingerprint
    assert manifest["runs"][0]["code"] == "0123"
    assert set(manifest["sha256"]) == {"submission.csv", "probabilities.npz"}
    assert {"python", "torch", "numpy"} <= set(manifest["versions"])


def test_the_same_ensemble_again_is_the_same_bytes(run: Path, data: Data) -> None:
    folder = make(run, data)
    before = {name: (folder / name).read_bytes() for name in NAMES}
    assert make(run, data) == folder
    assert {name: (folder / name).read_bytes() for name in NAMES} == before
    assert {name: (run / name).read_bytes() for name in NAMES} == before


def test_an_earlier_ensemble_stays_in_its_folder(run: Path, data: Data) -> None:
    first = make(run, data, asked="uniform")
    kept = {name: (first / name).read_bytes() for name in NAMES}
    second = make(run, data, asked="best")
    assert second != first
    assert {name: (first / name).read_bytes() for name in NAMES} == kept
    assert (run / "ensemble.json").read_bytes() == (second / "ensemble.json").read_bytes()
    assert not checked(first / "ensemble.json").changes


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_no_folder_keeps_is_not_replaced(run: Path, data: Data, name: str) -> None:
    (run / name).write_text("by hand")
    with pytest.raises(UserError) as error:
        make(run, data)
    assert str(error.value) == (
        f"{run / name} was not written by this program, or was changed since; move it away first."
    )
    assert (run / name).read_text() == "by hand"
    assert not (run / "ensembles").exists()


@pytest.mark.parametrize("asked", ["auto", "uniform", "best", "convex", "greedy"])
def test_an_untouched_ensemble_holds(run: Path, data: Data, asked: str) -> None:
    folder = make(run, data, asked=asked)
    for path in (run / "ensemble.json", folder / "ensemble.json"):
        assert checked(path) == Verdict((), (), ("submission.csv", "probabilities.npz"))


def test_a_moved_run_holds(run: Path, data: Data, tmp_path: Path) -> None:
    make(run, data)
    moved = tmp_path / "far" / "away"
    moved.parent.mkdir()
    shutil.move(run, moved)
    assert checked(moved / "ensemble.json").changes == ()


def test_an_ensemble_elsewhere_holds_as_long_as_both_stay_side_by_side(run: Path, data: Data, tmp_path: Path) -> None:
    folder = make(run, data, home=tmp_path / "output")
    assert json.loads((folder / "ensemble.json").read_text())["runs"][0]["path"] == "../runs/faces"
    assert checked(tmp_path / "output" / "ensemble.json").changes == ()
    shutil.move(run, tmp_path / "faces")
    (change,) = checked(tmp_path / "output" / "ensemble.json").changes
    assert change.startswith(f"{tmp_path}/output/../runs/faces/run.json is not the record of a run, or is damaged")


def test_a_changed_byte_of_a_checkpoint_is_seen(run: Path, data: Data) -> None:
    make(run, data)
    path = run / "trials/0004/best.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert checked(run / "ensemble.json").changes == (f"{path} has changed: trial 0004 is another network now",)


def test_a_missing_checkpoint_is_seen(run: Path, data: Data) -> None:
    make(run, data)
    path = run / "trials/0004/best.safetensors"
    path.unlink()
    assert checked(run / "ensemble.json").changes == (f"{path} does not exist.",)


def test_changed_weights_are_seen(run: Path, data: Data) -> None:
    make(run, data, asked="uniform")

    def change(manifest: dict[str, Any]) -> None:
        for member, weight in zip(manifest["members"], (1 / 3, 0.5, 1 / 6), strict=True):
            member["weight"] = weight

    edit(run / "ensemble.json", change)
    assert checked(run / "ensemble.json").changes[:2] == (
        "weight of trial 0004: the manifest says 0.5, the holdout gives 0.333333",
        "weight of trial 0006: the manifest says 0.166667, the holdout gives 0.333333",
    )


def test_a_changed_temperature_and_method_are_seen(run: Path, data: Data) -> None:
    make(run, data, asked="uniform")
    edit(run / "ensemble.json", lambda manifest: manifest.update(temperature=3.0))
    (change,) = checked(run / "ensemble.json").changes
    assert change.startswith("temperature: the manifest says 3, the holdout gives ")
    edit(run / "ensemble.json", lambda manifest: manifest.update(method="best", asked="uniform"))
    assert "method: the manifest says best, the holdout gives uniform" in checked(run / "ensemble.json").changes


def test_a_changed_submission_is_seen(run: Path, data: Data) -> None:
    make(run, data)
    path = run / "submission.csv"
    path.write_text(path.read_text().replace("\n", "\r\n"))
    assert checked(run / "ensemble.json").changes == (f"{path} has changed since it was written",)
    path.unlink()
    assert checked(run / "ensemble.json").changes == (f"{path} does not exist",)


def test_a_submission_that_comes_out_otherwise_is_seen(run: Path, data: Data) -> None:
    make(run, data)
    edit(run / "ensemble.json", lambda manifest: manifest["sha256"].update({"submission.csv": "0"}))
    assert checked(run / "ensemble.json").changes == (
        f"{run / 'submission.csv'} has changed since it was written",
        "submission.csv: made again, it is not the same byte for byte",
    )


def test_a_changed_label_of_the_holdout_is_seen(run: Path, data: Data) -> None:
    make(run, data)
    path = run / "splits.csv"
    path.write_text(path.read_text().replace(",0,holdout", ",1,holdout", 1))
    assert checked(run / "ensemble.json").changes == (f"{path} has changed",)


def test_other_data_is_seen(run: Path, data: Data) -> None:
    make(run, data)
    edit(run / "run.json", lambda record: record["data"].update(fingerprint="other"))
    assert checked(run / "ensemble.json").changes == (f"{run / 'run.json'}: fingerprint is another now",)


def test_other_test_data_is_seen_and_may_stand_elsewhere(run: Path, data: Data, tmp_path: Path) -> None:
    test = tmp_path / "test"
    test.mkdir()
    for name in ("60.png", "61.png"):
        shutil.copy(data.folder / name, test)
    write_csv(test / "test.csv", [{"Image": "60.png", "Gender": 0}, {"Image": "61.png", "Gender": 1}])
    make(run, data, test=str(test / "test.csv"))
    moved = test.rename(tmp_path / "moved")
    path = run / "ensemble.json"
    assert checked(path).changes == (f"--test: no file or folder is called '{test}/test.csv'",)
    assert checked(path, test=f"{moved}/test.csv").changes == ()
    write_csv(moved / "test.csv", [{"Image": "61.png", "Gender": 1}, {"Image": "60.png", "Gender": 0}])
    assert checked(path, test=f"{moved}/test.csv").changes == (
        "the test images, their order or their columns are others now",
    )


def test_other_code_libraries_and_devices_are_remarks(run: Path, data: Data) -> None:
    make(run, data)

    def change(manifest: dict[str, Any]) -> None:
        manifest.update(code="other", device="abacus")
        manifest["versions"]["torch"] = "1.0"

    edit(run / "ensemble.json", change)
    verdict = checked(run / "ensemble.json")
    assert verdict.changes == ()
    code, torch, device = verdict.remarks
    assert code == "the code of results/ or trainable/ has changed since"
    assert torch.startswith("torch was 1.0 and is 2.")
    assert device.startswith("the device was 'abacus' and is '")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "{path} is not an ensemble's manifest, or is damaged"),
        ("[]", "{path} is not an ensemble's manifest, or is damaged"),
        ('{"format": 7}', "{path} has format 7; this program reads format 1."),
    ],
)
def test_an_unreadable_manifest_is_named(tmp_path: Path, content: str, sentence: str) -> None:
    path = tmp_path / "ensemble.json"
    path.write_text(content)
    with pytest.raises(UserError) as error:
        checked(path)
    assert str(error.value).startswith(sentence.format(path=path))
