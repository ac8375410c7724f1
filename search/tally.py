"""What has become of a study's trials, counted as it happens: counting anew takes the longer the more there are."""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from optuna.trial import TrialState


class End(NamedTuple):
    """How a trial has ended."""

    state: TrialState
    epochs: int  # the last that the study has heard of; 0: none
    audited: bool


class Tally:
    """Counts of trials, for more than one thread.

    Attributes:
        heard: by epoch, of how many trials the study has heard of it.
    """

    def __init__(self) -> None:
        self.heard: Counter[int] = Counter()
        self._ends: Counter[End] = Counter()
        self._end_of: dict[str, End] = {}
        self._lock = threading.Lock()

    def end(self, name: str, end: End) -> None:
        """A trial has ended so."""
        with self._lock:
            self._ends[end] += 1
            self._end_of[name] = end

    def ends(self, apart: Iterable[str] = ()) -> Mapping[End, int]:
        """How many trials have ended in each way, but for those named, whether they have ended or not."""
        with self._lock:
            left = self._ends.copy()
            left.subtract(self._end_of[name] for name in apart if name in self._end_of)
            return left
