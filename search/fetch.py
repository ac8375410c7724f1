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
from search.mirror import NEWS, RECORD, Mirror, Mirrored, is_journal, is_mirrored, owner_of, states
from search.record import begun
from search.storage import State, Storage, telling
from search.study import JOURNAL, open_storage
from trainable import files
from trainable.errors import UserError, reason
from trainable.fit import objective_value
from trainable.paths import TRIALS, trial_name
from trainable.table import count
from trainable.untrusted import parse_json


def fetch(run: Path, storage: Storage, console: Console) -> None:
    """Brings a run from its storage, unless its folder here has begun or there is none at the storage.

    Nothing changes at the storage: whose mirror that is changes as late as `Mirror.claim` is called, when all is known
    that may keep the command from going on with the run. `catch_up` follows it.

    Raises:
        UserError: where something is in the folder's place, if only what is left of it; the run there is damaged, or
            the storage fails. Nothing is left half done.
    """
    if begun(run):
        return
    with telling(storage, run, alone=False):
        if storage.ask(partial(storage.read, JOURNAL)) is None:
            return
        owner = owner_of(storage)
        if Mirror(run, storage).may_go_on(owner):  # of a command that failed before its first trial
            return
        if run.exists():
            raise UserError(f"--storage: {storage.shown} is a run, but {run} is in its way here; move that away.")

        def write(folder: Path) -> None:
            there = _bring(storage, {}, folder, folder)
            here = states(folder)
            found = {name: there[name] for name in here if name in there}
            Mirrored(storage.shown, files=here, taken_from=owner, found=found).write(folder)

        files.make_folder(run.parent)
        files.write_folder(run, write)
    say(console, f"Fetched {count(len(states(run)), 'file')} of the run '{run.name}' from {storage.shown}.")


def catch_up(run: Path, storage: Storage) -> None:
    """Brings what has changed at the storage since a folder was fetched, which is mirrored there by now: its last
    driver may have lived longer than was thought. Of any other folder nothing. Nothing is removed here, and nothing
    changes before all is on this disk and fits; if it is cut short after that, `settle` does what is left.

    Raises:
        UserError: where the run there is damaged or gone; besides, what `Storage.ask` does.
    """
    known = Mirrored.of(run, storage)
    if known.taken_from is None:
        return

    def write(news: Path) -> None:
        there = _bring(storage, known.found, news, run)
        same = {name: state for name, state in known.files.items() if name in there}  # but for what comes now
        Mirrored(storage.shown, known.owner, known.former, same | states(news)).write(news)

    with telling(storage, run, alone=False):
        files.write_folder(run / NEWS, write)
    settle(run)


def settle(run: Path) -> None:
    """Puts in its place what `catch_up` has brought. Whoever goes on with a run does this first, with its storage or
    without; the caller holds the run's lock.

    What the run knows of its mirror comes first: it has caught up from then on. The studies come last, as their trials'
    files may be ahead of them.

    Raises:
        UserError: where that has not the shape of a run's files; or as `Mirrored.read` does.
    """
    news = run / NEWS
    if not news.exists():
        return
    try:
        _put_in_place(news, run)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise UserError(
            f"{news}, what came from the run's storage, does not fit in its folder ({reason(error)}): move it away."
        ) from error


def _put_in_place(news: Path, run: Path) -> None:
    if (news / RECORD).exists():
        files.move(news / RECORD, run / RECORD)
    known = Mirrored.read(run)
    for name in sorted(states(news), key=is_journal):
        folder, _, file = name.rpartition("/")
        latest = f"{folder}/latest.pt"
        if file == "metrics.csv" and known is not None and latest not in known.files:  # its training has ended
            files.remove(run / latest)
        files.make_folder((run / name).parent)
        files.move(news / name, run / name)
    rmtree(news)


def _bring(storage: Storage, before: Mapping[str, State], folder: Path, run: Path) -> dict[str, State]:
    """Brings a run's files into a folder, but for those that the run has and that are as before; studies always.

    Args:
        before: the state of each at the storage when it was brought to the run.
        folder: is new.
        run: where the others are.
    Returns: the state of each file at the storage.
    """

    def write(name: str) -> None:
        content = storage.read(name)
        if content is not None:  # else it has gone just now
            files.make_folder((folder / name).parent)
            files.write_bytes(folder / name, content)

    found: dict[str, State] = {}
    for journals in (True, False):  # the others later, so that they are not behind
        there = storage.ask(storage.states).items()
        listed = {name: state for name, state in there if is_mirrored(name) and is_journal(name) == journals}
        for _ in storage.ask_all(
            partial(write, name) for name in listed if journals or listed[name] != before.get(name)
        ):
            pass
        found |= listed
    if JOURNAL not in found:
        raise UserError(f"--storage: the run that was at {storage.shown} has gone; give the same command again.")
    try:
        for journal in folder.rglob(JOURNAL):
            _fit_together(journal.parent, run / journal.parent.relative_to(folder))
    except UserError as error:
        raise UserError(f"--storage: what is at {storage.shown} cannot be gone on with: {error}") from error
    return found


def _fit_together(folder: Path, run: Path) -> None:
    """Makes of a study and of files that may be ahead of it what a killed driver would have left.

    That one has heard of all epochs of a trial but the last, which the worker tells again; and of all trials.

    Args:
        folder: has the study, and of the other files those that were brought with it.
        run: has the others.
    """
    files.make_folder(folder / TRIALS)  # where no trial has left a file yet

    def newest(name: str) -> Path:
        return folder / name if (folder / name).exists() else run / name

    try:
        objective = parse_json(newest("run.json").read_text(encoding="utf-8"))["objective"]
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"run.json is missing or damaged ({reason(error)}).") from error
    storage = open_storage(folder / JOURNAL)
    known = set()
    for name in optuna.get_all_study_names(storage):
        study = optuna.load_study(study_name=name, storage=storage)
        for trial in study.get_trials(deepcopy=False):
            known.add(trial_name(trial.number))
            if trial.state == TrialState.RUNNING and "end" not in trial.user_attrs:
                live = optuna.Trial(study, trial._trial_id)
                for row in read_metrics(newest(f"{TRIALS}/{trial_name(trial.number)}/metrics.csv"))[:-1]:
                    if row["epoch"] not in trial.intermediate_values:
                        live.report(objective_value(row, objective), int(row["epoch"]))
    for trial_folder in (folder / TRIALS).iterdir():
        if trial_folder.is_dir() and trial_folder.name not in known:
            rmtree(trial_folder)
