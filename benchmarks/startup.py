"""From the command to the first training step, and 20 short trials in all, against a Tune script, the two in turn.

    python -m benchmarks.startup --pairs 3
    python -m benchmarks.startup --data faces/data.csv --image-size 64 --trials 20 --pairs 1

The peer is benchmarks/tune_script.py. Both search the space `dropout`, one epoch a trial, on the same images and split;
the built-in digits by default. Each is run once before, so that our cache of decoded images and the system's of files
are warm. Wall-clock is the whole command's. The first step is counted from the command's start: the peer says when it
came, ours how long after `main` it did, which is what Python and the module take (0.1 s) later than the command.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ray
import torch

from trainable.digits import digits_folder

FIRST_STEP = re.compile(r"First step after ([0-9.]+) s\. .*")


def timed(module: str, arguments: dict[str, object]) -> tuple[float, float, str]:
    """Runs a command. Returns when it was started (seconds since 1970), its wall-clock in seconds and what it said."""
    options = [part for name, value in arguments.items() for part in (f"--{name}", str(value))]
    # Each has a Ray of its own.
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    started = time.time()
    done = subprocess.run([sys.executable, "-m", module, *options], env=environment, capture_output=True, text=True)
    seconds = time.time() - started
    if done.returncode:
        sys.exit(f"{module} ended with code {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return started, seconds, done.stdout


def ours(data: Path, trials: int, size: int, cache: Path) -> dict[str, float | str]:
    """A search of ours, in a folder of its own."""
    with tempfile.TemporaryDirectory() as out:
        search = {"space": "dropout", "data": data, "trials": trials, "epochs": 1, "image-size": size}
        _, seconds, said = timed("search.run", {**search, "out": out, "name": "startup", "cache": cache})
    line = FIRST_STEP.search(said)
    if line is None:
        sys.exit(f"search.run did not say when its first step came:\n{said[-2000:]}")
    return {"first_step": float(line[1]), "seconds": seconds, "said": line[0]}


def peer(data: Path, trials: int, size: int) -> dict[str, float | str]:
    """The same by the Tune script."""
    with tempfile.TemporaryDirectory() as out:
        path = Path(out, "peer.json")
        search = {"data": data, "trials": trials, "epochs": 1, "image-size": size}
        started, seconds, _ = timed("benchmarks.tune_script", {**search, "out": path})
        written = json.loads(path.read_text())
    if written["trials"] != trials or written["failed"]:
        sys.exit(f"the Tune script trained {written['trials'] - written['failed']} of {trials} trials.")
    return {"first_step": written["first_step"] - started, "seconds": seconds}


def compared(pairs: list[tuple[float, float]]) -> dict[str, object]:
    """(ours, peer's) seconds, pair by pair, with the ratio of the peer's over ours."""
    ratios = [theirs / mine for mine, theirs in pairs]
    return {
        "ours": [round(mine, 2) for mine, _ in pairs],
        "peer": [round(theirs, 2) for _, theirs in pairs],
        "ratio_median": round(statistics.median(ratios), 2),
        "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="CSV", help="with Image,Label (default: the built-in digits)")
    parser.add_argument("--image-size", type=int, default=28)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=3, help="searches of each, in turn")
    arguments = parser.parse_args()
    trials, size = arguments.trials, arguments.image_size

    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        data = arguments.data or digits_folder(cache) / "data.csv"
        ours(data, 1, size, cache)
        peer(data, 1, size)
        pairs = [(ours(data, trials, size, cache), peer(data, trials, size)) for _ in range(arguments.pairs)]

    result = {
        "peer": "benchmarks/tune_script.py",
        "data": str(arguments.data or "digits"),
        "image_size": size,
        "trials": trials,
        "n": len(pairs),
        "cpus": os.cpu_count(),
        "versions": {"ray": ray.__version__, "torch": torch.__version__},
        "first_step_seconds": compared([(float(a["first_step"]), float(b["first_step"])) for a, b in pairs]),
        "wall_clock_seconds": compared([(float(a["seconds"]), float(b["seconds"])) for a, b in pairs]),
        "ours_said": [mine["said"] for mine, _ in pairs],
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
