"""The live view of a search in a terminal."""

import math
from collections.abc import Iterator, Mapping

from rich.console import Console, ConsoleOptions, RenderableType
from rich.constrain import Constrain
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from results.settings import settings_text
from search.standing import Snapshot, Standing
from trainable.table import count

BARS = "▁▂▃▄▅▆▇█"
BAR_WIDTH = 30
CURVE_WIDTH, WIDE_CURVE_WIDTH, WIDE = 12, 30, 120  # characters; of a curve in a terminal of WIDE columns or more


class View:
    """Renders a search as it stands, within the terminal's width and height."""

    def __init__(self, standing: Standing) -> None:
        self._standing = standing

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        try:
            parts = rendered(self._standing.snapshot(), options.max_width, console.height)
        except Exception as error:
            # It would end rich's refreshing thread with a traceback, and the view would stand still from then on.
            parts = [_line(f"no view: {error!r}")]
        yield from parts


def rendered(now: Snapshot, width: int, height: int) -> list[RenderableType]:
    """The view's parts from the top, in a terminal of `width` columns and `height` rows."""
    lines = [count_text(now), *throughput_text(now), *rungs_text(now)]
    # Below the head, the lines, the best, the table's header, and above the line where the cursor is.
    trials = _trials(now, width, height - len(lines) - 4)
    return [
        _head(now, width),
        *map(_line, lines),
        _line(best_text(now), style="green"),
        # A terminal writes ^C where the cursor is, behind the last row; were it wrapped, a row of the view would stay.
        Constrain(trials, max(1, width - len("^C"))),
    ]


def _line(text: str, style: str = "") -> Text:
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def _head(now: Snapshot, width: int) -> Table:
    text = f"{now.ended} of {count(now.planned, 'trial')}, {clock(now.elapsed)} elapsed, {remaining_text(now)}"
    head = Table.grid(padding=(0, 1, 0, 0))
    bar = max(1, min(BAR_WIDTH, width - len(text) - 1))
    head.add_row(ProgressBar(total=now.planned, completed=now.ended, width=bar), Text(text, no_wrap=True))
    return head


def _trials(now: Snapshot, width: int, height: int) -> Table:
    """The best trial and the running ones with their curves, as many as there is room for."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for column in ("trial", "epoch", now.objective, "curve"):
        table.add_column(column, no_wrap=True)
    table.add_column("searched")  # the one column that gives way where the terminal is narrow
    latest = {name: (running.epoch, running.value) for name, running in sorted(now.running.items())}
    if now.best is not None:  # is first, and where it has ended its value is its best epoch's
        last = max(now.trial(now.best.trial).intermediate_values, default=0)
        latest = {now.best.trial: (last, now.best.value)} | latest
    names = list(latest)
    if len(names) > height:
        names = names[: max(1, height - 1)]
    values = [value for name in names for value in now.trial(name).intermediate_values.values() if math.isfinite(value)]
    scale = (min(values), max(values)) if values else (0.0, 1.0)
    curve_width = min(now.epochs, WIDE_CURVE_WIDTH if width >= WIDE else CURVE_WIDTH)
    for name in names:
        trial, (epoch, value) = now.trial(name), latest[name]
        table.add_row(
            name,
            f"{epoch}/{now.epochs}",
            "-" if value is None else f"{value:.4f}",
            sparkline(trial.intermediate_values, now.epochs, curve_width, *scale),
            Text(settings_text(trial.params), no_wrap=True, overflow="ellipsis"),
            style="green" if now.best is not None and name == now.best.trial else "",
        )
    if len(names) < len(latest):
        table.add_row("...", f"{len(latest) - len(names)} more")
    return table


def sparkline(values: Mapping[int, float], epochs: int, width: int, low: float, high: float) -> str:
    """A curve as a row of bars, of which each stands for the last known value of its part of the epochs.

    Args:
        values: by epoch, from 1.
        epochs: what the whole width stands for.
        width: characters, at most `epochs`.
        low, high: the values of the lowest and the highest bar. What is not finite is a space.
    """
    bars = [" "] * width
    for epoch in sorted(values):
        if math.isfinite(values[epoch]):
            share = (values[epoch] - low) / (high - low) if high > low else 0.5
            bars[(epoch - 1) * width // epochs] = BARS[round(min(1.0, max(0.0, share)) * (len(BARS) - 1))]
    return "".join(bars).rstrip()


def best_text(now: Snapshot) -> str:
    """'best so far valid_accuracy 0.9481 (trial 0003, epoch 5)'."""
    best = now.best
    if best is None:
        return "no epoch yet"
    return f"best so far {now.objective} {best.value:.4f} (trial {best.trial}, epoch {best.epoch})"


def count_text(now: Snapshot) -> str:
    """'2 running, 9 waiting, 1 finished'."""
    return ", ".join(f"{number} {state}" for state, number in now.counts.items() if number or state == "running")


def throughput_text(now: Snapshot) -> list[str]:
    """A line; none before the first epoch's end."""
    if now.epochs_a_second is None or now.images_a_second is None:
        return []
    epochs = 60 * now.epochs_a_second
    rate = f"{epochs:,.0f}" if epochs >= 100 else f"{epochs:.3g}"
    line = f"{rate} epochs a minute, {now.images_a_second:,.0f} images a second"
    return [line if now.lost is None else f"{line}, {100 * now.lost:.1f} % of the slots' time lost"]


def rungs_text(now: Snapshot) -> list[str]:
    """A line; none where the scheduler has no rungs, or no trial has reached one."""
    rungs = [f"{rung.let_on} of {rung.reached} after epoch {rung.epoch}" for rung in now.rungs]
    return [f"let on: {', '.join(rungs)}"] if rungs else []


def remaining_text(now: Snapshot) -> str:
    """'about 0:08:10 left'."""
    return "remaining time unknown yet" if now.remaining is None else f"about {clock(now.remaining)} left"


def clock(seconds: float) -> str:
    """'1:02:03'."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
