import json
import math
from dataclasses import FrozenInstanceError, fields
from typing import Any, get_args

import numpy as np
import pytest

from trainable.config import Augmentation, ConfigError, Objective, TrialConfig, maximised

DO2_1 = TrialConfig(
    depth=8,
    widths=(32, 32, 64, 64, 128, 128, 256, 256),
    dropout=(0.0, 0.0, 0.0, 0.0, 0.0, 0.55, 0.55, 0.0),
    pool={6: 3},
    inputs=("Gender", "Race"),
    t_max=None,
    lr=1e-5 / 3,
)
NEW = TrialConfig(
    architecture="residual",
    inputs=("Gender",),
    experts="Gender",
    augment=Augmentation(alternating_flip=True, randaugment=2, magnitude=5, holes=3, mixup=0.2, cutmix=1.0),
    views="flip_shift",
    target="Age",
    loss="soft_ordinal",
    ordinal_scale=2.5,
    class_weights=True,
    warmup=3,
    ema=0.99,
)


def test_the_defaults_are_the_reports_recipe() -> None:
    config = TrialConfig()
    assert (config.depth, config.image_size, config.head_width, config.head_dropout) == (8, 224, 32, 0.5)
    assert (config.augment.flip, config.loss, config.optimizer, config.lr, config.weight_decay) == (
        0.5,
        "cross_entropy",
        "adam",
        1e-3,
        1e-2,
    )
    assert (config.schedule, config.t_max, config.batch_size, config.epochs) == ("cosine", 10, 64, 30)


@pytest.mark.parametrize("config", [TrialConfig(), DO2_1, NEW], ids=["defaults", "do2_1", "new"])
def test_a_configuration_survives_json(config: TrialConfig) -> None:
    values = config.to_dict()
    assert list(values) == [field.name for field in fields(TrialConfig)]
    again = TrialConfig.from_dict(json.loads(json.dumps(values, sort_keys=True)))
    assert again == config
    assert again.to_dict() == values


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"pool": [3]}, "pool is (3,); it must be a mapping from blocks to sizes, as in {6: 3}"),
        ({"pool": {"a": 3}}, "pool has a: 3; blocks are 1..8 and sizes 1..8"),
        ({"augment": 5}, "augment is 5; it must be an Augmentation(...)"),
        ({"lr": 10**309}, f"lr is 1{309 * '0'}; it must be above 0"),
    ],
    ids=["pool", "block", "augment", "number"],
)
def test_what_json_may_have_in_place_of_a_value_is_refused_like_any_other(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        TrialConfig.from_dict(values)
    assert str(error.value) == said


def test_numbers_of_numpy_and_lists_are_what_they_stand_for() -> None:
    written = TrialConfig(
        depth=np.int64(4),
        widths=[np.int64(8)] * 4,
        dropout=np.full(4, 0.25),
        pool={np.int64(2): np.int64(2)},
        inputs=[],
        augment=Augmentation(flip=np.float64(0.25), alternating_flip=np.bool_(False)),
        lr=np.float64(0.01),
    )
    plain = TrialConfig(
        depth=4, widths=(8,) * 4, dropout=(0.25,) * 4, pool={2: 2}, augment=Augmentation(flip=0.25), lr=0.01
    )
    assert written == plain
    assert json.dumps(written.to_dict()) == json.dumps(plain.to_dict())
    with pytest.raises(ConfigError, match="^depth is 3; it must be an integer in 4..12$"):
        TrialConfig(depth=np.int64(3))


def test_missing_names_take_their_defaults() -> None:
    assert TrialConfig.from_dict({}) == TrialConfig()


def test_json_values_are_lists_and_text_keys() -> None:
    values = DO2_1.to_dict()
    assert (values["inputs"], values["pool"], values["dropout"][5]) == (["Gender", "Race"], {"6": 3}, 0.55)


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        TrialConfig().lr = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"droput": [0.5]}, "no setting is called 'droput'; did you mean 'dropout'?"),
        ({"colour": 1}, "no setting is called 'colour'"),
        ({"lr": 0.1, "": 1}, "no setting is called ''"),
        ({"augment": {"filp": 0.5}}, "no setting is called 'filp'; did you mean 'flip'?"),
        ({"augment": {"flip": 0.5, "lr": 1}}, "no setting is called 'lr'"),
        ({"flip": 0.5}, "no setting is called 'flip'"),
        ({"augment": {"flip": 2}}, "flip is 2; it must be at least 0 and at most 1"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        TrialConfig.from_dict(values)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "loss",
            "focla",
            "loss is 'focla'; it must be one of cross_entropy, label_smoothing, focal, coral, soft_ordinal; "
            "did you mean 'focal'?",
        ),
        ("loss", None, "loss is None; it must be one of cross_entropy, label_smoothing, focal, coral, soft_ordinal"),
        (
            "optimizer",
            "adamm",
            "optimizer is 'adamm'; it must be one of adam, adamw, adamax, sgd, muon; did you mean 'adam'?",
        ),
        (
            "schedule",
            "linear",
            "schedule is 'linear'; it must be one of constant, cosine, step, exponential, one_cycle",
        ),
        (
            "objective",
            "accuracy",
            "objective is 'accuracy'; it must be one of valid_accuracy, valid_loss, valid_objective_loss; "
            "did you mean 'valid_accuracy'?",
        ),
        ("init", "dirac", "init is 'dirac'; it must be one of default, identity"),
        ("start_scale", 0.2, "start_scale is 0.2; it must be at least 0.25 and at most 1"),
        ("start_scale", 1.5, "start_scale is 1.5; it must be at least 0.25 and at most 1"),
        ("growing", 1.0, "growing is 1.0; it must be at least 0 and below 1"),
        ("depth", 3, "depth is 3; it must be an integer in 4..12"),
        ("depth", 13, "depth is 13; it must be an integer in 4..12"),
        ("depth", 8.0, "depth is 8.0; it must be an integer in 4..12"),
        ("depth", "8", "depth is '8'; it must be an integer in 4..12"),
        ("image_size", 27, "image_size is 27; it must be an integer in 28..256"),
        ("image_size", 257, "image_size is 257; it must be an integer in 28..256"),
        ("head_width", 0, "head_width is 0; it must be an integer of at least 1"),
        ("head_width", True, "head_width is True; it must be an integer of at least 1"),
        ("batch_size", 1, "batch_size is 1; it must be an integer of at least 2"),
        ("epochs", 0, "epochs is 0; it must be an integer of at least 1"),
        ("step_size", 0, "step_size is 0; it must be an integer of at least 1"),
        ("seed", -1, "seed is -1; it must be an integer of at least 0"),
        ("t_max", 0, "t_max is 0; it must be an integer of at least 1"),
        ("head_dropout", 1.0, "head_dropout is 1.0; it must be at least 0 and below 1"),
        ("head_dropout", -0.1, "head_dropout is -0.1; it must be at least 0 and below 1"),
        ("label_smoothing", 1.0, "label_smoothing is 1.0; it must be at least 0 and below 1"),
        ("momentum", 1.0, "momentum is 1.0; it must be at least 0 and below 1"),
        ("focal_gamma", -0.5, "focal_gamma is -0.5; it must be at least 0"),
        ("focal_gamma", math.inf, "focal_gamma is inf; it must be at least 0"),
        ("lr", 0.0, "lr is 0.0; it must be above 0"),
        ("lr", math.nan, "lr is nan; it must be above 0"),
        ("lr", "1e-3", "lr is '1e-3'; it must be above 0"),
        ("weight_decay", -1e-3, "weight_decay is -0.001; it must be at least 0"),
        ("gamma", 0.0, "gamma is 0.0; it must be above 0 and at most 1"),
        ("gamma", 1.01, "gamma is 1.01; it must be above 0 and at most 1"),
        ("ordinal_scale", 0, "ordinal_scale is 0; it must be above 0"),
        ("class_weights", 1, "class_weights is 1; it must be True or False"),
        ("warmup", -1, "warmup is -1; it must be an integer of at least 0"),
        ("warmup", 1.5, "warmup is 1.5; it must be an integer of at least 0"),
        ("ema", 1.0, "ema is 1.0; it must be at least 0 and below 1"),
        ("views", "flips", "views is 'flips'; it must be one of one, flip, flip_shift; did you mean 'flip'?"),
        ("width_factor", 0, "width_factor is 0; it must be above 0 and at most 16"),
        (
            "architecture",
            "resnet",
            "architecture is 'resnet'; it must be one of convnet, residual, cifar10, alexnet, resnet18, resnet34, "
            "resnet50, wide_resnet50_2, resnext50_32x4d, efficientnet_b0, mobilenet_v3_small; did you mean "
            "'resnet50'?",
        ),
        ("widths", (32, 64), "widths has 2 values; depth 8 needs 8"),
        (
            "widths",
            (8, 8, 8, 8, 8, 8, 8, 0),
            "widths is (8, 8, 8, 8, 8, 8, 8, 0); each must be an integer of at least 1",
        ),
        (
            "widths",
            (8, 8, 8, 8, 8, 8, 8, 1.5),
            "widths is (8, 8, 8, 8, 8, 8, 8, 1.5); each must be an integer of at least 1",
        ),
        (
            "widths",
            (8, 8, 8, 8, 8, 8, 8, True),
            "widths is (8, 8, 8, 8, 8, 8, 8, True); each must be an integer of at least 1",
        ),
        ("dropout", (0.5,), "dropout has 1 values; depth 8 needs 8"),
        (
            "dropout",
            (0, 0, 0, 0, 0, 0, 0, 1.0),
            "dropout is (0, 0, 0, 0, 0, 0, 0, 1.0); each must be at least 0 and below 1",
        ),
        (
            "dropout",
            (0, 0, 0, 0, 0, 0, 0, "x"),
            "dropout is (0, 0, 0, 0, 0, 0, 0, 'x'); each must be at least 0 and below 1",
        ),
        ("pool", {0: 2}, "pool has 0: 2; blocks are 1..8 and sizes 1..8"),
        ("pool", {9: 2}, "pool has 9: 2; blocks are 1..8 and sizes 1..8"),
        ("pool", {8: 0}, "pool has 8: 0; blocks are 1..8 and sizes 1..8"),
        ("pool", {8: 9}, "pool has 8: 9; blocks are 1..8 and sizes 1..8"),
        ("pool", {8: 2.5}, "pool has 8: 2.5; blocks are 1..8 and sizes 1..8"),
        ("pool", {8: True}, "pool has 8: True; blocks are 1..8 and sizes 1..8"),
        ("pool", {"8": 2}, "pool has 8: 2; blocks are 1..8 and sizes 1..8"),
    ],
)
def test_a_value_outside_its_range_is_one_sentence(name: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        TrialConfig(**{name: value})
    assert str(error.value) == message


@pytest.mark.parametrize(
    "values",
    [
        {"depth": 4},
        {"depth": 12},
        {"image_size": 28},
        {"image_size": 256},
        {"batch_size": 2},
        {"head_dropout": 0},
        {"weight_decay": 0},
        {"momentum": 0.0},
        {"gamma": 1.0},
        {"t_max": 1},
        {"focal_gamma": 0},
        {"dropout": (0.999,) * 8},
        {"pool": {1: 1, 8: 8}},
        {"seed": 2**64},
        {"ema": 0},
        {"warmup": 0},
        {"warmup": 100},
        {"ordinal_scale": 1e-9},
        {"width_factor": 16},
    ],
)
def test_the_ends_of_the_ranges_are_inside(values: dict[str, Any]) -> None:
    TrialConfig(**values)


@pytest.mark.parametrize("objective", get_args(Objective))
def test_accuracy_is_maximised_and_losses_minimised(objective: Objective) -> None:
    accuracy = objective == "valid_accuracy"
    assert maximised(objective) is accuracy


# Augmentation


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("flip", 1.1, "at least 0 and at most 1"),
        ("flip", False, "at least 0 and at most 1"),
        ("alternating_flip", 1, "True or False"),
        ("rotation", 181, "at least 0 and at most 180"),
        ("shift", 0.51, "at least 0 and at most 0.5"),
        ("distortion", -0.1, "at least 0 and at most 0.5"),
        ("brightness", 1, "at least 0 and below 1"),
        ("contrast", 1.0, "at least 0 and below 1"),
        ("grayscale", -0.1, "at least 0 and at most 1"),
        ("randaugment", 9, "an integer in 0..8"),
        ("randaugment", 1.0, "an integer in 0..8"),
        ("magnitude", 31, "an integer in 0..30"),
        ("holes", 65, "an integer in 0..64"),
        ("hole_size", 0, "above 0 and at most 1"),
        ("mixup", -1, "at least 0"),
        ("cutmix", math.inf, "at least 0"),
    ],
)
def test_an_augmentation_outside_its_range_is_one_sentence(name: str, value: Any, wanted: str) -> None:
    with pytest.raises(ConfigError) as error:
        Augmentation(**{name: value})
    assert str(error.value) == f"{name} is {value!r}; it must be {wanted}"


@pytest.mark.parametrize(
    "values",
    [
        {"flip": 0},
        {"flip": 1},
        {"rotation": 180, "shift": 0.5, "distortion": 0.5, "grayscale": 1},
        {"randaugment": 8, "magnitude": 30, "holes": 64, "hole_size": 1},
        {"mixup": 0, "cutmix": 100.0},
    ],
)
def test_the_ends_of_the_augmentations_ranges_are_inside(values: dict[str, Any]) -> None:
    Augmentation(**values)


def test_every_augmentation_has_a_range() -> None:
    # A text is in no range, so a field without one would pass.
    for name in (field.name for field in fields(Augmentation)):
        with pytest.raises(ConfigError, match=f"^{name} is 'x'; it must be "):
            Augmentation(**{name: "x"})  # type: ignore[arg-type]


def test_the_augmentation_is_nested_in_json_and_its_missing_names_take_their_defaults() -> None:
    assert NEW.to_dict()["augment"]["cutmix"] == 1.0
    assert TrialConfig.from_dict({"augment": {"mixup": 0.5}}).augment == Augmentation(mixup=0.5)


# Combinations


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"architecture": "cifar10", "depth": 6}, "depth is 6, which cifar10 does not read"),
        (
            {"architecture": "resnet18", "widths": (8,) * 8},
            "widths is (8, 8, 8, 8, 8, 8, 8, 8), which resnet18 does not read",
        ),
        ({"architecture": "resnet18", "width_factor": 2.0}, "width_factor is 2.0, which resnet18 does not read"),
        (
            {"architecture": "alexnet", "dropout": (0.5,) * 8},
            "dropout is (0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5), which alexnet does not read",
        ),
        ({"architecture": "resnet50", "pool": {6: 3}}, "pool is {6: 3}, which resnet50 does not read"),
        ({"architecture": "resnet34", "head_width": 64}, "head_width is 64, which resnet34 does not read"),
        ({"architecture": "resnet34", "init": "identity"}, "init is identity, which resnet34 does not read"),
        (
            {"architecture": "cifar10", "start_scale": 0.5},
            "start_scale is 0.5, but the head of cifar10 is made for one image size",
        ),
        (
            {"widths": (8,) * 8, "width_factor": 2.0},
            "width_factor is 2.0, but widths says them all: (8, 8, 8, 8, 8, 8, 8, 8)",
        ),
        (
            {"experts": "Race", "inputs": ("Gender", "Age")},
            "experts is 'Race', which is not among the inputs (Gender, Age); set it in inputs too, which a space may "
            "with decides=('inputs',)",
        ),
        (
            {"experts": "Race"},
            "experts is 'Race', which is not among the inputs (); set it in inputs too, which a space may with "
            "decides=('inputs',)",
        ),
        ({"target": "Age", "inputs": ("Age",)}, "target is 'Age', which the network reads as an input"),
        ({"class_weights": True, "loss": "coral"}, "class_weights is True, which the loss coral cannot honour"),
        (
            {"warmup": 2, "schedule": "one_cycle"},
            "warmup is 2, but the schedule one_cycle has a rise of its own",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_one_sentence(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        TrialConfig(**values)
    assert str(error.value) == message


@pytest.mark.parametrize("architecture", ["convnet", "residual"])
def test_the_shaped_architectures_read_every_shape(architecture: Any) -> None:
    TrialConfig(architecture=architecture, depth=4, widths=(8,) * 4, dropout=(0.1,) * 4, pool={2: 3}, head_width=8)
    TrialConfig(architecture=architecture, width_factor=0.5, init="identity", start_scale=0.5)


def test_settings_that_do_go_together() -> None:
    TrialConfig(architecture="resnet18", head_dropout=0.1, image_size=64, start_scale=0.5)
    TrialConfig(experts="Gender", inputs=("Gender",), target="Age", loss="coral", warmup=5, schedule="exponential")
    TrialConfig(class_weights=True, loss="focal")
    # A space may sample always what some choices do not read.
    TrialConfig(optimizer="adam", momentum=0.5, schedule="cosine", gamma=0.5, loss="cross_entropy", focal_gamma=1.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"alternating_flip": True, "flip": 0.25}, "flip is 0.25, which alternating_flip replaces"),
        ({"mixup": 0.005}, "mixup is 0.005; it must be 0 or at least 0.01"),
        ({"cutmix": 0.005}, "cutmix is 0.005; it must be 0 or at least 0.01"),
    ],
)
def test_an_augmentation_that_cannot_be_had_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Augmentation(**values)
    assert str(error.value) == message
