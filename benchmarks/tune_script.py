"""What a good engineer writes in an afternoon: a search of our space `dropout` by Ray Tune's own means, as a peer.

    python -m benchmarks.tune_script --data faces/data.csv --trials 24 --epochs 12 --image-size 64 --out peer.json

A function trainable, OptunaSearch, ASHA and Tune's defaults; images decoded once, in memory, and shared by Ray's object
store; a DataLoader with a worker beside each trial, torchvision's transforms; the report's network in PyTorch's own
modules, Adam, cosine to the end; each trial's best network kept. The split is the one that a search of ours makes with
the same --seed, the known starts come first as in ours, and the network reads no inputs beside the image.

The JSON holds times in seconds since 1970: of main's start, of the first training step, of each epoch's end with its
accuracy, and of the end, when all trials are done; then the best network's accuracy on the holdout. With --keep each
epoch's network stays, and the JSON names its folder.
"""

import argparse
import csv
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from numpy.typing import NDArray
from PIL import Image
from ray import tune
from ray._private import services
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms  # type: ignore[import-untyped]

from benchmarks.plain_network import PlainNet
from spaces import dropout
from trainable.config import TrialConfig
from trainable.splits import Parts, Split, stratified_split

FRACTIONS = (0.7, 0.15, 0.15)
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
METRIC, MODE = "valid_accuracy", "max"
SPACE = {
    **{f"dropout_{block}": tune.uniform(0.0, 0.6) for block in range(1, dropout.DEPTH + 1)},
    "head_dropout": tune.uniform(0.0, 0.6),
    "pool_6": tune.choice([2, 3]),
}


class Photos(Dataset[tuple[Tensor, int]]):
    """Some rows of the decoded images, transformed as they are asked for."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64], rows: NDArray[np.int64], flip: bool):
        self.images, self.labels, self.rows = images, labels, rows
        flips = [transforms.RandomHorizontalFlip()] if flip else []
        self.transform = transforms.Compose([*flips, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        row = self.rows[index]
        return self.transform(Image.fromarray(self.images[row])), int(self.labels[row])


def decoded(path: Path, size: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The (N, S, S, 3) images of a CSV with Image,Label, and their (N,) labels."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))

    def image(row: dict[str, str]) -> NDArray[np.uint8]:
        with Image.open(path.parent / row["Image"]) as opened:
            return np.asarray(opened.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))

    with ThreadPoolExecutor() as pool:
        return np.stack(list(pool.map(image, rows))), np.array([int(row["Label"]) for row in rows])


def network(config: dict[str, Any], size: int, classes: int) -> PlainNet:
    """The report's network with a point's dropout and pool."""
    shape = TrialConfig(
        dropout=tuple(config[f"dropout_{block}"] for block in range(1, dropout.DEPTH + 1)),
        head_dropout=config["head_dropout"],
        pool={6: config["pool_6"]},
        image_size=size,
    )
    return PlainNet(shape, 0, classes)


def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    """(N, C) of images without inputs."""
    logits: Tensor = model(images, images.new_zeros(len(images), 0))
    return logits


def accuracy(model: nn.Module, loader: DataLoader[Any], device: torch.device) -> float:
    """Over the loader's images."""
    model.eval()
    correct = images = 0
    with torch.no_grad():
        for batch, labels in loader:
            predicted = logits_of(model, batch.to(device)).argmax(1).cpu()
            correct += int((predicted == labels).sum())
            images += len(labels)
    return correct / images


def train(
    config: dict[str, Any],
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    parts: Parts,
    epochs: int,
    seed: int,
) -> None:
    """One trial: reports each epoch to Tune, with a checkpoint."""
    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = network(config, images.shape[1], int(labels.max()) + 1).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    criterion = nn.CrossEntropyLoss()
    options: dict[str, Any] = {"num_workers": 1, "persistent_workers": True, "pin_memory": device.type == "cuda"}
    loader = DataLoader(Photos(images, labels, parts.train, flip=True), batch_size=64, shuffle=True, **options)
    valid = DataLoader(Photos(images, labels, parts.valid, flip=False), batch_size=256, **options)
    began = time.time()
    for _ in range(epochs):
        model.train()
        loss_sum = torch.zeros((), device=device)
        for batch, targets in loader:
            batch, targets = batch.to(device, non_blocking=True), targets.to(device, non_blocking=True)
            optimizer.zero_grad()
            loss = criterion(logits_of(model, batch), targets)
            loss.backward()
            optimizer.step()
            loss_sum += loss.detach()
        schedule.step()
        metrics = {
            "train_loss": loss_sum.item() / len(loader),
            METRIC: accuracy(model, valid, device),
            "began": began,
            "wall_clock": time.time(),
        }
        with tempfile.TemporaryDirectory() as folder:
            torch.save(model.state_dict(), Path(folder, "model.pt"))
            tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))


@contextmanager
def local_ray() -> Iterator[None]:
    """A Ray of our own that nobody else can reach, ended with us."""
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    # Ray listens on the loopback alone where that is the node's address, which it would replace by the machine's own.
    services.resolve_ip_for_localhost = lambda host: host
    ray.init(address="local", include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def search(arguments: argparse.Namespace, images: NDArray[np.uint8], labels: NDArray[np.int64], parts: Parts) -> Any:
    """Tune's ResultGrid. What it writes goes below `arguments.storage`."""
    left = None if arguments.time_budget is None else max(1.0, arguments.start + arguments.time_budget - time.time())
    trainable = tune.with_parameters(
        train, images=images, labels=labels, parts=parts, epochs=arguments.epochs, seed=arguments.seed
    )
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1, "gpu": 1 if torch.cuda.is_available() else 0}),
        param_space=SPACE,
        tune_config=tune.TuneConfig(
            metric=METRIC,
            mode=MODE,
            search_alg=OptunaSearch(points_to_evaluate=list(dropout.SPACE.starts), seed=arguments.seed),
            scheduler=ASHAScheduler(max_t=arguments.epochs),
            num_samples=arguments.trials,
            time_budget_s=left,
        ),
        run_config=tune.RunConfig(
            storage_path=arguments.storage,
            checkpoint_config=tune.CheckpointConfig(
                num_to_keep=None if arguments.keep else 1,
                checkpoint_score_attribute=METRIC,
                checkpoint_score_order=MODE,
            ),
        ),
    )
    return tuner.fit()


def holdout_accuracy(best: Any, images: NDArray[np.uint8], labels: NDArray[np.int64], rows: NDArray[np.int64]) -> float:
    """Of the best trial's best network, on images that no trial has seen."""
    (checkpoint, _) = max(best.best_checkpoints, key=lambda pair: pair[1][METRIC])
    model = network(best.config, images.shape[1], int(labels.max()) + 1)
    return kept_accuracy(model, Path(checkpoint.path), Photos(images, labels, rows, flip=False))


def kept_accuracy(model: PlainNet, checkpoint: Path, photos: Photos) -> float:
    """Of the network in a checkpoint's folder, on the CPU."""
    model.load_state_dict(torch.load(checkpoint / "model.pt", map_location="cpu", weights_only=True))
    return accuracy(model, DataLoader(photos, 256), torch.device("cpu"))


def main() -> None:
    start = time.time()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="CSV", help="with Image,Label")
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument(
        "--time-budget", type=float, metavar="SECONDS", help="from this command's start to the last epoch"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where every epoch's network is to stay")
    parser.add_argument("--out", type=Path, required=True, metavar="JSON")
    arguments = parser.parse_args(namespace=argparse.Namespace(start=start))

    images, labels = decoded(arguments.data, arguments.image_size)
    (parts,) = Split(stratified_split(labels, np.arange(len(labels)), FRACTIONS, arguments.seed)).parts
    with tempfile.TemporaryDirectory() as folder, local_ray():
        arguments.storage = str((arguments.keep or Path(folder)).absolute())
        results = search(arguments, images, labels, parts)
        end = time.time()
        epochs = [
            {
                "trial": trial,
                "epoch": row.training_iteration,
                "valid_accuracy": row.valid_accuracy,
                "wall_clock": row.wall_clock,
                "began": row.began,
                "config": result.config,
                "checkpoint": folders.get(row.training_iteration) if arguments.keep else None,
            }
            for trial, result in enumerate(results)
            if result.metrics_dataframe is not None
            for folders in [{of["training_iteration"]: kept.path for kept, of in result.best_checkpoints}]
            for row in result.metrics_dataframe.itertuples()
        ]
        if not epochs:
            sys.exit("No trial has an epoch; give more time, or look at the errors above.")
        best = results.get_best_result(scope="all")
        written = {
            "start": start,
            "first_step": min(epoch.pop("began") for epoch in epochs),
            "epochs": sorted(epochs, key=lambda epoch: epoch["wall_clock"]),
            "end": end,
            "trials": len(results),
            "failed": results.num_errors,
            "best_config": best.config,
            "valid_accuracy": max(epoch["valid_accuracy"] for epoch in epochs),
            "holdout_accuracy": holdout_accuracy(best, images, labels, parts.holdout),
            "versions": {"ray": ray.__version__, "torch": torch.__version__},
        }
    arguments.out.write_text(json.dumps(written, indent=2) + "\n")


if __name__ == "__main__":
    main()
