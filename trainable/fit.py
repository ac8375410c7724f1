"""The training loop: from a configuration and data to a stream of epochs.

An epoch is a function of (configuration, data, weights, optimiser's and schedule's state): its shuffling, flips and
dropout are drawn from the trial's seed and the epoch's number alone. So a run that was stopped and resumed, or that
follows another in the same process, gives the numbers of an unbroken one, bit for bit on a CPU.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn, optim
from torch.optim.lr_scheduler import LRScheduler

from trainable.checkpoint import Best
from trainable.config import ConfigError, Objective, TrialConfig, maximised
from trainable.device import Device
from trainable.evaluate import logits_of, to_network
from trainable.examples import Examples
from trainable.loss import LOSSES, cross_entropy
from trainable.model import ConvNet
from trainable.optim import OPTIMIZERS, SCHEDULES

Row = dict[str, float]
Criterion = Callable[[Tensor, Tensor], Tensor]


class NonFiniteLossError(RuntimeError):
    """A loss that is NaN or infinite: the trial has failed."""


@dataclass(frozen=True)
class Epoch:
    """What one epoch leaves."""

    row: Row  # of metrics.csv
    best: Best | None  # the network, if this epoch is the best so far
    valid_logits: Tensor  # (Nv, C) float32
    holdout_logits: Tensor | None  # (Nh, C) float32, if this epoch is the best so far
    latest: Callable[[], dict[str, Any]]  # the state to resume from; call it before the next epoch


def fit(
    config: TrialConfig, examples: Examples, device: Device, latest: dict[str, Any] | None = None
) -> Iterator[Epoch]:
    """Trains one network and yields its epochs, the first after `latest`'s where that is given.

    Args:
        config: all settings; the seed decides every random draw.
        examples: the data.
        device: where to compute.
        latest: an earlier epoch's `latest()`, to resume from.
    Raises:
        ConfigError: if the network does not fit the images, or the images are not of the configuration's size.
        NonFiniteLossError: naming the epoch, when a loss is NaN or infinite.
    """
    if config.image_size != examples.preprocessing.image_size:
        found = examples.preprocessing.image_size
        raise ConfigError(f"image_size is {config.image_size}, but the images are {found} pixels")
    with _seeded(config.seed, 0, device):
        model = ConvNet(config, examples.metadata.shape[1], len(examples.preprocessing.classes))
    device.place(model)
    batches = _batch_count(len(examples.train), config.batch_size)
    optimizer = OPTIMIZERS[config.optimizer].build(model.parameters(), config)
    schedule = SCHEDULES[config.schedule].build(optimizer, config, batches)
    criterion = LOSSES[config.loss].build(config)
    metadata = torch.from_numpy(examples.metadata).to(device.device)
    labels = torch.tensor(examples.labels, device=device.device)  # a copy: what comes from Ray's store is read-only
    valid_labels = labels[torch.from_numpy(examples.valid).to(device.device)].cpu()

    rows: list[Row] = []
    if latest is not None:
        model.load_state_dict(latest["model"])
        optimizer.load_state_dict(latest["optimizer"])
        schedule.load_state_dict(latest["schedule"])
        rows = list(latest["rows"])
    best_merit = max((merit(row, config.objective) for row in rows), default=(-math.inf, -math.inf))

    for epoch in range(len(rows) + 1, config.epochs + 1):
        started = time.perf_counter()
        lr = optimizer.param_groups[0]["lr"]
        with _seeded(config.seed, epoch, device):
            train_loss, train_accuracy = _train_epoch(
                model, optimizer, schedule, criterion, config, examples, metadata, labels, device
            )
        if not math.isfinite(train_loss):
            raise NonFiniteLossError(f"the training loss is {train_loss} in epoch {epoch}")
        valid_logits = logits_of(model, examples.pixels, metadata, examples.valid, examples.preprocessing, device)
        row = {
            "epoch": epoch,
            "train_loss": train_loss,
            "train_accuracy": train_accuracy,
            "valid_loss": _mean(cross_entropy(valid_logits, valid_labels)),
            "valid_accuracy": _mean(valid_logits.argmax(1) == valid_labels),
            "lr": lr,
        }
        if config.loss != "cross_entropy":
            row["valid_objective_loss"] = _mean(criterion(valid_logits, valid_labels))
        if not math.isfinite(row["valid_loss"]):
            raise NonFiniteLossError(f"the validation loss is {row['valid_loss']} in epoch {epoch}")
        best, holdout_logits = None, None
        if merit(row, config.objective) > best_merit:
            best_merit = merit(row, config.objective)
            best = Best(config, examples.preprocessing, _copy(model.state_dict()), epoch, device.precision)
            holdout_logits = logits_of(
                model, examples.pixels, metadata, examples.holdout, examples.preprocessing, device
            )
        row["seconds"] = time.perf_counter() - started
        rows.append(row)

        def state_to_resume_from() -> dict[str, Any]:
            return {
                "config": config.to_dict(),
                "preprocessing": examples.preprocessing.to_json(),
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "rows": list(rows),
            }

        yield Epoch(row, best, valid_logits, holdout_logits, state_to_resume_from)


def _train_epoch(
    model: nn.Module,
    optimizer: optim.Optimizer,
    schedule: LRScheduler,
    criterion: Criterion,
    config: TrialConfig,
    examples: Examples,
    metadata: Tensor,
    labels: Tensor,
    device: Device,
) -> tuple[float, float]:
    """One pass over the training images. Returns the mean loss and the accuracy over them, measured on the way."""
    every_step = SCHEDULES[config.schedule].every_step
    order = examples.train[torch.randperm(len(examples.train)).numpy()]
    # Sums stay on the device and are read once, at the end: reading each batch would wait for the device each time.
    loss_sum = torch.zeros((), dtype=torch.float64, device=device.device)
    correct = torch.zeros((), dtype=torch.int64, device=device.device)
    for rows in np.array_split(order, _cuts(len(order), config.batch_size)):
        on_device = torch.from_numpy(rows).to(device.device)
        images = to_network(examples.pixels[rows], examples.preprocessing, device)
        flipped = (torch.rand(len(rows)) < config.augment.flip).to(device.device)
        images = torch.where(flipped[:, None, None, None], images.flip(3), images)
        with device.autocast():
            logits = model(images, metadata[on_device])
        logits = logits.float()
        losses = criterion(logits, labels[on_device])
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()
        if every_step:
            schedule.step()
        loss_sum += losses.detach().double().sum()
        correct += (logits.detach().argmax(1) == labels[on_device]).sum()
    if not every_step:
        schedule.step()
    return loss_sum.item() / len(order), correct.item() / len(order)


def merit(row: Row, objective: Objective) -> tuple[float, float]:
    """How good an epoch is, more is better: the objective, and the validation loss between equals."""
    value = objective_value(row, objective)
    return (value if maximised(objective) else -value, -row["valid_loss"])


def objective_value(row: Row, objective: Objective) -> float:
    """The objective's value in a row of metrics. A trial on plain cross-entropy has one validation loss."""
    if objective == "valid_objective_loss":
        return row.get("valid_objective_loss", row["valid_loss"])
    return row[objective]


def _batch_count(images: int, batch_size: int) -> int:
    return len(_cuts(images, batch_size)) + 1


def _cuts(images: int, batch_size: int) -> list[int]:
    """Where batches begin, but for the first. A last batch of one image joins the one before: batch norm needs two."""
    return [start for start in range(batch_size, images, batch_size) if images - start > 1]


def _copy(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A copy on the CPU, in the plain layout that safetensors writes."""
    return {name: tensor.cpu().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}


def _mean(values: Tensor) -> float:
    return values.double().mean().item()


@contextmanager
def _seeded(seed: int, epoch: int, device: Device) -> Iterator[None]:
    """Random draws inside come from (seed, epoch) alone; the process's own random state is put back after."""
    with torch.random.fork_rng([device.device] if device.device.type == "cuda" else []):
        torch.manual_seed(int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0]))
        yield
