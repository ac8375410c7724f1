"""What a confirmation trains: which configurations, in which tiers, and each tier as a space like any other."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from results.confirmation import DEFAULT
from results.leaderboard import read_metrics
from search.options import CONFIRM
from search.samplers import SAMPLERS
from search.study import JOURNAL, Settings, configured, stored_trials
from spaces.loading import load
from spaces.space import MAY_DECIDE, Given, Space, fingerprint
from trainable.config import Objective, TrialConfig
from trainable.errors import UserError
from trainable.fit import merit
from trainable.paths import trial_folder, trial_name
from trainable.ranges import ConfigError

FIRST_SEEDS = 2  # of the first tier
ONE_TIER = 3  # with so few seeds all configurations have all of them: there is little to save
FORMAT = 1  # of plan.json


@dataclass(frozen=True)
class Plan:
    """What is to be confirmed: chosen when the first training begins, and kept."""

    top: int
    seeds: int
    winner: str  # the search's best configuration, by its first trial
    accuracy: float  # that it looked like
    compared: int  # configurations that it was the best of
    default: str  # the space's default, by its first trial where it is among the top
    configurations: Mapping[str, TrialConfig]  # the top, best first, and the default; their seeds are not read
    settings: Mapping[str, Mapping[str, Any]]  # of each, what was searched
    objective: Objective = "valid_accuracy"  # by which the winner was the best

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        configurations = [[name, config.to_dict()] for name, config in self.configurations.items()]
        return {**vars(self), "configurations": configurations, "format": FORMAT}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Plan":
        """The inverse of `to_json`. Raises KeyError, TypeError or ValueError for anything else."""
        fields = dict(values)
        if fields.pop("format") != FORMAT:
            raise ValueError(f"format {values['format']}, not {FORMAT}")
        configurations = {name: TrialConfig.from_dict(config) for name, config in fields.pop("configurations")}
        return cls(configurations=configurations, **fields)


def tiers(seeds: int) -> tuple[int, ...]:
    """How many seeds each tier has."""
    return (seeds,) if seeds <= ONE_TIER else (FIRST_SEEDS, seeds - FIRST_SEEDS)


def promoted(plan: Plan, accuracies: Mapping[str, Mapping[int, float]]) -> list[str]:
    """The configurations that the next tier trains: the better half by mean accuracy, two at least, the default and the
    winner.

    One alone would be compared with nothing. The winner whatever it did, so that its mean is not one that was stopped
    when it was low.

    Args:
        accuracies: of the tier before, by configuration and seed; of what failed there are none.
    """
    ran = [name for name in plan.configurations if accuracies.get(name)]
    ranked = sorted(ran, key=lambda name: -sum(accuracies[name].values()) / len(accuracies[name]))
    kept = {*ranked[: max(2, (len(ranked) + 1) // 2)], plan.default, plan.winner}
    return [name for name in ran if name in kept]


def choose(run: Path, said: Mapping[str, Any], top: int, seeds: int, space_name: str) -> Plan:
    """The best configurations of a search as it stands, and the default.

    Args:
        said: what its run.json says.
        space_name: the space that it searched, as `load` takes it.
    Raises:
        UserError: where no trial ran its course, or where the space is not what it was.
    """
    arguments, objective = said["arguments"], said["objective"]
    inputs, size = tuple(arguments["inputs"]), arguments["image_size"]
    groups = compared(run)
    ranked = _ranked(run, groups, objective)
    if not ranked:
        raise UserError(f"{run}: no trial has run its course yet, so there is nothing to confirm.")
    space = load(space_name, Given(inputs, arguments["target"], size))
    if fingerprint(space) != said["space"]["fingerprint"]:
        raise UserError(f"the space '{space_name}' has changed since {run} was made: its default is another now.")
    settings = Settings(arguments["epochs"], size, inputs, arguments["target"], objective, said["seed"])
    default, searched = default_of(space, arguments["sampler"], settings)
    names, configurations, shown = {}, {}, {}
    for _, number, key, _ in ranked[:top]:
        names[key] = name = trial_name(number)
        configurations[name] = TrialConfig.from_dict(groups[key][0].user_attrs["config"])
        shown[name] = groups[key][0].params
    default_name = names.get(_apart_from_seed(default), DEFAULT)
    if default_name == DEFAULT:
        configurations[DEFAULT], shown[DEFAULT] = default, searched
    winner = next(iter(configurations))
    return Plan(top, seeds, winner, ranked[0][-1], len(groups), default_name, configurations, shown, objective)


def compared(run: Path) -> dict[str, list[FrozenTrial]]:
    """The trials of each configuration of a search that have not failed. The caller holds the run's lock.

    Raises:
        UserError: where one of them cannot be trained, which no search leaves.
    """
    groups: dict[str, list[FrozenTrial]] = {}
    for trial in stored_trials(run):
        if "config" in trial.user_attrs and trial.state.name != "FAIL":
            try:
                config = TrialConfig.from_dict(trial.user_attrs["config"])
            except ConfigError as error:
                raise UserError(
                    f"{run / JOURNAL} is damaged (trial {trial.number}: {error}); restore it from a copy."
                ) from None
            groups.setdefault(_apart_from_seed(config), []).append(trial)
    return groups


def _ranked(
    run: Path, groups: Mapping[str, Sequence[FrozenTrial]], objective: Objective
) -> list[tuple[tuple[float, ...], int, str, float]]:
    """The configurations of which a trial ran its course, best first by the mean of these trials' best epochs: how good
    it is, less is better, the number of the configuration's first trial, the configuration, and its mean accuracy."""
    ranked = []
    for key, trials in groups.items():
        complete = [trial for trial in trials if trial.state.name == "COMPLETE"]
        found = [read_metrics(trial_folder(run, trial_name(trial.number)) / "metrics.csv") for trial in complete]
        bests = [max(rows, key=lambda row: merit(row, objective)) for rows in found if rows]
        if bests:
            merits = [merit(best, objective) for best in bests]
            mean = tuple(-sum(part) / len(bests) for part in zip(*merits, strict=True))
            ranked.append((mean, trials[0].number, key, sum(best["valid_accuracy"] for best in bests) / len(bests)))
    return sorted(ranked)


def _apart_from_seed(config: TrialConfig) -> str:
    """What two trials share that differ in their seed alone."""
    return json.dumps(replace(config, seed=0).to_dict(), sort_keys=True)


def whole_seeds(trials: Sequence[FrozenTrial], configurations: int) -> set[int]:
    """The seeds with which all configurations of a tier have been trained, or have failed: others favour some."""
    ended = [trial.user_attrs["config"]["seed"] for trial in trials if trial.state.is_finished()]
    return {seed for seed in ended if ended.count(seed) == configurations}


def default_of(space: Space, sampler: str, settings: Settings) -> tuple[TrialConfig, dict[str, Any]]:
    """A space's default: its first known start, completed as the search does, else the report's network, which learns
    classes where the space decides on the target. And the values of its parameters, where it has any."""
    if not space.starts:
        given = asdict(settings) | ({"target": None} if "target" in space.decides else {})
        return TrialConfig(**given), {}
    study = optuna.create_study(sampler=SAMPLERS[sampler].build(settings.seed, 0))
    study.enqueue_trial(dict(space.starts[0]))
    trial = study.ask()
    return configured(space, trial, settings, settings.seed), trial.params


def tier_space(plan: Plan, names: Sequence[str], objective: Objective) -> Space:
    """The grid over the configurations called `names`."""
    # What the run decides, Space leaves at its default.
    run = TrialConfig()
    configs = {
        name: replace(plan.configurations[name], epochs=run.epochs, objective=run.objective, seed=run.seed)
        for name in names
    }

    def sample(trial: optuna.Trial) -> TrialConfig:
        return configs[trial.suggest_categorical("configuration", list(configs))]

    return Space(
        name=CONFIRM,
        summary="the best configurations of a search, and its default",
        sample=sample,
        grid={"configuration": list(configs)},
        objective=objective,
        sampler="grid",
        scheduler="none",
        decides=MAY_DECIDE,
        image_sizes=sorted({config.image_size for config in configs.values()}),
    )


def tier_seed(seed: int, number: int) -> int:
    """The seed of a tier, by its number and the search's seed: one that no trial's can be."""
    return int(np.random.SeedSequence([seed, number, 2]).generate_state(1)[0])
