"""The live view of a search in a terminal."""

import math
from collections.abc import Iterator, Mapping

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from results.settings import settings_text
from search.standing import Standing
from trainable.table import count

BARS = "▁▂▃▄▅▆▇█"
BAR_WIDTH = 30
CURVE_WIDTH, WIDE_CURVE_WIDTH, WIDE = 12, 30, 120  # characters; of a curve in a terminal of WIDE columns or more


class View:
    """Renders a search as it stands, within the terminal's width and height."""

    def __init__(self, standing: Standing) -> None:
        self._standing = standing

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        lines = [count_text(self._standing), *throughput_text(self._standing), *rungs_text(self._standing)]
        yield self._head(options.max_width)
        for line in lines:
            yield Text(line, no_wrap=True, overflow="ellipsis")
        yield Text(best_text(self._standing), style="green", no_wrap=True, overflow="ellipsis")
        # Below the head, the lines, the best, the table's header, and above the line where the cursor is.
        yield self._trials(options.max_width, console.height - len(lines) - 4)

    def _head(self, width: int) -> Table:
        standing = self._standing
        ended, trials = standing.ended(), standing.record.trials
        text = f"{ended} of {count(trials, 'trial')}, {clock(standing.elapsed())} elapsed, {remaining_text(standing)}"
        head = Table.grid(padding=(0, 1, 0, 0))
        bar = max(1, min(BAR_WIDTH, width - len(text) - 1))
        head.add_row(ProgressBar(total=trials, completed=ended, width=bar), Text(text, no_wrap=True))
        return head

    def _trials(self, width: int, height: int) -> Table:
        """The best trial and the running ones with their curves, as many as there is room for."""
        standing, best = self._standing, self._standing.best
        epochs = standing.record.settings.epochs
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
        for column in ("trial", "epoch", standing.objective, "curve"):
            table.add_column(column, no_wrap=True)
        table.add_column("searched")  # the one column that gives way where the terminal is narrow
        names = sorted(standing.running)
        if best is not None and best.trial not in standing.running:
            names.insert(0, best.trial)
        hidden = len(names) - height
        if hidden > 0:
            names = names[: max(1, height - 1)]
        trials = {name: standing.trial(name) for name in names}
        values = [value for trial in trials.values() for value in trial.intermediate_values.values()]
        scale = (min(values), max(values)) if values else (0.0, 1.0)
        curve_width = min(epochs, WIDE_CURVE_WIDTH if width >= WIDE else CURVE_WIDTH)
        for name, trial in trials.items():
            curve = trial.intermediate_values
            running = standing.running.get(name)
            is_best = best is not None and name == best.trial
            epoch = running.epoch if running else max(curve)
            value = best.value if best is not None and running is None else running and running.value
            table.add_row(
                name,
                f"{epoch}/{epochs}",
                "-" if value is None else f"{value:.4f}",
                sparkline(curve, epochs, curve_width, *scale),
                Text(settings_text(trial.params), no_wrap=True, overflow="ellipsis"),
                style="green" if is_best else "",
            )
        if hidden > 0:
            table.add_row("...", f"{len(standing.running) - sum(name in standing.running for name in names)} more")
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


def best_text(standing: Standing) -> str:
    """'best so far valid_accuracy 0.9481 (trial 0003, epoch 5)'."""
    best = standing.best
    if best is None:
        return "no epoch yet"
    return f"best so far {standing.objective} {best.value:.4f} (trial {best.trial}, epoch {best.epoch})"


def count_text(standing: Standing) -> str:
    """'2 running, 9 waiting, 1 finished'."""
    counts = standing.counts()
    return ", ".join(f"{number} {state}" for state, number in counts.items() if number or state == "running")


def throughput_text(standing: Standing) -> list[str]:
    """A line; none before the first epoch's end."""
    epochs, images, lost = standing.epochs_a_second(), standing.images_a_second(), standing.lost()
    if epochs is None or images is None:
        return []
    line = f"{60 * epochs:.3g} epochs a minute, {images:,.0f} images a second"
    return [line if lost is None else f"{line}, {100 * lost:.1f} % of the slots' time lost"]


def rungs_text(standing: Standing) -> list[str]:
    """A line; none where the scheduler has no rungs, or no trial has reached one."""
    rungs = [f"{rung.let_on} of {rung.reached} after epoch {rung.epoch}" for rung in standing.rungs()]
    return [f"let on: {', '.join(rungs)}"] if rungs else []


def remaining_text(standing: Standing) -> str:
    """'about 0:08:10 left'."""
    remaining = standing.remaining()
    return "remaining time unknown yet" if remaining is None else f"about {clock(remaining)} left"


def clock(seconds: float) -> str:
    """'1:02:03'."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
