"""From the command to the first training step, and 20 short trials in all, against a Tune script, the two in turn.

    python -m benchmarks.startup --pairs 3
    python -m benchmarks.startup --data faces/data.csv --image-size 64 --trials 20 --pairs 1

The peer is benchmarks/tune_script.py. Both search the space `dropout`, one epoch a trial, on the same images and split;
the built-in digits by default. Each is run once before, so that our cache of decoded images and the system's of files
are warm. Wall-clock is the whole command's. The first step is counted from the command's start: the peer says when it
came, ours how long after `main` it did, which is what Python and the module take (0.1 s) later than the command.
"""

import json
import re
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.figures import Figure, Goal, Machine, finish, parser
from benchmarks.runs import compared, run
from trainable.digits import digits_folder

FIRST_STEP = re.compile(r"First step after ([0-9.]+) s\. .*")


def ours(data: Path, trials: int, size: int, cache: Path) -> dict[str, float | str]:
    """A search of ours, in a folder of its own."""
    with tempfile.TemporaryDirectory() as out:
        search = {"space": "dropout", "data": data, "trials": trials, "epochs": 1, "image-size": size}
        done = run("search.run", {**search, "out": out, "name": "startup", "cache": cache})
    line = FIRST_STEP.search(done.said)
    if line is None:
        sys.exit(f"search.run did not say when its first step came:\n{done.said[-2000:]}")
    return {"first_step": float(line[1]), "seconds": done.seconds, "said": line[0]}


def peer(data: Path, trials: int, size: int) -> dict[str, float | str]:
    """The same by the Tune script."""
    with tempfile.TemporaryDirectory() as out:
        path = Path(out, "peer.json")
        search = {"data": data, "trials": trials, "epochs": 1, "image-size": size}
        done = run("benchmarks.tune_script", {**search, "out": path})
        written = json.loads(path.read_text())
    if written["trials"] != trials or written["failed"]:
        sys.exit(f"the Tune script trained {written['trials'] - written['failed']} of {trials} trials.")
    return {"first_step": written["first_step"] - done.started, "seconds": done.seconds}


def figure_of(what: str, pairs: list[tuple[float, float]], goal: Goal) -> Figure:
    """Of (ours, peer's) seconds."""
    mine, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    return Figure(
        f"{what}; ratio of the peer's over ours", mine, len(pairs), theirs, compared(pairs)["ratio_median"], goal
    )


def main() -> None:
    machine = Machine.now()
    command = parser(__doc__)
    command.add_argument("--data", type=Path, metavar="CSV", help="with Image,Label (default: the built-in digits)")
    command.add_argument("--image-size", type=int, default=28)
    command.add_argument("--trials", type=int, default=20)
    command.add_argument("--pairs", type=int, default=3, help="searches of each, in turn")
    arguments = command.parse_args()
    trials, size = arguments.trials, arguments.image_size

    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        data = arguments.data or digits_folder(cache) / "data.csv"
        ours(data, 1, size, cache)
        peer(data, 1, size)
        pairs = [(ours(data, trials, size, cache), peer(data, trials, size)) for _ in range(arguments.pairs)]

    first = [(float(mine["first_step"]), float(theirs["first_step"])) for mine, theirs in pairs]
    whole = [(float(mine["seconds"]), float(theirs["seconds"])) for mine, theirs in pairs]
    figures = [
        figure_of("from the command to the first step, s", first, Goal("ours", "<=", 12)),
        figure_of(f"wall-clock of {trials} trials of one epoch at {size} px, s", whole, Goal("ratio", ">=", 3)),
    ]
    details = {
        "peer": "benchmarks/tune_script.py",
        "data": "digits" if arguments.data is None else arguments.data.name,
        "first_step_seconds": compared(first),
        "wall_clock_seconds": compared(whole),
        "ours_said": [mine["said"] for mine, _ in pairs],
    }
    finish("startup", machine, figures, details, arguments.out)


if __name__ == "__main__":
    main()
