"""What a person sees of a running search: a live view in a terminal, a line a trial elsewhere."""

import time
from typing import Any

from optuna.trial import TrialState
from ray.tune import Callback
from rich.console import Console
from rich.live import Live

from search.standing import ENDED, Standing
from search.unpickled import Unpickled
from search.view import View, best_text, clock, count_text, remaining_text, throughput_text
from trainable.table import count

SILENCE_SECONDS = 300.0  # in a pipe: without a trial's end for so long, a line says that the search is alive


class Progress(Unpickled, Callback):  # type: ignore[misc]  # Ray's class is untyped
    """Tells `standing` what Ray says of the trials, and shows it."""

    def __init__(self, standing: Standing, console: Console) -> None:
        self._standing = standing
        self._console = console
        self._live: Live | None = None
        self._said = time.monotonic()  # when the last line was printed
        self._slower: set[str] = set()  # the reasons that were told

    def __enter__(self) -> "Progress":
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(View(self._standing), console=self._console, refresh_per_second=2, transient=True)
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._standing.start(trial.config["trial"])

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        name = trial.config["trial"]
        self._standing.hear(name, result)
        if "anew" in result:
            self._say(f"Trial {name}: {result['anew']}; it begins anew.")
        slower = result.get("slower")
        if slower is not None and slower not in self._slower:  # each worker says so
            self._slower.add(slower)
            self._say(f"Warning: epochs take longer than they need to, as a part is not compiled: {slower}.")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._end(trial.config["trial"])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._end(trial.config["trial"])

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        name = trial.config["trial"]
        running = self._standing.snapshot().running.get(name)
        self._say(f"Trial {name}: its worker died; it goes on from epoch {running.epoch if running else 0}.")

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if self._live is None and time.monotonic() - self._said > SILENCE_SECONDS:
            now = self._standing.snapshot()
            parts = (count_text(now), *throughput_text(now), best_text(now))
            self._say(f"[{clock(now.elapsed)}] {'; '.join(parts)}; {remaining_text(now)}")

    def _end(self, name: str) -> None:
        running = self._standing.end(name)
        if running is None:
            return
        trial = self._standing.record.trial(name)
        if self._live is not None and trial.state != TrialState.FAIL:
            return
        now = self._standing.snapshot()
        what = ENDED.get(trial.state, "interrupted")
        if name in self._standing.record.audited:
            what += f" at epoch {trial.last_step}, audited"
        value = "" if running.value is None else f", {now.objective} {running.value:.4f}"
        reason = trial.user_attrs.get("end", {}).get("reason")
        self._say(
            f"[{clock(now.elapsed)}] trial {name} {what} after {count(running.epoch, 'epoch')}{value}"
            f"{f' ({reason})' if reason else ''}; {best_text(now)}; "
            f"{count_text(now)} of {now.planned}"
        )

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        self._said = time.monotonic()
