"""The command from end to end, on a real local Ray: what it leaves, and that no interruption changes the numbers.

Few runs serve many tests, as each costs some ten seconds. All of them search one small space (`mine.py`): the fixture
`unbroken` runs it in one go; `battered` runs it again with a SIGINT, a SIGTERM, a SIGKILL and a killed worker.
"""

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import torch
from optuna.trial import FrozenTrial, TrialState
from PIL import Image
from rich.console import Console

from results.leaderboard import read_metrics
from search.options import parser, resolve
from search.run import main, prepare, rising
from search.study import JOURNAL, open_storage
from spaces.loading import load
from trainable.config import TrialConfig
from trainable.dataset import load_labelled, load_split, parse_fractions
from trainable.device import choose
from trainable.examples import examples_of
from trainable.fit import fit
from trainable.metrics import METRICS

TRIALS, EPOCHS, SEED = 5, 6, 1
SPACE = """
from spaces.space import Space
from trainable.config import TrialConfig

def sample(trial):
    lr = trial.suggest_categorical("lr", [1e-4, 1e-3, 1e-2, 1e30])
    return TrialConfig(
        depth=4,
        widths=(4, 8, 8, 8),
        dropout=(0.0, 0.0, 0.0, trial.suggest_float("dropout_4", 0.0, 0.5)),
        optimizer="sgd" if lr > 1 else "adam",
        lr=lr,
        batch_size=32,
    )

SPACE = Space(
    name="mine",
    summary="four learning rates, the last of which cannot work",
    sample=sample,
    starts=[{"lr": 1e-3, "dropout_4": 0.1}, {"lr": 1e-2}, {"lr": 1e-4, "dropout_4": 0.0}, {"lr": 1e30}],
)
"""
PATIENCE = 240.0  # seconds for anything that should take few


@dataclass
class Commands:
    """Runs the command in a folder of its own, and knows the processes that it started by a mark in their environment.

    Attributes:
        folder: the working directory, with mine.py; runs are in runs/.
        cache: of decoded images.
    """

    folder: Path
    cache: Path
    mark: str = field(default_factory=lambda: f"CONVSEARCH_TEST={uuid4().hex}")

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        name, value = self.mark.split("=")
        inherited = {key: text for key, text in os.environ.items() if key not in ("RAY_ADDRESS", "COLUMNS")}
        env = {**inherited, "PYTHONPATH": str(Path(__file__).parents[2]), name: value, **variables}
        command = [sys.executable, "-m", "search.run", "--cache", str(self.cache), *arguments]
        return subprocess.Popen(
            command, cwd=self.folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def run(self, *arguments: str, **variables: str) -> "Done":
        return self.end(self.start(*arguments, **variables))

    def end(self, process: subprocess.Popen[str]) -> "Done":
        out, err = process.communicate(timeout=PATIENCE)
        return Done(process.returncode, out, err)

    def processes(self) -> dict[int, str]:
        """The living processes that these commands started: each one's command line by its id."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (process / "environ").read_bytes().split(b"\0"):
                    found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:  # it has ended, or is not ours
                continue
        return {pid: line for pid, line in found.items() if line}  # a zombie has no command line

    def kill_all(self) -> None:
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


def wait_for(condition: Callable[[], Any]) -> Any:
    """What `condition` gives, once that is something."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline, f"in vain for {PATIENCE:g} s"
        time.sleep(0.02)
    return value


def rows_of(run: Path) -> dict[str, list[dict[str, float]]]:
    """The rows of each trial's metrics.csv."""
    return {path.parent.name: read_metrics(path) for path in sorted(run.glob("trials/*/metrics.csv"))}


def epochs_of(run: Path) -> int:
    """The rows of all trials together."""
    return sum(map(len, rows_of(run).values()))


def metrics_of(run: Path) -> dict[str, list[dict[str, float]]]:
    """Each trial's rows but for the seconds."""
    return {
        trial: [{name: value for name, value in row.items() if name != "seconds"} for row in rows]
        for trial, rows in rows_of(run).items()
    }


def study_of(run: Path, folder: Path) -> list[FrozenTrial]:
    """The trials of a run's study, read from a copy."""
    copy = folder / f"{uuid4().hex}.journal"
    shutil.copy(run / JOURNAL, copy)
    storage = open_storage(copy)
    (study,) = storage.get_all_studies()
    return storage.get_all_trials(study._study_id)


def content_of(run: Path) -> dict[str, bytes]:
    """Every file of a run."""
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    folder = tmp_path_factory.mktemp("work")
    (folder / "mine.py").write_text(SPACE)
    commands = Commands(folder, tmp_path_factory.mktemp("cache"))
    yield commands
    commands.kill_all()


ONE_CPU = ("--max-concurrent", "1", "--gpus-per-trial", "0")
SEARCH = ("--space", "mine.py", "--trials", f"{TRIALS}", "--epochs", f"{EPOCHS}", "--seed", f"{SEED}", *ONE_CPU)
RESUME = ("--resume", "broken", *ONE_CPU)


@pytest.fixture(scope="module")
def unbroken(commands: Commands) -> tuple[Path, Done]:
    """The run `whole`, and how it ended."""
    done = commands.run(*SEARCH, "--name", "whole", "--ensemble")
    return commands.folder / "runs" / "whole", done


@dataclass(frozen=True)
class Battered:
    """A run that was interrupted again and again: by SIGINT, SIGTERM, SIGKILL, and by the death of a worker."""

    run: Path
    done: dict[str, Done]  # how each command ended
    left: dict[str, dict[int, str]]  # the processes that there were two seconds after it
    epochs: dict[str, dict[str, list[dict[str, float]]]]  # each trial's rows just before it was interrupted


@pytest.fixture(scope="module")
def battered(commands: Commands, unbroken: tuple[Path, Done]) -> Battered:
    first, second, third, fourth = moments(unbroken[0])
    run = commands.folder / "runs" / "broken"
    result = Battered(run, {}, {}, {})
    for name, moment in (("SIGINT", first), ("SIGTERM", second), ("SIGKILL", third)):
        process = commands.start(*((*SEARCH, "--name", "broken") if moment == first else RESUME))
        wait_for(partial(reached, run, moment, process))
        result.epochs[name] = rows_of(run)
        process.send_signal(signal.Signals[name])
        result.done[name] = commands.end(process)
        time.sleep(2)
        result.left[name] = commands.processes()
    commands.kill_all()  # some of Ray's processes outlive a killed driver by a minute
    process = commands.start(*RESUME)
    wait_for(partial(reached, run, fourth, process))
    (worker,) = [pid for pid, line in commands.processes().items() if "ConvNetTrial" in line]
    result.epochs["worker"] = rows_of(run)
    os.kill(worker, signal.SIGKILL)
    result.done["worker"] = commands.end(process)
    return result


def moments(run: Path) -> list[int]:
    """Four counts of epochs, spread over a run of one trial at a time, at which a trial has two more to go or more.

    A trial that is about to end would often have ended before it is interrupted.
    """
    lengths = [len(rows) for rows in rows_of(run).values()]
    inside = [sum(lengths[:trial]) + epoch for trial, length in enumerate(lengths) for epoch in range(1, length - 1)]
    return [inside[(2 * quarter + 1) * len(inside) // 8] for quarter in range(4)]


def reached(run: Path, epochs: int, process: subprocess.Popen[str]) -> bool:
    """Whether a run has that many epochs. Its command must still be at work."""
    assert process.poll() is None
    return epochs_of(run) >= epochs


# What a run leaves


def test_failed_trials_make_it_exit_3(unbroken: tuple[Path, Done]) -> None:
    assert (unbroken[1].code, unbroken[1].err) == (3, "")


def test_states_and_values_are_told_truthfully(unbroken: tuple[Path, Done], tmp_path: Path) -> None:
    run, _ = unbroken
    trials = study_of(run, tmp_path)
    assert [trial.number for trial in trials] == list(range(TRIALS))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL}
    metrics = metrics_of(run)
    for trial in trials:
        rows = metrics.get(f"{trial.number:04}", [])
        accuracies = {int(row["epoch"]): row["valid_accuracy"] for row in rows}
        assert list(accuracies) == list(range(1, len(rows) + 1))
        assert trial.intermediate_values == accuracies
        if trial.state == TrialState.COMPLETE:
            assert (len(rows), trial.value) == (EPOCHS, max(accuracies.values()))
        else:
            assert len(rows) < EPOCHS
    assert [trial.params["lr"] for trial in trials][:4] == [1e-3, 1e-2, 1e-4, 1e30]


def test_a_trial_with_a_nan_fails_and_says_in_which_epoch(unbroken: tuple[Path, Done], tmp_path: Path) -> None:
    run, done = unbroken
    reason = "NonFiniteLossError: the training loss is nan in epoch 1"
    assert study_of(run, tmp_path)[3].user_attrs["end"] == {"state": "FAIL", "reason": reason}
    assert reason in (run / "trials" / "0003" / "error.txt").read_text()
    assert f"of {TRIALS} trials failed; the first, 0003: {reason}\n" in done.out


def test_it_leaves_these_files_and_no_others(unbroken: tuple[Path, Done], tmp_path: Path) -> None:
    run, _ = unbroken
    of_search = {"run.json", "splits.csv", "study.journal", "tune", "trials", "leaderboard.csv", ".lock"}
    of_ensemble = {"ensemble.json", "submission.csv", "probabilities.npz", "ensembles"}
    assert {path.name for path in run.iterdir()} == of_search | of_ensemble
    assert sorted(path.name for path in (run / "trials").iterdir()) == [f"{n:04}" for n in range(TRIALS)]
    for trial in study_of(run, tmp_path):
        folder = run / "trials" / f"{trial.number:04}"
        kept = ["best.safetensors", "config.json", "logits.npz", "metrics.csv"]
        expected = kept if trial.state != TrialState.FAIL else ["config.json", "error.txt"]
        assert sorted(path.name for path in folder.iterdir()) == expected
    assert {path.name for path in run.glob("tune/0000/*")} == {"result.json"}
    # Nothing that Ray would resume from, which grows with the trials.
    assert {path.name for path in run.glob("tune/*") if path.is_file()} == {".validate_storage_marker", "tuner.pkl"}


def test_a_trials_files_agree(unbroken: tuple[Path, Done]) -> None:
    run, _ = unbroken
    text = (run / "trials" / "0000" / "metrics.csv").read_text()
    assert text.splitlines()[0] == ",".join(METRICS)
    logits = np.load(run / "trials" / "0000" / "logits.npz")
    assert {name: (array.shape, array.dtype.kind) for name, array in logits.items()} == {
        "valid": ((225, 10), "f"),
        "holdout": ((225, 10), "f"),
        "valid_ids": ((225,), "U"),
        "holdout_ids": ((225,), "U"),
        "checkpoints": ((1,), "U"),
    }
    config = TrialConfig.from_dict(json.loads((run / "trials" / "0000" / "config.json").read_text()))
    assert (config.lr, config.epochs, config.image_size) == (1e-3, EPOCHS, 28)


def test_the_leaderboard_ranks_and_says_what_was_searched(unbroken: tuple[Path, Done]) -> None:
    with open(unbroken[0] / "leaderboard.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert (
        list(rows[0])
        == (
            "rank trial state epochs best_epoch valid_accuracy valid_loss train_accuracy train_loss seconds parameters "
            "lr dropout_4"
        ).split()
    )
    order = {"COMPLETE": 0, "PRUNED": 1, "FAIL": 2}
    keys = [(order[row["state"]], -float(row["valid_accuracy"] or 0), float(row["valid_loss"] or 0)) for row in rows]
    assert keys == sorted(keys)
    assert [row["rank"] for row in rows] == [str(rank) for rank in range(1, TRIALS + 1)]


def test_run_json_says_how_it_came_about(unbroken: tuple[Path, Done], commands: Commands) -> None:
    record = json.loads((unbroken[0] / "run.json").read_text())
    assert set(record) == {
        "format", "name", "created", "sessions", "arguments", "seed", "objective", "space", "data"
    }  # fmt: skip
    assert (record["name"], record["seed"], record["objective"]) == ("whole", SEED, "valid_accuracy")
    assert record["arguments"]["scheduler"] == "asha"
    session = record["sessions"][0]
    assert set(session) == {"began", "command", "asked", "slots", "code", "versions", "hardware"}
    assert session["slots"] == 1
    assert {"ray", "optuna", "torch"} <= set(session["versions"])
    assert record["space"]["parameters"]["dropout_4"] == "0..0.5"
    assert record["data"]["counts"] == {"train": 1050, "valid": 225, "holdout": 225}
    assert session["command"].startswith(f"python -m search.run --cache {commands.cache} --space mine.py")


def test_the_ensemble_predicts_the_digits_test_part(unbroken: tuple[Path, Done]) -> None:
    lines = (unbroken[0] / "submission.csv").read_text().splitlines()
    assert (lines[0], len(lines)) == ("Id,Category", 1 + 297)


def test_piped_output_is_plain_and_ours_alone(unbroken: tuple[Path, Done], battered: Battered) -> None:
    for done in (unbroken[1], *battered.done.values()):
        assert "\x1b" not in done.out + done.err
        for word in ("Trial name", "tune.run", "Tuner", "tensorboard", "raylet", "Optuna", "A new study"):
            assert word not in done.out + done.err


def test_it_prints_the_data_the_run_a_line_a_trial_and_the_leaderboard(unbroken: tuple[Path, Done]) -> None:
    run, done = unbroken
    lines = done.out.splitlines()
    assert lines[0] == "Data: digits, 1500 images of 10 classes: 1050 train, 225 valid, 225 holdout"
    assert lines[1] == (f"Run: {run}, {TRIALS} trials of at most {EPOCHS} epochs, 1 at once, by tpe and asha")
    assert lines[2].startswith("Ray dashboard: http://127.0.0.1:")
    ends = [re.match(r"\[[\d:]+\] trial (\d{4}) (finished|stopped early|failed) ", line) for line in lines]
    assert [end[1] for end in ends if end] == [f"{n:04}" for n in range(TRIALS)]
    assert f"Leaderboard: {run / 'leaderboard.csv'}" in lines
    assert [line for line in lines if line.startswith("Look: ")] == [
        f"Look: optuna-dashboard {run / 'study.journal'}",
        f"Look: python -m search.report {run.name}",  # after the ensemble, which is in it
    ]
    (spent,) = (line for line in lines if line.startswith("First step after "))
    shares = [float(share) for share in re.findall(r"([\d.]+) %", spent)]
    assert len(shares) == 5 and sum(shares) == pytest.approx(100, abs=0.3)  # each is rounded


# Rule 1: a trial is its configuration


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_trial_alone_gives_the_numbers_that_it_gave_in_the_search(
    unbroken: tuple[Path, Done], commands: Commands, number: int
) -> None:
    run, _ = unbroken
    config = TrialConfig.from_dict(json.loads((run / "trials" / f"{number:04}" / "config.json").read_text()))
    data = load_labelled(
        "digits",
        inputs=(),
        image_size=28,
        fractions=parse_fractions("70/15/15"),
        seed=SEED,
        cache=commands.cache,
        progress=False,
    )
    assert data.split.sides.tolist() == load_split(run / "splits.csv", data.table).sides.tolist()
    expected = metrics_of(run)[f"{number:04}"]
    threads = torch.get_num_threads()
    device = choose("cpu", "auto", threads=1)
    alone = []
    for epoch, _ in zip(fit(config, examples_of(data, config, data.split.parts[0]), device), expected, strict=False):
        alone.append({name: value for name, value in epoch.row.items() if name != "seconds"})
    torch.set_num_threads(threads)
    assert alone == expected


def test_interruptions_change_no_number_of_any_trial(unbroken: tuple[Path, Done], battered: Battered) -> None:
    assert metrics_of(battered.run) == metrics_of(unbroken[0])
    for trial in metrics_of(unbroken[0]):
        one, other = (np.load(run / "trials" / trial / "logits.npz") for run in (battered.run, unbroken[0]))
        # The holdout of a stopped trial is there only once an ensemble has asked for it.
        assert {*one.files, "holdout"} == {*other.files, "holdout"} >= {"valid", "valid_ids", "holdout_ids"}
        assert all((one[name] == other[name]).all() for name in {*one.files} & {*other.files} - {"checkpoints"})


def test_interruptions_change_nothing_that_the_study_says(
    unbroken: tuple[Path, Done], battered: Battered, tmp_path: Path
) -> None:
    broken, whole = (study_of(run, tmp_path) for run in (battered.run, unbroken[0]))
    assert [t.number for t in broken] == [t.number for t in whole]
    for one, other in zip(broken, whole, strict=True):
        assert (one.state, one.params, one.values) == (other.state, other.params, other.values)
        assert one.intermediate_values == other.intermediate_values
        assert one.user_attrs == other.user_attrs


# Interruptions


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_ends_it_with_its_code_and_how_to_go_on(battered: Battered, name: str, code: int) -> None:
    done = battered.done[name]
    assert (done.code, done.err) == (code, "")
    assert f"Interrupted by {name}. Go on with: python -m search.run --resume broken\n" in done.out


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_leaves_no_process_behind(battered: Battered, name: str) -> None:
    assert battered.left[name] == {}


def test_each_resumption_goes_on_with_what_was_unfinished(battered: Battered) -> None:
    assert battered.done["SIGKILL"].code == -signal.SIGKILL
    for name in ("SIGTERM", "worker"):
        assert "Going on with 1 unfinished trial" in battered.done[name].out
    assert battered.done["worker"].code == 3  # as the unbroken run


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL", "worker"])
def test_an_interruption_costs_at_most_the_last_epoch(battered: Battered, name: str) -> None:
    final = rows_of(battered.run)
    assert battered.epochs[name]
    for trial, rows in battered.epochs[name].items():
        # The last row's epoch may not have been saved yet. Seconds tell an epoch from its repetition.
        assert final[trial][: len(rows) - 1] == rows[:-1]


def test_no_epoch_stands_twice_in_the_metrics(battered: Battered) -> None:
    for rows in rows_of(battered.run).values():
        assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))


def test_no_trial_keeps_the_state_to_resume_from(battered: Battered) -> None:
    assert list(battered.run.glob("trials/*/latest.pt")) == []


def test_a_time_budget_holds_and_the_rest_can_be_resumed(commands: Commands, tmp_path: Path) -> None:
    budget = 60  # of which a slow machine needs half before the first trial
    started = time.monotonic()
    many = ("--trials", "99", "--epochs", "99", "--time-budget", f"{budget}s", "--gpus-per-trial", "0")
    done = commands.run("--space", "mine.py", "--name", "budget", *many)
    assert time.monotonic() - started < budget + 20  # what a busy machine may add
    trials = study_of(commands.folder / "runs" / "budget", tmp_path)
    failed = any(trial.state == TrialState.FAIL for trial in trials)
    assert (done.code, done.err) == (3 if failed else 0, "")
    assert "Go on with: python -m search.run --resume budget --time-budget TIME\n" in done.out
    assert TrialState.RUNNING in [trial.state for trial in trials]
    for trial in trials:
        latest = commands.folder / "runs" / "budget" / "trials" / f"{trial.number:04}" / "latest.pt"
        assert trial.state == TrialState.RUNNING or not latest.exists()
        assert latest.exists() or not trial.intermediate_values or trial.state != TrialState.RUNNING


# Again on the same run


def test_the_same_command_on_a_finished_run_says_so_and_changes_nothing(
    unbroken: tuple[Path, Done], commands: Commands
) -> None:
    run, _ = unbroken
    before = content_of(run)
    done = commands.run(*SEARCH, "--name", "whole")
    assert (done.code, done.err) == (3, "")
    assert f"The run 'whole' has its {TRIALS} trials already: nothing is left to train.\n" in done.out
    after = content_of(run)
    for changing in (".lock", "run.json"):  # who holds it; the commands that were given
        before.pop(changing)
        after.pop(changing)
    assert after == before


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        (("--seed", "7"), "--seed 1, not 7"),
        (("--epochs", "9", "--sampler", "random"), "--epochs 6, not 9; --sampler tpe, not random"),
        (
            ("--space", "gridsearch", "--scheduler", "asha", "--sampler", "tpe"),
            "--space {folder}/mine.py, not gridsearch",
        ),
    ],
)
def test_changed_settings_are_refused(
    unbroken: tuple[Path, Done],
    commands: Commands,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    difference: str,
) -> None:
    monkeypatch.chdir(commands.folder)
    assert main([*SEARCH, "--name", "whole", *options]) == 2
    made_with = difference.format(folder=commands.folder)
    assert capsys.readouterr().err == (
        f"Error: the run 'whole' was made with {made_with}. Choose another --name, or go on with its own settings: "
        "python -m search.run --resume whole\n"
    )


# Others


def test_the_grid_search_runs_each_point_to_its_end_and_the_lowest_loss_wins(
    commands: Commands, tmp_path: Path
) -> None:
    done = commands.run("--space", "gridsearch", "--trials", "3", "--epochs", "1", "--gpus-per-trial", "0")
    assert (done.code, done.err) == (0, "")
    run = commands.folder / "runs" / "gridsearch-digits"
    trials = study_of(run, tmp_path)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 3
    assert [trial.params["gamma"] for trial in trials] == [0.95, 0.9, 0.85]
    with open(run / "leaderboard.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    losses = [float(row["valid_objective_loss"]) for row in rows]
    assert losses == sorted(losses)
    assert min(trial.value or 0.0 for trial in trials) == pytest.approx(losses[0], rel=1e-5)
    assert "Next: python -m search.ensemble gridsearch-digits\n" in done.out


def test_a_gpu_that_is_not_there_is_refused_with_the_arithmetic(commands: Commands) -> None:
    done = commands.run("--space", "mine.py", "--name", "gpu", "--gpus-per-trial", "1000")
    gpus = torch.cuda.device_count()
    assert done.code == 2
    assert done.err == (
        f"Error: A trial asks for 1 CPU and 1000 GPU, but the cluster has {os.cpu_count()} CPU and {gpus} GPU on 1 "
        "node: not one trial fits. Lower --cpus-per-trial or --gpus-per-trial.\n"
    )
    record = json.loads((commands.folder / "runs" / "gpu" / "run.json").read_text())
    assert record["sessions"] == []  # nothing was trained


@pytest.mark.skipif(torch.cuda.is_available(), reason="there Triton compiles")
def test_a_compiler_that_fails_is_told_once_and_costs_time_alone(commands: Commands, tmp_path: Path) -> None:
    few = ("--space", "mine.py", "--trials", "2", "--epochs", "1", "--max-concurrent", "2")
    done = commands.run(*few, "--name", "slower", HOME=str(tmp_path), CXX="/bin/false")
    assert (done.code, done.err) == (0, "")
    told = "Warning: epochs take longer than they need to, as a part is not compiled: /bin/false failed: exit code 1.\n"
    assert done.out.count(told) == 1
    asked = commands.run(*few, "--name", "asked", HOME=str(tmp_path), CXX="/bin/false", CONVSEARCH_COMPILED="0")
    assert asked.code == 0 and "Warning: " not in asked.out


HOPELESS = """
from spaces.space import Space
from trainable.config import TrialConfig

def sample(trial):
    lr = trial.suggest_float("lr", 1e30, 1e31)
    return TrialConfig(depth=4, widths=(4, 8, 8, 8), optimizer="sgd", lr=lr, batch_size=32)

SPACE = Space("hopeless", "nothing that could learn", sample, starts=[{"lr": 1e30}])
"""


def test_where_all_trials_failed_there_is_no_best_and_nothing_next(
    cluster: str, cache: Path, faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hopeless.py").write_text(HOPELESS)
    where = ["--out", str(tmp_path), "--name", "run", "--cache", str(cache), "--address", cluster, *ONE_CPU]
    data = ["--data", str(faces / "people.csv"), "--image-size", "28", "--epochs", "1", "--trials", "2"]
    assert main(["--space", str(tmp_path / "hopeless.py"), *data, *where]) == 3
    said = capsys.readouterr().out
    assert "2 of 2 trials failed; the first, 0000: " in said
    assert "the best of" not in said
    assert "Next: " not in said


@pytest.mark.parametrize(
    ("space", "classes", "warned"),
    [
        ("target", ("bus", "car"), True),
        ("target", ("0-9", "10-19"), False),
        ("loss", ("bus", "car"), False),
    ],
)
def test_classes_that_seem_to_have_no_order_are_warned_of(
    space: str, classes: tuple[str, ...], warned: bool, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for name in classes:
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(10):
            pixels = rng.integers(256, size=(28, 28, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    found = load(space)
    arguments = ["--space", space, "--data", str(tmp_path / "photos"), "--image-size", "28", "--cache", str(tmp_path)]
    text = io.StringIO()
    prepare(resolve(vars(parser().parse_args(arguments)), found), found, Console(file=text), None)
    (*warnings, data) = text.getvalue().splitlines()
    assert data.startswith("Data: ")
    expected = (
        "Warning: the space 'target' may choose coral or soft_ordinal, which learn the classes as steps of one scale, "
        "here in the order bus, car"
    )
    assert warnings == ([expected] if warned else [])


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (("0", "1", "2"), True),
        (("0-9", "10-19", "20-29", "100+"), True),
        (("5", "0-9", "10-19", "100+", "20-29"), False),
        (("bus", "car"), False),
        (("0", "car"), False),
        (("1st", "1nd"), False),
    ],
)
def test_classes_that_begin_with_rising_numbers_are_steps_in_order(classes: tuple[str, ...], expected: bool) -> None:
    assert rising(classes) is expected
