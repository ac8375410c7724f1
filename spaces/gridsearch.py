"""The report's grid search, point by point: focal loss, Adam, ExponentialLR, the lowest validation loss."""

import optuna

from spaces.space import Space
from trainable.config import TrialConfig

GRID = {
    "lr": [1e-3, 1e-2, 1e-1],
    "weight_decay": [1e-2, 1e-3, 1e-4],
    "gamma": [0.95, 0.9, 0.85],
}


def sample(trial: optuna.Trial) -> TrialConfig:
    return TrialConfig(
        loss="focal",
        focal_gamma=2.0,
        optimizer="adam",
        schedule="exponential",
        lr=trial.suggest_categorical("lr", GRID["lr"]),
        weight_decay=trial.suggest_categorical("weight_decay", GRID["weight_decay"]),
        gamma=trial.suggest_categorical("gamma", GRID["gamma"]),
    )


SPACE = Space(
    name="gridsearch",
    summary="the report's 27 points of learning rate, weight decay and gamma, each from fresh weights to its end",
    sample=sample,
    grid=GRID,
    epochs=10,
    # The report chose by the validation loss of what it trained on, the focal loss.
    objective="valid_objective_loss",
    sampler="grid",
    scheduler="none",
)
