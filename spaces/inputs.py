"""Which metadata help: the image alone, and with each subset of the columns that --inputs names."""

from itertools import combinations

import optuna

from spaces.space import Given, Space, by_name
from trainable.config import TrialConfig
from trainable.errors import UserError

ALONE = "none"


def subsets(inputs: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Each subset by its name: none, Gender, Race, Gender+Race. Raises UserError where two have the same."""
    chosen = [part for size in range(len(inputs) + 1) for part in combinations(inputs, size)]
    return by_name((("+".join(part) or ALONE, part) for part in chosen), "--inputs")


def space(given: Given) -> Space:
    if not given.inputs:
        raise UserError("--space inputs: name the columns to choose from, as in --inputs Gender,Race.")
    choices = subsets(given.inputs)

    def sample(trial: optuna.Trial) -> TrialConfig:
        return TrialConfig(inputs=choices[trial.suggest_categorical("inputs", list(choices))])

    return Space(
        name="inputs",
        summary="the image alone and with each subset of the metadata columns, in the report's recipe",
        sample=sample,
        grid={"inputs": list(choices)},
        epochs=30,
        sampler="grid",
        scheduler="none",
        decides=("inputs",),
    )
