"""A search whose trials a test starts and ends itself, followed as Ray would have it followed."""

import io
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
from rich.console import Console

from search.progress import Progress
from search.standing import Standing
from search.study import Settings, StudyRecord
from search.usage import Usage
from search.view import View
from spaces.space import Space
from trainable.config import Objective, TrialConfig


def sample(trial: optuna.Trial) -> TrialConfig:
    return TrialConfig(lr=trial.suggest_float("lr", 1e-4, 1e-1, log=True))


class Search:
    """A search of four trials of two epochs, on two slots, of 100 images each, shown on a console of 100 columns."""

    def __init__(
        self,
        folder: Path,
        terminal: bool = False,
        deadline: float | None = None,
        objective: Objective = "valid_loss",
        compared: Sequence[int] = (),
        size: tuple[int, int] = (100, 25),
    ) -> None:
        settings = Settings(2, 28, (), None, objective, 0)
        space = Space("mine", "", sample, starts=[{"lr": 0.01}])
        self.record = StudyRecord(folder, space, "random", settings, 4)
        self.text = io.StringIO()
        width, height = size
        self.console = Console(
            file=self.text, force_terminal=terminal, width=width, height=height, color_system=None, markup=False
        )
        self.usage = Usage(2, time.monotonic())
        self.standing = Standing(self.record, self.usage, compared, 100, time.monotonic(), deadline)
        self.progress = Progress(self.standing, self.console)

    def start(self) -> SimpleNamespace:
        """The next trial, as Ray knows it."""
        asked = self.record.ask()
        assert asked is not None
        trial = SimpleNamespace(config={"trial": asked.trial})
        self.progress.on_trial_start(0, [], trial)
        return trial

    def epoch(self, trial: SimpleNamespace, epoch: int, loss: float) -> None:
        """Of a second, just now."""
        row: dict[str, Any] = {"valid_loss": loss, "valid_accuracy": 1 - loss, "training_iteration": epoch}
        row |= {"seconds": 1.0, "kept_seconds": 0.0, "beside_seconds": 0.0, "lost_seconds": 0.0}
        self.record.report(trial.config["trial"], epoch, row[self.record.settings.objective])
        self.progress.on_trial_result(0, [], trial, row)

    def view(self) -> str:
        """What a terminal shows."""
        self.console.print(View(self.standing))
        return self.text.getvalue()
