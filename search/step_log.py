"""tune/TRIAL/result.json: which worker trained what, when; a line for each result that the driver hears of.

Ray's own logger writes these lines elsewhere, and brings them into the run's folder from time to time: what it has not
when the driver is killed is lost.
"""

import json
import os
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.utils.util import SafeFallbackEncoder

from search.unpickled import Unpickled
from trainable import files


class StepLog(Unpickled, Callback):  # type: ignore[misc]  # Ray's class is untyped
    """Writes each line straight into a run's folder."""

    def __init__(self, run: Path) -> None:
        self._run = run

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        path = self._run / "tune" / trial.config["trial"] / "result.json"
        files.make_folder(path.parent)
        line = json.dumps(result, cls=SafeFallbackEncoder).encode() + b"\n"
        with open(path, "a+b", buffering=0) as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # torn, as a driver was killed or the disk full
                    line = b"\n" + line
            file.write(line)
