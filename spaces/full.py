"""Everything together: what the other spaces vary, conditional where it must be, from the report's best on."""

from typing import Any

import optuna

from spaces import augment, depth, inputs, loss, optimizer, resolution, schedule
from spaces.space import Given, Space
from trainable.config import TrialConfig

ARCHITECTURES = ("convnet", "residual")  # those that share depth, widths and dropout


def space(given: Given) -> Space:
    subsets = inputs.subsets(given.inputs)
    sizes = [size for size in resolution.sizes(given) if size <= given.image_size]
    targets = ["classes"] if given.target is None else ["classes", given.target]

    def sample(trial: optuna.Trial) -> TrialConfig:
        target = trial.suggest_categorical("target", targets)
        settings: dict[str, Any] = {
            "architecture": trial.suggest_categorical("architecture", ARCHITECTURES),
            "image_size": trial.suggest_categorical("image_size", sizes),
            "inputs": subsets[trial.suggest_categorical("inputs", list(subsets))],
            "target": None if target == "classes" else target,
        }
        for part in (depth, optimizer, schedule, loss, augment):
            settings |= part.settings(trial)
        return TrialConfig(**settings)

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
