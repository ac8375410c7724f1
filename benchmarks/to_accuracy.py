"""Epochs and seconds to the accuracy that the report's recipe ends with, of each configuration in a finished run.

    python -m search.run --space faster --repeats 5 --data faces/data.csv --image-size 64 --name faster
    python -m benchmarks.to_accuracy runs/faster --out to_accuracy.json

Nothing is trained: metrics.csv of the run's trials is read. The report's recipe is the configuration that leaves all
but what the run decides at its default; the accuracy is the mean over its seeds after --epochs epochs. Each trial gets
there in the first epoch whose validation accuracy is no less, and its seconds are those of its epochs up to it,
validation included. Accuracies waver from epoch to epoch, so that most trials of the recipe itself get there earlier:
it stands in the table like the others, and they are compared with it.

A configuration of which no trial gets there gets there never; where some do, their mean alone would flatter it, and
only their number is said. Intervals are Student's, over the seeds, at 95 %. Trials that did not run their course are
left out. Seconds compare where the machine did nothing else, and as many trials at once throughout. In a process's
first epoch libraries warm up, so that a trial's first counts no more seconds than its second.
"""

import argparse
import dataclasses
import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from scipy import stats

from results.leaderboard import read_metrics
from results.settings import settings_text
from spaces.space import DECIDED_BY_RUN
from trainable.config import TrialConfig
from trainable.errors import UserError
from trainable.files import write_json
from trainable.fit import Row
from trainable.table import count

REPORT = "the report's recipe"


@dataclass(frozen=True)
class Mean:
    """A mean over seeds with half the width of its 95 % interval; of one seed that is unknown."""

    value: float
    margin: float | None


@dataclass(frozen=True)
class Reached:
    """How soon one configuration's trials get to an accuracy; the means are there where all of them do."""

    configuration: str
    seeds: int
    reached: int
    epochs: Mean | None
    seconds: Mean | None


def mean(values: Sequence[float]) -> Mean:
    """Of at least one value."""
    if len(values) == 1:
        return Mean(values[0], None)
    error = statistics.stdev(values) / math.sqrt(len(values))
    return Mean(statistics.mean(values), float(stats.t.ppf(0.975, len(values) - 1)) * error)


def first(rows: Sequence[Row], accuracy: float) -> tuple[int, float] | None:
    """After how many epochs and seconds a trial's validation accuracy is `accuracy` or more; None: never."""
    seconds = 0.0
    for epoch, row in enumerate(rows, start=1):
        seconds += min(row["seconds"], rows[1]["seconds"]) if epoch == 1 and len(rows) > 1 else row["seconds"]
        if row["valid_accuracy"] >= accuracy:
            return epoch, seconds
    return None


def reached(configuration: str, trials: Sequence[Sequence[Row]], accuracy: float) -> Reached:
    """What the trials of one configuration, a seed each, took to get to the accuracy."""
    found = [at for rows in trials if (at := first(rows, accuracy)) is not None]
    if len(found) < len(trials):
        return Reached(configuration, len(trials), len(found), None, None)
    epochs, seconds = ([float(at[part]) for at in found] for part in (0, 1))
    return Reached(configuration, len(trials), len(found), mean(epochs), mean(seconds))


def name_of(config: TrialConfig) -> str:
    """The settings in which a configuration differs from the report's recipe, but for what a run decides."""
    own = {name: value for name, value in _changed(config).items() if name not in (*DECIDED_BY_RUN, "augment")}
    return settings_text({**own, **_changed(config.augment)}) or REPORT


def _changed(settings: Any) -> dict[str, Any]:
    """The fields of a dataclass whose values are not its defaults."""
    default = type(settings)()
    names = [field.name for field in dataclasses.fields(settings)]
    return {name: getattr(settings, name) for name in names if getattr(settings, name) != getattr(default, name)}


def read_trials(run: Path) -> tuple[dict[str, list[list[Row]]], int]:
    """The epochs of a run's trials by their configuration, and how many trials were left out.

    Raises:
        UserError: where there are none, one is damaged, or they differ in what a run decides.
    """
    found: dict[str, list[list[Row]]] = {}
    decided: dict[str, Any] = {}
    left_out = 0
    for path in sorted(run.glob("trials/*/config.json")):
        rows = read_metrics(path.with_name("metrics.csv"))
        try:
            config = TrialConfig.from_dict(json.loads(path.read_text()))
        except (ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is damaged ({error}); restore it from a copy.") from None
        for name in set(DECIDED_BY_RUN) - {"seed"}:
            if decided.setdefault(name, getattr(config, name)) != getattr(config, name):
                raise UserError(f"{run} has trials that differ in {name}: they are no single changes of one recipe.")
        if len(rows) < config.epochs:
            left_out += 1
        else:
            found.setdefault(name_of(config), []).append(rows)
    if not found:
        what = "has no trial that ran its course" if run.is_dir() else "does not exist"
        raise UserError(f"{run} {what}; name a finished run's folder, as in runs/faster.")
    return found, left_out


def compare(trials: Mapping[str, Sequence[Sequence[Row]]], epochs: int | None) -> tuple[Mean, int, list[Reached]]:
    """The accuracy of the report's recipe, after how many epochs, and what each configuration took to get there.

    Args:
        trials: by configuration, the epochs of each.
        epochs: after how many the recipe is asked; None: its last.
    Raises:
        UserError: where the recipe is not among the configurations, or was not trained for so long.
    """
    if REPORT not in trials:
        raise UserError(f"no trial has {REPORT} (all settings at their defaults); search the space 'faster', say.")
    longest = min(len(rows) for rows in trials[REPORT])
    if epochs is not None and epochs > longest:
        raise UserError(f"--epochs: {epochs}, but {REPORT} was trained for {longest}.")
    last = epochs or longest
    accuracy = mean([rows[last - 1]["valid_accuracy"] for rows in trials[REPORT]])
    return accuracy, last, [reached(name, rows, accuracy.value) for name, rows in trials.items()]


def ratio(one: Reached, report: Reached) -> float | None:
    """How many times the report's recipe's seconds are those of another."""
    return report.seconds.value / one.seconds.value if report.seconds and one.seconds else None


def render(found: Sequence[Reached]) -> Table:
    """The configurations for a terminal, in their order."""
    report = next(one for one in found if one.configuration == REPORT)
    view = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("seeds", "epochs", "seconds", "times as fast"):
        view.add_column(name, justify="right", no_wrap=True)
    view.add_column("configuration", overflow="fold")
    for one in found:
        said = [_text(one, part) for part in (one.epochs, one.seconds)]
        times = ratio(one, report)
        view.add_row(str(one.seeds), *said, "-" if times is None else f"{times:.2f}", one.configuration)
    return view


def _text(one: Reached, part: Mean | None) -> str:
    if part is None:
        return f"in {one.reached} of {one.seeds}" if one.reached else "never"
    return f"{part.value:.1f}" if part.margin is None else f"{part.value:.1f} ±{part.margin:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("--epochs", type=int, metavar="N", help="after which the report's recipe is asked; its last")
    parser.add_argument("--out", type=Path, metavar="JSON", help="where the figures shall be written, too")
    arguments = parser.parse_args()
    if arguments.epochs is not None and arguments.epochs < 1:
        parser.error("--epochs must be at least 1.")
    try:
        trials, left_out = read_trials(arguments.run)
        accuracy, epochs, found = compare(trials, arguments.epochs)
    except UserError as error:
        sys.exit(f"Error: {error}")
    report = next(one for one in found if one.configuration == REPORT)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(
            arguments.out,
            {
                "run": arguments.run.name,
                "epochs": epochs,
                "accuracy": dataclasses.asdict(accuracy),
                "left_out": left_out,
                "configurations": [{**dataclasses.asdict(one), "times_as_fast": ratio(one, report)} for one in found],
            },
        )
    margin = "" if accuracy.margin is None else f" ±{100 * accuracy.margin:.1f}"
    print(
        f"To {100 * accuracy.value:.1f}{margin} %, which {REPORT} has after {epochs} epochs; means over seeds with "
        f"95 % intervals; {count(left_out, 'trial')} left out."
    )
    Console().print(render(found))


if __name__ == "__main__":
    main()
