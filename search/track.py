"""A search in the tools that people use: its epochs as TensorBoard, MLflow and Weights & Biases keep them.

All is written into the search's folder, also of the runs that confirm it, by Ray's own callbacks where these can be
used. An epoch that an earlier session of the run was told of, or that a dead worker trained once before, is not written
again.
"""

import os
import shlex
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.logger import LoggerCallback, TBXLoggerCallback
from rich.console import Console

from search.study import JOURNAL, StudyRecord
from search.unpickled import Unpickled
from trainable.errors import UserError
from trainable.files import make_folder
from trainable.paths import trial_name

MLFLOW = "mlflow.db"  # in a search's folder


@dataclass(frozen=True)
class Followed:
    """A run as the tools have it."""

    home: Path  # the folder of the search
    part: Path = Path()  # the run's own in it, of a tier of its confirmation

    @property
    def name(self) -> str:
        """photos, or photos/confirm/1."""
        return str(self.home.name / self.part)


class Tracker(Unpickled, Callback):  # type: ignore[misc]  # Ray's class is untyped
    """Tells a tool of each epoch once, with nothing but its row of metrics.csv, and of a failure as one.

    A fault of the tool's ends what it is told, and nothing else: Ray would end the search, or the trial, for it.

    Args:
        tool: its name.
        writer: what writes for it.
        written: the last epoch of each trial that it was told of before.
    """

    def __init__(self, tool: str, writer: LoggerCallback, written: Mapping[str, int], console: Console) -> None:
        self._tool = tool
        self._writer = writer
        self._last = dict(written)
        self._console = console
        self._begun: set[str] = set()  # trials that the writer has open
        self._failed = False

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._begun.add(trial.config["trial"])
        self._tell(self._writer.log_trial_start, trial)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        name, epoch = trial.config["trial"], result["training_iteration"]
        if "valid_loss" in result and epoch > self._last.get(name, 0):
            self._last[name] = epoch
            row = {
                key: result[key] for key in result if key.startswith(("train_", "valid_")) or key in ("lr", "seconds")
            }
            self._tell(self._writer.log_trial_result, iteration, trial, {**row, "training_iteration": epoch})

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._end(trial, failed="failed" in trial.last_result)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._end(trial, failed=True)

    def _end(self, trial: Any, failed: bool) -> None:
        name = trial.config["trial"]
        if name in self._begun:  # else no worker could be had for it
            self._begun.remove(name)
            self._tell(self._writer.log_trial_end, trial, failed)

    def _tell(self, log: Callable[..., None], *told: Any) -> None:
        if self._failed:
            return
        try:
            log(*told)
        except Exception as error:
            self._failed = True
            _say_told_nothing(self._tool, error, self._console)


def _say_told_nothing(tool: str, error: Exception, console: Console) -> None:
    console.print(f"Warning: {tool} is told nothing more ({_reason(error)}); all else goes on.", soft_wrap=True)


def _reason(error: Exception) -> str:
    """What is wrong, in a line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return (str(error) or repr(error)).splitlines()[0].rstrip(".")


def _tensorboard(run: Followed, study: StudyRecord) -> LoggerCallback:
    part = run.home / "tensorboard" / run.part
    make_folder(part)

    class TensorBoard(TBXLoggerCallback):  # type: ignore[misc]  # Ray's class is untyped
        """Ray's, but writes straight into the search's folder. Ray copies its files there every ten seconds, and what
        it has not when a search is interrupted is lost."""

        def log_trial_start(self, trial: Any) -> None:
            if trial not in self._trial_writer:
                folder = str(part / trial.config["trial"])
                self._trial_writer[trial] = self._summary_writer_cls(folder, flush_secs=30)
                self._trial_result[trial] = {}

    return TensorBoard()


def _mlflow(run: Followed, study: StudyRecord) -> LoggerCallback:
    _check_database(run.home / MLFLOW)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # a new database is told of, line by line
    from mlflow.entities import Metric, Param
    from mlflow.tracking import MlflowClient
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    uri = mlflow_uri(run.home)
    client = MlflowClient(uri)

    class MLflow(MLflowLoggerCallback):  # type: ignore[misc]  # Ray's class is untyped
        """Ray's, but a trial that goes on has the MLflow run that it had; and its settings, and an epoch, are one
        transaction, where Ray's takes one for each value while all results wait."""

        def log_trial_start(self, trial: Any) -> None:
            if trial in self._trial_runs:
                return
            for found in client.search_runs([self.mlflow_util.experiment_id], f"tags.trial_name = '{trial}'"):
                self._trial_runs[trial] = found.info.run_id
                client.update_run(found.info.run_id, status="RUNNING")
                return
            made = self.mlflow_util.start_run(tags={"trial_name": str(trial)}, run_name=str(trial))
            self._trial_runs[trial] = made.info.run_id
            settings = [Param(key, str(value)) for key, value in trial.config["config"].items()]
            client.log_batch(made.info.run_id, params=settings)

        def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
            now, step = int(1000 * time.time()), result.pop("training_iteration")
            metrics = [Metric(key, float(value), now, step) for key, value in result.items()]
            client.log_batch(self._trial_runs[trial], metrics)

    writer = MLflow(tracking_uri=uri, experiment_name=run.name)
    writer.setup()
    return writer


def _check_database(path: Path) -> None:
    """Raises UserError where it cannot be written: MLflow would try for 100 seconds, and print each time."""
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")  # fails as a write would
            database.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise UserError(f"{error}: {path}") from error


def _wandb(run: Followed, study: StudyRecord) -> LoggerCallback:
    import wandb

    make_folder(run.home / "wandb")  # where it cannot write it takes the machine's temporary folder
    if wandb_mode() not in ("offline", "dryrun", "disabled"):
        wandb.login()  # now, as it asks a terminal for the key that it lacks

    class WeightsAndBiases(LoggerCallback):  # type: ignore[misc]  # Ray's class is untyped
        """The tool's own runs, in this process. Ray's callback starts two more actors for each trial."""

        def __init__(self) -> None:
            super().__init__()
            self._runs: dict[str, Any] = {}

        def log_trial_start(self, trial: Any) -> None:
            name = trial.config["trial"]
            if name in self._runs:
                return
            asked = study.trial(name).datetime_start
            self._runs[name] = wandb.init(
                mode=wandb_mode(),
                project="convsearch",
                group=run.name,
                name=name,
                id=f"{run.name.replace('/', '-')}-{name}-{asked:%Y%m%d%H%M%S}",  # the same when the trial goes on
                resume="allow",
                config=trial.config["config"],
                dir=run.home,
                reinit="create_new",  # several at once
                settings=wandb.Settings(console="off", silent=True, disable_git=True, save_code=False),
            )

        def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
            self._runs[trial.config["trial"]].log(result, step=result.pop("training_iteration"))

        def log_trial_end(self, trial: Any, failed: bool = False) -> None:
            self._runs.pop(trial.config["trial"]).finish(exit_code=int(failed))

    return WeightsAndBiases()


def mlflow_uri(home: Path) -> str:
    """Of a search's database; MLflow 3 refuses a folder of files."""
    return f"sqlite:///{home / MLFLOW}"


def wandb_mode() -> Any:
    """Off-line, unless the user says otherwise as the tool would have it."""
    return os.environ.get("WANDB_MODE", "offline")


@dataclass(frozen=True)
class Tool:
    """A tool that a search can be followed with."""

    name: str
    module: str  # that writes for it
    package: str  # that has the module
    writer: Callable[[Followed, StudyRecord], LoggerCallback]  # from a run and its study
    look: Callable[[Path], str]  # from the search's folder, the command that shows it


TOOLS = {
    tool.name: tool
    for tool in (
        Tool(
            "tensorboard",
            "tensorboardX",
            "tensorboardX",
            _tensorboard,
            lambda home: f"tensorboard --logdir {shlex.quote(str(home / 'tensorboard'))}",
        ),
        Tool(
            "mlflow",
            "mlflow",
            "mlflow-skinny",
            _mlflow,
            lambda home: f"mlflow ui --backend-store-uri {shlex.quote(mlflow_uri(home))}",
        ),
        Tool(
            "wandb",
            "wandb",
            "wandb",
            _wandb,
            lambda home: f"wandb sync --append {shlex.quote(str(home / 'wandb'))}/offline-run-*",
        ),
    )
}


def check_tools(names: Sequence[str]) -> None:
    """Raises UserError, saying what to install, for a tool that is not there."""
    for name in names:
        if find_spec(TOOLS[name].module) is None:
            package = TOOLS[name].package
            raise UserError(f"--track: {package} is not installed, which writes for {name}; pip install {package}.")


def trackers(names: Sequence[str], run: Followed, study: StudyRecord, console: Console) -> list[Tracker]:
    """What follows the run for each of the tools; what the study knows now is taken as written.

    Raises:
        UserError: where a tool cannot be written for; but not before a tier, which hours of searching have led to.
    """
    written = {trial_name(trial.number): max(trial.intermediate_values, default=0) for trial in study.frozen()}
    found = []
    for name in names:
        try:
            writer = TOOLS[name].writer(run, study)
        except Exception as error:
            if run.part == Path():
                raise UserError(
                    f"--track: {name} cannot be written for ({_reason(error)}). Mend that, or give another --track "
                    "(none: no tool)."
                ) from error
            _say_told_nothing(name, error, console)
        else:
            found.append(Tracker(name, writer, written, console))
    return found


def look(names: Sequence[str], home: Path) -> list[str]:
    """The commands that show a search in Optuna's dashboard and the tools."""
    return [f"optuna-dashboard {shlex.quote(str(home / JOURNAL))}", *(TOOLS[name].look(home) for name in names)]
