"""Samplers: a proposal is a function of the run's seed, the trial's number and the study, whoever asks."""

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial

from search import options
from search.samplers import SAMPLERS, check_cmaes_state
from search.study import JOURNAL, Ask, Settings, StudyRecord
from spaces.space import Space
from trainable.config import TrialConfig
from trainable.errors import UserError

TRIALS = 14  # TPE draws its first ten at random
BEFORE = (0, 1, 5, 12)


def sample(trial: optuna.Trial) -> TrialConfig:
    return TrialConfig(
        lr=trial.suggest_float("lr", 1e-4, 1e-1, log=True),
        weight_decay=trial.suggest_float("weight_decay", 0.0, 0.1),
        optimizer=trial.suggest_categorical("optimizer", ["adam", "sgd"]),
    )


GRID = {"lr": [1e-3, 1e-2, 1e-1], "weight_decay": [0.0, 0.01, 0.1], "optimizer": ["adam", "sgd"]}
SPACE = Space("mine", "", sample, grid=GRID)


def open_record(folder: Path, sampler: str, seed: int = 0) -> StudyRecord:
    folder.mkdir(exist_ok=True)
    return StudyRecord(folder, SPACE, sampler, Settings(2, 28, (), None, "valid_accuracy", seed), TRIALS)


def play(record: StudyRecord, asked: Ask) -> None:
    """Every third trial is stopped, so that samplers which learn from COMPLETE alone are seen to differ."""
    value = -abs(asked.config.lr - 0.01) - asked.config.weight_decay
    if int(asked.trial) % 3 == 2:
        record.prune(asked.trial, 1, value)
    else:
        record.report(asked.trial, 1, value)
        record.complete(asked.trial, 2, value)


def play_all(record: StudyRecord) -> list[dict[str, Any]]:
    """Plays the trials that are left and gives all trials' parameters."""
    while (asked := record.ask()) is not None:
        play(record, asked)
    return [trial.params for trial in record.frozen()]


@pytest.fixture(scope="module", params=list(SAMPLERS))
def unbroken(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, list[Any]]:
    """A sampler's name, the folder of a search that it made, and the parameters of the trials."""
    folder = tmp_path_factory.mktemp("samplers") / request.param
    return request.param, folder, play_all(open_record(folder, request.param))


def test_the_command_line_offers_them_all() -> None:
    assert options.SAMPLERS == tuple(SAMPLERS)


def test_a_search_reopened_after_any_trial_proposes_what_the_unbroken_one_does(
    unbroken: tuple[str, Path, list[Any]], tmp_path: Path
) -> None:
    sampler, folder, params = unbroken
    journal = (folder / JOURNAL).read_bytes()
    lines = journal.splitlines(keepends=True)
    tells = [n for n, line in enumerate(lines, start=1) if b'"op_code":6' in line and b'"state":0' not in line]
    for before in BEFORE:
        copy = tmp_path / str(before)
        copy.mkdir()
        (copy / JOURNAL).write_bytes(b"".join(lines[: tells[before - 1] if before else 1]))
        record = StudyRecord(copy, SPACE, sampler, Settings(2, 28, (), None, "valid_accuracy", 0), TRIALS)
        assert len(record.frozen()) == before
        assert play_all(record) == params


def test_a_search_killed_while_it_asks_proposes_what_the_unbroken_one_does(
    unbroken: tuple[str, Path, list[Any]], tmp_path: Path
) -> None:
    sampler, folder, params = unbroken
    lines = (folder / JOURNAL).read_bytes().splitlines(keepends=True)
    created = [n for n, line in enumerate(lines) if b'"op_code":4' in line][-1]  # the last trial, which models
    for cut in range(created, len(lines)):
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        (tmp_path / JOURNAL).write_bytes(b"".join(lines[:cut]))
        assert play_all(open_record(tmp_path, sampler)) == params


def test_proposals_differ_from_trial_to_trial(unbroken: tuple[str, Path, list[Any]]) -> None:
    params = unbroken[2]
    assert len({tuple(values.items()) for values in params}) == TRIALS


def test_another_seed_proposes_something_else(unbroken: tuple[str, Path, list[Any]], tmp_path: Path) -> None:
    sampler, _, params = unbroken
    assert (play_all(open_record(tmp_path, sampler, seed=1)) == params) == (sampler == "grid")


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("harm",)


def with_state(content: str) -> list[FrozenTrial]:
    """The trials of a study of CMA-ES, with another state in the last one that has any."""
    study = optuna.create_study(sampler=optuna.samplers.CmaEsSampler(seed=0))
    study.optimize(lambda t: t.suggest_float("x", 0, 1) ** 2 + t.suggest_float("y", 0, 1), n_trials=20)
    trials = study.trials
    states = [trial for trial in trials if "cma:optimizer:0" in trial.system_attrs]
    assert states
    check_cmaes_state(trials)  # Optuna's own is let through
    count = sum(key.startswith("cma:optimizer:") for key in states[-1].system_attrs)
    states[-1].system_attrs.update({f"cma:optimizer:{part}": "" for part in range(count)})
    states[-1].system_attrs["cma:optimizer:0"] = content
    return trials


def test_a_cmaes_state_that_optuna_would_not_write_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        check_cmaes_state(with_state(pickle.dumps(Harmful()).hex()))
    assert str(error.value) == (
        "the study's CMA-ES state names posix.mkdir, which Optuna does not write: "
        "somebody may have tampered with it. Choose another --name."
    )
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("zz", r"non-hexadecimal number .*"),
        (pickle.dumps([1])[:5].hex(), r".*"),
        (pickle.dumps([1]).hex(), "it is of type list"),
    ],
)
def test_a_damaged_cmaes_state_is_a_sentence(content: str, why: str) -> None:
    with pytest.raises(UserError, match=rf"^the study's CMA-ES state is damaged \({why}\): choose another --name\.$"):
        check_cmaes_state(with_state(content))
