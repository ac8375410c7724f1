"""Whether a space can be searched: its fields, samples, starts and grid, as nothing else checks a user's file."""

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NoReturn, get_args

import optuna
from optuna.distributions import BaseDistribution

from spaces import Sampler, Scheduler
from spaces.space import MAY_DECIDE, PROBES, Given, Space, cells, check_decided, describe, probe, sample
from trainable.config import MAX_IMAGE_SIZE, MIN_IMAGE_SIZE, ConfigError, Objective
from trainable.errors import UserError, nearest


def check(space: Space, given: Given, source: str) -> None:
    """Raises UserError unless the space yields configurations, can be stored, and has its starts and grid in it."""
    _check_fields(space, source)
    with warnings.catch_warnings(action="ignore"):  # Optuna warns of a choice that cannot be stored; we refuse it
        found, configs = probe(space, source)
        again = probe(space, source)[1]
    if configs != again:
        raise UserError(
            f"{source}: sample() gives other settings for the same draws; what varies must come from its trial alone."
        )
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
    for i, start in enumerate(space.starts):
        _check_point(space, start, found, given, f"{source}, start {i}")
    for i, cell in enumerate(cells(space) if space.grid is not None else ()):
        _check_point(space, cell, found, given, f"{source}, grid point {i}")


def check_searched_by_grid(space: Space, source: str) -> None:
    """Raises UserError unless the grid has values of all that is drawn at its points: those that are called the same
    would differ in the rest."""
    for i, cell in enumerate(cells(space)):
        trial = _asked(cell)
        sample(space, trial, source)
        drawn = sorted(trial.distributions.keys() - cell.keys())
        if drawn:
            raise UserError(
                f"{source}, grid point {i}: sample() draws {drawn[0]} too, of which the grid has no values; give it "
                "some, or choose another --sampler."
            )


def _asked(point: Mapping[str, Any]) -> optuna.Trial:
    """A trial of a point; what that leaves open is drawn at random."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(dict(point))
    return study.ask()


def _check_point(
    space: Space, point: Mapping[str, Any], found: Mapping[str, BaseDistribution], given: Given, source: str
) -> None:
    """Raises UserError unless a start or a point of the grid is one of the space's.

    Args:
        found: the parameters of its samples.
        source: the file and the point.
    """
    for parameter, value in point.items():
        if not _storable(value):
            raise UserError(f"{source}: {parameter} is {value!r}; write it as a plain number or text.")

    def check_values(known: Mapping[str, BaseDistribution]) -> None:
        for parameter, value in point.items():
            if parameter in known and not _contains(known[parameter], value):
                raise UserError(f"{source}: {parameter} is {value!r}, outside {describe(known[parameter])}.")

    trial = _asked(point)
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
    if not isinstance(space.published_by, str) or not space.published_by:
        _refuse(space, source, "published_by", "whose figures they are, in words.")
    for name, figure in space.published.items():
        if name not in values:
            raise UserError(f"{source}, published: the grid has no value '{name}'{nearest(name, values) or '.'}")
        if not _is_figure(figure):
            raise UserError(
                f"{source}, published: {name} is {figure!r}; it must be (from, to), each in 0..1, and may have a text "
                "after them."
            )


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


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    try:
        return bool(distribution._contains(distribution.to_internal_repr(value)))
    except (ValueError, TypeError):
        return False


def _ended(error: ConfigError) -> str:
    """What is wrong with a configuration, with its full stop."""
    text = str(error)
    return text if text.endswith("?") else f"{text}."
