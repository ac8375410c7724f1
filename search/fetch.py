"""A run brought here from its mirror, to go on with it on this machine."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from shutil import rmtree

import optuna
from optuna.trial import TrialState
from rich.console import Console

from results.leaderboard import read_metrics
from search.cli import say
from search.mirror import OWNER, Mirrored, is_journal, is_mirrored, states
from search.record import TRIALS, begun
from search.storage import State, Storage, telling
from search.study import JOURNAL, open_storage, trial_name
from trainable import files
from trainable.errors import UserError, reason
from trainable.fit import objective_value
from trainable.keeper import trial_folder
from trainable.table import count
from trainable.untrusted import parse_json


def fetch(run: Path, storage: Storage, console: Console) -> None:
    """Brings a run from its storage, unless its folder here has begun or there is none at the storage.

    Nothing changes at the storage: whose mirror that is changes as late as `Mirror.claim` is called, when all is known
    that may keep the command from going on with the run. `catch_up` follows it.

    Raises:
        UserError: where something is in the folder's place, the run there is damaged, or the storage fails. Nothing is
            left half done.
    """
    if begun(run):
        return
    with telling(storage):
        known = Mirrored.of(run, storage)
        if known.taken_from is not None or storage.ask(partial(storage.read, JOURNAL)) is None:
            return
        owner = (storage.ask(partial(storage.read, OWNER)) or b"").decode(errors="replace")
        if owner == known.owner:  # of a command that failed before its first trial
            return
        if run.exists():
            raise UserError(f"--storage: {storage.shown} is a run, but {run} is in its way here; move that away.")

        def write(folder: Path) -> None:
            fetched = Mirrored(storage.shown, taken_from=owner)
            fetched.found = _bring(storage, {}, folder)
            fetched.files = states(folder)
            fetched.write(folder)

        files.make_folder(run.parent)
        files.write_folder(run, write)
    say(console, f"Fetched {count(len(states(run)), 'file')} of the run '{run.name}' from {storage.shown}.")


def catch_up(run: Path, storage: Storage) -> None:
    """Brings what has changed at the storage since a folder was fetched, which is mirrored there by now: its last
    driver may have lived longer than was thought. Of any other folder nothing.

    Raises:
        UserError: where the run there is damaged or gone; besides, what `Storage.ask` does. Nothing is removed here
            then, and it is brought at the next try.
    """
    known = Mirrored.of(run, storage)
    if known.taken_from is None:
        return
    there = _bring(storage, known.found, run)
    same = {  # here and there; not what was written here meanwhile, as a report is
        name: state
        for name, state in states(run).items()
        if name in there and (there[name] != known.found.get(name) or state == known.files.get(name))
    }
    Mirrored(storage.shown, known.owner, same).write(run)


def _bring(storage: Storage, before: Mapping[str, State], folder: Path) -> dict[str, State]:
    """Brings a run's files into a folder that has them as they were before. Returns the state of each, for the next
    time."""

    def write(name: str) -> None:
        content = storage.read(name)
        if content is not None:  # else it has gone just now
            files.make_folder((folder / name).parent)
            files.write_bytes(folder / name, content)

    found: dict[str, State] = {}
    for journals in (True, False):  # the others later, so that they are not behind
        there = storage.ask(storage.states).items()
        listed = {name: state for name, state in there if is_mirrored(name) and is_journal(name) == journals}
        for _ in storage.ask_all(partial(write, name) for name in listed if listed[name] != before.get(name)):
            pass
        found |= listed
    if JOURNAL not in found:
        raise UserError(f"--storage: the run that was at {storage.shown} has gone; give the same command again.")
    for name in before.keys() - found.keys():
        files.remove(folder / name)
    try:
        for journal in folder.rglob(JOURNAL):
            _fit_together(journal.parent)
    except UserError as error:
        raise UserError(f"--storage: what is at {storage.shown} cannot be gone on with: {error}") from error
    return found


def _fit_together(run: Path) -> None:
    """Makes of a study and of files that may be ahead of it what a killed driver would have left.

    That one has heard of all epochs of a trial but the last, which the worker tells again; and of all trials.
    """
    files.make_folder(run / TRIALS)  # where no trial has left a file yet
    try:
        objective = parse_json((run / "run.json").read_text(encoding="utf-8"))["objective"]
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"run.json is missing or damaged ({reason(error)}).") from error
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
        if folder.is_dir() and folder.name not in known:
            rmtree(folder)
