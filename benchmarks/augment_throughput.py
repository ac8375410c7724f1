"""Milliseconds a batch of trainable/augment.py, against kornia (draws for each image) and torchvision v2.

    python -m benchmarks.augment_throughput --image-size 64 --batch-size 64 --rounds 15
    python -m benchmarks.augment_throughput --device cuda --image-size 224

torchvision draws once a batch, which is no peer for draws of each image, so it also runs on one image after the other.
A library that is not installed is left out; the project needs neither. Random pixels, one thread on a CPU. All run in
turn in each round; a ratio is a library's time over ours in the same round, its median and range over the rounds.
"""

import importlib
import importlib.util
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.figures import Figure, Machine, finish, parser
from trainable.augment import Augmenter
from trainable.config import Augmentation
from trainable.device import choose

SETTINGS = {
    "flip": Augmentation(),
    "rotation + shift": Augmentation(flip=0, rotation=15, shift=0.1),
    "brightness + contrast": Augmentation(flip=0, brightness=0.2, contrast=0.2),
    "1 hole": Augmentation(flip=0, holes=1),
    "8 holes": Augmentation(flip=0, holes=8),
    "randaugment": Augmentation(flip=0, randaugment=2, magnitude=9),
}
AREA = (Augmentation().hole_size ** 2,) * 2  # of a hole, at least and at most
Transform = Callable[[Tensor], Tensor]  # of (B, 3, S, S), in the memory format of training


def kornia_transforms() -> dict[str, dict[str, Transform]]:
    """Of images in 0..1. Its RandAugment draws the operations once a batch, their strengths for each image."""
    kornia = importlib.import_module("kornia.augmentation")
    auto = importlib.import_module("kornia.augmentation.auto")
    return {
        "kornia": {
            "flip": kornia.RandomHorizontalFlip(p=0.5),
            "rotation + shift": kornia.RandomAffine(15, (0.1, 0.1), p=1.0),
            "brightness + contrast": kornia.ColorJitter(0.2, 0.2, p=1.0),
            "1 hole": kornia.RandomErasing(AREA, (1.0, 1.0), 0.5, p=1.0),
            "8 holes": nn.Sequential(*(kornia.RandomErasing(AREA, (1.0, 1.0), 0.5, p=1.0) for _ in range(8))),
            "randaugment": auto.RandAugment(n=2, m=9),
        }
    }


def torchvision_transforms() -> dict[str, dict[str, Transform]]:
    """Of images in 0..1, for the whole batch at once and for one image after the other."""
    v2 = importlib.import_module("torchvision.transforms.v2")
    bilinear = v2.InterpolationMode.BILINEAR
    once: dict[str, Transform] = {
        "flip": v2.RandomHorizontalFlip(0.5),
        "rotation + shift": v2.RandomAffine(15, (0.1, 0.1), interpolation=bilinear),
        "brightness + contrast": v2.ColorJitter(0.2, 0.2),
        "1 hole": v2.RandomErasing(1.0, AREA, (1.0, 1.0), 0.5),
        "8 holes": nn.Sequential(*(v2.RandomErasing(1.0, AREA, (1.0, 1.0), 0.5) for _ in range(8))),
        "randaugment": v2.RandAugment(2, 9, interpolation=bilinear),
    }

    def each(transform: Transform) -> Transform:
        return lambda images: torch.stack([transform(image) for image in images])

    return {
        "torchvision, a batch": once,
        "torchvision, an image": {name: each(transform) for name, transform in once.items()},
    }


LIBRARIES = {"kornia": kornia_transforms, "torchvision": torchvision_transforms}


def import_seconds(modules: str, repeats: int = 3) -> float:
    """The median seconds of a fresh process to import these after torch, which is there anyway."""
    code = f"import time, torch; start = time.perf_counter(); import {modules}; print(time.perf_counter() - start)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, check=True) for _ in range(repeats)]
    return statistics.median(float(run.stdout) for run in runs)


def main() -> None:
    machine = Machine.now()
    command = parser(__doc__)
    command.add_argument("--image-size", type=int, default=64)
    command.add_argument("--batch-size", type=int, default=64)
    command.add_argument("--rounds", type=int, default=15)
    command.add_argument("--device", default="auto")
    arguments = command.parse_args()

    device = choose(arguments.device, threads=1)
    count = arguments.batch_size
    pixels = torch.randint(256, (count, arguments.image_size, arguments.image_size, 3)).to(device.device)
    images = pixels.permute(0, 3, 1, 2).float()  # in the memory format in which stored pixels come
    of_one = images / 255
    rows = torch.arange(count)

    def synchronize() -> None:
        if device.device.type == "cuda":
            torch.cuda.synchronize(device.device)

    def milliseconds(transform: Transform, batch: Tensor) -> float:
        synchronize()
        start = time.perf_counter()
        transform(batch).contiguous(memory_format=device.memory_format)
        synchronize()
        return 1000 * (time.perf_counter() - start)

    def ours(settings: Augmentation) -> Transform:
        augmenter = Augmenter(settings, count, 0, (128.0, 128.0, 128.0), device)
        return lambda batch: augmenter(batch, rows, 1)

    console = Console(stderr=True)
    console.print(f"{device.reason}; torch {torch.__version__}; {count} images of {arguments.image_size} px")
    peers: dict[str, dict[str, Transform]] = {}
    for library, transforms in LIBRARIES.items():
        if importlib.util.find_spec(library) is None:
            console.print(f"{library} is not installed and is left out")
            continue
        peers |= transforms()
        modules = {"kornia": "kornia.augmentation", "torchvision": "torchvision.transforms.v2"}[library]
        console.print(f"importing {modules} after torch takes {import_seconds(modules):.2f} s")

    table = Table("", "ours", *(f"{peer}" for peer in peers))
    figures = []
    for name, settings in SETTINGS.items():
        mine: list[float] = []
        times: dict[str, list[float]] = {peer: [] for peer in peers}
        augment = ours(settings)
        for warmed in range(arguments.rounds + 2):
            base = milliseconds(augment, images)
            taken = {peer: milliseconds(transforms[name], of_one) for peer, transforms in peers.items()}
            if warmed >= 2:
                mine.append(base)
                for peer, value in taken.items():
                    times[peer].append(value)
        ratios = {peer: [value / base for value, base in zip(times[peer], mine, strict=True)] for peer in peers}
        what = f"{name}, {count} images of {arguments.image_size} px, ms"
        middle = statistics.median(mine)
        figures += [
            Figure(
                f"{what}; ratio of {peer}'s over ours",
                middle,
                len(mine),
                statistics.median(times[peer]),
                statistics.median(found),
            )
            for peer, found in ratios.items()
        ] or [Figure(what, middle, len(mine))]
        cells = (f"{statistics.median(r):.1f} ({min(r):.1f} to {max(r):.1f})" for r in ratios.values())
        table.add_row(name, f"{statistics.median(mine):.2f} ms", *cells)
    console.print(table)
    finish("augment_throughput", machine, figures, {"device": device.reason}, arguments.out)


if __name__ == "__main__":
    main()
