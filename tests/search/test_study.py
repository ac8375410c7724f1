"""The record of a search: what it tells, and that a kill at any moment changes nothing of it."""

import json
import math
import resource
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from search.study import (
    JOURNAL,
    Ask,
    Settings,
    StudyRecord,
    goes_on_from,
    has_trial,
    stored_trials,
    trial_name,
    watched_trials,
)
from spaces.space import Space, cells
from tests.search.follow import Search
from trainable.config import Objective, TrialConfig
from trainable.errors import UserError, storage_fault
from trainable.keeper import WORKER, assign

EPOCHS = 4


def sample(trial: optuna.Trial) -> TrialConfig:
    """A conditional space, whose border makes no configuration (head_dropout 1)."""
    lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
    optimizer = trial.suggest_categorical("optimizer", ["adam", "sgd"])
    momentum = trial.suggest_float("momentum", 0.0, 0.9) if optimizer == "sgd" else 0.9
    head_dropout = trial.suggest_float("head_dropout", 0.0, 1.0)
    return TrialConfig(lr=lr, optimizer=optimizer, momentum=momentum, head_dropout=head_dropout)


STARTS = [
    {"lr": 0.01, "optimizer": "sgd", "momentum": 0.5, "head_dropout": 0.5},
    {"lr": 0.02, "optimizer": "adam", "head_dropout": 1.0},
    {"lr": 0.03, "head_dropout": 0.25},  # the optimiser is drawn
]
GRID = {"lr": [1e-3, 1e-2], "optimizer": ["adam"], "head_dropout": [0.0, 0.5, 1.0]}
SPACE = Space("mine", "", sample, starts=STARTS, grid=GRID)


def open_record(
    folder: Path, trials: int, sampler: str = "random", objective: Objective = "valid_accuracy", repeats: int = 1
) -> StudyRecord:
    folder.mkdir(exist_ok=True)
    settings = Settings(epochs=EPOCHS, image_size=28, inputs=("Gender",), target=None, objective=objective, seed=3)
    return StudyRecord(folder, SPACE, sampler, settings, trials, repeats)


def value_of(asked: Ask, epoch: int) -> float:
    """What an epoch of a trial gives: like a training run, a function of its configuration."""
    return round(-abs(asked.config.lr - 0.02) - 0.1 * abs(epoch - 3) * asked.config.head_dropout, 6)


def play(record: StudyRecord, asked: Ask) -> None:
    """One trial from its first epoch to its end: every third is stopped at epoch 2, every fifth fails after it."""
    number = int(asked.trial)
    record.report(asked.trial, 1, value_of(asked, 1))
    if number % 3 == 2:
        return record.prune(asked.trial, 2, value_of(asked, 2))
    record.report(asked.trial, 2, value_of(asked, 2))
    if number % 5 == 4:
        return record.fail(asked.trial, "NonFiniteLossError: the training loss is nan in epoch 3")
    record.report(asked.trial, 3, value_of(asked, 3))
    return record.complete(asked.trial, EPOCHS, value_of(asked, EPOCHS))


def play_all(record: StudyRecord) -> list[str]:
    """All trials that are left, one after the other; their names."""
    names = []
    while (asked := record.ask()) is not None:
        names.append(asked.trial)
        play(record, asked)
    return names


def told(record: StudyRecord) -> list[tuple[Any, ...]]:
    """All that a study says, but for its times."""
    return [
        (t.number, t.state, t.params, t.values, t.intermediate_values, t.user_attrs, t.system_attrs)
        for t in record.frozen()
    ]


def ask(record: StudyRecord) -> Ask:
    asked = record.ask()
    assert asked is not None
    return asked


@pytest.mark.parametrize(("objective", "best"), [("valid_accuracy", 0.8), ("valid_loss", 0.5)])
def test_a_complete_trials_value_is_its_best_epochs(tmp_path: Path, objective: Objective, best: float) -> None:
    record = open_record(tmp_path, 1, objective=objective)
    asked = ask(record)
    for epoch, value in enumerate((0.5, 0.8, 0.7), start=1):
        record.report(asked.trial, epoch, value)
    record.complete(asked.trial, 4, 0.6)
    trial = record.frozen()[0]
    assert (trial.state, trial.value) == (TrialState.COMPLETE, best)
    assert trial.intermediate_values == {1: 0.5, 2: 0.8, 3: 0.7, 4: 0.6}


def test_a_stopped_trial_is_pruned_with_the_epoch_that_stopped_it(tmp_path: Path) -> None:
    record = open_record(tmp_path, 1)
    asked = ask(record)
    record.report(asked.trial, 1, 0.5)
    record.prune(asked.trial, 2, 0.4)
    trial = record.frozen()[0]
    assert (trial.state, trial.intermediate_values) == (TrialState.PRUNED, {1: 0.5, 2: 0.4})


def test_a_failed_trial_says_why_and_keeps_its_epochs(tmp_path: Path) -> None:
    record = open_record(tmp_path, 1)
    asked = ask(record)
    record.report(asked.trial, 1, 0.5)
    record.fail(asked.trial, "the loss is nan in epoch 2")
    trial = record.frozen()[0]
    assert (trial.state, trial.value, trial.intermediate_values) == (TrialState.FAIL, None, {1: 0.5})
    assert trial.user_attrs["end"] == {"state": "FAIL", "reason": "the loss is nan in epoch 2"}


def test_an_epoch_told_again_is_left_as_it_was(tmp_path: Path) -> None:
    record = open_record(tmp_path, 1)
    asked = ask(record)
    record.report(asked.trial, 1, 0.5)
    record.report(asked.trial, 1, 0.9)
    assert record.frozen()[0].intermediate_values == {1: 0.5}


def test_what_the_run_decides_is_in_every_configuration_and_each_trial_has_its_own_seed(tmp_path: Path) -> None:
    record = open_record(tmp_path, 4)
    configs = [ask(record).config for _ in range(3)]  # start 1 makes no configuration
    assert {(c.epochs, c.image_size, c.inputs, c.objective) for c in configs} == {
        (4, 28, ("Gender",), "valid_accuracy")
    }
    assert len({c.seed for c in configs}) == 3


def test_starts_come_first_and_in_order_and_only_once(tmp_path: Path) -> None:
    record = open_record(tmp_path, 2)
    play_all(record)
    record = open_record(tmp_path, 6)
    play_all(record)
    params = [trial.params for trial in record.frozen()]
    assert [p.items() >= start.items() for p, start in zip(params, STARTS, strict=False)] == [True] * 3
    assert len({p["lr"] for p in params}) == 6


def test_an_invalid_configuration_fails_with_its_sentence_and_the_next_is_asked(tmp_path: Path) -> None:
    record = open_record(tmp_path, 3)
    assert [ask(record).trial, ask(record).trial] == ["0000", "0002"]
    trial = record.frozen()[1]
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["end"]["reason"] == "head_dropout is 1.0; it must be at least 0 and below 1"


def test_a_sample_function_that_raises_fails_its_trial_alone(tmp_path: Path) -> None:
    def raising(trial: optuna.Trial) -> TrialConfig:
        if trial.number == 0:
            raise ZeroDivisionError("division by zero")
        return TrialConfig()

    settings = Settings(epochs=EPOCHS, image_size=28, inputs=(), target=None, objective="valid_loss", seed=0)
    record = StudyRecord(tmp_path, Space("mine", "", raising), "random", settings, 2)
    assert ask(record).trial == "0001"
    reason = record.frozen()[0].user_attrs["end"]["reason"]
    assert reason == "mine: sample() fails: ZeroDivisionError: division by zero."


def test_a_sample_beyond_the_runs_data_fails_its_trial_alone(tmp_path: Path) -> None:
    def sample(trial: optuna.Trial) -> TrialConfig:
        return TrialConfig(inputs=("Hair",) if trial.number == 0 else ("Race",))

    settings = Settings(EPOCHS, 28, ("Gender", "Race"), None, "valid_loss", seed=0)
    record = StudyRecord(tmp_path, Space("mine", "", sample, decides=["inputs"]), "random", settings, 2)
    assert ask(record).trial == "0001"
    assert record.frozen()[0].user_attrs["end"]["reason"] == (
        "mine: sample() reads the input 'Hair', which --inputs does not name."
    )


def test_grid_points_run_once_each_in_order(tmp_path: Path) -> None:
    for trials in (2, 6):
        record = open_record(tmp_path, trials, sampler="grid")
        play_all(record)
    assert [trial.params for trial in record.frozen()] == cells(SPACE)


def test_grid_points_are_repeated_all_once_and_then_again_with_another_seed(tmp_path: Path) -> None:
    for trials in (4, 7, 12):  # of which the later go on with what the earlier left
        record = open_record(tmp_path, trials, sampler="grid", repeats=2)
        play_all(record)
        assert len(record.frozen()) == trials
    assert [trial.params for trial in record.frozen()] == cells(SPACE) * 2
    seeds = [trial.user_attrs["config"]["seed"] for trial in record.frozen() if "config" in trial.user_attrs]
    first, second = seeds[0], seeds[-1]
    assert seeds == 4 * [first] + 4 * [second]  # head_dropout 1 makes no configuration
    once = open_record(tmp_path / "once", 12, sampler="random")
    play_all(once)
    drawn = {trial.user_attrs["config"]["seed"] for trial in once.frozen() if "config" in trial.user_attrs}
    assert first != second and not {first, second} & drawn


def test_repeated_starts_come_before_what_is_sampled(tmp_path: Path) -> None:
    record = open_record(tmp_path, 8, repeats=2)
    play_all(record)
    params = [trial.params for trial in record.frozen()]
    assert [p.items() >= start.items() for p, start in zip(params, STARTS * 2, strict=False)] == [True] * 6
    assert len({p["lr"] for p in params}) == 3 + 2
    seeds = [trial.user_attrs["config"]["seed"] for trial in record.frozen() if "config" in trial.user_attrs]
    first, _, second, _, *sampled = seeds  # of each repeat the middle start makes no configuration
    assert seeds[:4] == [first, first, second, second]
    assert len({first, second, *sampled}) == 4
    at_once = open_record(tmp_path / "again", 8, repeats=2)
    play_all(at_once)
    assert told(at_once) == told(record)


def test_the_run_decides_what_the_space_leaves_to_it(tmp_path: Path) -> None:
    def sample(trial: optuna.Trial) -> TrialConfig:
        return TrialConfig(image_size=32, inputs=("Race",), target=None)

    settings = Settings(EPOCHS, 28, ("Gender", "Race"), "Age", "valid_loss", seed=0)
    fields = ("image_size", "inputs", "target")
    own = (32, ("Race",), None)
    for field, given, kept in zip(fields, (28, ("Gender", "Race"), "Age"), own, strict=True):
        left = dict(zip(fields, own, strict=True)) | {field: getattr(TrialConfig(), field)}

        def sample_others(trial: optuna.Trial, left: dict[str, Any] = left) -> TrialConfig:
            return TrialConfig(**left)

        decides = [name for name in fields if name != field]
        sizes = [32] if "image_size" in decides else []
        folder = tmp_path / field
        folder.mkdir()
        config = ask(
            StudyRecord(
                folder, Space("mine", "", sample_others, decides=decides, image_sizes=sizes), "random", settings, 1
            )
        ).config
        assert getattr(config, field) == given != kept
        assert all(getattr(config, name) == value for name, value in zip(fields, own, strict=True) if name != field)
        assert (config.epochs, config.objective) == (EPOCHS, "valid_loss")
    (tmp_path / "all").mkdir()
    space = Space("mine", "", sample, decides=fields, image_sizes=[32])
    config = ask(StudyRecord(tmp_path / "all", space, "random", settings, 1)).config
    assert (config.image_size, config.inputs, config.target) == own


def test_trials_left_running_are_handed_out_first_with_the_same_configuration(tmp_path: Path) -> None:
    record = open_record(tmp_path, 5)
    first, second = ask(record), ask(record)
    record.report(first.trial, 1, 0.5)
    record = open_record(tmp_path, 5)
    assert record.unfinished() == 2
    assert (ask(record), ask(record)) == (first, second)
    assert record.unfinished() == 0
    assert ask(record).trial == "0003"


def test_more_trials_can_be_asked_for_later(tmp_path: Path) -> None:
    assert play_all(open_record(tmp_path / "a", 4)) == ["0000", "0002", "0003"]  # 0001 makes no configuration
    assert play_all(open_record(tmp_path / "a", 4)) == []
    extended = open_record(tmp_path / "a", 6)
    assert play_all(extended) == ["0004", "0005"]
    at_once = open_record(tmp_path / "b", 6)
    play_all(at_once)
    assert told(extended) == told(at_once)


def cut_points(journal: bytes) -> list[int]:
    """The length after each line of a journal, and one in the middle of each."""
    points, position = [0], 0
    for line in journal.splitlines(keepends=True):
        points += [position + len(line) // 2, position + len(line)]
        position += len(line)
    return points


def asked_for(journal: bytes) -> set[int]:
    """The trials that have a configuration, or the failure to make one, in the whole lines of a journal."""
    logs = [json.loads(line) for line in journal[: journal.rfind(b"\n") + 1].splitlines()]
    return {log["trial_id"] for log in logs if {"config", "end"} & log.get("user_attr", {}).keys()}


def test_a_search_killed_at_any_write_ends_as_the_unbroken_one(tmp_path: Path) -> None:
    unbroken = open_record(tmp_path / "unbroken", 6)
    play_all(unbroken)
    assert [trial.state.name for trial in unbroken.frozen()] == [
        "COMPLETE", "FAIL", "PRUNED", "COMPLETE", "FAIL", "PRUNED",
    ]  # fmt: skip
    journal = (tmp_path / "unbroken" / JOURNAL).read_bytes()
    broken = tmp_path / "broken"
    for length in cut_points(journal):
        shutil.rmtree(broken, ignore_errors=True)
        broken.mkdir()
        (broken / JOURNAL).write_bytes(journal[:length])
        kept = open_record(broken, 6).frozen()  # by a driver that is killed before it does anything more
        assert len(kept) == len(asked_for(journal[:length]))
        record = open_record(broken, 6)
        play_all(record)
        assert told(record) == told(unbroken), f"killed after {length} of {len(journal)} bytes"


def test_a_search_of_two_at_once_killed_at_any_write_loses_and_doubles_nothing(tmp_path: Path) -> None:
    def play_two_at_once(record: StudyRecord) -> None:
        running: list[tuple[Ask, int]] = []
        while True:
            while len(running) < 2 and (asked := record.ask()) is not None:
                running.append((asked, 1))
            if not running:
                return
            asked, epoch = running.pop(0)
            if epoch < EPOCHS:
                record.report(asked.trial, epoch, value_of(asked, epoch))
                running.append((asked, epoch + 1))
            else:
                record.complete(asked.trial, epoch, value_of(asked, epoch))

    unbroken = open_record(tmp_path / "unbroken", 4)
    play_two_at_once(unbroken)
    journal = (tmp_path / "unbroken" / JOURNAL).read_bytes()
    for length in cut_points(journal)[::3]:
        broken = tmp_path / str(length)
        broken.mkdir()
        (broken / JOURNAL).write_bytes(journal[:length])
        record = open_record(broken, 4)
        play_two_at_once(record)
        assert told(record) == told(unbroken), f"killed after {length} of {len(journal)} bytes"


def test_a_report_that_the_disk_has_no_room_for_leaves_no_part_of_a_line(tmp_path: Path) -> None:
    """What follows a part of a line would be lost with it."""
    record = open_record(tmp_path, 2)
    asked = ask(record)
    journal = (tmp_path / JOURNAL).read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(journal) + 10, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            record.report(asked.trial, 1, 0.5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / JOURNAL).read_bytes() == journal
    play(record, asked)
    assert [trial.state for trial in open_record(tmp_path, 2).frozen()] == [TrialState.COMPLETE]


def test_a_journal_that_has_gone_is_a_fault_of_the_disk(tmp_path: Path) -> None:
    record = open_record(tmp_path, 2)
    asked = ask(record)
    (tmp_path / JOURNAL).unlink()
    calls: list[Callable[[], object]] = [record.frozen, partial(record.report, asked.trial, 1, 0.5)]
    for call in calls:
        with pytest.raises(OSError) as told:
            call()
        assert storage_fault(told.value) == f"the run's study has gone, perhaps with its disk: {tmp_path / JOURNAL}"
    assert not (tmp_path / JOURNAL).exists()


def test_what_a_killed_driver_left_of_trials_that_have_ended_goes(tmp_path: Path) -> None:
    record = open_record(tmp_path, 6)
    play_all(record)
    record = open_record(tmp_path, 8)
    audited, running = ask(record), ask(record)
    record.prune(audited.trial, 1, 0.5, audited=True)
    record.report(running.trial, 1, 0.5)
    folders = [tmp_path / "trials" / trial_name(number) for number in range(8)]
    for folder in folders:
        assign(folder, "worker")
        (folder / "latest.pt").touch()
    open_record(tmp_path, 8)
    assert [folder.name for folder in folders if (folder / "latest.pt").exists()] == [audited.trial, running.trial]
    assert not any((folder / WORKER).exists() for folder in folders)  # none is anybody's before it is assigned again


def test_the_journal_is_an_optuna_study_of_the_runs_name(tmp_path: Path) -> None:
    play_all(open_record(tmp_path / "faces", 3))
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "faces" / JOURNAL))
    )
    study = optuna.load_study(study_name="faces", storage=storage)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL", "PRUNED"]


def test_a_study_goes_on_where_its_folder_was_moved_to(tmp_path: Path) -> None:
    play_all(open_record(tmp_path / "before", 3))
    moved = open_record((tmp_path / "before").rename(tmp_path / "after"), 4)
    assert len(moved.frozen()) == 3
    assert play_all(moved) == ["0003"]


def test_reopening_writes_nothing(tmp_path: Path) -> None:
    record = open_record(tmp_path, 3)
    ask(record)
    journal = (tmp_path / JOURNAL).read_bytes()
    open_record(tmp_path, 3)
    assert (tmp_path / JOURNAL).read_bytes() == journal


def test_a_journal_holds_a_trial_from_its_creation_on(tmp_path: Path) -> None:
    path = tmp_path / JOURNAL
    assert not has_trial(path)
    record = open_record(tmp_path, 1)
    empty = path.read_bytes()
    assert not has_trial(path)
    record.ask()
    assert has_trial(path)
    created = path.read_bytes()[len(empty) :].splitlines(keepends=True)
    lengths = [len(empty), *(len(empty) + point for point in cut_points(b"".join(created)))]
    journal = path.read_bytes()
    found = []
    for length in lengths:
        path.write_bytes(journal[:length])
        found.append(has_trial(path))
    assert found == sorted(found) and {*found} == {False, True}


@pytest.mark.parametrize("line", [b"?\n", b"3\n", b"{}\n"])
def test_a_damaged_journal_is_kept_and_refused(tmp_path: Path, line: bytes) -> None:
    (tmp_path / JOURNAL).write_bytes(line)
    assert has_trial(tmp_path / JOURNAL)
    with pytest.raises(UserError, match="^the study is damaged at byte 0, so the run cannot go on.$"):
        open_record(tmp_path, 1)


@pytest.mark.parametrize("attributes", [b"", b',"user_attr":5', b',"user_attr":[{}]'])
def test_a_trial_s_attributes_that_are_none_are_damage(tmp_path: Path, attributes: bytes) -> None:
    assert open_record(tmp_path, 1).ask() is not None
    path = tmp_path / JOURNAL
    before = path.read_bytes()
    path.write_bytes(before + b'{"op_code":8,"worker_id":"x","trial_id":0' + attributes + b"}\n")
    said = f"^the study is damaged at byte {len(before)}, so the run cannot go on.$"
    for read in (lambda: open_record(tmp_path, 1), lambda: stored_trials(tmp_path)):
        with pytest.raises(UserError, match=said):
            read()


LOG = {"worker_id": "x", "trial_id": 0}


def ended(**end: Any) -> dict[str, Any]:
    return {**LOG, "op_code": 8, "user_attr": {"end": end}}


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ({"op_code": 77, "worker_id": "x"}, "Should not reach."),
        ({"op_code": 6, "worker_id": "x"}, "'trial_id' is missing"),
        ({"op_code": 8, "worker_id": "x", "trial_id": 0, "user_attr": {"end": "COMPLETE"}}, "[^)]+"),
        ({**LOG, "op_code": 8, "user_attr": {"end": None}}, "[^)]+"),
        (ended(state="GONE"), "trial 0 ends as 'GONE'"),
        (ended(state="RUNNING", epoch=1, value=0.5), "trial 0 ends as 'RUNNING'"),
        (ended(state="PRUNED", epoch=0, value=0.5), "trial 0 has the value 0.5 at epoch 0"),
        (ended(state="PRUNED", epoch=math.inf, value=0.5), "trial 0 has the value 0.5 at epoch inf"),
        (ended(state="COMPLETE", epoch=1, value=math.nan), "trial 0 has the value nan at epoch 1"),
        (ended(state="COMPLETE", epoch=1, value=10**400), "int too large to convert to float"),
        (ended(state="COMPLETE", epoch=1, value="0.5"), "trial 0 has the value '0.5' at epoch 1"),
        ({**LOG, "op_code": 7, "step": -1, "intermediate_value": 0.5}, "trial 0 has the value 0.5 at epoch -1"),
        ({"op_code": 8, "worker_id": "x", "trial_id": 0, "user_attr": {"config": [1]}}, "the configuration of trial 0"),
    ],
)
def test_a_journal_that_tells_what_no_search_would_is_refused(tmp_path: Path, log: dict[str, Any], said: str) -> None:
    assert open_record(tmp_path, 1).ask() is not None
    with open(tmp_path / JOURNAL, "a") as journal:
        journal.write(json.dumps(log) + "\n")
    before = (tmp_path / JOURNAL).read_bytes()
    for read in (lambda: open_record(tmp_path, 1), lambda: watched_trials(tmp_path), lambda: stored_trials(tmp_path)):
        with pytest.raises(UserError, match=rf"/{JOURNAL} is damaged \({said}.*\); restore it from a copy\.$"):
            read()
    assert (tmp_path / JOURNAL).read_bytes() == before


def test_an_audited_trial_has_a_configuration_to_be_trained_on_with(tmp_path: Path) -> None:
    record = open_record(tmp_path, 1)
    asked = record.ask()
    assert asked is not None
    record.prune(asked.trial, 1, 0.5, audited=True)
    logs = [json.loads(line) for line in (tmp_path / JOURNAL).read_text().splitlines()]
    for log in logs:
        log.get("user_attr", {}).get("config", {})["lr"] = "fast"
    (tmp_path / JOURNAL).write_text("".join(json.dumps(log) + "\n" for log in logs))
    with pytest.raises(UserError, match=r"is damaged \(lr is 'fast'; it must be above 0\); restore it from a copy\.$"):
        open_record(tmp_path, 1)


def test_names_are_numbers_in_four_digits() -> None:
    assert [trial_name(number) for number in (0, 27, 12345)] == ["0000", "0027", "12345"]


def test_a_journal_goes_on_from_its_copies_but_for_a_trial_half_asked_for(tmp_path: Path) -> None:
    record, path = Search(tmp_path).record, tmp_path / JOURNAL
    record.ask()
    earlier = path.read_bytes()
    record.ask()
    later = path.read_bytes()
    half = later[: later.index(b"\n", len(earlier)) + 1]
    assert goes_on_from(path, later) and goes_on_from(path, earlier) and goes_on_from(path, b"")
    path.write_bytes(earlier)
    assert goes_on_from(path, half) and goes_on_from(path, half[:-1]) and goes_on_from(path, b"{" + later)
    assert not goes_on_from(path, later) and not goes_on_from(tmp_path / "gone", earlier)
