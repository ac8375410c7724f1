"""Whether bfloat16 costs accuracy: the report's recipe in both formats, with the same seeds.

    python -m benchmarks.precision_accuracy --data faces/data.csv --image-size 32 --epochs 10

Two runs of `python -m search.run`, one in each format, each with a training a seed. The accuracies are on the
validation images, at each training's best epoch; their differences are compared seed by seed, and few seeds, or noisy
ones, are no proof (non-inferiority, by MARGIN). The peer is float32.
"""

import json
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from scipy.stats import ttest_rel

from benchmarks.figures import Figure, Goal, Machine, finish, parser
from benchmarks.pictures import part_of
from benchmarks.runs import Finished, frozen_trials, run

FORMATS = ("bfloat16", "float32")
MARGIN = 1.0  # points: with 95 % confidence bfloat16 is to cost no more
SPACE = """
from spaces.space import Space
from trainable.config import TrialConfig

LR = [TrialConfig().lr]
SPACE = Space(
    name="recipe",
    summary="the report's recipe",
    sample=lambda trial: TrialConfig(lr=trial.suggest_categorical("lr", LR)),
    grid={"lr": LR},
    sampler="grid",
    scheduler="none",
)
"""


def accuracies(folder: Path) -> dict[int, float]:
    """Of each training of a run, by its seed."""
    seeds = {trial.number: trial.user_attrs["config"]["seed"] for trial in frozen_trials(folder)}
    table = pd.read_csv(folder / "leaderboard.csv")
    return {seeds[int(row["trial"])]: float(row["valid_accuracy"]) for row in table.to_dict("records")}


def figures_of(found: Mapping[str, Mapping[int, float]], what: str) -> list[Figure]:
    """What the accuracies of both formats say, in percent. Args: found: by format, then by seed."""
    seeds = sorted(found["float32"])
    ours, peer = ([100 * found[name][seed] for seed in seeds] for name in FORMATS)
    end = float(ttest_rel(ours, peer).confidence_interval(0.95).low)
    return [
        Figure(f"{what}: accuracy on validation, %", statistics.mean(ours), len(seeds), statistics.mean(peer)),
        Figure(
            f"{what}: difference, low end of its 95 % interval, points",
            end,
            len(seeds),
            goal=Goal("ours", ">=", -MARGIN),
        ),
    ]


def main() -> None:
    machine = Machine.now()
    command = parser(__doc__)
    command.add_argument("--data", type=Path, metavar="CSV", help="with Image,Label (default: random images)")
    command.add_argument("--images", type=int, help="of the data (default: all; of random ones 2000)")
    command.add_argument("--image-size", type=int, default=32)
    command.add_argument("--epochs", type=int, default=10)
    command.add_argument("--seeds", type=int, default=5)
    arguments = command.parse_args()
    if arguments.seeds < 2:
        command.error(f"--seeds: {arguments.seeds} has no noise; give 2 at least.")

    done: dict[str, Finished] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        space = folder / "recipe.py"
        space.write_text(SPACE)
        options = {"space": space, "data": part_of(arguments.data, arguments.images, folder)}
        options |= {"image-size": arguments.image_size, "epochs": arguments.epochs, "repeats": arguments.seeds}
        for precision in FORMATS:
            where = {"precision": precision, "cache": folder / "cache", "out": folder, "name": precision}
            done[precision] = run("search.run", {**options, **where})
        found = {precision: accuracies(folder / precision) for precision in FORMATS}
        record = json.loads((folder / FORMATS[0] / "run.json").read_text())
    what = f"bfloat16 and float32, {arguments.epochs} epochs at {arguments.image_size} px"
    details = {
        "accuracies": found,
        "valid_images": record["data"]["counts"]["valid"],
        "seconds": {precision: round(one.seconds) for precision, one in done.items()},
    }
    finish("precision_accuracy", machine, figures_of(found, what), details, arguments.out)


if __name__ == "__main__":
    main()
