"""TrialConfig: everything that decides one training run, but for the data."""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from trainable.errors import nearest

Loss = Literal["cross_entropy", "label_smoothing", "focal"]
Optimizer = Literal["adam", "adamw", "adamax", "sgd"]
Schedule = Literal["constant", "cosine", "step", "exponential", "one_cycle"]
Objective = Literal["valid_accuracy", "valid_loss", "valid_objective_loss"]

MIN_DEPTH, MAX_DEPTH = 4, 12
MIN_IMAGE_SIZE, MAX_IMAGE_SIZE = 28, 256
AGE_GROUPS = (10, 20, 30, 40, 50, 61)  # of UTKFace: the first age of each class, then the first beyond the last


class ConfigError(ValueError):
    """A configuration that cannot be trained: one sentence with the field and its value."""


@dataclass(frozen=True)
class TrialConfig:
    """One training run. The defaults are the report's recipe with the network do8 (no dropout on convolutions).

    Raises:
        ConfigError: when built with a value outside its range.
    """

    # Network
    depth: int = 8  # convolutions, 4..12
    widths: tuple[int, ...] | None = None  # channels of each convolution; None: the report's pattern
    dropout: tuple[float, ...] | None = None  # of each convolution's block, in [0, 1); None: none
    pool: Mapping[int, int] = field(default_factory=dict)  # block (1 is the first) -> pool size, over the rule's
    head_width: int = 32  # the first linear layer's outputs
    head_dropout: float = 0.5
    # Data
    image_size: int = 224  # pixels, the side of the square that images are resized to
    inputs: tuple[str, ...] = ()  # metadata columns joined at the head
    flip: float = 0.5  # probability of a horizontal flip in training
    # Training
    loss: Loss = "cross_entropy"
    label_smoothing: float = 0.1  # read by the loss label_smoothing
    focal_gamma: float = 2.0  # read by the loss focal
    optimizer: Optimizer = "adam"
    lr: float = 1e-3
    weight_decay: float = 1e-2
    momentum: float = 0.9  # read by sgd
    schedule: Schedule = "cosine"
    t_max: int | None = 10  # epochs of cosine's half period; None: to the end of training
    gamma: float = 0.9  # factor of exponential (each epoch) and step (each step_size epochs)
    step_size: int = 10  # epochs
    batch_size: int = 64
    epochs: int = 30
    objective: Objective = "valid_accuracy"  # whose best epoch is kept
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in (
            ("loss", get_args(Loss)),
            ("optimizer", get_args(Optimizer)),
            ("schedule", get_args(Schedule)),
            ("objective", get_args(Objective)),
        ):
            value = getattr(self, name)
            if value not in choices:
                hint = nearest(str(value), choices)
                raise ConfigError(f"{name} is {value!r}; it must be one of {', '.join(choices)}{hint}")
        self._check_int("depth", MIN_DEPTH, MAX_DEPTH)
        self._check_int("image_size", MIN_IMAGE_SIZE, MAX_IMAGE_SIZE)
        self._check_int("head_width", 1)
        self._check_int("batch_size", 2)  # batch norm needs two images
        self._check_int("epochs", 1)
        self._check_int("step_size", 1)
        self._check_int("seed", 0)
        if self.t_max is not None:
            self._check_int("t_max", 1)
        for name in ("head_dropout", "label_smoothing", "momentum"):
            self._check_float(name, 0.0, 1.0, open_end=True)
        self._check_float("flip", 0.0, 1.0)
        self._check_float("focal_gamma", 0.0)
        self._check_float("lr", 0.0, open_start=True)
        self._check_float("weight_decay", 0.0)
        self._check_float("gamma", 0.0, 1.0, open_start=True)
        for name in ("widths", "dropout"):
            values = getattr(self, name)
            if values is not None and len(values) != self.depth:
                raise ConfigError(f"{name} has {len(values)} values; depth {self.depth} needs {self.depth}")
        if any(not isinstance(width, int) or width < 1 for width in self.widths or ()):
            raise ConfigError(f"widths is {self.widths}; each must be an integer of at least 1")
        if any(not isinstance(p, int | float) or not 0 <= p < 1 for p in self.dropout or ()):
            raise ConfigError(f"dropout is {self.dropout}; each must be at least 0 and below 1")
        for block, size in self.pool.items():
            integers = isinstance(block, int) and isinstance(size, int)
            if not integers or not 1 <= block <= self.depth or not 1 <= size <= 8:
                raise ConfigError(f"pool has {block}: {size}; blocks are 1..{self.depth} and sizes 1..8")

    def _check_int(self, name: str, low: int, high: int | None = None) -> None:
        value = getattr(self, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < low or (high is not None and value > high):
            wanted = f"in {low}..{high}" if high is not None else f"of at least {low}"
            raise ConfigError(f"{name} is {value!r}; it must be an integer {wanted}")

    def _check_float(
        self, name: str, low: float, high: float = math.inf, *, open_start: bool = False, open_end: bool = False
    ) -> None:
        value = getattr(self, name)
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number or value < low or value > high or (open_start and value == low) or (open_end and value == high):
            start = f"above {low:g}" if open_start else f"at least {low:g}"
            end = "" if high == math.inf else f" and below {high:g}" if open_end else f" and at most {high:g}"
            raise ConfigError(f"{name} is {value!r}; it must be {start}{end}")

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON values (tuples as lists, pool's keys as text)."""
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrialConfig":
        """The inverse of `to_dict`. Raises ConfigError for a name that no field has."""
        names = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in names:
                raise ConfigError(f"no setting is called '{name}'{nearest(name, names)}")
        typed = dict(values)
        for name in ("widths", "dropout", "inputs"):
            if typed.get(name) is not None:
                typed[name] = tuple(typed[name])
        if "pool" in typed:
            typed["pool"] = {int(block): size for block, size in typed["pool"].items()}
        return cls(**typed)


def better(objective: Objective, new: float, old: float) -> bool:
    """Whether `new` is the better value of `objective`: accuracies are maximised, losses minimised."""
    return new > old if maximised(objective) else new < old


def maximised(objective: Objective) -> bool:
    """Whether more of `objective` is better."""
    return objective == "valid_accuracy"
