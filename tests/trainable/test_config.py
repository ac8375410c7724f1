import json
import math
from dataclasses import FrozenInstanceError, fields
from typing import Any, get_args

import pytest

from trainable.config import Augmentation, ConfigError, Objective, TrialConfig, better, maximised

DO2_1 = TrialConfig(
    depth=8,
    widths=(32, 32, 64, 64, 128, 128, 256, 256),
    dropout=(0.0, 0.0, 0.0, 0.0, 0.0, 0.55, 0.55, 0.0),
    pool={6: 3},
    inputs=("Gender", "Race"),
    t_max=None,
    lr=1e-5 / 3,
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


@pytest.mark.parametrize("config", [TrialConfig(), DO2_1])
def test_a_configuration_survives_json(config: TrialConfig) -> None:
    values = config.to_dict()
    assert list(values) == [field.name for field in fields(TrialConfig)]
    again = TrialConfig.from_dict(json.loads(json.dumps(values, sort_keys=True)))
    assert again == config
    assert again.to_dict() == values


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
            "loss is 'focla'; it must be one of cross_entropy, label_smoothing, focal, coral, soft_ordinal; did you mean 'focal'?",
        ),
        ("loss", None, "loss is None; it must be one of cross_entropy, label_smoothing, focal, coral, soft_ordinal"),
        (
            "optimizer",
            "adamm",
            "optimizer is 'adamm'; it must be one of adam, adamw, adamax, sgd; did you mean 'adam'?",
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
    ],
)
def test_the_ends_of_the_ranges_are_inside(values: dict[str, Any]) -> None:
    TrialConfig(**values)


@pytest.mark.parametrize("objective", get_args(Objective))
def test_accuracy_is_maximised_and_losses_minimised(objective: Objective) -> None:
    accuracy = objective == "valid_accuracy"
    assert maximised(objective) is accuracy
    assert better(objective, 0.6, 0.5) is accuracy
    assert better(objective, 0.5, 0.6) is not accuracy
    assert not better(objective, 0.5, 0.5)
