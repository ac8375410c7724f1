"""The command from end to end: what it writes, what it prints, and what it says to a mistake."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from results.weights import METHODS as ROWS
from search.ensemble import METHODS, EnsembleOptions, build_ensemble, main
from search.record import lock
from tests.results.tiny_run import Data, data, run, template
from trainable.errors import UserError
from trainable.logits import has_holdout

__all__ = ["data", "run", "template"]  # fixtures

FILES = {"ensemble.json", "submission.csv", "probabilities.npz"}


@pytest.fixture(autouse=True)
def plain_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")


def call(run: Path, *arguments: str) -> int:
    return main(["--out", str(run.parent), *arguments])


def test_methods_are_those_of_the_table_and_auto() -> None:
    assert sorted(METHODS) == sorted(["auto", *(row.name for row in ROWS)])


def test_help_is_quick_and_needs_no_library() -> None:
    code = (
        "import sys; from search.ensemble import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(*sorted({m.split('.')[0] for m in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--sample-submission" in done.stdout
    assert not {"torch", "ray", "sklearn", "pandas", "numpy"} & set(done.stderr.split())


def test_the_command_writes_and_prints(run: Path, data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    test, sample = str(data.folder / "testdata.csv"), str(data.folder / "sample.csv")
    assert call(run, "faces", "--test", test, "--sample-submission", sample, "--members", "3") == 0
    output = capsys.readouterr()
    assert output.err == ""
    lines = output.out.splitlines()
    assert max(len(line) for line in lines if str(run) not in line) <= 80
    assert lines[0].split() == ["trial", "run", "valid_accuracy", "weight"]
    assert [line.split()[:3] for line in lines[1:4]] == [
        ["0002", "faces", "0.7000"],
        ["0004", "faces", "0.6000"],
        ["0006", "faces", "0.5000"],
    ]
    assert "On 24 holdout images, with 95 % intervals:" in lines
    assert [line[1:].split()[0] for line in lines[7:12]] == ["single", "uniform", "best", "convex", "greedy"]
    assert "single: trial 0002, the best of 5 on validation." in output.out
    assert "n = 24." in output.out
    assert lines[-2] == f"Wrote {run}/submission.csv (7 rows), probabilities.npz and ensemble.json."
    assert lines[-1] == f"Check it at any time: python -m search.ensemble --verify {run}/ensemble.json"
    assert {path.name for path in run.iterdir()} >= FILES


def test_a_difference_inside_the_noise_is_called_that(
    run: Path, data: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    call(run, "--test", str(data.folder / "testdata.csv"), "--members", "1")
    text = " ".join(capsys.readouterr().out.split())
    assert "Gain over the best single model: +0.0 [+0.0, +0.0] points of accuracy, inside the noise; " in text


def test_verify_says_that_it_holds_and_then_what_changed(
    run: Path, data: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    call(run, "--test", str(data.folder / "testdata.csv"))
    capsys.readouterr()
    manifest = run / "ensemble.json"
    assert main(["--verify", str(manifest)]) == 0
    assert capsys.readouterr().out == (
        f"{manifest} holds: checkpoints, split, weights and scores are the same; "
        "submission.csv and probabilities.npz made again, the same byte for byte.\n"
    )
    (run / "submission.csv").write_text("Id,Category\n")
    assert main(["--verify", str(manifest)]) == 1
    assert capsys.readouterr().out == (
        f"Changed: {run}/submission.csv has changed since it was written\n{manifest} cannot be made again as it was.\n"
    )


def test_without_test_data_the_weights_are_kept_and_a_submission_can_follow(
    run: Path, data: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(run) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"No test data, so no submission: name it with --test. Wrote {run}/ensemble.json"
    assert not (run / "submission.csv").exists()
    assert main(["--verify", str(run / "ensemble.json")]) == 0
    assert call(run, "--test", str(data.folder / "testdata.csv")) == 0
    assert (run / "submission.csv").exists()
    assert call(run) == 0  # an older submission does not stay beside a manifest that is not its own
    assert not (run / "submission.csv").exists()
    assert len(list(run.glob("ensembles/*/submission.csv"))) == 1


def test_unfinished_members_are_announced(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    board = run / "leaderboard.csv"
    board.write_text(board.read_text().replace("COMPLETE", "RUNNING"))
    assert call(run) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "Note: No trial has run its course yet; the members are unfinished ones."


def test_two_runs_give_one_ensemble_elsewhere(run: Path, data: Data, tmp_path: Path) -> None:
    states, values = ["COMPLETE", "COMPLETE", "FAIL"], [0.69, 0.59, 0.29]
    data.write_run(run.parent / "two", [data.best(seed) for seed in (11, 12, 13)], states, values)
    options = EnsembleOptions(
        runs=("faces", "two", str(run), f"{run.parent}/two/../faces"),
        out=run.parent,
        test=str(data.folder / "testdata.csv"),
        members=4,
        output=tmp_path / "new" / "output",
    )
    ensemble = build_ensemble(options)
    assert [(member["run"], member["trial"]) for member in ensemble.manifest["members"]] == [
        ("../../runs/faces", "0002"),
        ("../../runs/two", "0002"),
        ("../../runs/faces", "0004"),
        ("../../runs/two", "0004"),
    ]
    assert ensemble.manifest["trials_compared"] == 8
    assert {path.name for path in ensemble.home.iterdir()} == {*FILES, "ensembles"}
    assert not (run / "ensemble.json").exists()
    assert main(["--verify", str(ensemble.home / "ensemble.json")]) == 0


def test_a_copied_run_is_announced(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = shutil.copytree(run, run.parent / "copy")
    assert call(run, "faces", "copy") == 0
    lines = capsys.readouterr().out.splitlines()
    left_out = "trials 0002, 0004, 0006, 0008 left out, as the same network is a member already."
    assert lines[0] == f"Note: {copy}: {left_out}"
    assert [line.split()[:2] for line in lines[2:7]] == [*([f"000{number}", "faces"] for number in (2, 4, 6, 8)), []]


def test_the_next_command_is_quoted(run: Path, data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    home = run.parent / "my output"
    assert call(run, "--test", str(data.folder / "testdata.csv"), "--output", str(home)) == 0
    command = capsys.readouterr().out.splitlines()[-1].partition(": ")[2]
    assert shlex.split(command)[-2:] == ["--verify", f"{home}/ensemble.json"]
    assert main(shlex.split(command)[3:]) == 0


def test_a_single_model_is_not_said_to_gain(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(run, "--method", "single") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "Gain over the best single model: none, as it is that model." in lines
    assert [line.split()[3] for line in lines[1:4]] == ["1.000", "0.000", "0.000"]


def test_rows_of_scores_do_not_wrap(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    assert call(run) == 0
    lines = capsys.readouterr().out.splitlines()
    first = lines.index(next(line for line in lines if line[2:].startswith("single ")))
    assert [len(re.findall(r"\[.*?\]", line)) for line in lines[first : first + 5]] == [2, 3, 3, 3, 3]


def stopped(run: Path) -> dict[Path, np.ndarray]:
    """Makes it a run whose trials were all stopped before they came to the holdout. Returns what they would have."""
    path = run / "leaderboard.csv"
    path.write_text(path.read_text().replace("COMPLETE", "PRUNED"))
    taken = {}
    for logits in run.glob("trials/*/logits.npz"):
        with np.load(logits) as arrays:
            left = dict(arrays)
        taken[logits] = left.pop("holdout")
        np.savez(logits, **left)
    return taken


def test_beside_a_search_that_goes_on_stopped_trials_wait(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "trials/0008/logits.npz"
    with np.load(path) as arrays:
        left = {name: arrays[name] for name in arrays.files if name != "holdout"}
    np.savez(path, **left)
    busy = f"{run} is being worked on by process {os.getpid()}."
    with lock(run):
        assert call(run) == 0
    assert capsys.readouterr().out.splitlines()[0] == (
        f"Note: Trials of {run} that were stopped early left out, as their holdout was not to be had: {busy}"
    )
    assert not has_holdout(path)
    for trial in ("0002", "0004", "0006"):
        (run / "trials" / trial / "logits.npz").unlink()
    with lock(run):
        assert call(run) == 2
    assert capsys.readouterr().err == f"Error: {busy}\n"
    assert call(run) == 0 and has_holdout(path)


def test_members_that_were_stopped_come_to_the_holdout_now(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    taken = stopped(run)
    assert call(run, "--members", "3") == 0
    said = capsys.readouterr().out.splitlines()[0]
    assert said == "Note: No trial has run its course yet; the members are unfinished ones."
    for logits in sorted(taken)[:3]:
        with np.load(logits) as arrays:
            assert np.allclose(arrays["holdout"], taken[logits], atol=1e-5)
    assert not any(has_holdout(logits) for logits in sorted(taken)[3:])  # no members, and not looked at


def test_members_that_were_stopped_need_the_labelled_images(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stopped(run)
    record = json.loads((run / "run.json").read_text())
    record["arguments"]["data"] = "/nowhere/data.csv"
    (run / "run.json").write_text(json.dumps(record))
    assert call(run) == 2
    assert capsys.readouterr().err == (
        f"Error: trial 0002 was stopped before its end: {run} was made with the data at /nowhere/data.csv, where they "
        f"no longer are; say where they are: python -m search.run --resume {run.name} --out {run.parent} --data PLACE\n"
    )


def with_own_test(run: Path, test: str) -> None:
    """Makes it a run whose data brought a test part. Its networks are of other images, but they read these too."""
    record = json.loads((run / "run.json").read_text())
    record["data"]["test"] = test
    (run / "run.json").write_text(json.dumps(record))
    for trial in ("0002", "0004"):  # 0006 reads no metadata, which digits and most names do not have
        (run / "trials" / trial / "logits.npz").unlink()


def test_digits_bring_their_own_test_part_into_any_cache(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_own_test(run, "digits")
    first, second = tmp_path / "one", tmp_path / "two"
    ensemble = build_ensemble(EnsembleOptions(out=run.parent, cache=first))
    test = ensemble.manifest["test"]
    assert (test["images"], test["own"], test["path"]) == (297, True, None)
    shutil.rmtree(first)
    assert main(["--verify", str(run / "ensemble.json"), "--cache", str(second)]) == 0
    assert "submission.csv and probabilities.npz made again, the same byte for byte." in capsys.readouterr().out


def test_a_folders_own_test_part_is_predicted_and_missed_when_it_is_gone(
    run: Path, data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test = tmp_path / "photos" / "test"
    test.mkdir(parents=True)
    shutil.copy(data.folder / "60.png", test)
    with_own_test(run, str(test))
    assert call(run) == 0
    assert main(["--verify", str(run / "ensemble.json")]) == 0
    capsys.readouterr()
    record = json.loads((run / "run.json").read_text())
    record["data"]["test"] = None
    (run / "run.json").write_text(json.dumps(record))
    assert main(["--verify", str(run / "ensemble.json")]) == 1
    assert f"Changed: {run}/run.json: the data has no test part of its own now\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["facse"], "RUN: {out} has no run called 'facse'; did you mean 'faces'?"),
        (["--members", "0"], "--members: 0 is not a number of members; it must be at least 1."),
        (["--seed", "-1"], "--seed: -1 is not a seed; it must be at least 0."),
        (["--output", "{out}/faces/run.json"], "--output: {out}/faces/run.json is a file, not a folder."),
        (["--output", "{out}/faces/run.json/new"], "--output: {out}/faces/run.json is a file, not a folder."),
        (["--test", "nowhere.csv"], "--test: no file or folder is called 'nowhere.csv'"),
        (
            ["--sample-submission", "s.csv"],
            "--sample-submission: there is no test data to compare it with; name it with --test.",
        ),
        (
            ["--verify", "x.json", "--members", "3"],
            "--verify makes an ensemble again as it was; beside it only --test and --cache go.",
        ),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    run: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    before = sorted(run.rglob("*"))
    assert call(run, *(argument.format(out=run.parent) for argument in arguments)) == 2
    output = capsys.readouterr()
    assert output.err == f"Error: {sentence.format(out=run.parent)}\n"
    assert output.out == ""
    assert sorted(run.rglob("*")) == before


def test_verify_says_in_a_sentence_that_a_file_is_no_manifest(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "run.json"
    assert main(["--verify", str(path)]) == 2
    fault = "'folds' is missing"
    assert capsys.readouterr().err == f"Error: {path} is not an ensemble's manifest, or is damaged ({fault}).\n"


def test_debug_shows_where_a_mistake_was_found(run: Path) -> None:
    with pytest.raises(UserError):
        call(run, "facse", "--debug")


def test_a_sample_submission_that_differs_leaves_nothing_written(
    run: Path, data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = tmp_path / "sample.csv"
    sample.write_text("Id,Category\n66.png,0\n")
    test = str(data.folder / "testdata.csv")
    assert call(run, "--test", test, "--sample-submission", str(sample)) == 2
    assert capsys.readouterr().err == (f"Error: --sample-submission: {sample} has 1 rows but the test table has 7.\n")
    assert not FILES & {path.name for path in run.iterdir()}


def test_options_have_the_defaults_of_the_command(run: Path) -> None:
    options = EnsembleOptions(out=run.parent)
    assert build_ensemble(options).manifest == build_ensemble(replace(options, runs=("faces",))).manifest
