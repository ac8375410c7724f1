"""Configurations compared: trials with the same settings are one configuration, whose mean has an error over seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.table import Table
from scipy import stats

from results.scores import NORMAL_95
from results.settings import settings_text


@dataclass(frozen=True)
class Compared:
    """One configuration and what its trials gave."""

    settings: Mapping[str, Any]
    accuracies: tuple[float, ...]  # on validation, a trial each
    images: int  # of validation

    @property
    def mean(self) -> float:
        """The mean accuracy."""
        return sum(self.accuracies) / len(self.accuracies)

    @property
    def error(self) -> float:
        """One standard error of the mean: over seeds where there are several, else of one run over its images.

        Runs that agree by chance do not make it 0: they differ by an image at least.
        """
        count = len(self.accuracies)
        if count == 1:
            return math.sqrt(self.mean * (1 - self.mean) / self.images)
        variance = sum((value - self.mean) ** 2 for value in self.accuracies) / (count - 1)
        return math.sqrt(max(variance, 1 / self.images**2) / count)


@dataclass(frozen=True)
class Difference:
    """How much two configurations differ, with one standard error and half the width of the 95 % interval."""

    value: float
    error: float
    margin: float

    @property
    def clear(self) -> bool:
        """Whether it is beyond the noise."""
        return abs(self.value) > self.margin


def compared(table: pd.DataFrame, searched: Sequence[str], images: int) -> list[Compared]:
    """The leaderboard's completed trials by configuration, the best mean first.

    Args:
        table: the leaderboard.
        searched: its columns of searched parameters.
        images: of validation.
    """
    groups: dict[str, tuple[dict[str, Any], list[float]]] = {}
    for _, row in table[table["state"] == "COMPLETE"].iterrows():
        settings = {name: row[name] for name in searched if row[name] == row[name]}
        groups.setdefault(repr(settings), (settings, []))[1].append(row["valid_accuracy"])
    found = [Compared(settings, tuple(values), images) for settings, values in groups.values()]
    return sorted(found, key=lambda one: -one.mean)


def difference(one: Compared, other: Compared) -> Difference:
    """`one` minus `other`: Welch's interval where both ran with several seeds, else a normal one."""
    error = math.hypot(one.error, other.error)
    counts = [len(one.accuracies), len(other.accuracies)]
    quantile = NORMAL_95
    if min(counts) > 1 and error > 0:
        shares = [part.error**4 / (count - 1) for part, count in zip((one, other), counts, strict=True)]
        quantile = float(stats.t.ppf(0.975, error**4 / sum(shares)))
    return Difference(one.mean - other.mean, error, quantile * error)


def render_comparison(found: Sequence[Compared]) -> Table:
    """The configurations for a terminal: mean, error, seeds, and the difference from the best with its interval."""
    view = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("accuracy, %", "seeds", "against the best, points"):
        view.add_column(name, justify="right", no_wrap=True)
    view.add_column("configuration", overflow="fold")
    for place, one in enumerate(found):
        gap = difference(one, found[0])
        said = "" if place == 0 else f"{100 * gap.value:+.1f} ±{100 * gap.margin:.1f}{'' if gap.clear else ', noise'}"
        count = len(one.accuracies)
        view.add_row(f"{100 * one.mean:.1f} ±{100 * one.error:.1f}", str(count), said, settings_text(one.settings))
    return view


@dataclass(frozen=True)
class Published:
    """Accuracies that somebody else gave for the configurations, from and to, each on as many images."""

    accuracies: Mapping[str, tuple[float, float]]  # by the one setting's value
    images: int

    def difference(self, one: str, other: str) -> Difference:
        """Of single runs, by the middles of the ranges, whose ends are taken to be two standard errors away."""
        middles, variances = [], []
        for low, high in (self.accuracies[one], self.accuracies[other]):
            middle = (low + high) / 2
            middles.append(middle)
            variances.append(middle * (1 - middle) / self.images + ((high - low) / 4) ** 2)
        error = math.sqrt(sum(variances))
        return Difference(middles[0] - middles[1], error, NORMAL_95 * error)


def render_published(found: Sequence[Compared], published: Published) -> tuple[Table, str]:
    """Our figures beside the published ones, and in a sentence where the orders agree beyond the noise."""
    view = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    view.add_column("configuration")
    for name in ("ours, %", "seeds", "published, %"):
        view.add_column(name, justify="right", no_wrap=True)
    ours = {str(next(iter(one.settings.values()))): one for one in found}
    for name, one in ours.items():
        low, high = published.accuracies.get(name, (math.nan, math.nan))
        theirs = "-" if low != low else f"{100 * low:.1f}" if low == high else f"{100 * low:.0f} to {100 * high:.0f}"
        view.add_row(name, f"{100 * one.mean:.1f} ±{100 * one.error:.1f}", str(len(one.accuracies)), theirs)
    both = [name for name in ours if name in published.accuracies]
    pairs = [(one, other) for index, one in enumerate(both) for other in both[index + 1 :]]
    gaps = [(difference(ours[one], ours[other]), published.difference(one, other)) for one, other in pairs]
    clear = [(mine, theirs) for mine, theirs in gaps if mine.clear and theirs.clear]
    agreeing = sum(mine.value * theirs.value > 0 for mine, theirs in clear)
    sentence = (
        f"Of {len(pairs)} pairs with a figure on both sides, {sum(mine.clear for mine, _ in gaps)} differ beyond the "
        f"noise (95 %) here and {sum(theirs.clear for _, theirs in gaps)} there, about {0.05 * len(pairs):.0f} of each "
        f"by chance alone; of the {len(clear)} that do in both, {agreeing} have the same order."
    )
    return view, sentence
