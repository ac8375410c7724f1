"""The training loop: from a configuration and data to a stream of epochs.

An epoch is a function of (configuration, data, weights, optimiser's and schedule's state): its shuffling, augmentation
and dropout are drawn from the trial's seed and the epoch's number alone. So a run that was stopped and resumed, or that
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
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from trainable.augment import Augmenter
from trainable.checkpoint import Best
from trainable.config import ConfigError, Objective, TrialConfig, maximised
from trainable.device import Device
from trainable.ema import MovingAverage
from trainable.evaluate import normalised, outputs_of
from trainable.examples import UNKNOWN, Examples
from trainable.head import head_of
from trainable.images import Images, side_in
from trainable.loss import Criterion, criterion, cross_entropy
from trainable.network import Coral, Experts, build_network
from trainable.optim import OPTIMIZERS, SCHEDULES
from trainable.torch_compile import compiled, compiles

Row = dict[str, float]
Rows = NDArray[np.int64]
# The losses among the metrics of validation: the second is there where it is another than the first.
VALIDATED = {"valid_loss": "validation loss", "valid_objective_loss": "validation loss of the kind trained on"}


class NonFiniteLossError(RuntimeError):
    """A loss that is NaN or infinite: the trial has failed."""


@dataclass(frozen=True)
class Epoch:
    """What one epoch leaves. Its functions are to be called before the next epoch, which changes the weights; what they
    have given stays as it is."""

    row: Row  # of metrics.csv
    improved: bool  # whether it is the best so far; without validation, whether it is the last
    valid_logits: Tensor  # (Nv, C) float32
    networks: Callable[[], tuple[Best, ...]]  # what was trained: one network, or one a fold
    latest: Callable[[], dict[str, Any]]  # the state to resume from


def fit(
    config: TrialConfig,
    examples: Examples,
    device: Device,
    latest: dict[str, Any] | None = None,
    epochs: int | None = None,
) -> Iterator[Epoch]:
    """Trains one network and yields its epochs, the first after `latest`'s where that is given.

    Args:
        config: all settings; the seed decides every random draw.
        examples: the data.
        device: where to compute.
        latest: an earlier epoch's `latest()`, to resume from.
        epochs: how many to train, where it is not the configuration's number; the schedule stays the configuration's.
    Raises:
        ConfigError: if the network does not fit the images, or the images are not of the configuration's size.
        NonFiniteLossError: naming the epoch, when a loss is NaN or infinite.
    """
    if config.image_size != examples.preprocessing.image_size:
        found = examples.preprocessing.image_size
        raise ConfigError(f"image_size is {config.image_size}, but the images are {found} pixels")
    training = _Training(config, examples, device)
    training.compile(epochs or config.epochs)
    rows = training.resume(latest) if latest is not None else []
    best_merit = max((merit(row, config.objective) for row in rows if "valid_loss" in row), default=WORST)
    last = epochs or config.epochs

    for epoch in range(len(rows) + 1, last + 1):
        started = time.perf_counter()
        with _seeded(config.seed, epoch, device):
            train_loss, train_accuracy, lr = training.epoch(epoch)
        if not math.isfinite(train_loss):
            raise NonFiniteLossError(f"the training loss is {train_loss} in epoch {epoch}")
        row = {"epoch": epoch, "train_loss": train_loss, "train_accuracy": train_accuracy}
        improved = epoch == last
        valid_logits = torch.zeros(0, training.head.classes)
        if len(examples.valid):
            valid_logits, metrics = training.validate()
            for name, what in VALIDATED.items():
                if not math.isfinite(metrics.get(name, 0.0)):
                    raise NonFiniteLossError(f"the {what} is {metrics[name]} in epoch {epoch}")
            row |= metrics
            improved = merit(row, config.objective) > best_merit
            best_merit = max(best_merit, merit(row, config.objective))
        row |= {"lr": lr, "seconds": time.perf_counter() - started}
        rows.append(row)
        yield Epoch(
            row,
            improved,
            valid_logits,
            networks=lambda epoch=epoch: (training.network(epoch),),  # type: ignore[misc]  # mypy: no defaults
            latest=lambda: training.state(rows),
        )


class _Training:
    """A network in training, with what its steps have in common. N rows, K one-hots."""

    def __init__(self, config: TrialConfig, examples: Examples, device: Device) -> None:
        self.config, self.examples, self.device = config, examples, device
        preprocessing, train = examples.preprocessing, examples.train
        self.head = head_of(config, preprocessing)
        with _seeded(config.seed, 0, device):
            self.model = device.place(build_network(config, preprocessing))
        # The networks that learn apart, and the rows of each: one of all rows, or an expert each.
        self.networks, self.groups = [self.model], [train]
        if isinstance(self.model, Experts) and config.experts is not None:
            self.networks = list(self.model.networks)
            own = examples.metadata[train, preprocessing.group(config.experts)]
            self.groups = [train[own[:, expert] > 0] for expert in range(own.shape[1])]
        for network, rows in zip(self.networks, self.groups, strict=True):
            if isinstance(network, Coral):
                network.start_at(self._counts(rows))
        self.averages = [MovingAverage(network, config.ema) for network in self.networks] if config.ema else []
        self.evaluated = self._evaluated()
        self.optimizer = OPTIMIZERS[config.optimizer].build(self.model.parameters(), config)
        self.steps = sum(len(_cuts(len(rows), config.batch_size)) + 1 for rows in self.groups)
        self.schedule: LRScheduler = SCHEDULES[config.schedule].build(self.optimizer, config, self.steps)
        fill = [255 * mean for mean in preprocessing.mean]
        self.augmenter = Augmenter(config.augment, len(examples.labels), config.seed, fill, device)
        self.images = Images(examples.pixels, device)
        self.metadata = torch.from_numpy(examples.metadata).to(device.device)
        # What is called in a step: the networks, or what they were compiled to.
        self.forwards: list[Callable[[Tensor, Tensor], Tensor]] = list(self.networks)
        # Copies: what comes from Ray's store is read-only.
        self.labels = torch.tensor(examples.labels, device=device.device)
        self.levels = torch.tensor(examples.levels, device=device.device)
        # What each of the networks learns by, weighed by its own rows; and what all are judged by, on the CPU.
        self.criteria = [criterion(config, self._counts(rows).to(device.device)) for rows in self.groups]
        self.judged: Criterion = criterion(config, self._counts(train))

    def _evaluated(self) -> nn.Module:
        """The network whose outputs count: the moving averages where there are any."""
        if not self.averages:
            return self.model
        if isinstance(self.model, Experts):
            return Experts([average.model for average in self.averages], self.model.group)
        return self.averages[0].model

    def _counts(self, rows: Rows) -> Tensor:
        """(V,) how many of the rows are of each level."""
        return torch.bincount(torch.tensor(self.examples.levels[rows]), minlength=self.head.levels)

    def compile(self, epochs: int) -> None:
        """Has whole batches of the full size computed by compiled networks, where so many epochs pay for that."""
        batch, size = self.config.batch_size, self.config.image_size
        for learner, (network, rows) in enumerate(zip(self.networks, self.groups, strict=True)):
            whole = sum(len(part) == batch for part in _split(rows, batch))
            if whole and compiles(self.device, whole * epochs):
                images = torch.zeros(batch, 3, size, size, device=self.device.device)
                images = images.contiguous(memory_format=self.device.memory_format)
                metadata = self.metadata[:1].expand(batch, -1).contiguous()
                self.forwards[learner] = compiled(network, images, metadata, self.device)

    def epoch(self, epoch: int) -> tuple[float, float, float]:
        """One pass over the training rows. Returns the mean loss and the accuracy over them, measured on the way: of
        mixed images each label counts with its share. And the learning rate of the last step."""
        every_step = SCHEDULES[self.config.schedule].every_step
        step_lr = math.nan
        lr, side = self.optimizer.param_groups[0]["lr"], side_in(self.config, epoch)
        # Sums stay on the device and are read once, at the end: reading each batch would wait for the device each time.
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.device.device)
        correct = torch.zeros((), dtype=torch.float64, device=self.device.device)
        for step, (learner, rows) in enumerate(self._batches(), start=1):
            network = self.networks[learner]
            if epoch <= self.config.warmup:
                risen = (epoch - 1 + step / self.steps) / self.config.warmup
                self.optimizer.param_groups[0]["lr"] = lr * risen
            on_device = self.device.send(torch.from_numpy(rows))
            images = self.augmenter(self.images(rows, side), torch.from_numpy(rows), epoch)
            images = normalised(images, self.examples.preprocessing)
            mixed = self.augmenter.mix(images)
            whole = len(rows) == self.config.batch_size and images.shape[3] == self.config.image_size
            forward = self.forwards[learner] if whole else network
            with self.device.autocast():
                outputs = forward(images if mixed is None else mixed.images, self.metadata[on_device])
            outputs, levels = outputs.float(), self.levels[on_device]
            losses = self.criteria[learner](outputs, levels)
            if mixed is not None:
                others = self.criteria[learner](outputs, levels[mixed.partner])
                losses = mixed.share * losses + (1 - mixed.share) * others
            self.optimizer.zero_grad()
            losses.mean().backward()
            step_lr = self.optimizer.param_groups[0]["lr"]
            self.optimizer.step()
            if every_step:
                self.schedule.step()
            if self.averages:
                self.averages[learner].update(network)
            loss_sum += losses.detach().double().sum()
            with torch.no_grad():
                predicted, labels = self.head.logits(outputs).argmax(1), self.labels[on_device]
                hits = (predicted == labels).sum()
                if mixed is not None:
                    hits = mixed.share * hits + (1 - mixed.share) * (predicted == labels[mixed.partner]).sum()
                correct += hits
        if not every_step:
            self.optimizer.param_groups[0]["lr"] = lr  # the schedules go on from what they find
            self.schedule.step()
        images_seen = sum(map(len, self.groups))
        return loss_sum.item() / images_seen, correct.item() / images_seen, step_lr

    def _batches(self) -> Iterator[tuple[int, Rows]]:
        """The epoch's batches, each with the number of the network that it trains; an expert's are its own rows, so
        that it learns as it would alone. Those of several networks come in random order."""
        train = self.examples.train
        order = train[torch.randperm(len(train)).numpy()]
        batches = [
            (learner, rows)
            for learner, group in enumerate(self.groups)
            for rows in _split(order if len(self.groups) == 1 else order[np.isin(order, group)], self.config.batch_size)
        ]
        if len(self.groups) > 1:
            batches = [batches[index] for index in torch.randperm(len(batches)).tolist()]
        yield from batches

    def validate(self) -> tuple[Tensor, Row]:
        """(Nv, C) logits of the validation rows, and their metrics."""
        valid = self.examples.valid
        preprocessing, views = self.examples.preprocessing, self.config.views
        outputs = outputs_of(self.evaluated, self.images, self.metadata, valid, preprocessing, views)
        logits, labels = self.head.logits(outputs), torch.tensor(self.examples.labels[valid])
        row = {
            "valid_loss": _mean(cross_entropy(logits, labels)),
            "valid_accuracy": _mean(logits.argmax(1) == labels),
        }
        config = self.config
        if config.loss != "cross_entropy" or config.class_weights or config.target is not None:
            levels = torch.tensor(self.examples.levels[valid])
            known = levels != UNKNOWN
            if known.any():  # else it has no value, and `objective_value` takes the validation loss
                row["valid_objective_loss"] = _mean(self.judged(outputs[known], levels[known]))
        return logits, row

    def network(self, epoch: int) -> Best:
        """What was trained, to keep."""
        state = _copy(self.evaluated.state_dict())
        return Best(self.config, self.examples.preprocessing, state, epoch, self.device.precision)

    def state(self, rows: list[Row]) -> dict[str, Any]:
        """What `resume` takes."""
        state = {
            "config": self.config.to_dict(),
            "preprocessing": self.examples.preprocessing.to_json(),
            "model": self.model.state_dict(),
            "averages": [average.state_dict() for average in self.averages],
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "rows": rows,
        }
        copied: dict[str, Any] = _on_cpu(state)
        return copied

    def resume(self, state: dict[str, Any]) -> list[Row]:
        """Takes up a `state`, and returns the rows of its epochs."""
        self.model.load_state_dict(state["model"])
        for average, saved in zip(self.averages, state["averages"], strict=True):
            average.load_state_dict(saved)
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        return list(state["rows"])


WORST = (-math.inf, -math.inf)


def merit(row: Row, objective: Objective) -> tuple[float, float]:
    """How good an epoch is, more is better: the objective, and the validation loss between equals."""
    value = objective_value(row, objective)
    return (value if maximised(objective) else -value, -row["valid_loss"])


def objective_value(row: Row, objective: Objective) -> float:
    """The objective's value in a row of metrics. A trial on plain cross-entropy has one validation loss."""
    if objective == "valid_objective_loss":
        return row.get("valid_objective_loss", row["valid_loss"])
    return row[objective]


def _split(order: Rows, batch_size: int) -> list[Rows]:
    return np.array_split(order, _cuts(len(order), batch_size))


def _cuts(images: int, batch_size: int) -> list[int]:
    """Where batches begin, but for the first. A last batch of one image joins the one before: batch norm needs two."""
    return [start for start in range(batch_size, images, batch_size) if images - start > 1]


def _copy(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A copy on the CPU, in the plain layout that safetensors writes."""
    return {name: tensor.cpu().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}


def _on_cpu(state: Any) -> Any:
    """A copy of tensors, and of the dicts, lists and tuples that hold them."""
    if isinstance(state, Tensor):
        return state.to("cpu", copy=True)
    if isinstance(state, dict):
        return {name: _on_cpu(value) for name, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_on_cpu(value) for value in state)
    return state


def _mean(values: Tensor) -> float:
    return values.double().mean().item()


@contextmanager
def _seeded(seed: int, epoch: int, device: Device) -> Iterator[None]:
    """Random draws inside come from (seed, epoch) alone; the process's own random state is put back after."""
    with torch.random.fork_rng([device.device] if device.device.type == "cuda" else []):
        torch.manual_seed(int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0]))
        yield
