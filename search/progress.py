"""What a person sees of a running search: a live table in a terminal, a line a trial elsewhere."""

import time
from dataclasses import dataclass
from typing import Any

from optuna.trial import TrialState
from ray.tune import Callback
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from results.settings import settings_text
from search.study import StudyRecord, trial_name
from search.usage import Usage
from trainable.config import maximised
from trainable.fit import objective_value

ENDED = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "stopped early",
    TrialState.FAIL: "failed",
}


@dataclass
class _Running:
    epoch: int = 0
    value: float | None = None


class Progress(Callback):  # type: ignore[misc]  # Ray's class is untyped
    """Follows the trials through Ray's callbacks; the counts come from the study."""

    def __init__(
        self, record: StudyRecord, console: Console, began: float, deadline: float | None, usage: Usage
    ) -> None:
        self._record = record
        self._console = console
        self._began = began  # time.monotonic(), of the command
        self._deadline = deadline
        self._usage = usage
        self._started = time.monotonic()
        self._epochs = 0  # heard of in this session
        self._running: dict[str, _Running] = {}
        self._best: tuple[float, str, int] | None = None
        for trial in record.frozen():
            for epoch, value in trial.intermediate_values.items():
                self._improve(value, trial_name(trial.number), epoch)
        self._live: Live | None = None

    def __enter__(self) -> "Progress":
        if self._console.is_terminal:
            self._live = Live(self, console=self._console, refresh_per_second=2, transient=True)
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    # Ray's callbacks

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._running.setdefault(trial.config["trial"], _Running())

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if "valid_loss" in result:
            name, epoch = trial.config["trial"], result["training_iteration"]
            value = objective_value(result, self._record.settings.objective)
            self._running[name] = _Running(epoch, value)
            self._epochs += 1
            if name not in self._record.audited or epoch in self._record.frozen()[int(name)].intermediate_values:
                self._improve(value, name, epoch)
            if "kept_seconds" in result:  # else it was trained in an earlier session
                self._usage.add(name, result, time.monotonic())

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._end(trial.config["trial"])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._end(trial.config["trial"])

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        name = trial.config["trial"]
        epoch = self._running[name].epoch if name in self._running else 0
        self._console.print(f"Trial {name}: its worker died; it goes on from epoch {epoch}.")

    def _end(self, name: str) -> None:
        state = self._running.pop(name, None)
        if self._live is not None or state is None:
            return
        trial = self._record.frozen()[int(name)]
        what = ENDED.get(trial.state, "interrupted")
        if name in self._record.audited:
            what += f" at epoch {trial.last_step}, audited"
        value = "" if state.value is None else f", {self._record.settings.objective} {state.value:.4f}"
        reason = trial.user_attrs.get("end", {}).get("reason")
        self._console.print(
            f"[{self._clock()}] trial {name} {what} after {state.epoch} epoch{'s' if state.epoch != 1 else ''}{value}"
            f"{f' ({reason})' if reason else ''}; {self._best_text()}; {self._count_text()} of {self._record.trials}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )

    # The view

    def __rich__(self) -> Group:
        settings = self._record.settings
        ended = self._ended()
        head = Table.grid(padding=(0, 2, 0, 0))
        head.add_row(
            ProgressBar(total=self._record.trials, completed=ended, width=30),
            f"{ended} of {self._record.trials} trials",
            f"{self._clock()} elapsed, {self._remaining_text()}",
        )
        best = Text(self._best_text(), style="green")
        if self._best is not None:
            best.append(f"  {self._settings(self._best[1])}", style="dim")
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for column in ("trial", "epoch", settings.objective, "searched"):
            table.add_column(column, no_wrap=column != "searched")
        for name, running in sorted(self._running.items()):
            value = "-" if running.value is None else f"{running.value:.4f}"
            table.add_row(name, f"{running.epoch}/{settings.epochs}", value, self._settings(name))
        return Group(head, Text(self._count_text()), best, table)

    def _settings(self, name: str) -> str:
        return settings_text(self._record.frozen()[int(name)].params)

    def _improve(self, value: float, name: str, epoch: int) -> None:
        sign = 1 if maximised(self._record.settings.objective) else -1
        if self._best is None or sign * value > sign * self._best[0]:
            self._best = (value, name, epoch)

    def _best_text(self) -> str:
        if self._best is None:
            return "no epoch yet"
        value, name, epoch = self._best
        return f"best so far {self._record.settings.objective} {value:.4f} (trial {name}, epoch {epoch})"

    def _count_text(self) -> str:
        states = [trial.state for trial in self._record.frozen()]
        parts = [f"{states.count(state)} {word}" for state, word in ENDED.items() if states.count(state)]
        return ", ".join([f"{len(self._running)} running", *parts])

    def _clock(self) -> str:
        return _duration(time.monotonic() - self._began)

    def _remaining_text(self) -> str:
        elapsed = time.monotonic() - self._started
        trials = self._record.frozen()
        lengths = [len(trial.intermediate_values) for trial in trials if trial.state in ENDED]
        estimates = []
        if lengths and self._epochs:
            # A trial is taken to be as long as the ended ones on average; one that is longer is taken to be at its end.
            length = sum(lengths) / len(lengths)
            under_way = sum(max(0.0, length - running.epoch) for running in self._running.values())
            to_come = max(0, self._record.trials - len(lengths) - len(self._running)) * length
            estimates.append(elapsed / self._epochs * (under_way + to_come))
        if self._deadline is not None:
            estimates.append(max(0.0, self._deadline - time.monotonic()))
        return f"about {_duration(min(estimates))} left" if estimates else "remaining time unknown yet"

    def _ended(self) -> int:
        return sum(trial.state in ENDED for trial in self._record.frozen())

    def __getstate__(self) -> dict[str, Any]:
        # Ray pickles callbacks beside its experiment; a terminal cannot be, and nothing is ever unpickled.
        return {}


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
