"""What a search loses: between its trials, and of its slots' time in all that is not training or validation.

    python -m benchmarks.search_overhead --data faces/data.csv --out search_overhead.json
    python -m benchmarks.search_overhead --data faces/data.csv --scheduler none

`python -m search.run` of the space `dropout`, two trials at once, by the trials' own records. Between two trials of one
worker is all from the last epoch's files of the one to the first training step of the other. The slots' time runs from
the first training step of the search to the end of its last epoch; what no part of it names is idle: a worker that
still starts, or a slot for which no trial is left. There is no peer.
"""

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

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


def main() -> None:
    machine = Machine.now()
    command = parser(__doc__)
    command.add_argument("--data", type=Path, metavar="CSV", help="with Image,Label (default: random images)")
    command.add_argument("--images", type=int, help="of the data (default: all; of random ones 2000)")
    command.add_argument("--image-size", type=int, default=64)
    command.add_argument("--trials", type=int, default=16)
    command.add_argument("--epochs", type=int, default=8)
    command.add_argument("--scheduler", choices=SCHEDULERS, help="as of a search (default: the space's)")
    arguments = command.parse_args()
    if arguments.trials <= SLOTS:
        command.error(f"--trials: {arguments.trials} on {SLOTS} slots leave nothing between trials; give more.")

    with tempfile.TemporaryDirectory() as folder:
        options = {"space": "dropout", "data": part_of(arguments.data, arguments.images, Path(folder))}
        options |= {"image-size": arguments.image_size, "trials": arguments.trials, "epochs": arguments.epochs}
        options |= {"scheduler": arguments.scheduler, "max-concurrent": SLOTS, "cache": Path(folder, "cache")}
        done = run("search.run", {**options, "out": folder, "name": "overhead"})
        trials = trials_of(Path(folder, "overhead"))
    gaps, parts = between_trials(trials), shares(trials, SLOTS)
    what = f"{len(trials)} trials of up to {arguments.epochs} epochs at {arguments.image_size} px"
    figures = [
        Figure(
            f"{what}: between two trials, s, median", statistics.median(gaps), len(gaps), goal=Goal("ours", "<=", 0.2)
        ),
        Figure(f"{what}: between two trials, s, longest", max(gaps), len(gaps), goal=Goal("ours", "<=", 0.2)),
        Figure(
            f"{what}: share of time not in training or validation",
            1 - parts["training and validation"],
            n=1,
            goal=Goal("ours", "<=", 0.05),
        ),
    ]
    details = {
        "between_trials_seconds": [round(gap, 4) for gap in gaps],
        "shares": parts,
        "epochs": [len(trial.epochs) for trial in trials],
        "workers": len({trial.worker for trial in trials}),
        "seconds": done.seconds,
        "the_search_said": [line for line in done.said.splitlines() if line.startswith("First step")],
    }
    finish("search_overhead", machine, figures, details, arguments.out)


if __name__ == "__main__":
    main()
