"""Optimisers and learning-rate schedules: two tables of rows that spaces, help texts and tests read.

Fused where torch has it: on a CPU a step of the report's network takes a quarter of the time. A fused step of SGD reads
a gradient as it lies in memory, which is to be as its parameter does: autograd sees to that.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import optim
from torch.nn import Parameter
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from trainable import untraced
from trainable.config import TrialConfig
from trainable.muon import Muon


@dataclass(frozen=True)
class OptimizerRow:
    """One optimiser, built with the configuration's learning rate and weight decay."""

    name: str
    summary: str
    build: Callable[[Iterable[Parameter], TrialConfig], optim.Optimizer]


OPTIMIZERS = {
    row.name: row
    for row in (
        OptimizerRow(
            "adam",
            "Adam with L2 weight decay (Kingma and Ba 2015), the report's choice",
            lambda parameters, c: untraced.Adam(parameters, lr=c.lr, weight_decay=c.weight_decay, fused=True),
        ),
        OptimizerRow(
            "adamw",
            "Adam with decoupled weight decay (Loshchilov and Hutter 2019)",
            lambda parameters, c: untraced.AdamW(parameters, lr=c.lr, weight_decay=c.weight_decay, fused=True),
        ),
        OptimizerRow(
            "adamax",
            "Adam by the infinity norm (Kingma and Ba 2015, section 7)",
            lambda parameters, c: untraced.Adamax(parameters, lr=c.lr, weight_decay=c.weight_decay),
        ),
        OptimizerRow(
            "sgd",
            "stochastic gradient descent with Nesterov momentum",
            lambda parameters, c: untraced.SGD(
                parameters,
                lr=c.lr,
                momentum=c.momentum,
                weight_decay=c.weight_decay,
                nesterov=c.momentum > 0,
                fused=True,
            ),
        ),
        OptimizerRow(
            "muon",
            "Muon for the filters, AdamW for the rest (Jordan et al. 2024)",
            lambda parameters, c: Muon(parameters, c.lr, c.weight_decay, c.momentum),
        ),
    )
}


@dataclass(frozen=True)
class ScheduleRow:
    """One schedule, built for an optimiser and the number of steps (batches) an epoch."""

    name: str
    summary: str
    build: Callable[[optim.Optimizer, TrialConfig, int], LRScheduler]
    every_step: bool = False  # advanced each step; else each epoch


SCHEDULES = {
    row.name: row
    for row in (
        ScheduleRow(
            "constant",
            "the learning rate as given",
            lambda optimizer, c, steps: lr_scheduler.ConstantLR(optimizer, factor=1.0),
        ),
        ScheduleRow(
            "cosine",
            "down to 0 in t_max epochs and up again (T_max 10 in the report); t_max None: to 0 at the end",
            lambda optimizer, c, steps: lr_scheduler.CosineAnnealingLR(optimizer, T_max=c.t_max or c.epochs),
        ),
        ScheduleRow(
            "step",
            "times gamma each step_size epochs",
            lambda optimizer, c, steps: lr_scheduler.StepLR(optimizer, step_size=c.step_size, gamma=c.gamma),
        ),
        ScheduleRow(
            "exponential",
            "times gamma each epoch",
            lambda optimizer, c, steps: lr_scheduler.ExponentialLR(optimizer, gamma=c.gamma),
        ),
        ScheduleRow(
            "one_cycle",
            "up to lr over the first 30 % of the steps, then down to almost 0 (Smith and Topin 2018)",
            # Momentum is left alone: cycling it would overwrite the configuration's.
            lambda optimizer, c, steps: lr_scheduler.OneCycleLR(
                optimizer, max_lr=c.lr, total_steps=c.epochs * steps, cycle_momentum=False
            ),
            every_step=True,
        ),
    )
}
