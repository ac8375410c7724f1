"""What a report is made of, for the page and for Markdown: titled sections of text, tables and figures; and numbers
with their intervals as text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from results.predictions import Mistake
from results.scores import Estimate


@dataclass(frozen=True)
class Text:
    """A paragraph; an aside explains how figures are meant."""

    text: str
    aside: bool = False


@dataclass(frozen=True)
class Grid:
    """A table of text. The columns of numbers are aligned to the right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: frozenset[int] = frozenset()
    folded: Sequence[Sequence[str]] = ()  # further rows, for who asks for them


@dataclass(frozen=True)
class Figures:
    """Some of `charts.figures`, side by side where there is room, each with what it shows in words."""

    captions: Mapping[str, str]  # by name
    title: str = ""  # of all of them
    tables: Mapping[str, Grid] = field(default_factory=dict)  # the same in figures, by name


@dataclass(frozen=True)
class Pictures:
    """Images that a model was wrong about."""

    mistakes: Sequence[Mistake]


Block = Text | Grid | Figures | Pictures


@dataclass(frozen=True)
class Section:
    """A titled part of a report."""

    title: str
    blocks: Sequence[Block] = field(default_factory=tuple)


def percent(estimate: Any) -> str:
    return f"{100 * estimate.value:.1f} % [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def cell(estimate: Mapping[str, float], sign: str = "") -> str:
    value, low, high = (f"{round(100 * estimate[name], 1) + 0.0:{sign}.1f}" for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def numbers(estimate: Estimate, form: str) -> str:
    value, low, high = (format(100 * part, form) for part in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def signed(estimate: Estimate) -> str:
    return numbers(estimate, "+.1f")
