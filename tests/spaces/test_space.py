"""Spaces by name and from a user's file: what is accepted, and the sentence for each mistake."""

import json
import sys
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

import spaces
from spaces.check import check_searched_by_grid
from spaces.loading import load, names
from spaces.space import Given, Space, cells, describe, fingerprint, parameters, sample
from trainable.config import ConfigError, TrialConfig
from trainable.errors import UserError

HEAD = """
from spaces.space import Space
from trainable.config import Augmentation, TrialConfig

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
    assert not {"space", "check", "loading"} & set(names())


def test_a_module_that_only_helps_is_no_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "only_helps.py").write_text("VALUE = 1")
    monkeypatch.setattr(spaces, "__path__", [*spaces.__path__, str(tmp_path)])
    found = names()
    assert "dropout" in found and "only_helps" not in found


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
        ("folder.py", "--space: folder.py is no file; name a Python file that defines SPACE."),
    ],
)
def test_an_unknown_space_is_named(name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder.py").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        load(name)
    assert str(error.value) == message


@pytest.mark.parametrize("place", ["", "trials/0000"])
@pytest.mark.parametrize("linked", [False, True])
def test_code_in_the_folder_of_a_run_is_not_run(
    place: str, linked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "runs" / "photos" / place
    folder.mkdir(parents=True)
    (tmp_path / "runs" / "photos" / "run.json").touch()
    path = folder / "mine.py"
    path.write_text("import pathlib\npathlib.Path('harm').touch()")
    if linked:
        (tmp_path / "mine.py").symlink_to(path)
        path = tmp_path / "mine.py"
    monkeypatch.chdir(tmp_path)
    said = (
        f"--space: {path} lies in the folder of a run, which somebody else may have made, so its code is not run; look "
        "at it, and keep it elsewhere."
    )
    with pytest.raises(UserError) as error:
        load(str(path))
    assert str(error.value) == said
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def sample(trial:\n    pass", "{} line 1: '(' was never closed."),
        ("x = 1", "{} defines no SPACE = Space(...), and no function space(given) that gives one."),
        ("SPACE = {'name': 'mine'}", "{} defines no SPACE = Space(...), and no function space(given) that gives one."),
        ("1 / 0", "{} cannot be loaded: ZeroDivisionError: division by zero."),
        ("import nomodule", "{} cannot be loaded: ModuleNotFoundError: No module named 'nomodule'."),
        ("raise SystemExit", "{} cannot be loaded: SystemExit."),
        ("import sys; sys.exit(0)", "{} cannot be loaded: SystemExit: 0."),
        ("x = 1\0", "{}: source code string cannot contain null bytes."),
        (
            "from spaces.space import Space\nSPACE = Space(name='mine', tirals=3)",
            "{} cannot be loaded: Space has no field 'tirals'; did you mean 'trials'?",
        ),
    ],
)
def test_a_file_that_is_no_space_is_told_why(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        load(str(path))
    assert str(error.value) == message.format(path)


def test_a_sample_takes_what_varies_from_its_trial_alone(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "import itertools\n"
        "from spaces.space import Space\n"
        "from trainable.config import TrialConfig\n"
        "widths = itertools.count(8)\n"
        "SPACE = Space(name='mine', summary='s', sample=lambda trial: TrialConfig(head_width=next(widths)))\n"
    )
    with pytest.raises(UserError) as error:
        load(str(path))
    assert str(error.value) == (
        f"{path}: sample() gives other settings for the same draws; what varies must come from its trial alone."
    )


def test_a_file_may_have_dataclasses_with_annotations_for_later(tmp_path: Path) -> None:
    # A dataclass looks up such annotations in sys.modules, under its module's name.
    path = write(tmp_path)
    lines = ["from __future__ import annotations", "from dataclasses import dataclass", "@dataclass", "class Lr:"]
    path.write_text("\n".join([*lines, "    value: float = 0.1", path.read_text()]))
    assert parameters(load(str(path))) == {"lr": "0.0001..0.1 (log)"}


def test_a_file_takes_no_modules_place_and_leaves_none_when_it_fails(tmp_path: Path) -> None:
    path = write(tmp_path).rename(tmp_path / "json.py")
    load(str(path))
    assert sys.modules["json"] is json
    path.write_text("1 / 0")
    with pytest.raises(UserError):
        load(str(path))
    assert "_space_json" not in sys.modules


@pytest.mark.parametrize(
    ("body", "settings", "message"),
    [
        (None, ", starts=[{'lr': 0.01}, {'lr': 5.0}]", "{}, start 1: lr is 5.0, outside 0.0001..0.1 (log)."),
        (
            None,
            ", starts=[{'lr': 'high'}]",
            "{}, start 0: lr is 'high', outside 0.0001..0.1 (log).",
        ),
        (  # of one branch alone
            "    if lr > 0.01:\n        return TrialConfig(lr=lr, momentum=trial.suggest_float('momentum', 0.5, 0.9))\n"
            "    return TrialConfig(lr=lr)",
            ", starts=[{'lr': 0.01}, {'lr': 0.05, 'momentum': 'low'}]",
            "{}, start 1: momentum is 'low', outside 0.5..0.9.",
        ),
        (
            "    return TrialConfig(lr=1 / (lr - 0.05))",
            ", starts=[{'lr': 0.05}]",
            "{}, start 0: sample() fails: ZeroDivisionError: ",
        ),
        (
            "    return TrialConfig(lr=lr, architecture='resnet3')",
            "",
            "{}: none of 32 samples can be trained: architecture is 'resnet3'; it must be one of convnet, residual, "
            "cifar10, alexnet, resnet18, resnet34, resnet50, wide_resnet50_2, resnext50_32x4d, efficientnet_b0, "
            "mobilenet_v3_small; did you mean 'resnet34'?",
        ),
        (
            "    return TrialConfig(lr=lr, optimizer='admw' if lr == 0.05 else 'adam')",
            ", starts=[{'lr': 0.05}]",
            "{}, start 0: optimizer is 'admw'; it must be one of adam, adamw, adamax, sgd, muon; did you mean 'adamw'?",
        ),
        (
            "    return TrialConfig(lr=lr, inputs=(1, 2))",
            ", decides=['inputs']",
            "{}: none of 32 samples can be trained: inputs is (1, 2); it must be different column names, as in "
            "('Gender', 'Race').",
        ),
        (
            "    return TrialConfig(lr=lr, inputs=(['Gender'],))",
            ", decides=['inputs']",
            "{}: none of 32 samples can be trained: inputs is (('Gender',),); it must be different column names, as in "
            "('Gender', 'Race').",
        ),
        (None, ", starts=[{'lrr': 0.01}]", "{}, start 0: no parameter is called 'lrr'; did you mean 'lr'?"),
        (None, ", starts=[{'momentum': 0.9}]", "{}, start 0: no parameter is called 'momentum'."),
        (None, ", grid={'lr': [0.01, 1.0]}", "{}, grid point 1: lr is 1.0, outside 0.0001..0.1 (log)."),
        (
            None,
            ", starts=[{'lr': __import__('numpy').float32(0.01)}]",
            "{}, start 0: lr is np.float32(0.01); write it as a plain number or text.",
        ),
        ("    1 / 0", "", "{}: sample() fails: ZeroDivisionError: division by zero."),
        ("    raise SystemExit", "", "{}: sample() fails: SystemExit."),
        (
            "    return TrialConfig(drpout=None)",
            "",
            "{}: sample() fails: TrialConfig has no field 'drpout'; did you mean 'dropout'?",
        ),
        ("    return TrialConfig(zzz=1)", "", "{}: sample() fails: TrialConfig has no field 'zzz'."),
        (
            "    return TrialConfig(augment=Augmentation(rotaton=5.0))",
            "",
            "{}: sample() fails: Augmentation has no field 'rotaton'; did you mean 'rotation'?",
        ),
        (
            "    return TrialConfig(augment=Augmentation(rotation=500.0 + lr))",
            "",
            "{}: none of 32 samples can be trained: rotation is 500.0",
        ),
        (
            "    return TrialConfig(lr=lr, architecture='resnet34', depth=4)",
            "",
            "{}: none of 32 samples can be trained: depth is 4, which resnet34 does not read.",
        ),
        (
            "    return TrialConfig(lr=lr, experts='Gender')",
            "",
            "{}: none of 32 samples can be trained: experts is 'Gender', which is not among the inputs (); set it in "
            "inputs too, which a space may with decides=('inputs',).",
        ),
        (
            "    return TrialConfig(lr=lr, inputs=('Race',))",
            ", decides=['image_size']",
            "{}: sample() sets inputs, which the run decides (--inputs) unless decides names it.",
        ),
        (
            "    return TrialConfig(lr=lr, target='Age')",
            "",
            "{}: sample() sets target, which the run decides (--target) unless decides names it.",
        ),
        (
            "    return TrialConfig(depth=4, widths=trial.suggest_categorical('widths', [(8,) * 4, (4,) * 4]))",
            "",
            "{}: widths has the choice (8, 8, 8, 8), which a study cannot store; "
            "let it choose a name, and look up in a dict what the name stands for.",
        ),
        (  # in one branch alone
            "    if lr > 0.01:\n        trial.suggest_categorical('widths', [(4,) * 8])\n    return TrialConfig()",
            "",
            "{}: widths has the choice (4, 4, 4, 4, 4, 4, 4, 4), which a study cannot store; "
            "let it choose a name, and look up in a dict what the name stands for.",
        ),
        ("    return {'lr': lr}", "", "{}: sample() gives dict, not a TrialConfig."),
        (
            "    return TrialConfig(lr=lr, objective='valid_loss')",
            "",
            "{}: sample() sets objective, which the space decides.",
        ),
        ("    return TrialConfig(lr=lr, epochs=5)", "", "{}: sample() sets epochs, which the run decides (--epochs)."),
        (
            "    return TrialConfig(lr=lr, image_size=64)",
            "",
            "{}: sample() sets image_size, which the run decides (--image-size) unless decides names it.",
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
    said, wanted = str(error.value), message.format(path)
    assert said == wanted if message.endswith((".", "?")) else said.startswith(wanted)


SAMPLERS = "sampler is {!r}; it must be one of tpe, random, grid, gp, cmaes, qmc"
STARTS = "starts is {}; it must be a list of mappings from parameters to values, as in [{{'lr': 0.001}}]."
GRID = "grid is {}; it must be a mapping from parameters to lists of values, as in {{'lr': [0.001, 0.01]}}."


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("sampler", "foo", ": " + SAMPLERS.format("foo") + "."),
        ("sampler", "cmaez", ": " + SAMPLERS.format("cmaez") + "; did you mean 'cmaes'?"),
        ("scheduler", "hyperband", ": scheduler is 'hyperband'; it must be one of asha, median, none."),
        ("scheduler", None, ": scheduler is None; it must be one of asha, median, none; did you mean 'none'?"),
        (
            "objective",
            "accuracy",
            ": objective is 'accuracy'; it must be one of valid_accuracy, valid_loss, valid_objective_loss; "
            "did you mean 'valid_accuracy'?",
        ),
        ("trials", "many", ": trials is 'many'; it must be an integer of at least 1."),
        ("trials", True, ": trials is True; it must be an integer of at least 1."),
        ("epochs", 0, ": epochs is 0; it must be an integer of at least 1."),
        ("epochs", 2.5, ": epochs is 2.5; it must be an integer of at least 1."),
        ("name", None, ": name is None; it must be text."),
        ("summary", ["a"], ": summary is ['a']; it must be text."),
        ("sample", 3, ": sample is 3; it must be a function from a trial to its TrialConfig."),
        ("starts", {"lr": 1e-3}, ": " + STARTS.format("{'lr': 0.001}")),
        ("starts", ["lr"], ": " + STARTS.format("['lr']")),
        ("starts", [{1: 0.1}], ": " + STARTS.format("[{1: 0.1}]")),
        ("starts", None, ": " + STARTS.format("None")),
        (
            "decides",
            "image_size",
            ": decides is 'image_size'; it must be a list of some of image_size, inputs, target.",
        ),
        ("decides", ["epochs"], ": decides is ['epochs']; it must be a list of some of image_size, inputs, target."),
        ("image_sizes", [28, 512], ": image_sizes is [28, 512]; it must be a list of some of 28..256."),
        ("image_sizes", [28], ": image_sizes is [28]; it must be left out where decides does not name image_size."),
        ("image_sizes", 64, ": image_sizes is 64; it must be a list of some of 28..256."),
        ("grid", ["lr"], ": " + GRID.format("['lr']")),
        ("grid", {}, ": " + GRID.format("{}")),
        ("grid", {"lr": 0.001}, ", grid: lr is 0.001; it must be a list of values."),
        ("grid", {"lr": "0.001"}, ", grid: lr is '0.001'; it must be a list of values."),
        ("grid", {"lr": []}, ", grid: lr has no values; give it one, or leave it out."),
        ("grid", {"lr": [1e-3, 1e-2, 1e-3]}, ", grid: lr has the value 0.001 more than once."),
    ],
)
def test_a_field_of_the_wrong_kind_is_told_what_it_must_be(
    tmp_path: Path, field: str, value: object, message: str
) -> None:
    path = write(tmp_path)
    path.write_text(f"{path.read_text()}\nfrom dataclasses import replace\nSPACE = replace(SPACE, {field}={value!r})\n")
    with pytest.raises(UserError) as error:
        load(str(path))
    assert str(error.value) == f"{path}{message}"


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


# A space that depends on what is given

GIVEN_HEAD = """
from spaces.space import Space
from trainable.config import TrialConfig
from trainable.errors import UserError

def space(given):
    def sample(trial):
        return TrialConfig(lr=trial.suggest_categorical("lr", [1e-3, 1e-2]))
"""


def write_given(folder: Path, body: str) -> Path:
    path = folder / "mine.py"
    path.write_text(f"{GIVEN_HEAD}{body}\n")
    return path


def test_a_space_may_follow_from_what_is_given(tmp_path: Path) -> None:
    summary = "'/'.join(given.inputs) + f' {given.target} {given.image_size}'"
    path = write_given(tmp_path, f"    return Space('mine', {summary}, sample)")
    assert load(str(path), Given(("Gender", "Race"), "Age", 48)).summary == "Gender/Race Age 48"
    assert load(str(path)).summary == " None 64"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("    1 / 0", "{}: space() fails: ZeroDivisionError: division by zero."),
        ("    raise SystemExit", "{}: space() fails: SystemExit."),
        ("    return given.colums", "{}: space() fails: AttributeError: 'Given' object has no attribute 'colums'."),
        (
            "    return Space(name='mine', tirals=3)",
            "{}: space() fails: Space has no field 'tirals'; did you mean 'trials'?",
        ),
        ("    raise UserError('--space mine: name a column.')", "--space mine: name a column."),
        ("    pass", "{} defines no SPACE = Space(...), and no function space(given) that gives one."),
        ("    return Space('mine', '', sample, epochs=0)", "{}: epochs is 0; it must be an integer of at least 1."),
        (
            "    return Space('mine', '', sample, starts=[{'lr': 1.0}])",
            "{}, start 0: lr is 1.0, outside 0.001 | 0.01.",
        ),
    ],
)
def test_a_space_function_at_fault_is_told_why(tmp_path: Path, body: str, message: str) -> None:
    path = write_given(tmp_path, body)
    with pytest.raises(UserError) as error:
        load(str(path))
    assert str(error.value).startswith(message.format(path))
    if message.endswith((".", "?")):
        assert str(error.value) == message.format(path)


@pytest.mark.parametrize(
    ("body", "settings", "message"),
    [
        (
            "    return TrialConfig(lr=lr, image_size=trial.suggest_categorical('image_size', [28, 32, 64]))",
            ", decides=['image_size'], image_sizes=[28, 32]",
            "{}: sample() sets image_size to 64, which is not among its image_sizes (28, 32).",
        ),
        (
            "    return TrialConfig(lr=lr, image_size=64)",
            ", decides=['image_size']",
            "{}: sample() sets image_size to 64, which is not among its image_sizes (none).",
        ),
        (
            "    return TrialConfig(lr=lr, inputs=('Gendre',))",
            ", decides=['inputs']",
            "{}: sample() reads the input 'Gendre', which --inputs does not name; did you mean 'Gender'?",
        ),
        (
            "    return TrialConfig(lr=lr, inputs=('Race', 'Hair'))",
            ", decides=['inputs']",
            "{}: sample() reads the input 'Hair', which --inputs does not name.",
        ),
        (
            "    return TrialConfig(lr=lr, target='Years')",
            ", decides=['target']",
            "{}: sample() learns 'Years', which --target does not name.",
        ),
        (  # in a start alone
            "    return TrialConfig(lr=lr, target='Years' if lr == 0.05 else None)",
            ", decides=['target'], starts=[{'lr': 0.05}]",
            "{}, start 0: sample() learns 'Years', which --target does not name.",
        ),
        (
            "    return TrialConfig(lr=lr, target='Aeg')",
            ", decides=['target']",
            "{}: sample() learns 'Aeg', which --target does not name; did you mean 'Age'?",
        ),
    ],
)
def test_a_space_that_decides_more_than_the_run_has_data_for_is_refused(
    tmp_path: Path, body: str, settings: str, message: str
) -> None:
    path = write(tmp_path, body, settings)
    with pytest.raises(UserError) as error:
        load(str(path), Given(("Gender", "Race"), "Age", 48))
    assert str(error.value) == message.format(path)


FIGURES = ", grid={'lr': [0.01, 0.02]}, published={'0.01': (0.5, 0.6)}, published_images=100, published_by='somebody'"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ", published={'0.01': (0.5, 0.6)}, published_images=100",
            "{}: published needs a grid of one parameter, whose values its figures are for.",
        ),
        (FIGURES.replace("somebody", ""), "{}: published_by is ''; it must be whose figures they are, in words."),
        (FIGURES.replace("100", "0"), "{}: published_images is 0; it must be how many images."),
        (
            FIGURES.replace("'0.01'", "'0.011'"),
            "{}, published: the grid has no value '0.011'; did you mean '0.01'?",
        ),
        (
            FIGURES.replace("{'0.01': (0.5, 0.6)}", "[0.5]"),
            "{}: published is [0.5]; it must be a mapping from the grid's values, as text, to accuracies, as in "
            "{{'do7': (0.68, 0.69)}}.",
        ),
        (
            FIGURES.replace("'0.01'", "0.01"),
            "{}: published is {{0.01: (0.5, 0.6)}}; it must be a mapping from the grid's values, as text, to "
            "accuracies, as in {{'do7': (0.68, 0.69)}}.",
        ),
        (FIGURES.replace("{'lr': [0.01, 0.02]}", "[0.01]"), "{}: grid is [0.01]; it must be a mapping from "),
        *(
            (
                FIGURES.replace("(0.5, 0.6)", figure),
                f"{{}}, published: 0.01 is {figure}; it must be (from, to), each in 0..1, and may have a text after "
                "them.",
            )
            for figure in ("0.5", "(0.6, 0.5)", "(50, 60)", "('0.5', '0.6')", "(0.5,)", "(0.5, 0.6, 7)", "'0.5'")
        ),
    ],
)
def test_published_figures_must_belong_to_the_grid(tmp_path: Path, settings: str, message: str) -> None:
    path = write(tmp_path, settings=settings)
    with pytest.raises(UserError) as error:
        load(str(path))
    said, wanted = str(error.value), message.format(path)
    assert said == wanted if message.endswith((".", "?")) else said.startswith(wanted)
    worded = FIGURES.replace("0.6)", "0.6, 'above half')")
    assert load(str(write(tmp_path, settings=FIGURES))).published == {"0.01": (0.5, 0.6)}
    assert load(str(write(tmp_path, settings=worded))).published == {"0.01": (0.5, 0.6, "above half")}


def test_a_grid_that_is_searched_has_values_of_all_that_is_drawn(tmp_path: Path) -> None:
    body = "    return TrialConfig(lr=lr, momentum=trial.suggest_float('momentum', 0.5, 0.9))"
    space = load(str(write(tmp_path, body, ", grid={'lr': [0.01, 0.02]}")))  # as another sampler searches it
    with pytest.raises(UserError) as error:
        check_searched_by_grid(space, "mine.py")
    assert str(error.value) == (
        "mine.py, grid point 0: sample() draws momentum too, of which the grid has no values; give it some, or choose "
        "another --sampler."
    )
    check_searched_by_grid(load(str(write(tmp_path, body, ", grid={'lr': [0.01], 'momentum': [0.5, 0.9]}"))), "mine.py")


def test_published_figures_are_of_one_parameter_alone(tmp_path: Path) -> None:
    body = "    return TrialConfig(lr=lr, momentum=trial.suggest_float('momentum', 0.5, 0.9))"
    with pytest.raises(UserError) as error:
        load(str(write(tmp_path, body, FIGURES)))
    assert str(error.value) == (
        f"{tmp_path}/mine.py: published needs a sample() of the grid's one parameter; it draws momentum too."
    )


def test_what_a_space_decides_is_part_of_its_fingerprint(tmp_path: Path) -> None:
    body = "    return TrialConfig(lr=lr, image_size=28)"
    one = fingerprint(load(str(write(tmp_path, body, ", decides=['image_size'], image_sizes=[28]"))))
    other = fingerprint(load(str(write(tmp_path, body, ", decides=['image_size'], image_sizes=[28, 32]"))))
    assert one != other
