"""TrialConfig: everything that decides one training run, but for the data."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from trainable.errors import nearest
from trainable.ranges import Choices, ConfigError, Flag, Integers, Numbers, Range, make_plain

__all__ = ["Augmentation", "ConfigError", "TrialConfig", "maximised"]

Architecture = Literal[
    "convnet",
    "residual",
    "cifar10",
    "alexnet",
    "resnet18",
    "resnet34",
    "resnet50",
    "wide_resnet50_2",
    "resnext50_32x4d",
    "efficientnet_b0",
    "mobilenet_v3_small",
]
Loss = Literal["cross_entropy", "label_smoothing", "focal", "coral", "soft_ordinal"]
Optimizer = Literal["adam", "adamw", "adamax", "sgd", "muon"]
Init = Literal["default", "identity"]
Schedule = Literal["constant", "cosine", "step", "exponential", "one_cycle"]
Views = Literal["one", "flip", "flip_shift"]
Objective = Literal["valid_accuracy", "valid_loss", "valid_objective_loss"]

MIN_DEPTH, MAX_DEPTH = 4, 12
MIN_IMAGE_SIZE, MAX_IMAGE_SIZE = 28, 256
MIN_FOLDS, MAX_FOLDS = 2, 20
ONE_SIZE = ("cifar10",)  # the architectures whose head is made for one image size
DIGITS = "digits"  # the data that needs no file; a folder of that name is ./digits
AGE_GROUPS = (10, 20, 30, 40, 50, 61)  # of UTKFace: the first age of each class, then the first beyond the last
MIN_ALPHA = 0.01  # a Beta distribution of less underflows: its draws become exactly one half
SHAPED = ("convnet", "residual")  # the architectures that read depth, widths, dropout, pool and init

_AUGMENTATION: dict[str, Range] = {
    "flip": Numbers(0, 1),
    "alternating_flip": Flag(),
    "rotation": Numbers(0, 180),
    "shift": Numbers(0, 0.5),
    "distortion": Numbers(0, 0.5),
    "brightness": Numbers(0, 1, open_high=True),
    "contrast": Numbers(0, 1, open_high=True),
    "grayscale": Numbers(0, 1),
    "randaugment": Integers(0, 8),
    "magnitude": Integers(0, 30),
    "holes": Integers(0, 64),
    "hole_size": Numbers(0, 1, open_low=True),
    "mixup": Numbers(0),
    "cutmix": Numbers(0),
}
_TRIAL: dict[str, Range] = {
    "architecture": Choices(get_args(Architecture)),
    "loss": Choices(get_args(Loss)),
    "optimizer": Choices(get_args(Optimizer)),
    "schedule": Choices(get_args(Schedule)),
    "init": Choices(get_args(Init)),
    "views": Choices(get_args(Views)),
    "objective": Choices(get_args(Objective)),
    "depth": Integers(MIN_DEPTH, MAX_DEPTH),
    "width_factor": Numbers(0, 16, open_low=True),
    "head_width": Integers(1),
    "head_dropout": Numbers(0, 1, open_high=True),
    "image_size": Integers(MIN_IMAGE_SIZE, MAX_IMAGE_SIZE),
    "label_smoothing": Numbers(0, 1, open_high=True),
    "focal_gamma": Numbers(0),
    "ordinal_scale": Numbers(0, open_low=True),
    "class_weights": Flag(),
    "lr": Numbers(0, open_low=True),
    "weight_decay": Numbers(0),
    "momentum": Numbers(0, 1, open_high=True),
    "start_scale": Numbers(0.25, 1),
    "growing": Numbers(0, 1, open_high=True),
    "warmup": Integers(0),
    "gamma": Numbers(0, 1, open_low=True),
    "step_size": Integers(1),
    "ema": Numbers(0, 1, open_high=True),
    "batch_size": Integers(2),  # batch norm needs two images
    "epochs": Integers(1),
    "seed": Integers(0),
}


@dataclass(frozen=True)
class Augmentation:
    """What training does to its images, each image with its own draws. The default is the report's flip alone.

    Raises:
        ConfigError: when built with a value outside its range.
    """

    flip: float = 0.5  # probability of a horizontal flip
    alternating_flip: bool = False  # instead: each image as it is and mirrored in turn, epoch by epoch
    rotation: float = 0.0  # by at most so many degrees to either side
    shift: float = 0.0  # by at most this part of the side, each way
    distortion: float = 0.0  # of a grid of 5 x 5 cells, by at most this part of a cell
    brightness: float = 0.0  # times a factor of at most 1 -+ this
    contrast: float = 0.0  # the same for the distance from the image's mean
    grayscale: float = 0.0  # probability
    randaugment: int = 0  # operations an image (Cubuk et al. 2020)
    magnitude: int = 9  # of randaugment, 0..30
    holes: int = 0  # squares of the mean colour (coarse dropout; one large hole is Cutout)
    hole_size: float = 8 / 224  # a hole's side as a part of the image's
    mixup: float = 0.0  # alpha of the Beta distribution of the share (Zhang et al. 2018); 0: none
    cutmix: float = 0.0  # alpha (Yun et al. 2019); where both are given, each batch takes one of them

    def __post_init__(self) -> None:
        make_plain(self)
        for name, allowed in _AUGMENTATION.items():
            allowed.check(name, getattr(self, name))
        if self.alternating_flip and self.flip != Augmentation.flip:
            raise ConfigError(f"flip is {self.flip}, which alternating_flip replaces")
        for name in ("mixup", "cutmix"):
            if 0 < getattr(self, name) < MIN_ALPHA:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be 0 or at least {MIN_ALPHA}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Augmentation":
        """From values by name. Raises ConfigError for a name that no field has."""
        _check_names(cls, values)
        return cls(**values)


@dataclass(frozen=True)
class TrialConfig:
    """One training run. The defaults are the report's recipe with the network do8 (no dropout on convolutions).

    What only some losses, optimizers or schedules read is ignored under the others: a space may sample it always, as
    the samplers gp and cmaes need, which model what every trial has.

    Raises:
        ConfigError: when built with a value outside its range.
    """

    # Network
    architecture: Architecture = "convnet"
    depth: int = 8  # convolutions, 4..12
    widths: tuple[int, ...] | None = None  # channels of each convolution; None: the report's pattern
    width_factor: float = 1.0  # times the pattern's widths
    dropout: tuple[float, ...] | None = None  # of each convolution's block, in [0, 1); None: none
    pool: Mapping[int, int] = field(default_factory=dict)  # block (1 is the first) -> pool size, over the rule's
    head_width: int = 32  # the first linear layer's outputs
    head_dropout: float = 0.5
    init: Init = "default"  # identity: the first filters of each convolution pass their channel on
    experts: str | None = None  # an input column: a network of its own for each value of two training images or more
    # Data
    image_size: int = 224  # pixels, the side of the square that images are resized to
    inputs: tuple[str, ...] = ()  # metadata columns joined at the head
    augment: Augmentation = Augmentation()
    views: Views = "one"  # evaluation averages over: the image; and its mirror image; and both, shifted a little
    # Training
    target: str | None = None  # an integer column: its values are learnt, and their probabilities summed into classes
    loss: Loss = "cross_entropy"
    label_smoothing: float = 0.1  # read by the loss label_smoothing
    focal_gamma: float = 2.0  # read by the loss focal
    # Read by the loss soft_ordinal: a level so many places away, in the order of those that training has, gets 1/e of
    # the true one's share. Values of the target that no training image has are no places.
    ordinal_scale: float = 1.0
    class_weights: bool = False  # each class (or value of the target) counts the same, however many images it has
    optimizer: Optimizer = "adam"
    lr: float = 1e-3
    weight_decay: float = 1e-2
    momentum: float = 0.9  # read by sgd and muon
    schedule: Schedule = "cosine"
    t_max: int | None = 10  # epochs of cosine's half period; None: to the end of training
    gamma: float = 0.9  # factor of exponential (each epoch) and step (each step_size epochs)
    step_size: int = 10  # epochs
    warmup: int = 0  # epochs over which the learning rate rises to the schedule's, step by step
    # Decay a step of the weights' moving average, which is what is evaluated; 0: none. In the first 9 / (1 - ema) steps
    # it is less: see MovingAverage.
    ema: float = 0.0
    # The side of the first epoch's images is this part of image_size, and rises to it over that share of the epochs.
    start_scale: float = 1.0  # 1: all epochs alike
    growing: float = 0.75  # read where start_scale is below 1
    batch_size: int = 64
    epochs: int = 30
    objective: Objective = "valid_accuracy"  # whose best epoch is kept
    seed: int = 0

    def __post_init__(self) -> None:
        make_plain(self)
        for name, allowed in _TRIAL.items():
            allowed.check(name, getattr(self, name))
        if self.t_max is not None:
            Integers(1).check("t_max", self.t_max)
        self._check_types()
        for name in ("widths", "dropout"):
            values = getattr(self, name)
            if values is not None and len(values) != self.depth:
                raise ConfigError(f"{name} has {len(values)} values; depth {self.depth} needs {self.depth}")
        if any(type(width) is not int or width < 1 for width in self.widths or ()):
            raise ConfigError(f"widths is {self.widths}; each must be an integer of at least 1")
        if any(type(p) not in (int, float) or not 0 <= p < 1 for p in self.dropout or ()):
            raise ConfigError(f"dropout is {self.dropout}; each must be at least 0 and below 1")
        for block, size in self.pool.items():
            integers = type(block) is int and type(size) is int  # True is no size
            if not integers or not 1 <= block <= self.depth or not 1 <= size <= 8:
                raise ConfigError(f"pool has {block}: {size}; blocks are 1..{self.depth} and sizes 1..8")
        self._check_combinations()

    def _check_types(self) -> None:
        """Raises ConfigError for a field that is not what its annotation says, as in a file that nothing checks."""
        if not isinstance(self.augment, Augmentation):
            raise ConfigError(f"augment is {self.augment!r}; it must be an Augmentation(...)")
        if not isinstance(self.pool, Mapping):
            raise ConfigError(f"pool is {self.pool!r}; it must be a mapping from blocks to sizes, as in {{6: 3}}")
        for name in ("widths", "dropout"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, tuple):
                raise ConfigError(f"{name} is {value!r}; it must have a value for each convolution, or be None")
        columns = isinstance(self.inputs, tuple) and all(isinstance(name, str) for name in self.inputs)
        if not columns or len(set(self.inputs)) < len(self.inputs):
            raise ConfigError(f"inputs is {self.inputs!r}; it must be different column names, as in ('Gender', 'Race')")
        for name in ("target", "experts"):
            if not isinstance(getattr(self, name), str | None):
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it must be a column's name or None")

    def _check_combinations(self) -> None:
        """Raises ConfigError where a setting would be ignored, or cannot be had beside another."""
        if self.architecture not in SHAPED:
            ignored: dict[str, Any] = {
                "depth": 8,
                "widths": None,
                "width_factor": 1.0,
                "dropout": None,
                "pool": {},
                "head_width": 32,
                "init": "default",
            }
            for name, default in ignored.items():
                if getattr(self, name) != default:
                    raise ConfigError(f"{name} is {getattr(self, name)}, which {self.architecture} does not read")
        if self.widths is not None and self.width_factor != 1:
            raise ConfigError(f"width_factor is {self.width_factor}, but widths says them all: {self.widths}")
        if self.experts is not None and self.experts not in self.inputs:
            found = ", ".join(self.inputs)
            raise ConfigError(
                f"experts is {self.experts!r}, which is not among the inputs ({found}); set it in inputs too, which a "
                "space may with decides=('inputs',)"
            )
        if self.target is not None and self.target in self.inputs:
            raise ConfigError(f"target is {self.target!r}, which the network reads as an input")
        if self.start_scale < 1 and self.architecture in ONE_SIZE:
            raise ConfigError(
                f"start_scale is {self.start_scale}, but the head of {self.architecture} is made for one image size"
            )
        if self.class_weights and self.loss == "coral":
            raise ConfigError("class_weights is True, which the loss coral cannot honour")
        if self.warmup and self.schedule == "one_cycle":
            raise ConfigError(f"warmup is {self.warmup}, but the schedule one_cycle has a rise of its own")

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON values (tuples as lists, pool's keys as text)."""
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrialConfig":
        """The inverse of `to_dict`. Raises ConfigError for a name that no field has, and as the class does."""
        _check_names(cls, values)
        typed = dict(values)
        pool, augment = typed.get("pool"), typed.get("augment")
        if isinstance(pool, Mapping):  # else it is refused as any field of another type
            typed["pool"] = {int(block) if str(block).isdecimal() else block: size for block, size in pool.items()}
        if isinstance(augment, Mapping):
            typed["augment"] = Augmentation.from_dict(augment)
        return cls(**typed)


def _check_names(cls: type, values: Mapping[str, Any]) -> None:
    names = [field.name for field in dataclasses.fields(cls)]
    for name in values:
        if name not in names:
            raise ConfigError(f"no setting is called '{name}'{nearest(name, names)}")


def maximised(objective: Objective) -> bool:
    """Whether more of `objective` is better."""
    return objective == "valid_accuracy"
