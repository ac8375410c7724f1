"""What holds for every space that the package brings: a new file in spaces/ is tested here the day it is added.

Each is loaded as for --inputs Gender,Race --target Age --image-size 28; its configurations get what the run decides.
"""

import contextlib
import dataclasses
import importlib
import io
import math
from collections.abc import Iterator
from typing import get_args

import numpy as np
import optuna
import pytest
import torch

from search.run import main
from spaces.loading import load, names
from spaces.space import DECIDED_BY_RUN, Given, Space, cells, parameters, probe, sample
from trainable.config import Architecture, TrialConfig
from trainable.device import Device
from trainable.examples import Examples
from trainable.fit import fit
from trainable.network import build_network
from trainable.preprocess import Preprocessing

GIVEN = Given(inputs=("Gender", "Race"), target="Age", image_size=28)
CLASSES = ("0", "1", "2", "3", "4")
LEVELS = {"12": 0, "25": 1, "27": 1, "33": 2, "46": 3, "58": 4}  # of Age: each in its class
VOCABULARY = {"Gender": ("0", "1"), "Race": ("0", "1")}
# Train 4 images so that each value of each column has two, as an expert needs; then validate 2.
GENDER, RACE = [0, 0, 1, 1, 0, 1], [0, 1, 0, 1, 1, 0]
AGES = [1, 0, 3, 5, 2, 4]  # positions in LEVELS
DEVICE = Device(torch.device("cpu"), torch.float32, torch.channels_last, "a test")
# Networks whose step takes up to seconds: each trains one below, and is else built without weights.
LARGE = {"alexnet", "resnet34", "resnet50", "wide_resnet50_2", "resnext50_32x4d", "efficientnet_b0"}


@pytest.fixture(params=names())
def space(request: pytest.FixtureRequest) -> Space:
    return load(request.param, GIVEN)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small batches on shared cores: threads would wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def points(space: Space) -> list[dict[str, object]]:
    return [dict(start) for start in space.starts] + (cells(space) if space.grid else [])


def in_a_run(space: Space, config: TrialConfig) -> TrialConfig:
    """The configuration as a run makes it, which decides what the space does not."""
    epochs = 1 if config.start_scale == 1 else 2  # the last is of full size
    decided = {"image_size": GIVEN.image_size, "inputs": GIVEN.inputs, "epochs": epochs}
    left = {name: value for name, value in decided.items() if name not in space.decides}
    return dataclasses.replace(config, **left)


def examples_for(config: TrialConfig) -> Examples:
    """Six random images as a trial of this configuration sees them."""
    labels = np.array([list(LEVELS.values())[age] for age in AGES], np.int64)
    preprocessing = Preprocessing(
        image_size=config.image_size,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        classes=CLASSES,
        vocabulary={name: VOCABULARY[name] for name in config.inputs},
        levels=LEVELS if config.target is not None else {},
    )
    shape = (len(AGES), config.image_size, config.image_size, 3)
    columns = {"Gender": [str(value) for value in GENDER], "Race": [str(value) for value in RACE]}
    return Examples(
        pixels=np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8),
        metadata=preprocessing.metadata(columns, len(AGES)),
        labels=labels,
        levels=labels if config.target is None else np.array(AGES, np.int64),
        train=np.arange(4),
        valid=np.arange(4, 6),
        preprocessing=preprocessing,
    )


def check_a_step(config: TrialConfig, examples: Examples) -> None:
    """Trains the epochs, each a step, and looks at what the last leaves."""
    *_, epoch = fit(config, examples, DEVICE)
    assert epoch.row["train_loss"] > 0
    assert all(math.isfinite(value) for value in epoch.row.values())
    assert epoch.valid_logits.shape == (2, len(CLASSES))


def test_its_name_is_its_files(space: Space) -> None:
    module = importlib.import_module(f"spaces.{space.name}")
    assert hasattr(module, "SPACE") != hasattr(module, "space")
    if hasattr(module, "SPACE"):
        assert module.SPACE is space


def test_its_summary_is_one_line(space: Space) -> None:
    assert space.summary and "\n" not in space.summary


def test_it_has_something_to_try_first(space: Space) -> None:
    assert points(space)


def test_starts_and_grid_say_every_parameter_and_are_taken_as_said(space: Space) -> None:
    for point in points(space):
        study = optuna.create_study()
        study.enqueue_trial(point)
        trial = study.ask()
        sample(space, trial)
        assert trial.params == point


def test_starts_are_not_more_than_its_trials(space: Space) -> None:
    assert len(space.starts) <= space.trials


def test_every_configuration_trains_a_step_at_its_image_size(space: Space, one_thread: None) -> None:
    fixed = [sample(space, optuna.trial.FixedTrial(point)) for point in points(space)]  # type: ignore[arg-type]
    for config in {repr(config): config for config in [*fixed, *probe(space)[1]]}.values():
        config = in_a_run(space, config)
        examples = examples_for(config)
        if config.architecture in LARGE:
            with torch.device("meta"):
                build_network(config, examples.preprocessing)
            continue
        check_a_step(config, examples)


@pytest.mark.parametrize("architecture", sorted(LARGE))
def test_a_large_network_trains_a_step_of_two_images(architecture: Architecture, one_thread: None) -> None:
    assert architecture in get_args(Architecture)
    config = TrialConfig(architecture=architecture, inputs=GIVEN.inputs, image_size=GIVEN.image_size, epochs=1)
    check_a_step(config, dataclasses.replace(examples_for(config), train=np.arange(2)))


def test_what_the_run_decides_is_left_alone_unless_the_space_says_otherwise(space: Space) -> None:
    configs = probe(space)[1]
    for field in DECIDED_BY_RUN:
        values = {getattr(config, field) for config in configs}
        assert field in space.decides or values == {getattr(TrialConfig(), field)}
    if "image_size" in space.decides:
        assert {config.image_size for config in configs} == set(space.image_sizes)
    else:
        assert not space.image_sizes


def printed(columns: int, *arguments: str) -> list[str]:
    """The lines of --list-spaces in a terminal of so many columns."""
    text = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(text):
        patch.setenv("COLUMNS", str(columns))
        assert main(["--list-spaces", *arguments]) == 0
    return text.getvalue().splitlines()


def listing(*arguments: str) -> list[str]:
    """What --list-spaces prints, with single blanks."""
    return [" ".join(line.split()) for line in printed(200, *arguments)]


@pytest.fixture(scope="module")
def all_listed() -> list[str]:
    return listing()


def test_list_spaces_says_its_parameters(space: Space, all_listed: list[str]) -> None:
    for lines in (all_listed, listing("--space", space.name, "--inputs", "Gender,Race", "--target", "Age")):
        assert lines[0] == "With --inputs Gender,Race and --target Age:"
        first = lines.index(f"{space.name}: {space.summary}")
        end = lines.index("", first)
        assert lines[first + 2 : end] == [f"{name} {words}" for name, words in parameters(space).items()]
        grid = "no grid"
        if space.grid:
            grid = f"grid of {' x '.join(str(len(values)) for values in space.grid.values())}"
        assert lines[first + 1] == (
            f"{space.epochs} epochs, by {space.objective}, {space.sampler}, {space.scheduler}; "
            f"{len(space.starts)} known starts; {grid}"
        )


def test_list_spaces_indents_what_does_not_fit_on_a_line() -> None:
    lines = printed(80, "--space", "architecture")
    found = [line.rstrip() for line in lines if line.startswith("  ")]
    assert found[1:5] == [
        "  architecture     convnet | residual | cifar10 | alexnet | resnet18 | resnet34",
        "                   | resnet50 | wide_resnet50_2 | resnext50_32x4d |",
        "                   efficientnet_b0 | mobilenet_v3_small",
        "  lr               0.0001..0.01 (log)",
    ]
