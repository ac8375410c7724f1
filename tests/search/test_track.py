"""What TensorBoard, MLflow and Weights & Biases are told of a search: each epoch once, whatever happens between."""

import io
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from ray.tune.logger import LoggerCallback
from rich.console import Console
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from wandb.proto import wandb_internal_pb2

from search import options
from search.run import main
from search.track import TOOLS, Followed, Tracker, check_tools, look, mlflow_uri, trackers
from tests.search.follow import Search
from trainable.errors import UserError

# The tools' own: of MLflow's database, and of TensorBoard's protocol buffers.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::sqlalchemy.exc.SADeprecationWarning")


@dataclass(eq=False)
class Trial:
    """As Ray has it."""

    config: dict[str, Any]
    last_result: dict[str, Any] = field(default_factory=dict)
    evaluated_params: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"trial-{self.config['trial']}"


def tensorboard_epochs(run: Path) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for path in sorted(run.glob("tensorboard/*/events.out.tfevents.*")):
        for event in EventFileLoader(str(path)).Load():
            if any(value.tag == "ray/tune/valid_accuracy" for value in event.summary.value):
                found.setdefault(path.parent.name, []).append(event.step)
    return found


def mlflow_epochs(run: Path) -> dict[str, list[int]]:
    client = MlflowClient(mlflow_uri(run))
    experiment = client.get_experiment_by_name(run.name)
    return {
        found.info.run_name[len("trial-") :]: [
            metric.step for metric in client.get_metric_history(found.info.run_id, "valid_accuracy")
        ]
        for found in client.search_runs([experiment.experiment_id])
    }


def wandb_epochs(run: Path) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for path in sorted(run.glob("wandb/offline-run-*/run-*.wandb")):
        for record in wandb_records(path):
            if any("valid_accuracy" in (item.key, *item.nested_key) for item in record.history.item):
                found.setdefault(path.stem.split("-")[-2], []).append(record.history.step.num)
    return found


def wandb_records(path: Path) -> list[Any]:
    """A log as LevelDB has them, which must be of one block: 7 bytes of header, then (checksum, length, type), data.

    Its last record, the run's exit, may still be on its way from the tool's own process.
    """
    records: list[Any] = []
    while not records or records[-1].WhichOneof("record_type") != "exit":
        content, position, records = path.read_bytes(), 7, []
        assert len(content) < 32768
        while position + 7 <= len(content):
            _, length, _ = struct.unpack("<IHB", content[position : position + 7])
            record = wandb_internal_pb2.Record()
            record.ParseFromString(content[position + 7 : position + 7 + length])
            records.append(record)
            position += 7 + length
    return records


READ: dict[str, Callable[[Path], dict[str, list[int]]]] = {
    "tensorboard": tensorboard_epochs,
    "mlflow": mlflow_epochs,
    "wandb": wandb_epochs,
}


def row(epoch: int) -> dict[str, Any]:
    """An epoch as Ray hands it on, with two of its own facts."""
    return {
        "train_loss": 1.0, "valid_loss": 0.5, "valid_accuracy": 0.1 * epoch, "lr": 1e-3, "seconds": 2.0,
        "training_iteration": epoch, "pid": 7, "config": {}, "done": False,
    }  # fmt: skip


@pytest.mark.parametrize("name", options.TRACK)
def test_a_tool_is_told_each_epoch_once_though_the_search_goes_on(name: str, tmp_path: Path) -> None:
    run = tmp_path / "mine"
    run.mkdir()
    search = Search(run, objective="valid_accuracy")
    asked = search.record.ask()
    assert asked is not None
    config = {"trial": "0000", "config": asked.config.to_dict()}

    (callback,) = trackers([name], Followed(run), search.record, search.console)
    trial = Trial(config)
    callback.on_trial_start(0, [], trial)
    for epoch in (1, 2):
        search.record.report("0000", epoch, 0.1 * epoch)
        callback.on_trial_result(0, [], trial, row(epoch))
    if name != "mlflow":
        callback.on_trial_complete(0, [], trial)  # as its process's end would: these write when they please

    time.sleep(1.0)  # TensorBoard's files are named by the second
    (callback,) = trackers([name], Followed(run), search.record, search.console)  # of the session that goes on
    trial = Trial(config)
    callback.on_trial_start(0, [], trial)
    callback.on_trial_result(0, [], trial, row(2))  # a resumed trial reports its last epoch again
    callback.on_trial_result(0, [], trial, row(3))
    callback.on_trial_start(0, [], trial)  # its worker died
    callback.on_trial_result(0, [], trial, row(3))
    trial.last_result = row(4)
    callback.on_trial_result(0, [], trial, trial.last_result)
    callback.on_trial_complete(0, [], trial)
    assert READ[name](run) == {"0000": [1, 2, 3, 4]}


def test_mlflow_has_the_settings_and_the_state_of_a_trial(tmp_path: Path) -> None:
    search = Search(tmp_path)
    (callback,) = trackers(["mlflow"], Followed(tmp_path), search.record, search.console)
    for name, last in (("0000", row(1)), ("0001", {"failed": "why", "training_iteration": 1})):
        trial = Trial({"trial": name, "config": {"lr": 0.25, "dropout": [0.0, 0.5]}}, last)
        callback.on_trial_start(0, [], trial)
        callback.on_trial_result(0, [], trial, last)
        callback.on_trial_complete(0, [], trial)
    client = MlflowClient(mlflow_uri(tmp_path))
    experiment = client.get_experiment_by_name(tmp_path.name)
    runs = {found.info.run_name: found for found in client.search_runs([experiment.experiment_id])}
    assert {name: found.info.status for name, found in runs.items()} == {
        "trial-0000": "FINISHED",
        "trial-0001": "FAILED",
    }
    assert runs["trial-0000"].data.params == {"lr": "0.25", "dropout": "[0.0, 0.5]"}
    metrics = {"train_loss", "valid_loss", "valid_accuracy", "lr", "seconds"}
    assert set(runs["trial-0000"].data.metrics) == metrics
    assert runs["trial-0001"].data.metrics == {}


# A tool at fault

HOOKS = ("log_trial_start", "log_trial_result", "log_trial_end")


class Faulty(LoggerCallback):  # type: ignore[misc]  # Ray's class is untyped
    """Fails where it is told to, and remembers what it was told."""

    def __init__(self, hook: str | None = None) -> None:
        self.hook = hook
        self.told: list[str] = []

    def _hear(self, hook: str) -> None:
        self.told.append(hook)
        if hook == self.hook:
            raise OSError(28, "No space left on device", "/full/mlflow.db")

    def log_trial_start(self, trial: Any) -> None:
        self._hear("log_trial_start")

    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        self._hear("log_trial_result")

    def log_trial_end(self, trial: Any, failed: bool = False) -> None:
        self._hear("log_trial_end failed" if failed else "log_trial_end")


def followed(writer: Faulty, *names: str) -> str:
    """What is said while trials of one epoch are trained one after the other."""
    said = io.StringIO()
    tracker = Tracker("mlflow", writer, {}, Console(file=said))
    for name in names:
        trial = Trial({"trial": name}, row(1))
        tracker.on_trial_start(0, [], trial)
        tracker.on_trial_result(0, [], trial, trial.last_result)
        tracker.on_trial_complete(0, [], trial)
    return said.getvalue()


@pytest.mark.parametrize("hook", HOOKS)
def test_a_fault_is_said_once_and_ends_what_the_tool_is_told(hook: str) -> None:
    writer = Faulty(hook)
    assert followed(writer, "0000", "0001") == (
        "Warning: mlflow is told nothing more (No space left on device: /full/mlflow.db); all else goes on.\n"
    )
    assert writer.told == list(HOOKS[: HOOKS.index(hook) + 1])


def test_a_tool_without_fault_is_told_all() -> None:
    writer = Faulty()
    assert followed(writer, "0000", "0001") == "" and writer.told == [*HOOKS, *HOOKS]


def test_a_trial_that_never_started_has_no_end() -> None:
    writer = Faulty()
    tracker = Tracker("mlflow", writer, {}, Console())
    tracker.on_trial_error(0, [], Trial({"trial": "0000"}))
    assert writer.told == []
    tracker.on_trial_start(0, [], Trial({"trial": "0000"}))
    tracker.on_trial_error(0, [], Trial({"trial": "0000"}))
    tracker.on_trial_error(0, [], Trial({"trial": "0000"}))
    assert writer.told == ["log_trial_start", "log_trial_end failed"]


def unwritable(name: str, home: Path) -> str:
    """Makes what a tool cannot be written into, and returns what is said of it."""
    if name == "mlflow":
        (home / "mlflow.db").mkdir()
        return f"unable to open database file: {home}/mlflow.db"
    (home / name).write_text("a file, no folder")
    return f"File exists: {home}/{name}"


@pytest.mark.parametrize("name", options.TRACK)
def test_a_tool_that_cannot_be_written_for_is_said_at_once(name: str, tmp_path: Path) -> None:
    search, reason = Search(tmp_path), unwritable(name, tmp_path)
    with pytest.raises(UserError) as refused:
        trackers([name], Followed(tmp_path), search.record, search.console)
    assert str(refused.value).startswith(f"--track: {name} cannot be written for ({reason}). Mend that, or ")


def test_a_confirmation_goes_on_without_a_tool_that_cannot_be_written_for(tmp_path: Path) -> None:
    search, reason = Search(tmp_path, size=(1000, 25)), unwritable("mlflow", tmp_path)
    tier = Followed(tmp_path, Path("confirm/1"))
    assert len(trackers(["tensorboard", "mlflow"], tier, search.record, search.console)) == 1
    assert search.text.getvalue() == f"Warning: mlflow is told nothing more ({reason}); all else goes on.\n"


def test_weights_and_biases_on_line_wants_a_key_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "none"))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    search = Search(tmp_path)
    with pytest.raises(UserError, match=r"^--track: wandb cannot be written for \(No API key configured\. .*\)\. Mend"):
        trackers(["wandb"], Followed(tmp_path), search.record, search.console)


def test_a_search_that_cannot_be_tracked_starts_no_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("search.cluster.start", lambda *_: pytest.fail("Ray was started"))
    run = tmp_path / "mine"
    run.mkdir()
    reason = unwritable("tensorboard", run)
    command = ["--data", "digits", "--trials", "1", "--name", "mine", "--out", str(tmp_path)]
    assert main([*command, "--cache", str(tmp_path / "cache"), "--track", "tensorboard"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"Error: --track: tensorboard cannot be written for ({reason}). ") and said.count("\n") == 1


def test_the_options_tools_are_those_that_there_are() -> None:
    assert set(options.TRACK) == set(TOOLS)


def test_a_tool_that_is_not_installed_is_said_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("search.track.find_spec", lambda module: None)
    with pytest.raises(UserError, match="^--track: wandb is not installed, .*; pip install wandb.$"):
        check_tools(["wandb"])
    assert main(["--out", str(tmp_path / "runs"), "--track", "mlflow"]) == 2
    assert "pip install mlflow-skinny" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_tools_are_repeated_or_listed(capsys: pytest.CaptureFixture[str]) -> None:
    given = options.parser().parse_args(["--track", "mlflow,wandb", "--track", "tensorboard"])
    assert given.track == ["mlflow", "wandb", "tensorboard"]
    assert options.parser().parse_args(["--track", "none"]).track == []
    with pytest.raises(SystemExit):
        options.parser().parse_args(["--track", "mflow"])
    assert "'mflow' is none of tensorboard, mlflow, wandb" in capsys.readouterr().err


def test_the_commands_that_show_a_run_are_fit_to_be_pasted(tmp_path: Path) -> None:
    run = tmp_path / "a b"
    assert look(["tensorboard", "mlflow", "wandb"], run) == [
        f"optuna-dashboard '{run}/study.journal'",
        f"tensorboard --logdir '{run}/tensorboard'",
        f"mlflow ui --backend-store-uri 'sqlite:///{run}/mlflow.db'",
        f"wandb sync --append '{run}/wandb'/offline-run-*",
    ]
