"""Where a training's files are in a run's folder: what trains, searches and reads a run have in common."""

from pathlib import Path

TRIALS, REFITS = "trials", "refits"  # each has a folder for every training


def trial_name(number: int) -> str:
    """A trial's name in files and views: its Optuna number in four digits, or as many as it has."""
    return f"{number:04d}"


def trial_folder(run: Path, trial: str) -> Path:
    """Where a trial's files are. Args: trial: its name."""
    return run / TRIALS / trial
