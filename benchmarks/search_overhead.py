"""What a search loses: between its trials, and of its slots' time in all that is not training or validation.

    python -m benchmarks.search_overhead --data faces/data.csv --out search_overhead.json
    python -m benchmarks.search_overhead --data faces/data.csv --scheduler none

`python -m search.run` of the space `dropout`, two trials at once, by the trials' own records. Between two trials of one
worker is all from the last epoch's files of the one to the first training step of the other. The slots' time runs from
the first training step of the search to the end of its last epoch; what no part of it names is idle: a worker that
still starts, or a slot for which no trial is left. There is no peer. The idle end is long or short by the chance of
which trial comes last, so that there are several searches, of a seed each.
"""

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, Goal, Machine, finish, parser
from benchmarks.pictures import part_of
from benchmarks.runs import Trial, run, trials_of
from search.options import SCHEDULERS

SLOTS = 2


def between_trials(trials: Sequence[Trial]) -> list[float]:
    """Seconds before each trial that was not its worker's first. The trials are in the order of their first steps."""
    workers: set[int] = set()
    found = []
    for trial in trials:
        if trial.worker in workers:
            found.append(trial.before)
        workers.add(trial.worker)
    return found


def shares(trials: Sequence[Trial], slots: int) -> dict[str, float]:
    """Of the slots' time, by what was done in it; they sum to 1."""
    whole = slots * (max(trial.ended for trial in trials) - min(trial.began for trial in trials))
    parts = {
        "training and validation": sum(trial.trained for trial in trials),
        "files": sum(trial.kept for trial in trials),
        "between epochs": sum(trial.between_epochs for trial in trials),
        "between trials": sum(between_trials(trials)),
    }
    found = {name: seconds / whole for name, seconds in parts.items()}
    return {**found, "idle": 1 - sum(found.values())}


@dataclass(frozen=True)
class Search:
    """One that was run."""

    trials: list[Trial]
    said: list[str]  # of its time, by itself

    @property
    def gaps(self) -> list[float]:
        """Seconds between trials."""
        return between_trials(self.trials)

    @property
    def lost(self) -> float:
        """The share of the slots' time that was not training or validation."""
        return 1 - shares(self.trials, SLOTS)["training and validation"]

    @property
    def details(self) -> dict[str, Any]:
        """For the JSON."""
        return {
            "between_trials_seconds": [round(gap, 4) for gap in self.gaps],
            "shares": shares(self.trials, SLOTS),
            "epochs": [len(trial.epochs) for trial in self.trials],
            "workers": len({trial.worker for trial in self.trials}),
            "the_search_said": self.said,
        }


def search(options: Mapping[str, object], seed: int, out: Path) -> Search:
    """Runs one."""
    name = f"overhead-{seed}"
    done = run("search.run", {**options, "seed": seed, "out": out, "name": name})
    return Search(trials_of(out / name), [line for line in done.said.splitlines() if line.startswith("First step")])


def main() -> None:
    machine = Machine.now()
    command = parser(__doc__)
    command.add_argument("--data", type=Path, metavar="CSV", help="with Image,Label (default: random images)")
    command.add_argument("--images", type=int, help="of the data (default: all; of random ones 2000)")
    command.add_argument("--image-size", type=int, default=64)
    command.add_argument("--trials", type=int, default=16)
    command.add_argument("--epochs", type=int, default=8)
    command.add_argument("--scheduler", choices=SCHEDULERS, help="as of a search (default: the space's)")
    command.add_argument("--seeds", type=int, default=3)
    arguments = command.parse_args()
    if arguments.trials <= SLOTS:
        command.error(f"--trials: {arguments.trials} on {SLOTS} slots leave nothing between trials; give more.")

    with tempfile.TemporaryDirectory() as folder:
        options = {"space": "dropout", "data": part_of(arguments.data, arguments.images, Path(folder))}
        options |= {"image-size": arguments.image_size, "trials": arguments.trials, "epochs": arguments.epochs}
        options |= {"scheduler": arguments.scheduler, "max-concurrent": SLOTS, "cache": Path(folder, "cache")}
        searches = [search(options, seed, Path(folder)) for seed in range(arguments.seeds)]
    gaps = [gap for one in searches for gap in one.gaps]
    epochs = f"{'' if arguments.scheduler == 'none' else 'up to '}{arguments.epochs} epochs"
    what = f"{arguments.trials} trials of {epochs} at {arguments.image_size} px"
    figures = [
        Figure(
            f"{what}: between two trials, s, median", statistics.median(gaps), len(gaps), goal=Goal("ours", "<=", 0.2)
        ),
        Figure(f"{what}: between two trials, s, longest", max(gaps), len(gaps), goal=Goal("ours", "<=", 0.2)),
        Figure(
            f"{what}: share of time not in training or validation, mean",
            statistics.mean(one.lost for one in searches),
            n=len(searches),
            goal=Goal("ours", "<=", 0.05),
        ),
    ]
    finish("search_overhead", machine, figures, [one.details for one in searches], arguments.out)


if __name__ == "__main__":
    main()
