"""What the network learns: the classes, ordered classes, the values behind them, or a network of its own a group."""

from typing import Any

import optuna

from spaces.space import Given, Space, by_name
from trainable.config import TrialConfig


def choices(given: Given) -> dict[str, dict[str, Any]]:
    """The settings of each target by its name; experts and values where the columns for them are given.

    Raises UserError where the target's column is called like another choice.
    """
    found: list[tuple[str, dict[str, Any]]] = [
        ("classes", {}),
        ("coral", {"loss": "coral"}),
        ("soft_ordinal", {"loss": "soft_ordinal", "ordinal_scale": 0.5}),
    ]
    if given.target is not None:
        values = {"target": given.target}
        found += [
            (given.target, values),
            (f"{given.target} coral", {**values, "loss": "coral"}),
            (f"{given.target} soft_ordinal", {**values, "loss": "soft_ordinal", "ordinal_scale": 2.0}),
        ]
    return by_name([*found, *((f"experts by {name}", {"experts": name}) for name in given.inputs)], "--target")


def space(given: Given) -> Space:
    found = choices(given)

    def sample(trial: optuna.Trial) -> TrialConfig:
        settings = found[trial.suggest_categorical("target", list(found))]
        return TrialConfig(inputs=given.inputs, **settings)

    return Space(
        name="target",
        summary="classes, CORAL, soft ordinal labels, the values of --target, experts by each of --inputs",
        sample=sample,
        grid={"target": list(found)},
        epochs=30,
        sampler="grid",
        scheduler="none",
        decides=("inputs", "target"),
    )
