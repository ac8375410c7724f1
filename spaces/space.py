"""What a search space is: what it samples, and what is said of it. The spaces are the files beside."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json

from spaces import Sampler, Scheduler
from trainable.config import Augmentation, ConfigError, Objective, TrialConfig
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
    published_by: str = ""  # whose they are, of what data and how they came about, for the reader of both


def by_name(choices: Iterable[tuple[str, T]], option: str) -> dict[str, T]:
    """Choices that are named after columns, by their names. Raises UserError, naming the option, if two share one."""
    found: dict[str, T] = {}
    for name, choice in choices:
        if name in found:
            raise UserError(f"{option}: two choices would be called '{name}'; rename a column.")
        found[name] = choice
    return found


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
        raise UserError(f"{source or space.name}: sample() fails: {said(error)}") from error
    if not isinstance(config, TrialConfig):
        raise UserError(f"{source or space.name}: sample() gives {type(config).__name__}, not a TrialConfig.")
    default = TrialConfig()
    for field in DECIDED_BY_RUN:
        if field not in space.decides and getattr(config, field) != getattr(default, field):
            who = "the space decides" if field == "objective" else f"the run decides (--{field.replace('_', '-')})"
            unless = " unless decides names it" if field in MAY_DECIDE else ""
            raise UserError(f"{source or space.name}: sample() sets {field}, which {who}{unless}.")
    if "image_size" in space.decides and config.image_size not in space.image_sizes:
        known = ", ".join(map(str, space.image_sizes)) or "none"
        raise UserError(
            f"{source or space.name}: sample() sets image_size to {config.image_size}, which is not among its "
            f"image_sizes ({known})."
        )
    return config


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
    found: dict[str, BaseDistribution] = {}
    configs = []
    for drawn, config in _samples(space, source, samples):
        found.update(drawn)
        configs += [config] if config is not None else []
    return found, configs


def _samples(
    space: Space, source: str | None = None, samples: int = PROBES
) -> Iterator[tuple[dict[str, BaseDistribution], TrialConfig | None]]:
    """What each of some seeded random samples draws, and its configuration; None where that cannot be trained, which in
    a search fails on its own."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(samples):
        trial, config = study.ask(), None
        with suppress(ConfigError):
            config = sample(space, trial, source)
        yield trial.distributions, config


def orders_classes(space: Space) -> bool:
    """Whether samples of the space learn the classes, and not the values behind them, as levels in an order."""
    return any(config.loss in ("coral", "soft_ordinal") and config.target is None for config in probe(space)[1])


def modelled_by_all(space: Space) -> tuple[set[str], set[str]]:
    """The parameters that each sample of the space has, and those of them that are numbers."""
    samples = [drawn for drawn, _ in _samples(space)]
    common = set.intersection(*map(set, samples))
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


def said(error: BaseException) -> str:
    """What a user's code raised, as the end of a sentence."""
    text = str(error).rstrip(".")
    misspelt = re.match(r"(\w+)\.__init__\(\) got an unexpected keyword argument '([^']+)'", text)
    kinds = {kind.__name__: kind for kind in (TrialConfig, Augmentation, Space)}
    if misspelt and misspelt[1] in kinds:
        owner, name = misspelt.groups()
        known = [field.name for field in fields(kinds[owner])]
        return f"{owner} has no field '{name}'{nearest(name, known) or '.'}"
    return f"{type(error).__name__}: {text}." if text else f"{type(error).__name__}."
