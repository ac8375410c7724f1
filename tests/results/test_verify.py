"""Manifests: what they hold, that nothing they stand for is lost, and that a verification sees every change."""

import dataclasses
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from results.manifest import MANIFEST, NAMES, describe, read_manifest, sha256, write_ensemble
from results.members import load_member, load_run
from results.selection import select
from results.submission import PROBABILITIES, SUBMISSION, make_submission, npz_bytes
from results.verify import Verdict, verify
from tests.results.tiny_run import CONFIG, Data, write_csv
from trainable.checkpoint import file_hash, save_best
from trainable.device import choose
from trainable.errors import UserError

SHARES = "probabilities"  # the array's name


def make(
    run: Path, data: Data, home: Path | None = None, asked: str = "auto", test: str | None = None, refit: str = ""
) -> Path:
    """Makes an ensemble of the run's complete trials, one of them perhaps refitted; returns its own folder."""
    loaded = load_run(run)
    members = [load_member(loaded, row["trial"]) for row in loaded.leaderboard if row["state"] == "COMPLETE"]
    members = [
        dataclasses.replace(member, refit=refit_of(run, member.trial) if member.trial == refit else None)
        for member in members
    ]
    logits = np.stack([member.logits for member in members])
    rng = np.random.default_rng(0)
    selection = select(logits, loaded.holdout_labels, asked, rng, ranked_here=bool(loaded.folds))
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


def refit_of(run: Path, trial: str) -> Path:
    return run / "refits" / trial / "best.safetensors"


def checked(path: Path, test: str | None = None) -> Verdict:
    return verify(path, test=test, progress=False)


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def forge(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes the manifest above and keeps a copy under its new hash, so that only the numbers can give it away."""
    edit(run / MANIFEST, change)
    content = (run / MANIFEST).read_bytes()
    kept = run / "ensembles" / sha256(content)[:12]
    kept.mkdir()
    (kept / MANIFEST).write_bytes(content)


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
    assert all([len(sha256) for sha256 in member["checkpoint_sha256"]] == [64] for member in manifest["members"])
    assert [member["refit"] for member in manifest["members"]] == [None] * 3
    assert (manifest["method"], manifest["asked"], manifest["seed"]) == ("uniform", "uniform", 0)
    assert manifest["holdout_images"] == 24
    assert manifest["trials_compared"] == 5
    assert list(manifest["scores"]) == ["best", "convex", "greedy", "single", "uniform"]  # sorted, as all keys are
    assert set(manifest["scores"]["best"]["accuracy"]) == {"value", "low", "high"}
    assert manifest["data"]["fingerprint"] == data.labelled.fingerprint
    assert manifest["runs"][0]["code"] == ["0123"]
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

    forge(run, change)
    assert checked(run / "ensemble.json").changes[:2] == (
        "weight of trial 0004: the manifest says 0.5, the holdout gives 0.333333",
        "weight of trial 0006: the manifest says 0.166667, the holdout gives 0.333333",
    )


def test_a_changed_temperature_and_method_are_seen(run: Path, data: Data) -> None:
    make(run, data, asked="uniform")
    forge(run, lambda manifest: manifest.update(temperature=3.0))
    (change,) = checked(run / "ensemble.json").changes
    assert change.startswith("temperature: the manifest says 3, the holdout gives ")
    forge(run, lambda manifest: manifest.update(method="best", asked="uniform"))
    assert "method: the manifest says best, the holdout gives uniform" in checked(run / "ensemble.json").changes


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda m: m.update(holdout_images=500), "holdout images: the manifest says 500, the holdout gives 24"),
        (lambda m: m.update(trials_compared=9), "trials_compared: the manifest says 9, the leaderboards have 5"),
        (lambda m: m.update(reason="it is better."), "reason: the manifest says 'it is better.', the holdout gives '"),
        (
            lambda m: m["members"][1].update(valid_accuracy=0.99),
            "valid_accuracy of trial 0004: the manifest says 0.99, the leaderboard says 0.6",
        ),
        (
            lambda m: m["members"][1].update(state="PRUNED"),
            "state of trial 0004: the manifest says PRUNED, the leaderboard says COMPLETE",
        ),
        (
            lambda m: m["scores"]["uniform"]["accuracy"].update(value=0.999),
            "accuracy of uniform: the manifest says 0.999, the holdout gives 0.",
        ),
        (
            lambda m: m["scores"]["single"]["log_loss_gain"].update(low=0.5),
            "log loss gain of single, low: the manifest says 0.5, the holdout gives 0",
        ),
        (
            lambda m: m["scores"]["single"].update(weights=[0.0, 1.0, 0.0]),
            "weights of single, member 1: the manifest says 0, the holdout gives 1",
        ),
        (lambda m: m["scores"].pop("greedy"), "methods: the manifest says best, convex, single, uniform, the holdout "),
        (lambda m: m["scores"].update(best=3), "weights of best: the manifest says None, the holdout gives ("),
        (lambda m: m["test"].update(images=9), "test images: the manifest says 9, the test data has 7"),
    ],
)
def test_a_forged_number_is_seen(
    run: Path, data: Data, change: Callable[[dict[str, Any]], None], sentence: str
) -> None:
    make(run, data)
    forge(run, change)
    assert checked(run / MANIFEST).changes[0].startswith(sentence.format(run=run))


@pytest.mark.parametrize(
    "weights",
    [(0, 0, 0), (1.5, -0.5, 0.0), (0.5, 0.5, 0.1), (10**300, 0, 0)],
)
def test_forged_weights_that_no_method_gives_are_damage(run: Path, data: Data, weights: tuple[float, ...]) -> None:
    make(run, data)

    def change(manifest: dict[str, Any]) -> None:
        for member, weight in zip(manifest["members"], weights, strict=True):
            member["weight"] = weight

    forge(run, change)
    with pytest.raises(UserError) as error:
        checked(run / MANIFEST)
    fault = "the weights are not numbers of at least 0 that sum to 1"
    assert str(error.value) == f"{run / MANIFEST} is not an ensemble's manifest, or is damaged ({fault})."


@pytest.mark.parametrize("temperature", [0.0, -1.0, 1e-320, 20.5, 10**300])
def test_a_forged_temperature_that_no_fit_gives_is_damage(run: Path, data: Data, temperature: float) -> None:
    make(run, data)
    forge(run, lambda manifest: manifest.update(temperature=temperature))
    with pytest.raises(UserError) as error:
        checked(run / MANIFEST)
    fault = "temperature is outside 0.05..20"
    assert str(error.value) == f"{run / MANIFEST} is not an ensemble's manifest, or is damaged ({fault})."


@pytest.mark.parametrize(("value", "said"), [(math.nan, "NaN"), (math.inf, "Infinity"), (10**400, "1" + 19 * "0")])
def test_a_forged_number_that_is_none_is_damage(run: Path, data: Data, value: float, said: str) -> None:
    make(run, data)
    forge(run, lambda manifest: manifest["scores"]["uniform"]["accuracy"].update(value=value))
    with pytest.raises(UserError) as error:
        checked(run / MANIFEST)
    assert str(error.value) == (f"{run / MANIFEST} is not an ensemble's manifest, or is damaged ({said} is no number).")


def test_a_forged_score_is_seen_whatever_its_size(run: Path, data: Data) -> None:
    make(run, data)
    forge(run, lambda manifest: manifest["scores"]["uniform"]["accuracy"].update(value=10**300))
    (change,) = checked(run / MANIFEST).changes
    assert change.startswith(f"accuracy of uniform: the manifest says {10**300}, the holdout gives 0.")


# Refits and folds

ROWS = {
    "trials_learnt_from": "24 train",
    "trials_ranked_on": "12 valid",
    "weights_and_temperature_fitted_on": "24 holdout, by the trials' own networks",
    "methods_scored_on": "24 holdout, cross-fitted",
    "predicting_networks_learnt_from": "24 train",
    "an_image_is_predicted_by": "one network a member",
}
SEEN = "60 out of fold, the same that the trials are ranked on"
FOLDED = {
    "trials_learnt_from": "3 networks, each on all of 60 but its fold",
    "trials_ranked_on": "60 out of fold",
    "weights_and_temperature_fitted_on": f"{SEEN}, by the trials' own networks",
    "methods_scored_on": f"{SEEN}, cross-fitted",
    "predicting_networks_learnt_from": "3 networks, each on all of 60 but its fold",
    "an_image_is_predicted_by": "the mean of a member's networks",
}
REFITTED = {
    "predicting_networks_learnt_from": "all 60, for as many epochs as were best before",
    "an_image_is_predicted_by": "one network a member",
}


@pytest.fixture
def refitted(run: Path, data: Data) -> Path:
    """The run, with an ensemble of which trial 0004 was trained again."""
    checkpoint = refit_of(run, "0004")
    checkpoint.parent.mkdir(parents=True)
    save_best(checkpoint, data.best(77))
    make(run, data, asked="uniform", refit="0004")
    return run


def test_the_manifest_says_which_rows_each_stage_saw(run: Path, folds_run: Path, data: Data) -> None:
    for folder, folds, rows in ((run, 0, ROWS), (folds_run, 3, FOLDED)):
        trial = "0004"
        refit_of(folder, trial).parent.mkdir(parents=True)
        save_best(refit_of(folder, trial), data.best(77))
        for refit, changed in (("", {}), (trial, REFITTED)):
            make(folder, data, refit=refit)
            manifest, _ = read_manifest(folder / MANIFEST)
            assert (manifest["folds"], manifest["rows"]) == (folds, {**rows, **changed})
            assert checked(folder / MANIFEST) == Verdict((), (), ("submission.csv", "probabilities.npz"))


def test_a_refit_predicts_instead_of_its_trial(refitted: Path, data: Data) -> None:
    manifest, _ = read_manifest(refitted / MANIFEST)
    assert [member["refit"] for member in manifest["members"]] == [
        None,
        {"path": "refits/0004/best.safetensors", "sha256": file_hash(refit_of(refitted, "0004"))},
        None,
    ]
    with np.load(refitted / "probabilities.npz") as stored:
        with_refit = stored["probabilities"]
    shutil.copy(refit_of(refitted, "0004"), refitted / "trials/0004/best.safetensors")
    data.write_trial(refitted / "trials/0004", data.best(77))
    make(refitted, data, asked="uniform")
    with np.load(refitted / "probabilities.npz") as stored:
        temperatures = [manifest["temperature"], read_manifest(refitted / MANIFEST)[0]["temperature"]]
        one, other = (
            np.log(shares) * temperature
            for shares, temperature in zip((with_refit, stored["probabilities"]), temperatures, strict=True)
        )
    centred = [logits - logits.mean(axis=1, keepdims=True) for logits in (one, other)]
    assert centred[0] == pytest.approx(centred[1], abs=1e-4)  # the same three networks predicted


def test_a_changed_or_missing_refit_is_seen(refitted: Path, data: Data) -> None:
    path = refit_of(refitted, "0004")
    sentence = f"{path} is missing or has changed: it is the refit of trial 0004"
    save_best(path, data.best(78))
    assert checked(refitted / MANIFEST).changes == (sentence,)
    path.unlink()
    assert checked(refitted / MANIFEST).changes == (sentence,)


@pytest.mark.parametrize(
    "change",
    [
        {"config": dataclasses.replace(CONFIG, seed=1)},
        {"config": dataclasses.replace(CONFIG, lr=0.5)},
        {"epoch": 2},
    ],
)
@pytest.mark.parametrize("folds", [0, 3])
def test_a_refit_of_something_else_is_seen(
    run: Path, folds_run: Path, data: Data, folds: int, change: dict[str, Any]
) -> None:
    folder = folds_run if folds else run
    path = refit_of(folder, "0004")
    path.parent.mkdir(parents=True)
    save_best(path, dataclasses.replace(data.best(77), **change))
    make(folder, data, refit="0004")  # which hashes and believes it
    assert checked(folder / MANIFEST).changes == (
        f"{path} is no refit of trial 0004: it was trained with another configuration or for other epochs",
    )


@pytest.mark.parametrize("place", ["../other/best.safetensors", "refits/../../other/best.safetensors", "/etc/passwd"])
def test_a_refit_outside_its_run_is_not_followed(refitted: Path, data: Data, place: str) -> None:
    other = refitted.parent / "other"
    other.mkdir()
    shutil.copy(refit_of(refitted, "0004"), other)
    forge(refitted, lambda manifest: manifest["members"][1]["refit"].update(path=place))
    (change,) = checked(refitted / MANIFEST).changes
    assert change == f"the refit of trial 0004 is said to be at {refitted / place}, outside its run."


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda m: m.update(folds=5), "folds: the manifest says 5, the runs have 0"),
        (
            lambda m: m["rows"].update(trials_ranked_on="12 holdout"),
            "rows, trials_ranked_on: the manifest says '12 holdout', the runs have '12 valid'",
        ),
        (
            lambda m: m["rows"].pop("methods_scored_on"),
            "rows, methods_scored_on: the manifest says 'None', the runs have '24 holdout, cross-fitted'",
        ),
    ],
)
def test_forged_words_on_rows_are_seen(
    run: Path, data: Data, change: Callable[[dict[str, Any]], None], sentence: str
) -> None:
    make(run, data)
    forge(run, change)
    assert checked(run / MANIFEST).changes == (sentence,)


def test_another_number_of_folds_networks_is_seen(folds_run: Path, data: Data) -> None:
    make(folds_run, data)
    forge(folds_run, lambda manifest: manifest["members"][0]["checkpoint_sha256"].pop())
    assert checked(folds_run / MANIFEST).changes == (
        f"{folds_run / 'trials' / '0002'}: the manifest has 2 checkpoints, the run 3",
    )


@pytest.mark.parametrize("kept", [False, True], ids=["above", "kept"])
def test_a_manifest_that_is_not_the_one_written_is_seen(run: Path, data: Data, kept: bool) -> None:
    folder = make(run, data)
    path = (folder if kept else run) / MANIFEST
    path.write_text(path.read_text().replace('"0123"', '"0124"'))
    assert checked(path).changes == (
        f"{path} was changed since it was written: it is not what {run / 'ensembles'} keeps under its hash",
    )


def test_a_run_that_went_on_is_a_remark(run: Path, data: Data) -> None:
    make(run, data)
    board = run / "leaderboard.csv"
    board.write_text(board.read_text() + "6,0012,COMPLETE,0.2,1.0\n")
    assert checked(run / MANIFEST).changes == ()
    assert checked(run / MANIFEST).remarks == ("6 trials have a value now, and the manifest compared fewer",)


def test_another_machines_last_digits_are_no_change(run: Path, data: Data) -> None:
    make(run, data)

    def change(manifest: dict[str, Any]) -> None:
        manifest["scores"]["convex"]["log_loss"]["value"] += 1e-6
        manifest["reason"] = re.sub(r"\d(?= ±)", lambda digit: str(int(digit[0]) ^ 1), manifest["reason"])

    forge(run, change)
    assert checked(run / MANIFEST).changes == ()


def test_a_changed_submission_is_seen(run: Path, data: Data) -> None:
    make(run, data)
    path = run / "submission.csv"
    path.write_text(path.read_text().replace("\n", "\r\n"))
    assert checked(run / "ensemble.json").changes == (f"{path} has changed since it was written",)
    path.unlink()
    assert checked(run / "ensemble.json").changes == (f"{path} does not exist",)


def test_a_submission_that_comes_out_otherwise_is_seen(run: Path, data: Data) -> None:
    make(run, data)
    forge(run, lambda manifest: manifest["sha256"].update({"submission.csv": "0"}))
    assert checked(run / "ensemble.json").changes == (
        f"{run / 'submission.csv'} has changed since it was written",
        "submission.csv: made again, it is not the same byte for byte",
    )


def write_otherwise(run: Path, device: str, spoil: Callable[[dict[str, Any], list[str]], object]) -> float:
    """Makes the ensemble one of another device, to which the two likeliest classes of the image where they are nearest
    were the other way round. Returns by how much probabilities differ.

    Args:
        spoil: changes the arrays, of which probabilities are (N, C), or the submission's lines.
    """
    with np.load(run / PROBABILITIES) as arrays:
        written = {name: arrays[name] for name in arrays.files}
    shares, lines = written[SHARES], (run / SUBMISSION).read_text().splitlines()
    first, second = np.sort(shares, axis=1)[:, :-3:-1].T
    row = int((first - second).argmin())
    likeliest, next_one = shares[row].argsort()[:-3:-1]
    shares[row, next_one] = shares[row, likeliest] + 0.001
    lines[row + 1] = f"{written['ids'][row]},{written['classes'][next_one]}"
    spoil(written, lines)
    contents = {PROBABILITIES: npz_bytes(written), SUBMISSION: "".join(f"{line}\n" for line in lines).encode()}
    for name, content in contents.items():
        (run / name).write_bytes(content)
    hashes = {name: sha256(content) for name, content in contents.items()}
    forge(run, lambda manifest: manifest.update(device=device, sha256=hashes))
    return float((first - second)[row]) + 0.001


def test_on_another_device_two_near_classes_may_be_the_other_way_round(run: Path, data: Data) -> None:
    make(run, data)
    apart = write_otherwise(run, "abacus", lambda written, lines: None)
    verdict = checked(run / MANIFEST)
    assert verdict.changes == ()
    assert verdict.remarks[-2] == (
        "submission.csv: made again, 1 of 7 rows is another: on this other device probabilities differ by up to "
        f"{apart:.2g}, which decides where two classes are near"
    )


@pytest.mark.parametrize(
    ("device", "spoil"),
    [
        (choose().reason, lambda written, lines: None),
        ("abacus", lambda written, lines: np.add(written[SHARES], 0.1, out=written[SHARES])),
        ("abacus", lambda written, lines: written[SHARES][0].fill(np.nan)),
        # Lines that do not follow from the probabilities that were written with them
        ("abacus", lambda written, lines: lines.insert(1, lines.pop(2))),
        ("abacus", lambda written, lines: lines.append("9.png,0")),
        ("abacus", lambda written, lines: lines.append(lines.pop().replace(",", ",0"))),
        ("abacus", lambda written, lines: lines.append(lines.pop() + ",0")),
        ("abacus", lambda written, lines: written[SHARES][1].put(written[SHARES][1].argmin(), 0.99)),
        ("abacus", lambda written, lines: lines.insert(0, lines.pop(0).replace("Category", "Class"))),
        # What is no probability
        ("abacus", lambda written, lines: written.update({SHARES: written[SHARES].astype(str)})),
        ("abacus", lambda written, lines: written.update({SHARES: written[SHARES][:, :2]})),
    ],
)
def test_all_else_in_a_submission_is_a_change_there_too(
    device: str, spoil: Callable[[dict[str, Any], list[str]], object], run: Path, data: Data
) -> None:
    make(run, data)
    write_otherwise(run, device, spoil)
    assert checked(run / MANIFEST).changes == ("submission.csv: made again, it is not the same byte for byte",)


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

    forge(run, change)
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
        ('{"format": 2}', "{path} is not an ensemble's manifest, or is damaged ('folds' is missing)."),
        (
            '{"format": 7}',
            "{path} has format 7, not 2: read it with the version that wrote it.",
        ),
    ],
)
def test_an_unreadable_manifest_is_named(tmp_path: Path, content: str, sentence: str) -> None:
    path = tmp_path / "ensemble.json"
    path.write_text(content)
    with pytest.raises(UserError) as error:
        checked(path)
    assert str(error.value).startswith(sentence.format(path=path))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda m: m.pop("runs"), "'runs' is missing"),
        (lambda m: m.pop("rows"), "'rows' is missing"),
        (lambda m: m.update(folds=None), "folds is None"),
        (lambda m: m["members"][0].pop("refit"), "'refit' is missing"),
        (lambda m: m["members"][0].update(refit={"path": 1}), "path is 1"),
        (lambda m: m["members"][0].update(checkpoint_sha256="0"), "checkpoint_sha256 is '0'"),
        (lambda m: m["members"][0].pop("weight"), "'weight' is missing"),
        (lambda m: m["members"][0].update(weight="1"), "weight is '1'"),
        (lambda m: m["members"][0].update(run="../other"), "no run has the path ../other"),
        (lambda m: m.update(method="magic"), "no method is called magic, or none uniform"),
        (lambda m: m.update(seed=-1), "without a member, or seed is negative"),
        (lambda m: m["test"].pop("own"), "'own' is missing"),
        (lambda m: m["test"].update(path=None), "path is None"),
        (lambda m: m["sha256"].pop("submission.csv"), "'submission.csv' is missing"),
    ],
)
def test_a_manifest_that_lacks_a_part_is_damaged(
    run: Path, data: Data, change: Callable[[dict[str, Any]], None], fault: str
) -> None:
    make(run, data, asked="uniform")
    path = run / MANIFEST
    edit(path, change)
    with pytest.raises(UserError) as error:
        checked(path)
    assert str(error.value) == f"{path} is not an ensemble's manifest, or is damaged ({fault})."
