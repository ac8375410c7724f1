"""Spaces that depend on the data's columns or the image size: what they offer with and without."""

from typing import get_args

import optuna
import pytest

from spaces.loading import load, names
from spaces.space import Given, Space, orders_classes, parameters, probe, sample
from trainable.config import Architecture, ConfigError, Loss, TrialConfig
from trainable.errors import UserError

BOTH = Given(inputs=("Gender", "Race"), target="Age", image_size=64)


def config_of(space: Space, **point: object) -> TrialConfig:
    return sample(space, optuna.trial.FixedTrial(point))  # type: ignore[arg-type]  # all it needs


def test_inputs_without_columns_says_how_to_name_them() -> None:
    with pytest.raises(UserError) as error:
        load("inputs")
    assert str(error.value) == "--space inputs: name the columns to choose from, as in --inputs Gender,Race."


def test_inputs_tries_each_subset_in_the_order_given() -> None:
    space = load("inputs", Given(inputs=("Race", "Gender", "Age")))
    assert space.grid == {
        "inputs": ["none", "Race", "Gender", "Age", "Race+Gender", "Race+Age", "Gender+Age", "Race+Gender+Age"]
    }
    assert config_of(space, inputs="none") == TrialConfig()
    assert config_of(space, inputs="Race+Age") == TrialConfig(inputs=("Race", "Age"))
    assert (space.sampler, space.scheduler, space.decides) == ("grid", "none", ("inputs",))


@pytest.mark.parametrize(
    ("space", "given", "message"),
    [
        ("inputs", Given(inputs=("none",)), "--inputs: two choices would be called 'none'; rename a column."),
        ("inputs", Given(inputs=("A", "B", "A+B")), "--inputs: two choices would be called 'A+B'; rename a column."),
        ("full", Given(inputs=("none",)), "--inputs: two choices would be called 'none'; rename a column."),
        ("target", Given(target="coral"), "--target: two choices would be called 'coral'; rename a column."),
        ("full", Given(target="classes"), "--target: two choices would be called 'classes'; rename a column."),
        (
            "target",
            Given(inputs=("A",), target="experts by A"),
            "--target: two choices would be called 'experts by A'; rename a column.",
        ),
    ],
)
def test_no_choice_takes_the_place_of_another(space: str, given: Given, message: str) -> None:
    with pytest.raises(UserError) as error:
        load(space, given)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("given", "targets"),
    [
        (Given(), ["classes", "coral", "soft_ordinal"]),
        (Given(inputs=("Race",)), ["classes", "coral", "soft_ordinal", "experts by Race"]),
        (
            Given(target="Years"),
            ["classes", "coral", "soft_ordinal", "Years", "Years coral", "Years soft_ordinal"],
        ),
        (
            BOTH,
            ["classes", "coral", "soft_ordinal", "Age", "Age coral", "Age soft_ordinal"]
            + ["experts by Gender", "experts by Race"],
        ),
    ],
)
def test_target_offers_what_the_columns_allow(given: Given, targets: list[str]) -> None:
    assert load("target", given).grid == {"target": targets}


@pytest.mark.parametrize(
    ("target", "config"),
    [
        ("classes", TrialConfig(inputs=BOTH.inputs)),
        ("coral", TrialConfig(inputs=BOTH.inputs, loss="coral")),
        ("soft_ordinal", TrialConfig(inputs=BOTH.inputs, loss="soft_ordinal", ordinal_scale=0.5)),
        ("Age", TrialConfig(inputs=BOTH.inputs, target="Age")),
        ("Age coral", TrialConfig(inputs=BOTH.inputs, target="Age", loss="coral")),
        ("Age soft_ordinal", TrialConfig(inputs=BOTH.inputs, target="Age", loss="soft_ordinal", ordinal_scale=2.0)),
        ("experts by Race", TrialConfig(inputs=BOTH.inputs, experts="Race")),
    ],
)
def test_what_a_target_means(target: str, config: TrialConfig) -> None:
    assert config_of(load("target", BOTH), target=target) == config


@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        (28, [28, 42, 56]),  # 14 and 21 are too small
        (64, [32, 48, 64, 96, 128]),
        (224, [112, 168, 224]),  # 336 and 448 are too large
    ],
)
def test_resolution_is_around_the_image_size(size: int, sizes: list[int]) -> None:
    space = load("resolution", Given(image_size=size))
    assert space.image_sizes == sizes
    assert space.grid == {"image_size": sizes, "depth": (4, 6, 8, 10)}
    assert [start["image_size"] for start in space.starts] == [size, *(other for other in sizes if other != size)]
    assert config_of(space, image_size=sizes[0], depth=4) == TrialConfig(image_size=sizes[0], depth=4)


@pytest.mark.parametrize("name", names())
def test_the_spaces_that_take_classes_for_steps_of_a_scale(name: str) -> None:
    assert orders_classes(load(name, BOTH)) == (name in ("target", "full"))


# full


@pytest.mark.parametrize(
    ("given", "inputs", "sizes"),
    [
        (Given(image_size=28), "none", "28"),
        (Given(image_size=64), "none", "32 | 48 | 64"),
        (Given(inputs=("Race",), image_size=28), "none | Race", "28"),
        (BOTH, "none | Gender | Race | Gender+Race", "32 | 48 | 64"),
    ],
)
def test_full_offers_what_the_data_allow(given: Given, inputs: str, sizes: str) -> None:
    found = parameters(load("full", given))
    assert (found["inputs"], found["image_size"]) == (inputs, sizes)
    assert found["target"] == parameters(load("target", given))["target"]


def test_full_is_conditional_where_it_must_be() -> None:
    space = load("full", BOTH)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(150):
        trial = study.ask()
        try:
            config = sample(space, trial)
        except ConfigError:  # none so far; a point that cannot be trained would fail on its own
            pytest.fail(f"{trial.params} makes no configuration")
        found, params = set(trial.params), trial.params
        shaped = config.architecture in ("convnet", "residual")
        assert ("depth" in found) == ("width_factor" in found) == shaped
        assert {name for name in found if name.startswith("dropout_")} == {
            f"dropout_{block}" for block in range(1, config.depth + 1) if shaped
        }
        by_experts = params["target"].startswith("experts by ")
        assert (config.experts is not None) == by_experts
        assert ("inputs" in found) != by_experts
        assert config.inputs == BOTH.inputs or not by_experts
        assert config.target == ("Age" if params["target"].startswith("Age") else None)
        assert ("loss" in found) == (config.loss not in ("coral", "soft_ordinal"))
        assert ("momentum" in found) == (config.optimizer in ("sgd", "muon"))
        assert ("init" in found) == shaped
        assert ("start_scale" in found) == (config.architecture != "cifar10")
        assert ("weight_decay" in found) == params["decays"] == (config.weight_decay > 0)
        assert ("t_max" in found) == (params["schedule"] == "cosine")
        assert (config.t_max is None) == (params["schedule"] == "cosine_to_end")
        assert ("step_size" in found) == ("gamma_step" in found) == (config.schedule == "step")
        assert ("gamma_exponential" in found) == (config.schedule == "exponential")
        assert ("warmup" in found) == (config.schedule != "one_cycle")
        assert ("label_smoothing" in found) == (config.loss == "label_smoothing")
        assert ("focal_gamma" in found) == (config.loss == "focal")
        assert ("magnitude" in found) == (config.augment.randaugment > 0)
        assert ("hole_size" in found) == (config.augment.holes > 0)
        assert ("alpha" in found) == (params["mix"] != "none") == (config.augment.mixup + config.augment.cutmix > 0)
        assert config.augment.mixup * config.augment.cutmix == 0


def test_full_starts_from_the_reports_final_model_do7_and_do8() -> None:
    space = load("full", BOTH)
    do2, do7, do8 = (config_of(space, **start) for start in space.starts)
    report = {"image_size": 64, "inputs": BOTH.inputs}
    assert do2 == TrialConfig(**report, dropout=(0, 0, 0, 0, 0, 0.5, 0.5, 0))  # type: ignore[arg-type]
    assert do7 == TrialConfig(**report, dropout=(0.1,) * 8)  # type: ignore[arg-type]
    assert do8 == TrialConfig(**report, dropout=(0.0,) * 8)  # type: ignore[arg-type]


def test_full_meets_every_technique() -> None:
    configs = probe(load("full", BOTH), samples=200)[1]
    assert {config.architecture for config in configs} == set(get_args(Architecture))
    assert {config.experts for config in configs} == {None, "Gender", "Race"}
    assert {config.target for config in configs} == {None, "Age"}
    assert {config.inputs for config in configs} == {(), ("Gender",), ("Race",), ("Gender", "Race")}
    assert {config.image_size for config in configs} == {32, 48, 64}
    assert {config.optimizer for config in configs} == {"adam", "adamw", "adamax", "sgd", "muon"}
    assert {config.init for config in configs} == {"default", "identity"}
    assert {config.start_scale for config in configs} == {1.0, 0.5}
    assert {config.schedule for config in configs} == {"constant", "cosine", "step", "exponential", "one_cycle"}
    assert {config.loss for config in configs} == set(get_args(Loss))
    assert {config.views for config in configs} == {"one", "flip", "flip_shift"}
