"""What a search space is, and how one is found by name, checked and described. The spaces are the files beside."""

import hashlib
import importlib
import importlib.util
import json
import pkgutil
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json

import spaces
from spaces import Sampler, Scheduler
from trainable.config import MAX_IMAGE_SIZE, MIN_IMAGE_SIZE, Augmentation, ConfigError, Objective, TrialConfig
from trainable.errors import UserError, nearest

PROBES = 32  # samples that describe a space: enough to meet each branch of a conditional one

# What the command line decides for all trials of a run; a space leaves it alone.
DECIDED_BY_RUN = ("image_size", "inputs", "target", "epochs", "objective", "seed")
MAY_DECIDE = ("image_size", "inputs", "target")  # and what a space may take over by saying so

T = TypeVar("T")


@dataclass(frozen=True)
class Given:
    """What the command line says of the data, for a space that depends on it."""

    inputs: tuple[str, ...] = ()  # metadata columns that a network may read
    target: str | None = None  # a column whose values a network may learn instead of the classes
    image_size: int = 64


@dataclass(frozen=True)
class Space:
    """A question: what may vary, where to begin, and how long to look by default."""

    name: str
    summary: str  # one line
    sample: Callable[[optuna.Trial], TrialConfig]  # define-by-run: conditionals are plain ifs
    starts: Sequence[Mapping[str, Any]] = ()  # known good points, tried first
    grid: Mapping[str, Sequence[Any]] | None = None  # values of each parameter, for the sampler grid
    epochs: int = 30  # a trial
    trials: int = 24  # of a search, where it is not a grid
    objective: Objective = "valid_accuracy"
    sampler: Sampler = "tpe"
    scheduler: Scheduler = "asha"
    decides: Sequence[str] = ()  # of MAY_DECIDE: what sample() sets, and not the run
    image_sizes: Sequence[int] = ()  # those that sample() may set
    # Others' accuracies by the value, as text, of the one parameter: from, to, and what they said if it was no number.
    published: Mapping[str, tuple[float, float] | tuple[float, float, str]] | None = None
    published_images: int = 0  # on how many images, for their error


def by_name(choices: Iterable[tuple[str, T]], option: str) -> dict[str, T]:
    """Choices that are named after columns, by their names. Raises UserError, naming the option, if two share one."""
    found: dict[str, T] = {}
    for name, choice in choices:
        if name in found:
            raise UserError(f"{option}: two choices would be called '{name}'; rename a column.")
        found[name] = choice
    return found


def names() -> list[str]:
    """The names of the spaces that come with the package."""
    return sorted(module.name for module in pkgutil.iter_modules(spaces.__path__) if module.name != "space")


def load(name: str, given: Given = Given()) -> Space:
    """The space called `name`, or the one in the Python file at the path `name`: its SPACE, or what its function
    space(given) makes of what is given.

    Raises:
        UserError: naming the file, and the field or parameter with its value where the space cannot be searched.
    """
    if name.endswith(".py"):
        module = _module_of(Path(name))
    elif name in names():
        module = importlib.import_module(f"spaces.{name}")
    else:
        raise UserError(f"--space: no space is called '{name}'{nearest(name, names()) or '.'} See --list-spaces.")
    space = getattr(module, "SPACE", None)
    if space is None and hasattr(module, "space"):
        try:
            space = module.space(given)
        except UserError:
            raise
        except (Exception, SystemExit) as error:  # whatever a user's function may raise
            raise UserError(f"{name}: space() fails: {_said(error)}") from error
    if not isinstance(space, Space):
        raise UserError(f"{name} defines no SPACE = Space(...), and no function space(given) that gives one.")
    _check(space, given, name)
    return space


def _module_of(path: Path) -> Any:
    if not path.is_file():
        what = "is no file; name a Python file that defines SPACE" if path.exists() else "does not exist"
        raise UserError(f"--space: {path} {what}.")
    name = f"_space_{path.stem}"  # so that a file called random.py takes no module's place
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where a dataclass looks up the annotations of its own module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever a user's file may raise
        del sys.modules[name]
        if isinstance(error, SyntaxError):
            line = "" if error.lineno is None else f" line {error.lineno}"  # none of null bytes
            raise UserError(f"{path}{line}: {error.msg}.") from None
        raise UserError(f"{path} cannot be loaded: {_said(error)}") from error
    return module


def _check(space: Space, given: Given, source: str) -> None:
    """Raises UserError unless the space yields configurations, can be stored, and has its starts and grid in it."""
    _check_fields(space, source)
    with warnings.catch_warnings(action="ignore"):  # Optuna warns of a choice that cannot be stored; we refuse it
        found, configs = probe(space, source)
    for config in configs:
        check_decided(space, config, given, source)
    drawn = sorted(set(found) - set(space.grid or {}))
    if space.published is not None and drawn:
        raise UserError(f"{source}: published needs a sample() of the grid's one parameter; it draws {drawn[0]} too.")
    if not configs:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        try:
            sample(space, study.ask(), source)
        except ConfigError as error:
            raise UserError(f"{source}: none of {PROBES} samples can be trained: {_ended(error)}") from error
    for parameter, distribution in found.items():
        for choice in vars(distribution).get("choices", ()):
            if not _storable(choice):
                raise UserError(
                    f"{source}: {parameter} has the choice {choice!r}, which a study cannot store; "
                    "let it choose a name, and look up in a dict what the name stands for."
                )
    points = [(f"start {i}", start) for i, start in enumerate(space.starts)]
    if space.grid is not None:
        points += [(f"grid point {i}", cell) for i, cell in enumerate(cells(space))]
    for where, point in points:
        for parameter, value in point.items():
            if not _storable(value):
                raise UserError(f"{source}, {where}: {parameter} is {value!r}; write it as a plain number or text.")
        _check_point(space, point, found, given, f"{source}, {where}")


def _check_point(
    space: Space, point: Mapping[str, Any], found: Mapping[str, BaseDistribution], given: Given, source: str
) -> None:
    """Raises UserError unless a start or a point of the grid is one of the space's.

    Args:
        found: the parameters of its samples.
        source: the file and the point.
    """

    def check_values(known: Mapping[str, BaseDistribution]) -> None:
        for parameter, value in point.items():
            if parameter in known and not _contains(known[parameter], value):
                raise UserError(f"{source}: {parameter} is {value!r}, outside {describe(known[parameter])}.")

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(dict(point))
    trial = study.ask()
    try:
        with warnings.catch_warnings(action="ignore"):  # Optuna warns of a value out of range; we refuse it below
            check_decided(space, sample(space, trial, source), given, source)
    except ConfigError as error:
        raise UserError(f"{source}: {_ended(error)}") from error
    except UserError:
        check_values({**found, **trial.distributions})  # Optuna raises at a value of another kind
        raise
    for parameter in point:
        if parameter not in trial.distributions:
            hint = nearest(parameter, trial.distributions) or "."
            raise UserError(f"{source}: no parameter is called '{parameter}'{hint}")
    check_values(trial.distributions)


def _check_fields(space: Space, source: str) -> None:
    """Raises UserError unless the fields are what their annotations say, which nothing checks in a user's file."""
    refuse = partial(_refuse, space, source)
    for field in ("name", "summary"):
        if not isinstance(getattr(space, field), str):
            refuse(field, "text.")
    if not callable(space.sample):
        refuse("sample", "a function from a trial to its TrialConfig.")
    for field, known in (("objective", Objective), ("sampler", Sampler), ("scheduler", Scheduler)):
        value, choices = getattr(space, field), get_args(known)
        if value not in choices:
            refuse(field, f"one of {', '.join(choices)}{nearest(str(value), choices) or '.'}")
    for field in ("epochs", "trials"):
        if not _is_count(getattr(space, field)):
            refuse(field, "an integer of at least 1.")
    for field, allowed in (("decides", MAY_DECIDE), ("image_sizes", range(MIN_IMAGE_SIZE, MAX_IMAGE_SIZE + 1))):
        value = getattr(space, field)
        if not _is_list(value) or any(part not in allowed for part in value):
            names = ", ".join(MAY_DECIDE) if field == "decides" else f"{allowed[0]}..{allowed[-1]}"
            refuse(field, f"a list of some of {names}.")
    if space.image_sizes and "image_size" not in space.decides:
        refuse("image_sizes", "left out where decides does not name image_size.")
    if not _is_list(space.starts) or not all(_is_mapping(start) for start in space.starts):
        refuse("starts", "a list of mappings from parameters to values, as in [{'lr': 0.001}].")
    if space.grid is not None:
        _check_grid(space, source)
    if space.published is not None:
        _check_published(space, source)


def _refuse(space: Space, source: str, field: str, wanted: str) -> NoReturn:
    raise UserError(f"{source}: {field} is {getattr(space, field)!r}; it must be {wanted}")


def _check_grid(space: Space, source: str) -> None:
    """Raises UserError unless the grid has different values of each parameter."""
    if not _is_mapping(space.grid) or not space.grid:
        _refuse(space, source, "grid", "a mapping from parameters to lists of values, as in {'lr': [0.001, 0.01]}.")
    for parameter, values in space.grid.items():
        if not _is_list(values):
            raise UserError(f"{source}, grid: {parameter} is {values!r}; it must be a list of values.")
        if not values:
            raise UserError(f"{source}, grid: {parameter} has no values; give it one, or leave it out.")
        for i, value in enumerate(values):
            if value in values[:i]:
                raise UserError(f"{source}, grid: {parameter} has the value {value!r} more than once.")


def _check_published(space: Space, source: str) -> None:
    """Raises UserError unless the published figures belong to the values of a grid's one parameter."""
    assert space.published is not None
    if not _is_mapping(space.published):
        wanted = "a mapping from the grid's values, as text, to accuracies, as in {'do7': (0.68, 0.69)}."
        _refuse(space, source, "published", wanted)
    if space.grid is None or len(space.grid) != 1:
        raise UserError(f"{source}: published needs a grid of one parameter, whose values its figures are for.")
    values = [str(value) for part in space.grid.values() for value in part]
    if not _is_count(space.published_images):
        _refuse(space, source, "published_images", "how many images.")
    for name, figure in space.published.items():
        if name not in values:
            raise UserError(f"{source}, published: the grid has no value '{name}'{nearest(name, values) or '.'}")
        if not _is_figure(figure):
            raise UserError(
                f"{source}, published: {name} is {figure!r}; it must be (from, to), each in 0..1, and may have a text "
                "after them."
            )


def check_decided(space: Space, config: TrialConfig, given: Given, source: str | None = None) -> None:
    """Raises UserError where a space that decides the inputs or the target sets a column that the run does not name."""
    name = source or space.name
    known = given.inputs if "inputs" in space.decides else config.inputs
    for column in config.inputs:
        if column not in known:
            hint = nearest(column, known) or "."
            raise UserError(f"{name}: sample() reads the input '{column}', which --inputs does not name{hint}")
    if "target" in space.decides and config.target not in (None, given.target):
        hint = nearest(config.target, [given.target] if given.target else []) or "."
        raise UserError(f"{name}: sample() learns '{config.target}', which --target does not name{hint}")


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_figure(value: Any) -> bool:
    """Whether it is the two ends of a range of accuracies, and perhaps its words."""
    if not _is_list(value) or len(value) not in (2, 3) or not all(isinstance(end, int | float) for end in value[:2]):
        return False
    return bool(0 <= value[0] <= value[1] <= 1) and all(isinstance(words, str) for words in value[2:])


def _storable(value: Any) -> bool:
    """Whether a study can hold the value. Optuna promises it of these types alone; its journal makes a tuple a list."""
    return value is None or isinstance(value, bool | int | float | str)


def sample(space: Space, trial: optuna.Trial, source: str | None = None) -> TrialConfig:
    """The space's configuration for a trial.

    Raises:
        ConfigError: where the sampled values make none.
        UserError: where the space's own code is at fault.
    """
    try:
        config = space.sample(trial)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:  # whatever a user's function may raise
        raise UserError(f"{source or space.name}: sample() fails: {_said(error)}") from error
    if not isinstance(config, TrialConfig):
        raise UserError(f"{source or space.name}: sample() gives {type(config).__name__}, not a TrialConfig.")
    default = TrialConfig()
    for field in DECIDED_BY_RUN:
        if field not in space.decides and getattr(config, field) != getattr(default, field):
            option = "--" + field.replace("_", "-")
            unless = " unless decides names it" if field in MAY_DECIDE else ""
            raise UserError(f"{source or space.name}: sample() sets {field}, which the run decides ({option}){unless}.")
    if "image_size" in space.decides and config.image_size not in space.image_sizes:
        known = ", ".join(map(str, space.image_sizes)) or "none"
        raise UserError(
            f"{source or space.name}: sample() sets image_size to {config.image_size}, which is not among its "
            f"image_sizes ({known})."
        )
    return config


def cells(space: Space) -> list[dict[str, Any]]:
    """The grid's points, the last parameter varying fastest."""
    assert space.grid is not None
    points: list[dict[str, Any]] = [{}]
    for parameter, values in space.grid.items():
        points = [{**point, parameter: value} for point in points for value in values]
    return points


def probe(
    space: Space, source: str | None = None, samples: int = PROBES
) -> tuple[dict[str, BaseDistribution], list[TrialConfig]]:
    """The parameters met in seeded random samples of the space, and the configurations."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found: dict[str, BaseDistribution] = {}
    configs = []
    for _ in range(samples):
        trial = study.ask()
        try:
            configs.append(sample(space, trial, source))
        except ConfigError:
            pass  # a point that cannot be trained fails on its own in a search
        found.update(trial.distributions)
    return found, configs


def orders_classes(space: Space) -> bool:
    """Whether samples of the space learn the classes, and not the values behind them, as levels in an order."""
    return any(config.loss in ("coral", "soft_ordinal") and config.target is None for config in probe(space)[1])


def modelled_by_all(space: Space) -> tuple[set[str], set[str]]:
    """The parameters that each sample of the space has, and those of them that are numbers."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    samples = []
    for _ in range(PROBES):
        trial = study.ask()
        with suppress(ConfigError):
            sample(space, trial)
        samples.append(trial.distributions)
    common = set.intersection(*(set(found) for found in samples))
    categorical = optuna.distributions.CategoricalDistribution
    return common, {name for name in common if not isinstance(samples[0][name], categorical)}


def parameters(space: Space) -> dict[str, str]:
    """Each parameter's name and its range in words."""
    return {name: describe(distribution) for name, distribution in probe(space)[0].items()}


def fingerprint(space: Space) -> str:
    """A hash of what the space does (its parameters, starts, grid and sampled configurations), not of its text."""
    found, configs = probe(space)
    content = {
        "parameters": {name: distribution_to_json(distribution) for name, distribution in found.items()},
        "starts": [dict(start) for start in space.starts],
        "grid": None if space.grid is None else cells(space),
        "objective": space.objective,
        "decides": [list(space.decides), list(space.image_sizes)],
        "configs": [config.to_dict() for config in configs],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def describe(distribution: BaseDistribution) -> str:
    """A distribution in words: '0..0.6', '1e-05..0.1 (log)', '2 | 3'."""
    fields = vars(distribution)
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return " | ".join(str(choice) for choice in distribution.choices)
    text = f"{fields['low']:g}..{fields['high']:g}"
    if fields["log"]:
        text += " (log)"
    if fields["step"] not in (None, 1):
        text += f" step {fields['step']:g}"
    return text


def _said(error: BaseException) -> str:
    """What a user's code raised, as the end of a sentence."""
    text = str(error).rstrip(".")
    misspelt = re.match(r"(\w+)\.__init__\(\) got an unexpected keyword argument '([^']+)'", text)
    kinds = {kind.__name__: kind for kind in (TrialConfig, Augmentation, Space)}
    if misspelt and misspelt[1] in kinds:
        owner, name = misspelt.groups()
        known = [field.name for field in fields(kinds[owner])]
        return f"{owner} has no field '{name}'{nearest(name, known) or '.'}"
    return f"{type(error).__name__}: {text}." if text else f"{type(error).__name__}."


def _ended(error: ConfigError) -> str:
    """What is wrong with a configuration, with its full stop."""
    text = str(error)
    return text if text.endswith("?") else f"{text}."


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    try:
        return bool(distribution._contains(distribution.to_internal_repr(value)))
    except (ValueError, TypeError):
        return False
