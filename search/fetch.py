"""A run brought here from its mirror, to go on with it on this machine."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import rmtree

import optuna
from optuna.trial import TrialState
from rich.console import Console

from results.leaderboard import read_metrics
from search.cli import say
from search.mirror import OWNER, Mirrored, is_journal, is_mirrored, states
from search.record import TRIALS, begun
from search.storage import Storage, connect, telling
from search.study import JOURNAL, open_storage, trial_name
from trainable import files
from trainable.errors import UserError, reason
from trainable.fit import objective_value
from trainable.keeper import trial_folder
from trainable.table import count
from trainable.untrusted import parse_json

AT_ONCE = 8  # files


def storage_of(place: str, run: Path, console: Console) -> Storage | None:
    """A run's storage, from which the run was fetched if it has not begun here. Args and errors: as of `connect` and
    `fetch`; None where there is no place."""
    if not place:
        return None
    storage = connect(place, run)
    with telling(storage):
        fetch(run, storage, console)
    return storage


def fetch(run: Path, storage: Storage, console: Console) -> None:
    """Brings a run from its storage, unless its folder here has begun or there is none at the storage.

    The storage mirrors this folder from then on: another driver that has mirrored its own there stops doing so.

    Raises:
        UserError: where something is in the folder's place. Nothing is left half done.
    """
    if begun(run) or storage.read(JOURNAL) is None:
        return
    if storage.read(OWNER) == Mirrored.of(run, storage).owner.encode():  # it has just come, or its mirror is its own
        return
    if run.exists():
        raise UserError(f"--storage: {storage.shown} is a run, but {run} is in its way here; move that away.")
    known = Mirrored(storage.shown)

    def write(folder: Path) -> None:
        storage.write(OWNER, known.owner.encode())  # first: nobody else writes there while it is read
        _bring(storage, is_journal, folder)
        _bring(storage, lambda name: not is_journal(name), folder)  # later, so that they are not behind
        for journal in folder.rglob(JOURNAL):
            _fit_together(journal.parent)
        known.files = states(folder)
        known.write(folder)

    files.make_folder(run.parent)
    files.write_folder(run, write)
    say(console, f"Fetched {count(len(known.files), 'file')} of the run '{run.name}' from {storage.shown}.")


def _bring(storage: Storage, wanted: Callable[[str], bool], folder: Path) -> None:
    def write(name: str) -> None:
        content = storage.read(name)
        if content is not None:  # else it has gone just now
            files.make_folder((folder / name).parent)
            files.write_bytes(folder / name, content)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(write, (name for name in storage.names() if is_mirrored(name) and wanted(name))))


def _fit_together(run: Path) -> None:
    """Makes of a study and of files that may be ahead of it what a killed driver would have left.

    That one has heard of all epochs of a trial but the last, which the worker tells again; and of all trials.
    """
    files.make_folder(run / TRIALS)  # where no trial has left a file yet
    try:
        objective = parse_json((run / "run.json").read_text(encoding="utf-8"))["objective"]
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"--storage: the run's run.json there is missing or damaged ({reason(error)}).") from error
    storage = open_storage(run / JOURNAL)
    known = set()
    for name in optuna.get_all_study_names(storage):
        study = optuna.load_study(study_name=name, storage=storage)
        for trial in study.get_trials(deepcopy=False):
            known.add(trial_name(trial.number))
            if trial.state == TrialState.RUNNING and "end" not in trial.user_attrs:
                live = optuna.Trial(study, trial._trial_id)
                for row in read_metrics(trial_folder(run, trial_name(trial.number)) / "metrics.csv")[:-1]:
                    if row["epoch"] not in trial.intermediate_values:
                        live.report(objective_value(row, objective), int(row["epoch"]))
    for folder in (run / TRIALS).iterdir():
        if folder.name not in known:
            rmtree(folder)
