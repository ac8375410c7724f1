"""The trials of a run in order of merit, from the study and each trial's metrics."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from optuna.trial import FrozenTrial
from rich.table import Table

from results.settings import settings_text
from trainable import files
from trainable.config import ConfigError, Objective, TrialConfig
from trainable.dataset import LabelledData
from trainable.errors import UserError
from trainable.examples import preprocessing_of
from trainable.fit import Row, merit
from trainable.model import parameter_count
from trainable.network import build_network
from trainable.paths import trial_folder, trial_name

COLUMNS = (
    "rank trial state epochs best_epoch valid_accuracy valid_loss train_accuracy train_loss seconds parameters".split()
)
OWN = (*COLUMNS, "valid_objective_loss", "audited")  # the last two only where there is such a value
SHOWN = 10  # rows in the terminal
SEARCHED = " (searched)"  # after a searched parameter that is called like a column of ours
# What no network's number of parameters depends on.
WEIGHTLESS = frozenset(
    "dropout head_dropout init augment views label_smoothing focal_gamma ordinal_scale class_weights optimizer lr "
    "weight_decay momentum schedule t_max gamma step_size warmup ema start_scale growing batch_size epochs objective "
    "seed".split()
)
STATES = {"PRUNED": "stopped", "RUNNING": "unfinished", "FAIL": "failed"}  # in words


def leaderboard(
    run: Path, trials: Sequence[FrozenTrial], objective: Objective, sizes: Mapping[int, LabelledData]
) -> pd.DataFrame:
    """The leaderboard: trials that ran their course, best first; then the stopped and unfinished ones; then the failed.

    A row's metrics are those of the trial's best epoch by the objective. An audited trial's row is what it would be if
    it had been stopped when it was to be, but for a column `audited`: how many epochs it was trained for in all.

    Args:
        run: the run's folder.
        trials: of its study.
        objective: what ranks.
        sizes: the data at each image size, for the count of parameters; empty: they are those of an earlier
            leaderboard.csv, where there is one.
    """
    entries = []
    counted = {} if sizes else _counted(run)
    counts: dict[str, float] = {}  # of each network that there is: to count one takes some milliseconds
    for trial in trials:
        folder = trial_folder(run, trial_name(trial.number))
        rows = counted_rows(run, trial)
        best = max(rows, key=lambda row: merit(row, objective), default=None)
        entry: dict[str, Any] = {
            "trial": folder.name,
            "state": trial.state.name,
            "epochs": len(rows),
            "seconds": round(sum(row["seconds"] for row in rows), 2),
        }
        config = trial.user_attrs.get("config")
        if folder.name in counted:
            entry["parameters"] = counted[folder.name]
        elif config is not None and sizes:
            network = json.dumps({name: config[name] for name in sorted(config) if name not in WEIGHTLESS})
            if network not in counts:
                counts[network] = _parameters(config, sizes)
            entry["parameters"] = counts[network]
        if best is not None:
            names = ("valid_accuracy", "valid_loss", "valid_objective_loss", "train_accuracy", "train_loss")
            entry.update({name: best[name] for name in names if name in best}, best_epoch=int(best["epoch"]))
        if is_audited(trial):
            entry["audited"] = len(read_metrics(folder / "metrics.csv"))
        # PRUNED and RUNNING compete with each other: both were cut short.
        group = {"COMPLETE": 0, "FAIL": 2}.get(trial.state.name, 1)
        quality = merit(best, objective) if best else (-math.inf, -math.inf)
        entries.append(((group, [-part for part in quality], trial.number), {**entry, **_columns_of(trial.params)}))
    entries.sort(key=lambda pair: pair[0])
    table = pd.DataFrame([{"rank": rank, **entry} for rank, (_, entry) in enumerate(entries, start=1)])
    if "audited" in table:
        table["audited"] = table["audited"].astype("Int64")  # of most trials there is none
    extra = [name for name in table.columns if name not in COLUMNS]
    # valid_objective_loss, where there is one, stands beside the loss that it differs from.
    extra.sort(key=lambda name: (name not in OWN, name != "valid_objective_loss"))
    return table.reindex(columns=[*COLUMNS, *extra])


def is_audited(trial: FrozenTrial) -> bool:
    """Whether a trial was to be stopped, and was trained on to see what stopping costs."""
    return bool(trial.user_attrs.get("end", {}).get("audited"))


def counted_rows(run: Path, trial: FrozenTrial) -> list[Row]:
    """A trial's epochs: of an audited one those up to the epoch at which it was to be stopped.

    Raises: UserError as `read_metrics` does.
    """
    rows = read_metrics(trial_folder(run, trial_name(trial.number)) / "metrics.csv")
    return rows[: trial.user_attrs["end"]["epoch"]] if is_audited(trial) else rows


def _columns_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """Searched parameters as columns; a choice of None is text, as nothing is said of a parameter that is absent."""
    return {column_of(name): "None" if value is None else value for name, value in params.items()}


def column_of(parameter: str) -> str:
    """The column of a searched parameter; one that is called like a column of ours says so."""
    return parameter + SEARCHED if parameter in OWN else parameter


def write_leaderboard(run: Path, table: pd.DataFrame) -> None:
    """Writes leaderboard.csv."""
    files.write_text(run / "leaderboard.csv", table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))


def read_metrics(path: Path) -> list[Row]:
    """The epochs of a metrics.csv; none where there is no such file yet. Raises UserError where it is damaged."""
    if not path.exists():
        return []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [{name: float(cell) for name, cell in row.items()} for row in csv.DictReader(file)]
        _ = [row[name] for row in rows for name in ("valid_loss", "valid_accuracy", "seconds")]
        _ = [int(row["epoch"]) for row in rows]
    # OverflowError: an infinite epoch; TypeError: a row with fewer or more cells than the header
    except (OverflowError, ValueError, TypeError, KeyError, csv.Error):
        raise UserError(
            f"{path} is damaged; restore it from a copy, or delete it to rank the trial as one without epochs."
        ) from None
    return rows


def _counted(run: Path) -> dict[str, float]:
    """Each trial's parameters by the run's leaderboard.csv, those that can be read and are numbers."""
    with suppress(OSError, ValueError, KeyError):
        table = pd.read_csv(run / "leaderboard.csv", dtype={"trial": str})
        counts = pd.to_numeric(table["parameters"], errors="coerce")
        return {name: count for name, count in zip(table["trial"], counts, strict=True) if math.isfinite(count)}
    return {}


def _parameters(values: Mapping[str, Any], sizes: Mapping[int, LabelledData]) -> float:
    """Of one network of a configuration; a trial over folds trains several. NaN where the network does not fit its
    images: the trial has failed by that."""
    try:
        config = TrialConfig.from_dict(values)
        data = sizes[config.image_size]
        preprocessing = preprocessing_of(data, config, data.split.parts[0])
        with torch.device("meta"):  # counts without allocating
            return parameter_count(build_network(config, preprocessing))
    except ConfigError:
        return math.nan


def error_over_images(accuracy: float, images: int) -> float:
    """One standard error of one run's accuracy; where all images are right, or none, it is worth one image."""
    return math.sqrt(max(accuracy * (1 - accuracy), 1 / images) / images)


def searched_columns(table: pd.DataFrame) -> list[str]:
    """The columns of what was searched."""
    return [name for name in table.columns if name not in OWN]


def render(table: pd.DataFrame, objective: Objective, valid_images: int) -> Table:
    """The head of the leaderboard for a terminal: accuracy with one standard error, and what was searched."""
    searched = searched_columns(table)
    # What all of the rows share tells them apart no better than nothing.
    searched = [name for name in searched if table[name].nunique(dropna=False) > 1]
    loss = "valid_objective_loss" if objective == "valid_objective_loss" and objective in table else "valid_loss"
    view = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("", "trial", "state", "epochs", "accuracy, %", loss.removeprefix("valid_").replace("_", " ")):
        view.add_column(name, justify="left" if name in ("trial", "state") else "right", no_wrap=True)
    view.add_column("searched", overflow="fold")
    for _, row in table.head(SHOWN).iterrows():
        accuracy = row["valid_accuracy"]
        shown = "-"
        if accuracy == accuracy:
            shown = f"{100 * accuracy:.1f} ±{100 * error_over_images(accuracy, valid_images):.1f}"
        value = f"{row[loss]:.4f}" if row[loss] == row[loss] else "-"
        settings = settings_text({name: row[name] for name in searched if row[name] == row[name]})
        view.add_row(
            str(row["rank"]),
            row["trial"],
            STATES.get(row["state"], row["state"].lower()),
            f"{row['epochs']}",
            shown,
            value,
            settings,
        )
    return view
