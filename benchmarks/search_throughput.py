"""Images a second of a whole search of two trials, against two processes of the report's own loop, the two in turn.

    python -m benchmarks.search_throughput --data faces/data.csv --out search_throughput.json
    python -m benchmarks.search_throughput --data faces/data.csv --sizes 64 --precision float32

Ours is `python -m search.run`: the first two known starts of the space `dropout`, both to their last epoch, at once, on
one CPU each. Its time runs from the first training step of either trial to the end of the last epoch of both, as the
trials' own records have it: training, validation, each epoch's files (checkpoints, logits, metrics), the Ray and the
driver of the search between epochs, and the moments at both ends in which one trial runs alone are in it. Start-up is
not: the time until the first step is what benchmarks/startup.py measures.

The peer is two processes of benchmarks/report_loop.py on one thread each, which begin at the same moment: the same two
configurations and seeds, read from our trials, on the same decoded images and split, with validation. Its time is of
the same kind, but it keeps no files. Reading and decoding are outside both.

The share of the peak is of operations (training and validation, by benchmarks/flops.py) over that time, on each of the
two cores, against the peak that benchmarks/conv_peak.py measures in between: of its fastest pass, and of forward and
backward together. Operations are those of a convolution as it is defined: an algorithm that takes fewer products, as
ours does, may come to more than all of the peak. Without --data the images are random, which changes no rate.
"""

import json
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.conv_peak import core_peak
from benchmarks.figures import Figure, Goal, Machine, finish, parser
from benchmarks.flops import forward_flops, training_flops
from benchmarks.pictures import part_of
from benchmarks.report_loop import report_epochs
from benchmarks.runs import run, trials_of
from benchmarks.together import ready, together
from search.options import DEFAULTS
from trainable.config import TrialConfig
from trainable.dataset import load_labelled, parse_fractions
from trainable.device import Precision, choose
from trainable.examples import examples_of

TRIALS = 2
GOALS = {  # of the ratio, by the format of products and the size
    "bfloat16": {32: 4.0, 64: 4.0, 128: 6.0},
    "float32": {32: 2.2, 64: 2.2, 128: 2.2},
}
SHARE_GOALS = {64: 0.65}  # of the convolution peak
DEFINED = "; operations as defined, of which ours takes fewer"


@dataclass(frozen=True)
class Ours:
    """A search that was run."""

    seconds: float
    alone: float  # seconds of these in which one trial ran alone
    kept: float  # seconds of files, mean over the trials
    configs: tuple[TrialConfig, ...]
    counts: dict[str, int]  # images by side
    classes: int


def ours(data: Path, size: int, epochs: int, precision: Precision, cache: Path) -> Ours:
    """Two trials of ours."""
    with tempfile.TemporaryDirectory() as out:
        options = {"space": "dropout", "data": data, "image-size": size, "trials": TRIALS, "epochs": epochs}
        options |= {"scheduler": "none", "max-concurrent": TRIALS, "precision": precision, "cache": cache}
        run("search.run", {**options, "out": out, "name": "throughput"})
        folder = Path(out, "throughput")
        trials = trials_of(folder)
        read = [json.loads((folder / "trials" / trial.name / "config.json").read_text()) for trial in trials]
        described = json.loads((folder / "run.json").read_text())["data"]
    began, ended = [trial.began for trial in trials], [trial.ended for trial in trials]
    return Ours(
        seconds=max(ended) - min(began),
        alone=max(began) - min(began) + max(ended) - min(ended),
        kept=statistics.mean(trial.kept for trial in trials),
        configs=tuple(TrialConfig.from_dict(config) for config in read),
        counts=described["counts"],
        classes=len(described["classes"]),
    )


def peer(data: Path, configs: tuple[TrialConfig, ...], cache: Path) -> float:
    """Seconds of the same trials by the report's loop, a process each."""
    times = together(report_trial, [(data, config, cache) for config in configs])
    return max(ended for _, ended in times) - min(began for began, _ in times)


def report_trial(data: Path, config: TrialConfig, cache: Path) -> tuple[float, float]:
    """Trains by the report's loop. Returns when its first step began and its last epoch ended, since 1970."""
    torch.set_num_threads(1)
    fractions = parse_fractions(DEFAULTS["split"])
    labelled = load_labelled(
        str(data),
        inputs=config.inputs,
        image_size=config.image_size,
        fractions=fractions,
        seed=DEFAULTS["seed"],
        cache=cache,
        progress=False,
    )
    (parts,) = labelled.split.parts
    epochs = report_epochs(config, examples_of(labelled, config, parts), torch.device("cpu"))
    ready()
    first = next(epochs)
    began = time.time() - first.seconds
    for _ in epochs:
        pass
    return began, time.time()


def measured(data: Path, size: int, epochs: int, pairs: int, precision: Precision, cache: Path) -> dict[str, Any]:
    """Pairs of searches of ours and of the peer at one size, and a core's peak between."""
    mine: list[Ours] = []
    theirs: list[float] = []
    for _ in range(pairs):
        mine.append(ours(data, size, epochs, precision, cache))
        theirs.append(peer(data, mine[-1].configs, cache))
    config, counts, classes = mine[0].configs[0], mine[0].counts, mine[0].classes
    peak = core_peak(config, precision, TRIALS)
    images = TRIALS * epochs * counts["train"]
    trained = counts["train"] * training_flops(config, 0, classes) + counts["valid"] * forward_flops(config, 0, classes)
    rate = epochs * trained / statistics.median(one.seconds for one in mine)  # on each core
    return {
        "image_size": size,
        "epochs": epochs,
        "images": counts,
        "format": choose("cpu", precision, threads=1).precision,
        "ours_images_per_second": [images / one.seconds for one in mine],
        "peer_images_per_second": [images / seconds for seconds in theirs],
        "ratios": [seconds / one.seconds for one, seconds in zip(mine, theirs, strict=True)],
        "ours_alone_seconds": [one.alone for one in mine],
        "ours_files_seconds": [one.kept for one in mine],
        "ours_seconds": [one.seconds for one in mine],
        "gflops_a_core": rate / 1e9,
        "peak_gflops_forward": peak["forward"] / 1e9,
        "peak_gflops_both": peak["both"] / 1e9,
        "share_of_peak": rate / max(peak.values()),
        "share_of_forward_and_backward": rate / peak["both"],
    }


def figures_of(row: dict[str, Any]) -> list[Figure]:
    """What a size's rows say, with their goals."""
    size, n = row["image_size"], len(row["ratios"])
    goal, share = GOALS[row["format"]].get(size), SHARE_GOALS.get(size) if row["format"] == "bfloat16" else None
    return [
        Figure(
            f"two trials at {size} px in {row['format']}, images/s; ratio of ours over the peer's",
            ours=statistics.median(row["ours_images_per_second"]),
            peer=statistics.median(row["peer_images_per_second"]),
            ratio=statistics.median(row["ratios"]),
            n=n,
            goal=None if goal is None else Goal("ratio", ">=", goal),
        ),
        Figure(
            f"share of a core's convolution peak at {size} px, its fastest pass{DEFINED}",
            ours=row["share_of_peak"],
            n=n,
            goal=None if share is None else Goal("ours", ">=", share),
        ),
        Figure(
            f"share of a core's convolution peak at {size} px, forward and backward{DEFINED}",
            ours=row["share_of_forward_and_backward"],
            n=n,
        ),
    ]


def main() -> None:
    machine = Machine.now()
    command = parser(__doc__)
    command.add_argument("--data", type=Path, metavar="CSV", help="with Image,Label (default: random images)")
    command.add_argument("--images", type=int, default=2000, help="of the data, 70 %% to train on (default: 2000)")
    command.add_argument("--sizes", type=int, nargs="+", default=[32, 64, 128], metavar="PIXELS")
    command.add_argument(
        "--epochs", type=int, default=8, help="at 64 px; as many more or fewer at others as they are small or large"
    )
    command.add_argument("--pairs", type=int, default=3, help="searches of each, in turn")
    command.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    arguments = command.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        data, cache = part_of(arguments.data, arguments.images, Path(folder)), Path(folder, "cache")
        rows = []
        for size in arguments.sizes:
            epochs = max(1, round(arguments.epochs * (64 / size) ** 2))
            rows.append(measured(data, size, epochs, arguments.pairs, arguments.precision, cache))
    figures = [figure for row in rows for figure in figures_of(row)]
    finish("search_throughput", machine, figures, rows, arguments.out)


if __name__ == "__main__":
    main()
