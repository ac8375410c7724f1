import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.to_accuracy import REPORT, Mean, Reached, compare, first, main, name_of, read_trials
from spaces import faster
from trainable.config import Augmentation, TrialConfig
from trainable.errors import UserError
from trainable.fit import Row
from trainable.metrics import metrics_csv

CONFIG = TrialConfig(image_size=64, inputs=("Gender",), epochs=3)
MUON = replace(CONFIG, optimizer="muon", momentum=0.95)
FLIP = replace(CONFIG, augment=Augmentation(alternating_flip=True))


def rows(accuracies: Sequence[float], seconds: float = 2.0) -> list[Row]:
    """The epochs of a trial with these validation accuracies."""
    return [
        {
            "epoch": epoch,
            "train_loss": 1.0,
            "train_accuracy": 0.5,
            "valid_loss": 1.0,
            "valid_accuracy": accuracy,
            "lr": 1e-3,
            "seconds": seconds,
        }
        for epoch, accuracy in enumerate(accuracies, start=1)
    ]


def write(run: Path, trials: Sequence[tuple[TrialConfig, list[Row]]]) -> None:
    """A run's folder, as far as it is read."""
    for number, (config, epochs) in enumerate(trials):
        folder = run / "trials" / f"{number:04d}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(replace(config, seed=number).to_dict()))
        (folder / "metrics.csv").write_text(metrics_csv(epochs))


# The recipe ends at 0.5 and 0.7, so at 0.6 in the mean, which its first seed never has.
TRIALS = [
    (CONFIG, rows([0.3, 0.4, 0.5])),
    (MUON, rows([0.5, 0.6, 0.5], seconds=3.0)),
    (FLIP, rows([0.1, 0.2, 0.3])),
    (CONFIG, rows([0.3, 0.65, 0.7])),
    (MUON, rows([0.6, 0.7, 0.8], seconds=5.0)),
    (FLIP, rows([0.1, 0.2, 0.3])),
]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write(tmp_path / "run", TRIALS)
    return tmp_path / "run"


def test_a_trial_gets_there_in_the_first_epoch_that_is_no_less() -> None:
    assert first(rows([0.2, 0.6, 0.5]), 0.6) == (2, 4.0)
    assert first(rows([0.2, 0.6, 0.5]), 0.2) == (1, 2.0)
    assert first(rows([0.2, 0.6, 0.5]), 0.61) is None


def test_a_run_by_hand(run: Path) -> None:
    trials, left_out = read_trials(run)
    assert left_out == 0
    accuracy, epochs, found = compare(trials, None)
    # Two seeds: half the width is 12.7062 (t of one degree of freedom) times half their distance.
    assert (accuracy.value, accuracy.margin, epochs) == (pytest.approx(0.6), pytest.approx(1.27062, rel=1e-4), 3)
    report, muon, flip = found
    assert report == Reached(REPORT, 2, 1, None, None)
    assert flip == Reached("alternating_flip=True", 2, 0, None, None)
    assert (muon.configuration, muon.reached) == ("optimizer=muon momentum=0.95", 2)
    assert muon.epochs == Mean(1.5, pytest.approx(6.3531, rel=1e-4))  # after 2 epochs and 1
    assert muon.seconds == Mean(5.5, pytest.approx(6.3531, rel=1e-4))  # 2 x 3 s and 1 x 5 s


def test_the_accuracy_after_fewer_epochs(run: Path) -> None:
    accuracy, epochs, found = compare(read_trials(run)[0], 1)
    assert (accuracy, epochs) == (Mean(0.3, pytest.approx(0.0, abs=1e-9)), 1)
    assert [one.reached for one in found] == [2, 2, 2]
    assert found[0].epochs == Mean(1.0, 0.0)


def test_a_trials_first_epoch_counts_no_more_seconds_than_its_second() -> None:
    warming = rows([0.1, 0.5, 0.6])
    warming[0]["seconds"] = 9.0
    assert first(warming, 0.5) == (2, 4.0)
    warming[0]["seconds"] = 1.0
    assert first(warming, 0.5) == (2, 3.0)


def test_of_one_seed_there_is_no_interval(tmp_path: Path) -> None:
    write(tmp_path, TRIALS[:3])
    accuracy, _, found = compare(read_trials(tmp_path)[0], None)
    assert accuracy == Mean(0.5, None)
    assert [(one.epochs, one.seconds) for one in found] == [
        (Mean(3.0, None), Mean(6.0, None)),
        (Mean(1.0, None), Mean(3.0, None)),
        (None, None),
    ]


def test_trials_that_did_not_run_their_course_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, [*TRIALS, (MUON, rows([0.9, 0.9]))])
    trials, left_out = read_trials(tmp_path)
    assert (left_out, [len(found) for found in trials.values()]) == (1, [2, 2, 2])


def test_what_is_printed_and_written(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    out = tmp_path / "figures.json"
    monkeypatch.setattr(sys, "argv", ["to_accuracy", str(run), "--epochs", "2", "--out", str(out)])
    main()
    # The recipe after two epochs: 0.525, which its first seed never has.
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0][:3] == ["To", "52.5", "±158.8"]
    assert lines[2:] == [
        ["2", "in", "1", "of", "2", "in", "1", "of", "2", "-", "the", "report's", "recipe"],
        ["2", "1.5", "±6.4", "5.5", "±6.4", "-", "optimizer=muon", "momentum=0.95"],
        ["2", "never", "never", "-", "alternating_flip=True"],
    ]
    written = json.loads(out.read_text())
    assert (written["run"], written["epochs"], written["left_out"]) == ("run", 2, 0)
    assert written["configurations"][1]["seconds"]["value"] == 5.5


def test_how_many_times_as_fast_is_by_the_seconds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, TRIALS[:2])  # 6 s against 3
    monkeypatch.setattr(sys, "argv", ["to_accuracy", str(tmp_path)])
    main()
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[2:] == [
        ["1", "3.0", "6.0", "1.00", "the", "report's", "recipe"],
        ["1", "1.0", "3.0", "2.00", "optimizer=muon", "momentum=0.95"],
    ]


def test_each_change_of_the_space_has_a_name_of_its_own() -> None:
    names = [name_of(TrialConfig(**change)) for change in faster.CHANGES.values()]
    assert names[0] == REPORT
    assert len(set(names)) == len(names)
    assert "start_scale=0.5" in names and "init=identity" in names and "t_max=None warmup=1" in names


@pytest.mark.parametrize(
    ("trials", "epochs", "message"),
    [
        ([], None, "RUN has no trial that ran its course; name a finished run's folder, as in runs/faster."),
        (
            TRIALS[1:2],
            None,
            "no trial has the report's recipe (all settings at their defaults); search the space 'faster', say.",
        ),
        (TRIALS, 4, "--epochs: 4, but the report's recipe was trained for 3."),
        (
            [TRIALS[0], (replace(MUON, inputs=()), TRIALS[1][1])],
            None,
            "RUN has trials that differ in inputs: they are no single changes of one recipe.",
        ),
    ],
)
def test_a_run_that_cannot_be_compared(
    trials: list[tuple[TrialConfig, list[Row]]], epochs: int | None, message: str, tmp_path: Path
) -> None:
    write(tmp_path, trials)
    with pytest.raises(UserError) as error:
        compare(read_trials(tmp_path)[0], epochs)
    assert str(error.value) == message.replace("RUN", str(tmp_path))


@pytest.mark.parametrize("content", ["{", "null", '{"optimizer": "muoon"}'])
def test_a_damaged_configuration_is_named(run: Path, content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = run / "trials" / "0001" / "config.json"
    path.write_text(content)
    monkeypatch.setattr(sys, "argv", ["to_accuracy", str(run)])
    with pytest.raises(SystemExit, match=f"^Error: {path} is damaged "):
        main()
