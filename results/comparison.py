"""Configurations compared: trials with the same settings are one configuration, whose mean has an error over seeds.

Nothing here knows of trials that were stopped: of several seeds those that a scheduler let live would flatter theirs.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from optuna.trial import FrozenTrial
from rich.table import Table
from scipy import stats

from results.leaderboard import SEARCHED, error_over_images
from results.settings import settings_text
from trainable.paths import trial_name
from trainable.table import count


@dataclass(frozen=True)
class Compared:
    """One configuration and what its trials gave."""

    settings: Mapping[str, Any]
    accuracies: tuple[float, ...]  # on validation, a trial each
    images: int  # of validation
    failed: int = 0  # trials that gave none
    seeds: tuple[int, ...] = ()  # of the accuracies, where they are known

    @property
    def mean(self) -> float:
        """The mean accuracy."""
        return sum(self.accuracies) / len(self.accuracies)

    @property
    def error(self) -> float:
        """One standard error of the mean: over seeds where there are several, else of one run over its images.

        Runs that agree by chance do not make it 0: they differ by an image at least.
        """
        seeds = len(self.accuracies)
        if seeds == 1:
            return error_over_images(self.mean, self.images)
        variance = sum((value - self.mean) ** 2 for value in self.accuracies) / (seeds - 1)
        return math.sqrt(max(variance, 1 / self.images**2) / seeds)

    @property
    def freedom(self) -> float:
        """The error's degrees of freedom: infinitely many where it is over images."""
        return len(self.accuracies) - 1 or math.inf


@dataclass(frozen=True)
class Figure:
    """An accuracy that somebody else gave, of one run; a range, where its ends differ."""

    low: float
    high: float
    words: str  # as it was said, where that was no number
    images: int  # that it was measured on

    @property
    def mean(self) -> float:
        """The middle of the range."""
        return (self.low + self.high) / 2

    @property
    def error(self) -> float:
        """One standard error over the images; the ends of a range are taken to be two more away from its middle."""
        return math.sqrt(self.mean * (1 - self.mean) / self.images + ((self.high - self.low) / 4) ** 2)

    @property
    def freedom(self) -> float:
        """The error's degrees of freedom."""
        return math.inf


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


class SharedSeeds:
    """Differences over seeds that configurations share: what a seed does to all of them is no noise between them.

    One deviation is taken for all configurations, of what is left once each has its mean and each seed its effect.

    Args:
        accuracies: of each configuration, by seed.
        images: of validation: runs that agree by chance differ by one at least.
    """

    def __init__(self, accuracies: Sequence[Mapping[int, float]], images: int) -> None:
        cells = [(i, seed, value) for i, own in enumerate(accuracies) for seed, value in own.items()]
        seeds = sorted({seed for _, seed, _ in cells})
        design = np.zeros((len(cells), len(accuracies) + len(seeds)))
        for row, (i, seed, _) in enumerate(cells):
            design[row, [i, len(accuracies) + seeds.index(seed)]] = 1
        values = np.array([value for *_, value in cells])
        effects, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
        self._configurations = len(accuracies)
        self._freedom = len(cells) - int(rank)
        squares = float(((values - design @ effects) ** 2).sum())
        self._variance = max(squares / self._freedom, 1 / images**2) if self._freedom else np.inf

    def difference(self, one: Mapping[int, float], other: Mapping[int, float]) -> Difference | None:
        """`one` minus `other`, with an interval that holds together with those of all pairs; None where there is none.

        Source: Tukey's range test of a randomised block design, a seed a block.
        """
        shared = one.keys() & other.keys()
        if one is other or not shared or not self._freedom:
            return None
        error = float(np.sqrt(2 * self._variance / len(shared)))
        value = float(np.mean([one[seed] - other[seed] for seed in sorted(shared)]))
        return Difference(value, error, quantile(self._configurations, self._freedom) * error)


def compared(
    table: pd.DataFrame, searched: Sequence[str], images: int, seeds: Mapping[str, int] | None = None
) -> list[Compared]:
    """The leaderboard's completed trials by configuration, the best mean first, with how many of it failed.

    Args:
        table: the leaderboard.
        searched: its columns of searched parameters.
        images: of validation.
        seeds: of the trainings, by trial; None where they are not known.
    """
    groups: dict[str, tuple[dict[str, Any], list[float], list[int]]] = {}
    failed: Counter[str] = Counter()
    for _, row in table[table["state"].isin(("COMPLETE", "FAIL"))].iterrows():
        settings = {name.removesuffix(SEARCHED): row[name] for name in searched if row[name] == row[name]}
        if row["state"] == "FAIL":
            failed[repr(settings)] += 1
        else:
            _, values, own = groups.setdefault(repr(settings), (settings, [], []))
            values.append(row["valid_accuracy"])
            own += [seeds[row["trial"]]] if seeds else []
    found = [
        Compared(settings, tuple(values), images, failed[key], tuple(own))
        for key, (settings, values, own) in groups.items()
    ]
    return sorted(found, key=lambda one: -one.mean)


def seeds_of(trials: Sequence[FrozenTrial]) -> dict[str, int]:
    """The seeds that a study's trials trained with, by their names."""
    return {
        trial_name(trial.number): trial.user_attrs["config"]["seed"] for trial in trials if "config" in trial.user_attrs
    }


def share_seeds(found: Sequence[Compared]) -> bool:
    """Whether two seeds at least were tried with each of the configurations."""
    return len(found) > 1 and len(set.intersection(*(set(one.seeds) for one in found))) > 1


def comparer(found: Sequence[Compared]) -> Callable[[Compared, Compared], Difference]:
    """How one of them differs from another: in pairs where all share seeds, else as `difference` says."""
    if not share_seeds(found):
        return lambda one, other: difference(one, other, len(found))
    accuracies = {id(one): dict(zip(one.seeds, one.accuracies, strict=True)) for one in found}
    shared = SharedSeeds(list(accuracies.values()), found[0].images)

    def paired(one: Compared, other: Compared) -> Difference:
        gap = shared.difference(accuracies[id(one)], accuracies[id(other)])
        assert gap is not None  # of two configurations with two seeds in common there is one
        return gap

    return paired


def method_text(found: Sequence[Compared]) -> str:
    """How `comparer` compares, in words."""
    return "in pairs over the seeds that they share, Tukey's test" if share_seeds(found) else "Games and Howell 1976"


def margin(one: Compared | Figure) -> float:
    """Half the width of its own 95 % interval."""
    return float(stats.t.ppf(0.975, one.freedom)) * one.error


def difference(one: Compared | Figure, other: Compared | Figure, configurations: int) -> Difference:
    """`one` minus `other`, with an interval that holds together with those of all pairs of so many configurations.

    So it holds, too, where the pair was chosen for what it gave, as the best of them. It takes their errors to be
    independent: of runs that share seeds, `comparer` knows better.

    Source: Games and Howell 1976, Pairwise Multiple Comparison Procedures with Unequal N's and/or Variances. Whole
    degrees of freedom, rounded down: of three seeds each their interval is a little too narrow where there are many.
    """
    error = math.hypot(one.error, other.error)
    freedom = math.inf
    shares = sum(part.error**4 / part.freedom for part in (one, other))
    if shares > 0:
        freedom = math.floor(error**4 / shares + 1e-9)  # 3.999999999999 is 4
    return Difference(one.mean - other.mean, error, quantile(configurations, freedom) * error)


@cache  # a tenth of a second each
def quantile(configurations: int, freedom: float) -> float:
    """How many standard errors all differences of so many means lie within, at 95 %."""
    return float(stats.studentized_range.ppf(0.95, configurations, freedom)) / math.sqrt(2)


def render_comparison(found: Sequence[Compared]) -> Table:
    """The configurations for a terminal: mean, error, seeds, and the difference from the best with its interval."""
    view = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("accuracy, %", "seeds", f"against the best of {len(found)}, points"):
        view.add_column(name, justify="right", no_wrap=True)
    view.add_column("configuration", overflow="fold")
    compare = comparer(found)
    for place, one in enumerate(found):
        said = ""
        if place > 0:
            gap = compare(one, found[0])
            said = f"{100 * gap.value:+.1f} ±{100 * gap.margin:.1f}{'' if gap.clear else ', noise'}"
        seeds = str(len(one.accuracies))
        if one.failed:  # of seeds that fail the others flatter, as they do where a scheduler stops some
            seeds += f" of {len(one.accuracies) + one.failed}"
        view.add_row(f"{100 * one.mean:.1f} ±{100 * one.error:.1f}", seeds, said, settings_text(one.settings))
    return view


def render_published(found: Sequence[Compared], parameter: str, published: Mapping[str, Figure]) -> tuple[Table, str]:
    """Our figures beside the published ones with their 95 % intervals, and where the orders agree beyond the noise.

    Args:
        found: our configurations.
        parameter: the one that tells them apart.
        published: by its values, as text.
    """
    view = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    view.add_column("configuration")
    for name in ("ours, %", "seeds", "published, %"):
        view.add_column(name, justify="right", no_wrap=True)
    ours = {str(one.settings[parameter]): one for one in found}
    for name, one in ours.items():
        theirs = _text(published[name]) if name in published else "-"
        view.add_row(name, f"{100 * one.mean:.1f} ±{100 * margin(one):.1f}", str(len(one.accuracies)), theirs)

    both = [name for name in ours if name in published]
    pairs = list(combinations(both, 2))
    compare = comparer([ours[name] for name in both])
    clear_here, clear_there = 0, 0
    same: list[tuple[str, str]] = []  # the better one here, the worse one
    opposite: list[tuple[str, str]] = []
    for one_name, other_name in pairs:
        here = compare(ours[one_name], ours[other_name])
        there = difference(published[one_name], published[other_name], len(both))
        clear_here += here.clear
        clear_there += there.clear
        if here.clear and there.clear:
            agree = here.value * there.value > 0
            (same if agree else opposite).append((one_name, other_name) if here.value > 0 else (other_name, one_name))
    return view, (
        f"Of {count(len(pairs), 'pair')} with a figure on both sides, {clear_here} differ beyond the noise here and "
        f"{clear_there} there, by intervals that hold together at 95 % on each side.\n"
        f"On both sides, in the same order: {_orders(same)}.\n"
        f"On both sides, here the other way round: {_orders(opposite)}."
    )


def _text(figure: Figure) -> str:
    if figure.words:
        return figure.words
    if figure.low < figure.high:
        return f"{100 * figure.low:.0f} to {100 * figure.high:.0f}"
    return f"{100 * figure.mean:.1f} ±{100 * margin(figure):.1f}"


def _orders(pairs: Sequence[tuple[str, str]]) -> str:
    """'A, B over C, D; C over D' of pairs of a better and a worse one; 'none' of none."""
    worse: dict[str, list[str]] = {}
    for better, other in pairs:
        worse.setdefault(better, []).append(other)
    better_ones: dict[tuple[str, ...], list[str]] = {}  # by what they are better than
    for better, others in worse.items():
        better_ones.setdefault(tuple(others), []).append(better)
    return "; ".join(f"{', '.join(names)} over {', '.join(others)}" for others, names in better_ones.items()) or "none"
