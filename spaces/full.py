"""Everything together: what the other spaces vary, conditional where it must be, from the report's best on."""

from typing import Any, get_args

import optuna

from spaces import architecture, augment, depth, inputs, loss, optimizer, resolution, schedule, target
from spaces.space import Given, Space
from trainable.config import ONE_SIZE, SHAPED, Init, TrialConfig


def space(given: Given) -> Space:
    subsets = inputs.subsets(given.inputs)
    sizes = [size for size in resolution.sizes(given) if size <= given.image_size]
    targets = target.choices(given)

    def sample(trial: optuna.Trial) -> TrialConfig:
        settings: dict[str, Any] = {
            "architecture": trial.suggest_categorical("architecture", architecture.NAMES),
            "image_size": trial.suggest_categorical("image_size", sizes),
            "inputs": given.inputs,
        }
        if settings["architecture"] in SHAPED:
            settings |= depth.settings(trial)
            settings["init"] = trial.suggest_categorical("init", get_args(Init))
        if settings["architecture"] not in ONE_SIZE:
            settings["start_scale"] = trial.suggest_categorical("start_scale", [1.0, 0.5])
        learnt = targets[trial.suggest_categorical("target", list(targets))]
        if "experts" not in learnt:  # an expert is chosen by an input
            settings["inputs"] = subsets[trial.suggest_categorical("inputs", list(subsets))]
        if "loss" not in learnt:
            settings |= loss.settings(trial)
        for part in (optimizer, schedule, augment):
            settings |= part.settings(trial)
        return TrialConfig(**settings, **learnt)

    def start(dropout: dict[int, float]) -> dict[str, Any]:
        """The report's final recipe around one of its networks."""
        blocks = {f"dropout_{block}": p for block, p in dropout.items()}
        return {
            "architecture": "convnet",
            "image_size": given.image_size,
            "inputs": list(subsets)[-1],
            "target": "classes",
            **depth.start(8),
            **blocks,
            "init": "default",
            "start_scale": 1.0,
            **optimizer.REPORT,
            **schedule.REPORT,
            **loss.REPORT,
            **augment.start(),
        }

    return Space(
        name="full",
        summary="all of it together, conditional; the report's final model (do2), do7 and do8 first",
        sample=sample,
        starts=[start({6: 0.5, 7: 0.5}), start(dict.fromkeys(range(1, 9), 0.1)), start({})],
        epochs=30,
        trials=100,
        image_sizes=tuple(sizes),
        decides=("image_size", "inputs", "target"),
    )
