"""The command from end to end: a search of digits, its confirmation interrupted and resumed, and their ensemble."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages.journal._storage import JournalOperation
from optuna.trial import TrialState

from search import confirm, ensemble, record, report
from search import run as search_run
from search.confirm_plan import Plan, choose, default_of, promoted, tier_space, tiers, whole_seeds
from search.findings import read
from search.study import Settings, StudyRecord, configured
from spaces.check import check
from spaces.loading import load, names
from spaces.space import Given, Space, fingerprint, sample
from trainable.config import TrialConfig
from trainable.errors import UserError

SET_STATE = JournalOperation.SET_TRIAL_STATE_VALUES
SETTINGS = Settings(3, 28, (), None, "valid_accuracy", seed=7)


@dataclass(frozen=True)
class Done:
    """A search of three trials, and how its confirmation by another user went."""

    run: Path
    first: subprocess.CompletedProcess[str]  # interrupted in its first tier
    again: str  # the command that goes on with it
    second: str  # what that one printed
    code: int


@pytest.fixture(scope="module")
def done(tiny: str, cache: Path, cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Done:
    out = tmp_path_factory.mktemp("runs")
    where = ["--out", str(out), "--address", cluster, "--gpus-per-trial", "0", "--max-concurrent", "2"]
    options = ["--space", tiny, "--trials", "3", "--epochs", "1", "--scheduler", "none", "--cache", str(cache)]
    assert search_run.main([*options, *where, "--name", "run", "--track", "tensorboard"]) == 0
    other = tmp_path_factory.mktemp("other")
    state = {"XDG_STATE_HOME": str(other / "state")}
    environment = {**os.environ, **state, "PYTHONPATH": str(Path(__file__).parents[2])}
    own = ["--space", "tiny.py", "--cache", "cache"]
    shutil.copy(tiny, other)
    command = [sys.executable, "-u", "-m", "search.confirm", "run", "--top", "3", "--seeds", "4", *own, *where]
    process = subprocess.Popen(
        command, cwd=other, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    said = ""
    while " finished after " not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    process.send_signal(signal.SIGINT)
    said += process.communicate()[0]
    first = subprocess.CompletedProcess(command, process.returncode, said)
    again = (
        f"python -m search.confirm {out}/run --top 3 --seeds 4 --space {other}/tiny.py --cache {other}/cache "
        f"--max-concurrent 2 --gpus-per-trial 0.0 --address {cluster}"
    )
    with pytest.MonkeyPatch.context() as theirs, redirect_stdout(StringIO()) as second:
        theirs.setenv("XDG_STATE_HOME", state["XDG_STATE_HOME"])
        code = confirm.main(shlex.split(again)[3:])
    return Done(out / "run", first, again, second.getvalue(), code)


def trainings(tier: Path) -> list[dict[str, Any]]:
    """The configurations of a tier's trials, as they were trained."""
    return [json.loads(path.read_text()) for path in sorted(tier.glob("trials/*/config.json"))]


def facts(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "confirm.json").read_text())
    return found


def test_the_confirmation_of_a_tracked_search_is_tracked_beside_it(done: Done) -> None:
    runs = {"": done.run, "confirm/1/": done.run / "confirm/1", "confirm/2/": done.run / "confirm/2"}
    trials = {f"{part}{trial.name}" for part, run in runs.items() for trial in (run / "trials").iterdir()}
    home = done.run / "tensorboard"
    assert {str(path.parent.relative_to(home)) for path in home.rglob("events.out.tfevents.*")} == trials
    assert not list(done.run.glob("confirm/*/tensorboard"))


def test_an_interrupted_confirmation_says_how_to_go_on_and_does(done: Done) -> None:
    assert done.first.returncode == 130
    assert f"Interrupted by SIGINT. Go on with: {done.again}\n" in done.first.stdout
    assert done.code == 0, done.second
    trained = len(trainings(done.run / "confirm/1")) + len(trainings(done.run / "confirm/2"))
    before, after = (said.count(" finished after ") for said in (done.first.stdout, done.second))
    assert before >= 1 and before + after == trained
    assert f"Next: python -m search.ensemble {done.run}\n" in done.second


def test_each_configuration_is_trained_with_the_same_seeds_and_no_seed_comes_twice(done: Done) -> None:
    searched, first, second = (trainings(done.run / part) for part in (".", "confirm/1", "confirm/2"))
    assert len(searched) == 3 and len(first) == 6 and len(second) in (4, 6)
    seeds = [sorted({config["seed"] for config in part}) for part in (first, second)]
    assert [len(part) for part in seeds] == [2, 2]
    assert len({*seeds[0], *seeds[1], *(config["seed"] for config in searched)}) == 2 + 2 + 3
    for part in (first, second):
        by_rate: dict[float, set[int]] = {}
        for config in part:
            by_rate.setdefault(config["lr"], set()).add(config["seed"])
        assert {len(found) for found in by_rate.values()} == {2}
    assert {config["lr"] for config in first} == {config["lr"] for config in searched}


def test_what_was_found_is_said_and_written(done: Done) -> None:
    found = facts(done.run)
    assert (found["top"], found["seeds"], found["searched"]["compared"]) == (3, 4, 3)
    assert found["default"] == "0000"  # the first known start
    assert {row["tried"]["name"] for row in found["rows"]} == {"0000", "0001", "0002"}
    assert {len(row["tried"]["accuracies"]) for row in found["rows"]} <= {2, 4}
    assert sum(row["best_probability"] for row in found["rows"]) == pytest.approx(1)
    for sentence in found["sentences"]:
        assert f"{sentence}\n" in done.second
    assert "looked like" in done.second and "0000*" in done.second


def test_the_report_s_answer_is_what_was_confirmed(done: Done, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert report.main([str(done.run), "--format", "json"]) == 0
    (said,) = json.loads(capsys.readouterr().out)["runs"]
    found = facts(done.run)
    assert said["answer"][: len(found["sentences"]) - 1] == found["sentences"][:-1]
    assert said["confirmation"]["rows"] == found["rows"]
    page = done.run.parent / "page.html"
    assert report.main([str(done.run), "--output", str(page)]) == 0
    text = page.read_text()
    assert "<h2>Confirmed with fresh seeds</h2>" in text and 'id="confirmation-0"' in text


def test_the_same_command_again_trains_nothing_and_says_the_same(
    done: Done, cluster: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (done.run / "confirm.json").read_bytes()
    assert confirm.main([str(done.run), "--address", cluster]) == 0
    assert " finished after " not in capsys.readouterr().out
    assert (done.run / "confirm.json").read_bytes() == before


def test_what_was_confirmed_can_be_a_member_and_be_trained_again(
    done: Done, cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    copy = shutil.copytree(done.run, tmp_path / "moved")
    assert ensemble.main([str(copy), "--members", "2", "--method", "uniform", "--refit"]) == 0
    manifest = json.loads((copy / "ensemble.json").read_text())
    assert [run["path"] for run in manifest["runs"]] == [".", "confirm/1", "confirm/2"]
    assert manifest["trials_compared"] == 3 + len(trainings(copy / "confirm/1")) + len(trainings(copy / "confirm/2"))
    assert any(member["run"].startswith("confirm/") for member in manifest["members"])
    assert "moved/confirm/" in capsys.readouterr().out
    assert ensemble.main(["--verify", str(copy / "ensemble.json")]) == 0


def copied(done: Done, tmp_path: Path) -> Path:
    return shutil.copytree(done.run, tmp_path / "run")


def test_time_that_is_up_between_the_tiers_says_how_to_go_on(
    done: Done, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(done, tmp_path)
    shutil.rmtree(run / "confirm" / "2")
    (run / "confirm.json").unlink()
    assert confirm.main([str(run), "--time-budget", "10s"]) == 0
    again = f"python -m search.confirm {run} --time-budget TIME"
    lines = capsys.readouterr().out.splitlines()
    assert f"The time budget is used up. Go on with: {again}" in lines
    assert not record.begun(run / "confirm" / "2")
    # What the first tier says is said, and that it is not all.
    found = facts(run)
    assert found["whole"] is False and found["sentences"][0] in lines
    assert found["sentences"][0] == "Not all yet: of 4 seeds the first 2; the others may change this."
    assert all(len(row["tried"]["accuracies"]) == 2 for row in found["rows"])
    assert lines[-2:] == [f"Look: python -m search.report {run}", f"Go on with: python -m search.confirm {run}"]


def test_time_that_is_up_within_the_second_tier_leaves_what_was_found(
    done: Done, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(done, tmp_path)
    journal = run / "confirm" / "2" / "study.journal"
    lines = journal.read_text().splitlines(keepends=True)
    logs = enumerate(map(json.loads, lines))
    ends = [i for i, log in logs if log["op_code"] == SET_STATE and log["state"] != TrialState.RUNNING]
    journal.write_text("".join(lines[: ends[-2] + 1]))
    found = facts(run)
    assert read(run).confirming is None  # it was whole
    (run / "confirm.json").write_text(json.dumps({**found, "whole": False}))
    assert read(run).confirming == f"{len(ends) - 1} of {len(ends)} trainings of tier 2 done"
    found = facts(run)
    assert confirm.main([str(run), "--time-budget", "10s"]) == 0
    said = f"The time budget is used up. Go on with: python -m search.confirm {run} --time-budget TIME"
    assert said in capsys.readouterr().out.splitlines()
    assert facts(run) == found  # not what the first tier alone says


@pytest.mark.parametrize(
    ("run", "options", "sentence"),
    [
        ("rnu", [], "RUN: {out} has no run called 'rnu'; did you mean 'run'?"),
        ("{out}", [], "{out} is not a run's folder: it has no run.json."),
        (
            "{out}/run/confirm/1",
            [],
            "RUN: {out}/run/confirm/1 is a part of a confirmation, which goes on with: "
            "python -m search.confirm {out}/run",
        ),
        (
            "run",
            ["--top", "2"],
            "--top: {out}/run is being confirmed with 3, not 2; keep that, or move {out}/run/confirm away to begin "
            "anew.",
        ),
        (
            "run",
            ["--seeds", "5"],
            "--seeds: {out}/run is being confirmed with 4, not 5; keep that, or move {out}/run/confirm away to begin "
            "anew.",
        ),
    ],
)
def test_a_mistake_is_one_sentence(
    done: Done, run: str, options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = done.run.parent
    assert confirm.main([run.format(out=out), "--out", str(out), *options]) == 2
    assert capsys.readouterr().err == f"Error: {sentence.format(out=out)}\n"


def test_beginning_anew_takes_what_is_mirrored_too(
    done: Done, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, there = copied(done, tmp_path), tmp_path / "there"
    assert confirm.main([str(run), "--storage", str(there), "--top", "2"]) == 2
    assert capsys.readouterr().err == (
        f"Error: --top: {run} is being confirmed with 3, not 2; keep that, or move {run}/confirm away and delete "
        f"{there}/{run.name}/confirm to begin anew.\n"
    )


@pytest.mark.parametrize("option", ["--top", "--seeds"])
def test_one_is_nothing_to_compare(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        confirm.main(["run", option, "1"])
    assert end.value.code == 2
    assert f"Error: {option}: '1' is not an integer of at least 2" in capsys.readouterr().err


def test_resuming_a_part_of_a_confirmation_says_what_goes_on_with_it(
    done: Done, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search_run.main(["--resume", "1", "--out", str(done.run / "confirm")]) == 2
    assert capsys.readouterr().err == (
        f"Error: --resume: {done.run}/confirm/1 is a part of a confirmation, which goes on with: "
        f"python -m search.confirm {done.run}\n"
    )


def test_a_run_that_is_worked_on_is_left_alone(done: Done, capsys: pytest.CaptureFixture[str]) -> None:
    with record.lock(done.run):
        assert confirm.main([str(done.run)]) == 2
    assert capsys.readouterr().err == f"Error: {done.run} is being worked on by process {os.getpid()}.\n"


def edit(run: Path, part: str, **values: object) -> None:
    path = run / "run.json"
    content = json.loads(path.read_text())
    content[part] |= values
    path.write_text(json.dumps(content))


def test_data_that_moved_and_a_plan_that_is_lost_are_said(
    done: Done, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(done, tmp_path)
    edit(run, "arguments", data="/nowhere/data.csv")
    assert confirm.main([str(run)]) == 2
    moved = (
        f"RUN: {run} was made with the data at /nowhere/data.csv, where they no longer are; say where they are: "
        f"python -m search.run --resume {run.name} --out {run.parent} --data PLACE"
    )
    assert capsys.readouterr().err == f"Error: {moved}\n"
    (run / "confirm" / "plan.json").write_text("{")
    assert confirm.main([str(run)]) == 2
    assert capsys.readouterr().err.startswith(f"Error: {run}/confirm/plan.json is missing or damaged (")


def test_other_data_and_another_space_are_said(done: Done, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copied(done, tmp_path)
    edit(run, "data", split_fingerprint="0")
    assert confirm.main([str(run)]) == 2
    split = f"RUN: {run}/splits.csv is not the split that {run} was made with."
    assert capsys.readouterr().err == f"Error: {split}\n"
    edit(run, "data", fingerprint="0")
    assert confirm.main([str(run)]) == 2
    assert capsys.readouterr().err == f"Error: RUN: the data at digits are not those that {run} was made with.\n"
    shutil.rmtree(run / "confirm")
    edit(run, "space", fingerprint="0")
    assert confirm.main([str(run)]) == 2
    assert f"has changed since {run} was made: its default is another now.\n" in capsys.readouterr().err
    assert not (run / "confirm").exists()


# What is chosen


RATES = """
from spaces.space import Space
from trainable.config import TrialConfig
from trainable.errors import UserError

def sample(trial):
    batch_size = trial.suggest_categorical("batch", [32, 64])
    return TrialConfig(lr=trial.suggest_float("lr", 1e-4, 1e-1), batch_size=batch_size)

SPACE = Space("rates", "", sample, starts=[{"lr": 1e-2, "batch": 32}, {"lr": 1e-3, "batch": 32}])
"""


@pytest.fixture(scope="module")
def rates(tmp_path_factory: pytest.TempPathFactory) -> Space:
    """A space of two parameters, whose name is its file's."""
    path = tmp_path_factory.mktemp("rates") / "rates.py"
    path.write_text(RATES)
    return replace(load(str(path)), name=str(path))


def searched(run: Path, space: Space, accuracies: list[float | None], repeats: int = 1) -> dict[str, Any]:
    """A search whose trials gave these accuracies, or failed; and what its run.json says."""
    run.mkdir()
    study = StudyRecord(run, space, "random", SETTINGS, len(accuracies), repeats)
    for accuracy in accuracies:
        asked = study.ask()
        assert asked is not None
        folder = run / "trials" / asked.trial
        folder.mkdir(parents=True)
        if accuracy is None:
            study.fail(asked.trial, "no reason")
            continue
        header = "epoch,train_loss,train_accuracy,valid_loss,valid_accuracy,lr,seconds"
        (folder / "metrics.csv").write_text(f"{header}\n1,1,0.5,1,{accuracy},0.1,1\n")
        study.complete(asked.trial, 1, accuracy)
    arguments = {"inputs": [], "image_size": 28, "target": None, "epochs": 3, "sampler": "random"}
    return {
        "arguments": {**arguments, "space": space.name},
        "objective": "valid_accuracy",
        "seed": 7,
        "space": {"fingerprint": fingerprint(space)},
    }


def test_the_top_are_the_best_that_ran_their_course_and_repeats_are_one(rates: Space, tmp_path: Path) -> None:
    run = tmp_path / "run"
    said = searched(run, rates, [0.5, 0.6, 0.8, 0.65, 0.64, None, 0.1], repeats=2)  # of two starts: 0.65 and 0.625
    plan = choose(run, said, 3, 5, said["arguments"]["space"])
    assert list(plan.configurations) == ["0000", "0004", "0001"]
    assert (plan.winner, plan.compared) == ("0000", 4)
    assert plan.accuracy == pytest.approx(0.65)
    assert plan.default == "0000"
    assert plan.settings["0001"] == rates.starts[1]
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_a_default_that_is_not_among_the_top_comes_beside_them(rates: Space, tmp_path: Path) -> None:
    run = tmp_path / "run"
    plan = choose(run, searched(run, rates, [0.1, 0.6, 0.5, 0.4]), 2, 5, rates.name)
    assert list(plan.configurations) == ["0001", "0002", "default"]
    assert (plan.default, plan.settings["default"]) == ("default", rates.starts[0])
    assert plan.configurations["default"].lr == 1e-2


def test_an_audited_trial_is_not_chosen_however_well_it_ended(rates: Space, tmp_path: Path) -> None:
    run = tmp_path / "run"
    said = searched(run, rates, [0.5, 0.6])
    study = StudyRecord(run, rates, "random", SETTINGS, 3)
    asked = study.ask()
    assert asked is not None
    (run / "trials" / asked.trial).mkdir()
    header, rows = (
        "epoch,train_loss,train_accuracy,valid_loss,valid_accuracy,lr,seconds",
        "1,1,1,1,0.1,1,1\n2,1,1,1,1,1,1",
    )
    (run / "trials" / asked.trial / "metrics.csv").write_text(f"{header}\n{rows}\n")
    study.prune(asked.trial, 1, 0.1, audited=True)
    plan = choose(run, said, 3, 5, said["arguments"]["space"])
    assert (list(plan.configurations), plan.compared) == (["0001", "0000"], 3)


def test_a_search_with_a_trial_that_no_search_would_train_cannot_be_confirmed(rates: Space, tmp_path: Path) -> None:
    run = tmp_path / "run"
    said = searched(run, rates, [0.5, 0.6])
    journal = run / "study.journal"
    journal.write_text(journal.read_text().replace('"depth":8', '"depth":99', 1))
    with pytest.raises(UserError) as refused:
        choose(run, said, 3, 5, said["arguments"]["space"])
    assert str(refused.value) == (
        f"{journal} is damaged (trial 0: depth is 99; it must be an integer in 4..12); restore it from a copy."
    )


def test_a_search_in_which_nothing_ran_its_course_cannot_be_confirmed(rates: Space, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(UserError, match="no trial has run its course yet, so there is nothing to confirm"):
        choose(run, searched(run, rates, [None]), 2, 5, rates.name)


def test_a_start_is_completed_as_the_search_does(rates: Space) -> None:
    partial = replace(rates, starts=[{"lr": 1e-2}])
    config, searched = default_of(partial, "random", SETTINGS)
    assert searched["lr"] == 1e-2
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(searched)
    assert replace(configured(partial, study.ask(), SETTINGS, seed=7), seed=0) == replace(config, seed=0)
    assert default_of(replace(rates, starts=[]), "random", SETTINGS) == (
        TrialConfig(epochs=3, image_size=28, objective="valid_accuracy", seed=7),
        {},
    )


@pytest.mark.parametrize("name", names())
def test_a_default_is_of_the_runs_image_size_and_learns_classes(name: str) -> None:
    """Else the best would be compared with a network that nobody would take."""
    settings = replace(SETTINGS, image_size=64, inputs=("Gender",), target="Age")
    space = load(name, Given(("Gender",), "Age", 64))
    config, _ = default_of(space, space.sampler, settings)
    assert config.image_size == 64
    assert config.target == (None if "target" in space.decides else "Age")


def test_a_tier_is_a_space_like_any_other() -> None:
    configs = {"0003": TrialConfig(image_size=32, inputs=("Race",), epochs=9, seed=5), "default": TrialConfig(lr=0.1)}
    plan = Plan(2, 5, "0003", 0.5, 4, "default", configs, {})
    space = tier_space(plan, ["0003", "default"], "valid_loss")
    check(space, Given(("Race",), None, 28), "confirm")
    assert (space.grid, space.objective) == ({"configuration": ["0003", "default"]}, "valid_loss")
    assert space.image_sizes == [32, TrialConfig().image_size]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial({"configuration": "0003"})
    assert sample(space, study.ask()) == TrialConfig(image_size=32, inputs=("Race",))


def test_the_second_tier_has_the_better_half_the_default_and_the_winner() -> None:
    names = ["0004", "0001", "0002", "0003", "0005", "default"]
    plan = Plan(5, 5, "0004", 0.6, 9, "default", dict.fromkeys(names, TrialConfig()), {})
    means = {"0004": 0.1, "0001": 0.2, "0002": 0.5, "0003": 0.4, "0005": 0.6}  # the default failed
    accuracies = {name: {1: mean - 0.3, 2: mean + 0.3} for name, mean in means.items()}
    assert promoted(plan, accuracies) == ["0004", "0002", "0003", "0005"]
    assert promoted(plan, {**accuracies, "default": {1: 0.0}}) == ["0004", "0002", "0003", "0005", "default"]


def test_a_seed_counts_once_all_configurations_are_trained_with_it(tmp_path: Path) -> None:
    configs = {name: TrialConfig(lr=lr) for name, lr in (("0000", 0.1), ("0001", 0.2))}
    space = tier_space(Plan(2, 2, "0000", 0.5, 2, "0000", configs, {}), list(configs), "valid_accuracy")
    study = StudyRecord(tmp_path, space, "grid", SETTINGS, trials=6, repeats=3)
    asked = [study.ask() for _ in range(6)]
    seeds = [ask.config.seed for ask in asked if ask is not None]
    assert seeds[0::2] == seeds[1::2]
    for number in (0, 1, 2, 4, 5):  # of the second seed one is left open
        study.report(f"{number:04}", 1, 0.5)
        study.complete(f"{number:04}", 3, 0.5)
    assert whole_seeds(study.frozen(), 2) == {seeds[0], seeds[4]}
    study.fail("0003", "no reason")
    assert whole_seeds(study.frozen(), 2) == {seeds[0], seeds[2], seeds[4]}


def test_few_seeds_are_one_tier() -> None:
    assert [tiers(seeds) for seeds in (2, 3, 4, 5)] == [(2,), (3,), (2, 2), (2, 3)]
