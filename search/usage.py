"""Where a session's time went: what the slots did, as shares, and how long the first step was in coming."""

from collections.abc import Iterable
from typing import Any


class Usage:
    """Adds up what the workers say of each epoch.

    Args:
        slots: trials at once, until `resize` says otherwise.
        began: seconds of a clock at the command's start; `now` below is of the same clock.
    """

    def __init__(self, slots: int, began: float) -> None:
        self.began = began
        self._slots, self._since, self._before = slots, 0.0, 0.0  # since when there are so many, and the time before
        self.first_step = 0.0  # when it began, on the clock
        self.trained = self.kept = self.between_epochs = self.between_trials = 0.0  # seconds, over all slots
        self._trials: set[str] = set()

    def add(self, trial: str, result: dict[str, Any], now: float) -> None:
        """Takes in an epoch, reported `now`: its `seconds` of training and validation, its `kept_seconds` of files and
        the `beside_seconds` that these took from the next epoch, and the `lost_seconds` before it, since its worker's
        last epoch: messages, a network that is built."""
        seconds, kept, lost = result["seconds"], result["kept_seconds"], result["lost_seconds"]
        if not self._trials:
            self.first_step = self._since = now - seconds - kept
        if trial in self._trials:
            self.between_epochs += lost
        else:  # what a worker did before the first step of all is not of the time that is shared out
            self.between_trials += max(0.0, min(lost, now - seconds - kept - self.first_step))
        self._trials.add(trial)
        self.trained += seconds - result["beside_seconds"]
        self.kept += kept + result["beside_seconds"]

    def resize(self, slots: int, now: float) -> None:
        """There are so many slots from now on."""
        if self._trials:
            self._before, self._since = self._whole(now), now
        self._slots = slots

    def _whole(self, now: float) -> float:
        """The time of all slots since the first step."""
        return self._before + self._slots * (now - self._since)

    def lost(self, now: float, under_way: Iterable[float]) -> float | None:
        """The share of the slots' time since the first step that was neither training nor validation, in [0, 1]; None
        where nothing was trained.

        Args:
            under_way: for each running trial when it was last heard of: what it has done since is in no share yet.
        """
        if not self._trials:
            return None
        whole = self._whole(now) - sum(now - max(then, self.first_step) for then in under_way)
        return max(0.0, 1 - self.trained / whole) if whole > 0 else None

    def line(self, now: float) -> str:
        """The shares in a sentence, at the session's end; nothing where nothing was trained.

        They are of the time of all slots from the first step on; what is left over is idle: workers that start, and
        slots for which no trial is left.
        """
        if not self._trials:
            return ""
        whole = self._whole(now)
        parts = {
            "training and validation": self.trained,
            "checkpoints and logits": self.kept,
            "between epochs": self.between_epochs,
            "between trials": self.between_trials,
        }
        parts["idle"] = max(0.0, whole - sum(parts.values()))
        shares = ", ".join(f"{name} {100 * seconds / whole:.1f} %" for name, seconds in parts.items())
        return f"First step after {self.first_step - self.began:.1f} s. Time of the slots since: {shares}."
