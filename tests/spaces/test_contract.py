"""What holds for every space that the package brings: a new file in spaces/ is tested here the day it is added."""

import dataclasses
import importlib
from collections.abc import Iterator

import optuna
import pytest
import torch
from torch import Tensor

from search.run import main
from spaces.space import DECIDED_BY_RUN, Space, cells, load, names, parameters, probe, sample
from trainable.config import TrialConfig
from trainable.loss import LOSSES
from trainable.model import ConvNet
from trainable.optim import OPTIMIZERS

CLASSES, METADATA, SIZE = 5, 3, 28


@pytest.fixture(params=names())
def space(request: pytest.FixtureRequest) -> Space:
    return load(request.param)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small batches on shared cores: threads would wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def points(space: Space) -> list[dict[str, object]]:
    return [dict(start) for start in space.starts] + (cells(space) if space.grid else [])


def train_one_step(config: TrialConfig, images: Tensor, metadata: Tensor, labels: Tensor) -> float:
    model = ConvNet(config, METADATA, CLASSES)
    optimizer = OPTIMIZERS[config.optimizer].build(model.parameters(), config)
    loss = LOSSES[config.loss].build(config)(model(images, metadata), labels).mean()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.item()


def test_its_name_is_its_files(space: Space) -> None:
    assert importlib.import_module(f"spaces.{space.name}").SPACE is space


def test_its_summary_is_one_line(space: Space) -> None:
    assert space.summary and "\n" not in space.summary


def test_starts_and_grid_say_every_parameter_and_are_taken_as_said(space: Space) -> None:
    for point in points(space):
        study = optuna.create_study()
        study.enqueue_trial(point)
        trial = study.ask()
        sample(space, trial)
        assert trial.params == point


def test_starts_are_not_more_than_its_trials(space: Space) -> None:
    assert len(space.starts) <= space.trials


def test_sampled_configurations_and_starts_train_a_step_at_28_pixels(space: Space, one_thread: None) -> None:
    fixed = [sample(space, optuna.trial.FixedTrial(point)) for point in points(space)[:9]]  # type: ignore[arg-type]
    sampled = probe(space)[1]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        images, metadata = torch.randn(4, 3, SIZE, SIZE), torch.zeros(4, METADATA)
        labels = torch.tensor([0, 1, 2, 4])
        for config in [*fixed, *sampled[:6]]:
            config = dataclasses.replace(config, image_size=SIZE)
            assert 0 < train_one_step(config, images, metadata, labels) < 10
        for config in sampled[6:]:  # the rest only has to fit the images
            with torch.device("meta"):
                ConvNet(dataclasses.replace(config, image_size=SIZE), METADATA, CLASSES)


def test_what_the_run_decides_is_left_alone(space: Space) -> None:
    for config in probe(space)[1]:
        for field in DECIDED_BY_RUN:
            assert getattr(config, field) == getattr(TrialConfig(), field)


def test_list_spaces_says_its_parameters(
    space: Space, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["--list-spaces"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    first = lines.index(f"{space.name}: {space.summary}")
    end = lines.index("", first)
    assert lines[first + 2 : end] == [f"{name} {words}" for name, words in parameters(space).items()]
