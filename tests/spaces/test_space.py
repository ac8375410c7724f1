"""Spaces by name and from a user's file: what is accepted, and the sentence for each mistake."""

from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from spaces.space import Space, cells, describe, fingerprint, load, names, parameters, sample
from trainable.config import ConfigError, TrialConfig
from trainable.errors import UserError

HEAD = """
from spaces.space import Space
from trainable.config import TrialConfig

def sample(trial):
    lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
"""


def write(folder: Path, body: str = "    return TrialConfig(lr=lr)", settings: str = "") -> Path:
    """A user's space file with the given end of sample() and further arguments of Space."""
    path = folder / "mine.py"
    path.write_text(f"{HEAD}{body}\n\nSPACE = Space(name='mine', summary='', sample=sample{settings})\n")
    return path


def test_the_spaces_of_the_package() -> None:
    assert {"dropout", "gridsearch"} <= set(names())
    assert "space" not in names()


def test_a_file_of_ones_own_works(tmp_path: Path) -> None:
    space = load(str(write(tmp_path, settings=", starts=[{'lr': 0.01}], epochs=3")))
    assert (space.name, space.epochs, space.starts) == ("mine", 3, [{"lr": 0.01}])
    assert parameters(space) == {"lr": "0.0001..0.1 (log)"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("droput", "--space: no space is called 'droput'; did you mean 'dropout'? See --list-spaces."),
        ("zzz", "--space: no space is called 'zzz'. See --list-spaces."),
        ("space", "--space: no space is called 'space'. See --list-spaces."),
        ("nowhere/mine.py", "--space: nowhere/mine.py does not exist."),
    ],
)
def test_an_unknown_space_is_named(name: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        load(name)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def sample(trial:\n    pass", "{} line 1: '(' was never closed."),
        ("x = 1", "{} defines no SPACE = Space(...)."),
        ("SPACE = {'name': 'mine'}", "{} defines no SPACE = Space(...)."),
        ("1 / 0", "{} cannot be loaded: ZeroDivisionError: division by zero."),
        ("import nomodule", "{} cannot be loaded: ModuleNotFoundError: No module named 'nomodule'."),
    ],
)
def test_a_file_that_is_no_space_is_told_why(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        load(str(path))
    assert str(error.value) == message.format(path)


@pytest.mark.parametrize(
    ("body", "settings", "message"),
    [
        (None, ", starts=[{'lr': 0.01}, {'lr': 5.0}]", "{}, start 1: lr is 5.0, outside 0.0001..0.1 (log)."),
        (
            None,
            ", starts=[{'lr': 'high'}]",
            "{}: sample() fails: ValueError: 'high' is not a valid type. float-castable value is expected.",
        ),
        (None, ", starts=[{'lrr': 0.01}]", "{}, start 0: no parameter is called 'lrr'; did you mean 'lr'?"),
        (None, ", starts=[{'momentum': 0.9}]", "{}, start 0: no parameter is called 'momentum'."),
        (None, ", grid={'lr': [0.01, 1.0]}", "{}, grid point 1: lr is 1.0, outside 0.0001..0.1 (log)."),
        ("    1 / 0", "", "{}: sample() fails: ZeroDivisionError: division by zero."),
        ("    return {'lr': lr}", "", "{}: sample() gives dict, not a TrialConfig."),
        ("    return TrialConfig(lr=lr, epochs=5)", "", "{}: sample() sets epochs, which the run decides (--epochs)."),
        (
            "    return TrialConfig(lr=lr, image_size=64)",
            "",
            "{}: sample() sets image_size, which the run decides (--image-size).",
        ),
        (
            "    return TrialConfig(lr=lr, head_dropout=trial.suggest_float('p', 0, 1))",
            ", starts=[{'p': 1.0}]",
            "{}, start 0: head_dropout is 1.0; it must be at least 0 and below 1.",
        ),
    ],
)
def test_a_space_that_cannot_be_searched_is_told_why(
    tmp_path: Path, body: str | None, settings: str, message: str
) -> None:
    path = write(tmp_path, body or "    return TrialConfig(lr=lr)", settings)
    with pytest.raises(UserError) as error:
        load(str(path))
    assert str(error.value) == message.format(path)


def test_a_point_that_makes_no_configuration_is_the_trials_fault_not_the_spaces() -> None:
    space = Space("mine", "", lambda trial: TrialConfig(head_dropout=trial.suggest_float("p", 1.0, 1.5)))
    with pytest.raises(ConfigError, match="head_dropout is"):
        sample(space, optuna.create_study().ask())


def test_cells_let_the_last_parameter_vary_fastest() -> None:
    space = Space("mine", "", lambda trial: TrialConfig(), grid={"a": [1, 2], "b": [True, False]})
    assert cells(space) == [{"a": 1, "b": True}, {"a": 1, "b": False}, {"a": 2, "b": True}, {"a": 2, "b": False}]


@pytest.mark.parametrize(
    ("distribution", "words"),
    [
        (FloatDistribution(0.0, 0.6), "0..0.6"),
        (FloatDistribution(1e-5, 0.1, log=True), "1e-05..0.1 (log)"),
        (FloatDistribution(0.0, 1.0, step=0.25), "0..1 step 0.25"),
        (IntDistribution(4, 12), "4..12"),
        (IntDistribution(4, 12, step=2), "4..12 step 2"),
        (CategoricalDistribution([2, 3]), "2 | 3"),
        (CategoricalDistribution(["adam", "sgd"]), "adam | sgd"),
    ],
)
def test_a_range_in_words(distribution: optuna.distributions.BaseDistribution, words: str) -> None:
    assert describe(distribution) == words


def test_parameters_are_those_of_every_branch() -> None:
    def sample(trial: optuna.Trial) -> TrialConfig:
        if trial.suggest_categorical("optimizer", ["adam", "sgd"]) == "adam":
            return TrialConfig()
        return TrialConfig(optimizer="sgd", momentum=trial.suggest_float("momentum", 0.5, 0.9))

    assert parameters(Space("mine", "", sample)) == {"optimizer": "adam | sgd", "momentum": "0.5..0.9"}


def test_the_fingerprint_is_of_what_a_space_does_not_of_its_text(tmp_path: Path) -> None:
    space = fingerprint(load(str(write(tmp_path))))
    reworded = fingerprint(load(str(write(tmp_path, "    # a comment\n    return TrialConfig(lr=lr)"))))
    other_settings = fingerprint(load(str(write(tmp_path, "    return TrialConfig(lr=lr, optimizer='sgd')"))))
    other_starts = fingerprint(load(str(write(tmp_path, settings=", starts=[{'lr': 0.01}]"))))
    assert space == reworded
    assert len({space, other_settings, other_starts}) == 3
