"""The report's own training loop, as a peer: decoded images in memory, transformed one at a time in one process.

PyTorch's own modules in float32 and NCHW, and a wait for the device at each batch.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from benchmarks.plain_network import PlainNet
from trainable.config import TrialConfig
from trainable.examples import Examples


@dataclass(frozen=True)
class ReportEpoch:
    """What an epoch of the report's loop says of itself."""

    seconds: float  # validation included
    train_loss: float  # mean over the batches
    valid_accuracy: float


def transformed(image: Image.Image, mean: Tensor, std: Tensor, flip: bool) -> Tensor:
    """What the report's torchvision transforms do to an image: flip, to a float tensor, normalise."""
    if flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)
    return tensor.sub_(mean).div_(std)


def report_epochs(config: TrialConfig, examples: Examples, device: torch.device) -> Iterator[ReportEpoch]:
    """Trains as the report did and yields the configuration's epochs, validation included."""
    torch.manual_seed(config.seed)
    random = np.random.default_rng(config.seed)
    model = PlainNet(config, examples.metadata.shape[1], len(examples.preprocessing.classes)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)
    criterion = nn.CrossEntropyLoss()
    images = [Image.fromarray(pixels) for pixels in examples.pixels]
    mean = torch.tensor(examples.preprocessing.mean).view(3, 1, 1)
    std = torch.tensor(examples.preprocessing.std).view(3, 1, 1)

    def batch(rows: NDArray[np.int64], flip: bool) -> tuple[Tensor, Tensor, Tensor]:
        flips = random.random(len(rows)) < (config.augment.flip if flip else 0.0)
        tensors = [transformed(images[row], mean, std, f) for row, f in zip(rows, flips, strict=True)]
        return (
            torch.stack(tensors).to(device),
            torch.tensor(examples.metadata[rows]).to(device),
            torch.tensor(examples.labels[rows]).to(device),
        )

    for _ in range(config.epochs):
        began = time.perf_counter()
        model.train()
        losses, correct = [], 0.0
        order = random.permutation(examples.train)
        for start in range(0, len(order), config.batch_size):
            pixels, metadata, labels = batch(order[start : start + config.batch_size], flip=True)
            optimizer.zero_grad()
            logits = model(pixels, metadata)
            loss = criterion(logits, labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            (logits.argmax(1) == labels).float().mean().item()
        schedule.step()
        model.eval()
        with torch.no_grad():
            for start in range(0, len(examples.valid), config.batch_size):
                pixels, metadata, labels = batch(examples.valid[start : start + config.batch_size], flip=False)
                logits = model(pixels, metadata)
                criterion(logits, labels).item()
                correct += (logits.argmax(1) == labels).sum().item()
        accuracy = correct / len(examples.valid)
        yield ReportEpoch(time.perf_counter() - began, sum(losses) / len(losses), accuracy)
