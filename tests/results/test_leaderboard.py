"""The order of a run's trials and what is said of each, from metrics written by hand."""

import dataclasses
import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from results.leaderboard import COLUMNS, WEIGHTLESS, leaderboard, read_metrics, render, write_leaderboard
from tests.results.tiny_run import SIZE, Data
from trainable.config import Augmentation, Objective, TrialConfig
from trainable.dataset import LabelledData
from trainable.errors import UserError
from trainable.examples import preprocessing_of
from trainable.model import parameter_count
from trainable.network import build_network

HEADER = "epoch,train_loss,train_accuracy,valid_loss,valid_accuracy,lr,seconds"
CONFIG = TrialConfig(depth=4, widths=(2, 2, 2, 2), head_width=4, image_size=28, inputs=("Gender",))

Epochs = Sequence[tuple[float, float]]  # (valid_loss, valid_accuracy) of each
TableOf = Callable[..., pd.DataFrame]


def trial(
    run: Path, number: int, state: str, epochs: Epochs = (), config: TrialConfig | None = CONFIG, **params: Any
) -> FrozenTrial:
    """A trial of a study, with its metrics.csv."""
    folder = run / "trials" / f"{number:04}"
    folder.mkdir(parents=True)
    if epochs:
        rows = [f"{n},1.5,0.25,{loss},{accuracy},0.001,2.5" for n, (loss, accuracy) in enumerate(epochs, start=1)]
        (folder / "metrics.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    distributions: dict[str, Any] = {
        name: optuna.distributions.CategoricalDistribution([value]) for name, value in params.items()
    }
    frozen = optuna.trial.create_trial(
        state=TrialState[state],
        value=0.0 if state == "COMPLETE" else None,
        params=params,
        distributions=distributions,
        user_attrs={} if config is None else {"config": config.to_dict()},
    )
    frozen.number = number
    return frozen


@pytest.fixture
def sizes(data: Data) -> Mapping[int, LabelledData]:
    """Three classes and two genders, at 28 pixels."""
    return {SIZE: data.labelled}


@pytest.fixture
def table_of(tmp_path: Path, sizes: Mapping[int, LabelledData]) -> TableOf:
    """The leaderboard of trials in tmp_path."""

    def of(trials: Sequence[FrozenTrial], objective: Objective = "valid_accuracy") -> pd.DataFrame:
        return leaderboard(tmp_path, trials, objective, sizes)

    return of


def ranked(table: pd.DataFrame) -> list[str]:
    return list(table["trial"])


def test_finished_trials_come_first_then_those_cut_short_then_the_failed(tmp_path: Path, table_of: TableOf) -> None:
    table = table_of(
        [
            trial(tmp_path, 0, "FAIL", [(0.1, 0.99)]),
            trial(tmp_path, 1, "PRUNED", [(0.2, 0.8)]),
            trial(tmp_path, 2, "RUNNING", [(0.2, 0.9)]),
            trial(tmp_path, 3, "COMPLETE", [(0.5, 0.5)]),
            trial(tmp_path, 4, "FAIL"),
            trial(tmp_path, 5, "COMPLETE", [(0.5, 0.6)]),
        ],
    )
    assert ranked(table) == ["0005", "0003", "0002", "0001", "0000", "0004"]
    assert list(table["rank"]) == [1, 2, 3, 4, 5, 6]


def test_equal_accuracies_are_ranked_by_loss_and_then_by_number(tmp_path: Path, table_of: TableOf) -> None:
    table = table_of(
        [
            trial(tmp_path, 0, "COMPLETE", [(0.5, 0.8)]),
            trial(tmp_path, 1, "COMPLETE", [(0.4, 0.8)]),
            trial(tmp_path, 2, "COMPLETE", [(0.4, 0.8)]),
        ],
    )
    assert ranked(table) == ["0001", "0002", "0000"]


@pytest.mark.parametrize(
    ("objective", "best_epoch", "accuracy", "loss"), [("valid_accuracy", 2, 0.75, 0.5), ("valid_loss", 3, 0.7, 0.25)]
)
def test_a_row_is_the_best_epoch_by_the_objective(
    tmp_path: Path, table_of: TableOf, objective: Objective, best_epoch: int, accuracy: float, loss: float
) -> None:
    epochs = [(0.6, 0.5), (0.5, 0.75), (0.25, 0.7)]
    row = table_of([trial(tmp_path, 0, "COMPLETE", epochs)], objective).iloc[0]
    assert (row["epochs"], row["best_epoch"], row["seconds"]) == (3, best_epoch, 7.5)
    assert (row["valid_accuracy"], row["valid_loss"]) == (accuracy, loss)
    assert (row["train_accuracy"], row["train_loss"]) == (0.25, 1.5)


def test_networks_that_differ_are_counted_each(tmp_path: Path, table_of: TableOf) -> None:
    configs = [CONFIG, dataclasses.replace(CONFIG, lr=0.5), dataclasses.replace(CONFIG, head_width=5)]
    trials = [trial(tmp_path, number, "COMPLETE", [(0.5, 0.5)], config) for number, config in enumerate(configs)]
    counts = table_of(trials).set_index("trial")["parameters"]
    assert counts["0000"] == counts["0001"] == 229
    assert counts["0002"] == 229 + 4 + 1 + 2 + 3  # a unit more: of 2 channels and 2 genders, bias, norm, 3 outputs


def test_what_is_weightless_changes_no_count(data: Data) -> None:
    numbers = "head_dropout label_smoothing ema start_scale growing momentum gamma lr weight_decay focal_gamma".split()
    others: dict[str, Any] = dict.fromkeys([*numbers, "ordinal_scale"], 0.75)
    others |= dict.fromkeys(["step_size", "warmup", "batch_size", "epochs", "seed", "t_max"], 7)
    others |= {"dropout": (0.1,) * 4, "augment": Augmentation(flip=0.0), "views": "flip", "class_weights": True}
    others |= {"init": "identity", "optimizer": "sgd", "schedule": "step", "objective": "valid_loss"}
    assert set(others) == WEIGHTLESS
    preprocessing = preprocessing_of(data.labelled, CONFIG, data.labelled.split.parts[0])
    for name, value in others.items():
        changed = dataclasses.replace(CONFIG, **{name: value})
        assert parameter_count(build_network(changed, preprocessing)) == 229, name


def test_parameters_are_the_networks(tmp_path: Path, table_of: TableOf) -> None:
    # Convolutions (3*9+1)*2 + 3 (2*9+1)*2 = 170, batch norms 4*4 + 8 = 24, hidden (2+2+1)*4 = 20, output (4+1)*3 = 15.
    assert table_of([trial(tmp_path, 0, "COMPLETE", [(0.5, 0.5)])])["parameters"].tolist() == [229]


def test_a_trial_without_a_configuration_or_an_epoch_has_blanks(tmp_path: Path, table_of: TableOf) -> None:
    table = table_of(
        [
            trial(tmp_path, 0, "COMPLETE", [(0.5, 0.5)], lr=0.1),
            trial(tmp_path, 1, "FAIL", config=None, lr=0.2),
        ],
    )
    write_leaderboard(tmp_path, table)
    lines = (tmp_path / "leaderboard.csv").read_text().splitlines()
    assert lines == [
        ",".join([*COLUMNS, "lr"]),
        "1,0000,COMPLETE,1,1,0.5,0.5,0.25,1.5,2.5,229,0.1",
        "2,0001,FAIL,0,,,,,,0,,0.2",
    ]


def test_a_network_that_does_not_fit_its_images_does_not_take_the_leaderboard_with_it(
    tmp_path: Path, table_of: TableOf
) -> None:
    too_small = TrialConfig(depth=4, widths=(2, 2, 2, 2), image_size=28, pool={1: 8, 2: 8})  # 26, 3, and then 8x8
    row = table_of([trial(tmp_path, 0, "FAIL", config=too_small)]).iloc[0]
    assert (row["trial"], row["state"]) == ("0000", "FAIL")
    assert math.isnan(row["parameters"])


def test_each_searched_parameter_has_a_column_and_conditional_ones_have_gaps(tmp_path: Path, table_of: TableOf) -> None:
    table = table_of(
        [
            trial(tmp_path, 0, "COMPLETE", [(0.5, 0.6)], optimizer="adam"),
            trial(tmp_path, 1, "COMPLETE", [(0.5, 0.5)], optimizer="sgd", momentum=0.9),
        ],
    )
    assert list(table.columns) == [*COLUMNS, "optimizer", "momentum"]
    assert table["optimizer"].tolist() == ["adam", "sgd"]
    assert math.isnan(table["momentum"][0]) and table["momentum"][1] == 0.9


def test_the_loss_that_was_minimised_stands_beside_the_one_that_compares(tmp_path: Path, table_of: TableOf) -> None:
    trials = [trial(tmp_path, n, "COMPLETE", [(0.5, 0.5)], lr=0.1) for n in (0, 1)]
    for number, (loss, objective) in enumerate([(0.4, 0.3), (0.5, 0.2)]):
        path = tmp_path / "trials" / f"{number:04}" / "metrics.csv"
        path.write_text(f"{HEADER},valid_objective_loss\n1,1.5,0.25,{loss},0.5,0.001,2.5,{objective}\n")
    table = table_of(trials, "valid_objective_loss")
    assert list(table.columns) == [*COLUMNS, "valid_objective_loss", "lr"]
    assert ranked(table) == ["0001", "0000"]


def test_an_audited_trial_stands_where_it_would_if_it_had_been_stopped(tmp_path: Path, table_of: TableOf) -> None:
    epochs = [(1.2, 0.3), (1.1, 0.4), (0.1, 0.9), (0.1, 0.95)]
    whole, plain = trial(tmp_path, 0, "COMPLETE", [(0.9, 0.6)] * 4, lr=0.1), trial(tmp_path, 1, "PRUNED", epochs[:2])
    audited = trial(tmp_path, 2, "PRUNED", epochs, audited=0.5)  # and a parameter of that name
    audited.user_attrs["end"] = {"state": "PRUNED", "epoch": 2, "value": 0.4, "audited": True}
    table = table_of([whole, plain, audited])
    assert list(table.columns) == [*COLUMNS, "audited", "lr", "audited (searched)"]
    one, other = table.iloc[1], table.iloc[2]
    assert (one["trial"], other["trial"], other["audited"], other["audited (searched)"]) == ("0001", "0002", 4, 0.5)
    names = [name for name in COLUMNS if name not in ("rank", "trial")]
    assert one[names].tolist() == other[names].tolist()
    assert (other["valid_accuracy"], other["epochs"], other["seconds"]) == (0.4, 2, 5.0)
    write_leaderboard(tmp_path, table)
    lines = (tmp_path / "leaderboard.csv").read_text().splitlines()
    assert [line.split(",")[len(COLUMNS)] for line in lines] == ["audited", "", "", "4"]


def test_there_is_a_leaderboard_before_the_first_trial(tmp_path: Path, table_of: TableOf) -> None:
    assert list(table_of([]).columns) == COLUMNS


def test_metrics_that_are_not_there_yet_are_no_rows(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "metrics.csv") == []


@pytest.mark.parametrize(
    "content",
    [
        f"{HEADER}\n1,1.5,0.25,0.5,0.5,0.001,2.5\n2,1.5,0.2".encode(),  # cut in a row
        f"{HEADER}\n1,1.5,0.25,0.5,0.5,0.001,2.5,7\n".encode(),
        f"{HEADER}\n1,1.5,0.25,0.5,x,0.001,2.5\n".encode(),
        b"epoch,train_loss\n1,1.5\n",
        b"\xff\xfe\n1",
    ],
    ids=["fewer cells", "more cells", "no number", "fewer columns", "no UTF-8"],
)
def test_damaged_metrics_are_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_metrics(path)
    assert str(error.value) == (
        f"{path} is damaged; restore it from a copy, or delete it to rank the trial as one without epochs."
    )


def shown(table: pd.DataFrame, objective: Objective = "valid_accuracy") -> list[list[str]]:
    text = io.StringIO()
    Console(file=text, width=120).print(render(table, objective, valid_images=100))
    return [line.split() for line in text.getvalue().splitlines()]


def test_the_shown_accuracy_has_its_standard_error(tmp_path: Path, table_of: TableOf) -> None:
    table = table_of([trial(tmp_path, 0, "COMPLETE", [(0.5, 0.8)]), trial(tmp_path, 1, "FAIL")])
    rows = shown(table)
    assert rows[1] == ["1", "0000", "complete", "1", "80.0", "±4.0", "0.5000"]  # sqrt(0.8 * 0.2 / 100) = 0.04
    assert rows[2] == ["2", "0001", "failed", "0", "-", "-"]


def test_what_all_rows_share_is_not_shown(tmp_path: Path, table_of: TableOf) -> None:
    trials = [trial(tmp_path, n, "COMPLETE", [(0.5, 0.8)], lr=0.1 * (n + 1), depth=8) for n in (0, 1)]
    assert [row[-1] for row in shown(table_of(trials))[1:]] == ["lr=0.1", "lr=0.2"]


def test_ten_rows_are_shown(tmp_path: Path, table_of: TableOf) -> None:
    trials = [trial(tmp_path, n, "COMPLETE", [(0.5, 0.8)]) for n in range(12)]
    assert len(shown(table_of(trials))) == 1 + 10
