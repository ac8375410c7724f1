"""Images a second of one trial, validation included, against the report's own loop, the two in turn.

    python -m benchmarks.train_throughput --image-size 64 --pairs 3
    python -m benchmarks.train_throughput --device cuda --image-size 224 --images 6000

Random pixels, one thread on a CPU. The first epoch of each process warms up and is not counted.
"""

import statistics

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import Figure, Machine, finish, parser
from benchmarks.report_loop import report_epochs
from trainable.config import TrialConfig
from trainable.device import choose
from trainable.examples import Examples
from trainable.fit import fit
from trainable.preprocess import Preprocessing

INPUTS = {"Gender": tuple("01234"), "Race": tuple("01234")}


def random_examples(images: int, size: int) -> Examples:
    """Random images, as `examples_from` divides them."""
    return examples_from(np.random.default_rng(0).integers(256, size=(images, size, size, 3), dtype=np.uint8))


def examples_from(pixels: NDArray[np.uint8]) -> Examples:
    """70 % to train on, 15 % each for validation and holdout, five classes, two inputs of five values, by chance.

    Args:
        pixels: (N, S, S, 3).
    """
    rng = np.random.default_rng(1)
    images, size = len(pixels), int(pixels.shape[1])
    labels = rng.integers(5, size=images)
    train, valid, _ = np.split(np.arange(images), [images * 70 // 100, images * 85 // 100])
    return Examples(
        pixels=pixels,
        metadata=np.eye(5, dtype=np.float32)[rng.integers(5, size=(images, 2))].reshape(images, 10),
        labels=labels,
        levels=labels,
        train=train,
        valid=valid,
        preprocessing=Preprocessing(size, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), tuple("abcde"), INPUTS),
    )


def main() -> None:
    machine = Machine.now()
    command = parser(__doc__)
    command.add_argument("--image-size", type=int, default=64)
    command.add_argument("--images", type=int, default=1000)
    command.add_argument("--pairs", type=int, default=3, help="epochs of each, in turn")
    command.add_argument("--device", default="auto")
    command.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    arguments = command.parse_args()

    device = choose(arguments.device, arguments.precision, threads=1)
    examples = random_examples(arguments.images, arguments.image_size)
    config = TrialConfig(image_size=arguments.image_size, epochs=arguments.pairs + 1)

    run, peer = fit(config, examples, device), report_epochs(config, examples, device.device)
    next(run), next(peer)
    trained = len(examples.train)
    pairs = [(trained / next(run).row["seconds"], trained / next(peer).seconds) for _ in range(arguments.pairs)]
    ratios = [mine / theirs for mine, theirs in pairs]
    mine, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    what = f"one trial at {arguments.image_size} px in {device.precision}, images/s; ratio of ours over the peer's"
    details = {
        "device": device.reason,
        "train_images": trained,
        "ours_images_per_second": [round(rate, 1) for rate, _ in pairs],
        "report_loop_images_per_second": [round(rate, 1) for _, rate in pairs],
        "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
    }
    figures = [Figure(what, mine, len(pairs), theirs, statistics.median(ratios))]
    finish("train_throughput", machine, figures, details, arguments.out)


if __name__ == "__main__":
    main()
