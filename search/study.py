"""The record of a search: an Optuna study in the run's folder, written by the driver alone.

Everything that a search must remember is in it or follows from it, so that a search killed at any moment goes on as if
nothing had happened: a trial's random draws come from (run's seed, trial's number), but for the seed of its training
where points are repeated (run's seed, repeat); its start or grid cell comes from its number, and the rungs of a
scheduler from the values reported. How a trial ends is written ahead of the reports that
end it ("end"), so that no kill leaves half an ending. A trial that is audited ends like one that was stopped, at the
same epoch; nothing is heard of the epochs that it is trained for after that.
"""

import dataclasses
import errno
import json
import math
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._storage import JournalOperation
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.samplers import SAMPLERS, check_cmaes_state
from search.tally import End, Tally
from spaces.space import Given, Space, cells, check_decided, sample
from trainable import files
from trainable.config import ConfigError, Objective, TrialConfig, maximised
from trainable.errors import UserError, reason
from trainable.keeper import release
from trainable.paths import trial_folder, trial_name
from trainable.untrusted import parse_json

JOURNAL = "study.journal"
ENDS = [state.name for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)]


@dataclass(frozen=True)
class Settings:
    """What all trials of a run have in common."""

    epochs: int
    image_size: int
    inputs: tuple[str, ...]
    target: str | None
    objective: Objective
    seed: int


@dataclass(frozen=True)
class Ask:
    """A trial to train."""

    trial: str  # its name: the number in four digits
    config: TrialConfig


class _Journal(JournalFileBackend):
    """Optuna's, but for the lock, which would outlive a killed driver: the run's own keeps other writers out. And where
    the disk is full, no line is left half written for others to follow."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path
        self._durable = True

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        with self._on_its_disk():
            yield from super().read_logs(log_number_from)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        lines = "".join(f"{json.dumps(log, separators=(',', ':'))}\n" for log in logs)
        with self._on_its_disk():
            files.append(self._path, lines.encode(), durable=self._durable)

    @contextmanager
    def _on_its_disk(self) -> Iterator[None]:
        """A journal that is not there any more is a fault of the disk: that has gone, and left its mount point."""
        try:
            yield
        except FileNotFoundError as error:
            raise OSError(errno.EIO, "the run's study has gone, perhaps with its disk", str(self._path)) from error

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is appended inside reaches the disk at the end, at once: on a slow one each time takes a while."""
        if not self._durable:  # inside of another
            yield
            return
        self._durable = False
        try:
            yield
        finally:
            self._durable = True
            files.sync(self._path)


def open_storage(path: Path) -> JournalStorage:
    """The journal at `path`, without what a killed writer left half done: a torn line, a trial half asked for."""
    return _replayed(_open_journal(path), path)


def _replayed(journal: _Journal, path: Path) -> JournalStorage:
    """The storage that a journal tells of. Raises UserError where Optuna does not know what to make of it."""
    try:
        storage = JournalStorage(journal)
        for name in optuna.get_all_study_names(storage):
            for trial in optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False):
                _check_attributes(trial)
    except (ValueError, LookupError, TypeError, AttributeError, AssertionError, ArithmeticError, RecursionError) as why:
        raise UserError(f"{path} is damaged ({reason(why)}); restore it from a copy.") from None
    return storage


def _check_attributes(trial: FrozenTrial) -> None:
    """Raises KeyError, TypeError or ValueError unless a trial's configuration, values and end are what this module
    writes."""
    if not isinstance(trial.user_attrs.get("config", {}), dict):
        raise TypeError(f"the configuration of trial {trial.number} is no object")
    values = list(trial.intermediate_values.items())
    if "end" in trial.user_attrs:
        end = trial.user_attrs["end"]
        if end["state"] not in ENDS:
            raise ValueError(f"trial {trial.number} ends as {end['state']!r}")
        if end["state"] != TrialState.FAIL.name:
            values.append((end["epoch"], end["value"]))
        if end.get("audited"):  # it may be trained on, whatever its end
            TrialConfig.from_dict(trial.user_attrs["config"])
    for epoch, value in values:
        if not isinstance(epoch, int) or epoch < 1 or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"trial {trial.number} has the value {value!r} at epoch {epoch!r}")


def _open_journal(path: Path) -> _Journal:
    if path.exists():
        content = path.read_bytes()
        whole = _whole(content)
        if whole < len(content):
            files.cut(path, whole)
    else:
        files.write_bytes(path, b"")
    return _Journal(path)


def has_trial(path: Path) -> bool:
    """Whether the journal at `path` holds a trial. A damaged one is taken to, so that nobody throws it away."""
    if not path.exists():
        return False
    with open(path, "rb") as journal:
        return _have_trial(journal)


def _have_trial(lines: Iterable[bytes]) -> bool:
    for line in lines:
        if not line.endswith(b"\n"):  # torn: it was never written
            return False
        try:
            if parse_json(line)["op_code"] == JournalOperation.CREATE_TRIAL:
                return True
        except (ValueError, KeyError, TypeError):
            return True
    return False


def goes_on_from(path: Path, copied: bytes) -> bool:
    """Whether the journal at `path` has all of what once was copied of one, but for a trial half asked for. What is
    damaged has nothing that could be had, and what has no trial is of a command that failed before the first."""
    content = path.read_bytes() if path.exists() else b""
    if content.startswith(copied) or not _have_trial(copied.splitlines(keepends=True)):
        return True
    try:
        return content.startswith(copied[: _whole(copied)])
    except UserError:
        return True


def _whole(journal: bytes) -> int:
    """How many bytes of a journal to keep.

    `ask` writes a trial from its creation to its configuration (or its failure to make one) without a break, so that
    a half-asked trial is the journal's end. It goes whole: drawing the rest of its parameters would not give the
    values that it would have had, as the sampler begins anew, and some samplers count what they were asked.
    """
    position, asked_at = 0, None
    for line in journal[: journal.rfind(b"\n") + 1].splitlines(keepends=True):
        try:
            log = parse_json(line)
            operation = log["op_code"]
            decided = operation == JournalOperation.SET_TRIAL_USER_ATTR and {"config", "end"} & set(log["user_attr"])
        except (ValueError, KeyError, TypeError):
            raise UserError(f"the study is damaged at byte {position}, so the run cannot go on.") from None
        if operation == JournalOperation.CREATE_TRIAL:
            asked_at = position
        elif decided:
            asked_at = None
        position += len(line)
    return position if asked_at is None else asked_at


class StudyRecord:
    """Asks for trials and records what becomes of them.

    Args:
        folder: the run's folder.
        space: what is sampled.
        sampler: a name of SAMPLERS.
        settings: what the run decides.
        trials: how many trials the study shall have.
        repeats: how often each point of the grid, or each start, is tried; all of them once, then again. The k-th
            repeat of every point trains with one seed, so that they can be compared in pairs.
    """

    def __init__(
        self, folder: Path, space: Space, sampler: str, settings: Settings, trials: int, repeats: int = 1
    ) -> None:
        self.space = space
        self.settings = settings
        self.trials = trials
        self.sampler = SAMPLERS[sampler]
        points = cells(space) if self.sampler.name == "grid" else [dict(start) for start in space.starts]
        self._points = points * repeats
        self._paired = len(points) if repeats > 1 else None  # how many trials have the first repeat's seed
        self._journal = _open_journal(folder / JOURNAL)
        storage = _replayed(self._journal, folder / JOURNAL)
        names = optuna.get_all_study_names(storage)
        if names:  # whatever its name: a run keeps its study when its folder is renamed
            self.study = optuna.load_study(study_name=names[0], storage=storage)
        else:
            direction = StudyDirection.MAXIMIZE if maximised(settings.objective) else StudyDirection.MINIMIZE
            self.study = optuna.create_study(study_name=folder.name, storage=storage, direction=direction)
        if self.sampler.name == "cmaes":
            check_cmaes_state(self.frozen())
        self._open: dict[str, optuna.Trial] = {}
        self._resumable = []
        self._audits: list[Ask] = []  # under way when an earlier driver ended
        self.audited: set[str] = set()  # trials that were stopped for the record alone
        self.tally = Tally()
        self._asked = 0  # trials that the study has
        for frozen in self.frozen():
            self._asked += 1
            self.tally.heard.update(frozen.intermediate_values.keys())
            if frozen.state == TrialState.RUNNING:
                trial = optuna.Trial(self.study, frozen._trial_id)
                if "end" in frozen.user_attrs:
                    self._finish(trial, frozen.user_attrs["end"])
                else:
                    self._resumable.append(trial)
            elif frozen.state.is_finished():
                self._count_end(frozen)
            name = trial_name(frozen.number)
            place = trial_folder(folder, name)
            latest = place / "latest.pt"  # which goes when the trial, or its audit, ends
            if frozen.user_attrs.get("end", {}).get("audited"):
                self.audited.add(name)
            if name in self.audited and latest.exists():
                self._audits.append(Ask(name, TrialConfig.from_dict(frozen.user_attrs["config"])))
            elif "end" in frozen.user_attrs:
                files.remove(latest)
            release(place)  # workers of a driver that died may live on for a while

    def frozen(self) -> list[FrozenTrial]:
        """The study's trials in the order of their numbers."""
        return self.study.get_trials(deepcopy=False)

    def trial(self, name: str) -> FrozenTrial:
        """A trial as the study has it."""
        storage = self.study._storage
        return storage.get_trial(storage.get_trial_id_from_study_id_trial_number(self.study._study_id, int(name)))

    def unfinished(self) -> int:
        """How many trials an earlier driver left running, audited ones among them; `ask` hands them out first."""
        return len(self._resumable) + len(self._audits)

    def ask(self) -> Ask | None:
        """The next trial to train; None when the study has all its trials."""
        if self._audits:
            return self._audits.pop(0)
        while True:
            with self._journal.together():
                trial = self._next_trial()
                if trial is None:
                    return None
                name = trial_name(trial.number)
                self._open[name] = trial
                try:
                    return Ask(name, self._config(trial))
                except (ConfigError, UserError) as error:
                    self.fail(name, str(error))

    def _next_trial(self) -> optuna.Trial | None:
        if self._resumable:
            return self._resumable.pop(0)
        number = self._asked
        if number >= self.trials:
            return None
        if number < len(self._points):
            self.study.enqueue_trial(self._points[number])
        # Each trial's draws come from its own number: a search that is resumed draws what it would have drawn.
        self.study.sampler = self.sampler.following(self.study.sampler, self.settings.seed, number)
        asked = self.study.ask()
        self._asked += 1
        return asked

    def _config(self, trial: optuna.Trial) -> TrialConfig:
        stored = trial.user_attrs.get("config")
        if stored is not None:
            return TrialConfig.from_dict(stored)
        config = configured(self.space, trial, self.settings, self._seed(trial.number))
        trial.set_user_attr("config", config.to_dict())
        return config

    def _seed(self, number: int) -> int:
        """Of a trial's training."""
        drawn_from = [self.settings.seed, number]
        if self._paired is not None and number < len(self._points):
            # The 1 keeps it apart from all that are drawn from a number.
            drawn_from = [self.settings.seed, number // self._paired, 1]
        return int(np.random.SeedSequence(drawn_from).generate_state(1)[0])

    def report(self, name: str, epoch: int, value: float) -> None:
        """Records an epoch's objective. An epoch that is known already, as after a worker's death, is left alone."""
        self._report(self._open[name], epoch, value)

    def _report(self, trial: optuna.Trial, epoch: int, value: float) -> None:
        if epoch not in self._values(trial):
            trial.report(value, epoch)
            self.tally.heard[epoch] += 1

    def complete(self, name: str, epoch: int, value: float) -> None:
        """The trial ran its course; `value` is its last epoch's. The study's value is the best epoch's."""
        self._end(name, {"state": "COMPLETE", "epoch": epoch, "value": value})

    def prune(self, name: str, epoch: int, value: float, *, audited: bool = False) -> None:
        """The scheduler stopped the trial at `epoch`; one that is audited is trained on, of which nothing is told."""
        end = {"state": "PRUNED", "epoch": epoch, "value": value}
        self._end(name, {**end, "audited": True} if audited else end)
        if audited:
            self.audited.add(name)

    def fail(self, name: str, reason: str) -> None:
        """The trial failed, for a reason that is kept with it."""
        self._end(name, {"state": "FAIL", "reason": reason})

    def _end(self, name: str, end: dict[str, Any]) -> None:
        trial = self._open.pop(name)
        with self._journal.together():
            trial.set_user_attr("end", end)
            self._finish(trial, end)

    def _finish(self, trial: optuna.Trial, end: Mapping[str, Any]) -> None:
        state = TrialState[end["state"]]
        if "epoch" in end:
            self._report(trial, end["epoch"], end["value"])
        values = self._values(trial).values()
        best = max if maximised(self.settings.objective) else min
        self.study.tell(trial.number, best(values) if state == TrialState.COMPLETE else None, state=state)
        self._count_end(self.trial(trial_name(trial.number)))

    def _count_end(self, frozen: FrozenTrial) -> None:
        audited = bool(frozen.user_attrs.get("end", {}).get("audited"))
        end = End(frozen.state, max(frozen.intermediate_values, default=0), audited)
        self.tally.end(trial_name(frozen.number), end)

    def _values(self, trial: optuna.Trial) -> Mapping[int, float]:
        frozen: FrozenTrial = self.study._storage.get_trial(trial._trial_id)
        return frozen.intermediate_values


def configured(space: Space, trial: optuna.Trial, settings: Settings, seed: int) -> TrialConfig:
    """What the space makes of a trial, with the run's settings and the seed of its training.

    Raises:
        ConfigError, UserError: as `sample` and `check_decided` do.
    """
    decided = {**dataclasses.asdict(settings), "seed": seed}
    for field in space.decides:
        del decided[field]
    sampled = sample(space, trial)
    check_decided(space, sampled, Given(settings.inputs, settings.target, settings.image_size))
    return dataclasses.replace(sampled, **decided)


def stored_trials(run: Path) -> list[FrozenTrial]:
    """The trials of a run's study in the order of their numbers; the caller holds the run's lock."""
    return _trials_of(open_storage(run / JOURNAL))


def watched_trials(run: Path) -> list[FrozenTrial]:
    """As `stored_trials`, of a run that another process may be writing: nothing is mended, a torn end is not seen.

    Raises:
        UserError: where the study is damaged.
    """
    path = run / JOURNAL
    if not path.exists():
        return []
    return _trials_of(_replayed(_Journal(path), path))


def _trials_of(storage: JournalStorage) -> list[FrozenTrial]:
    names = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=names[0], storage=storage).get_trials(deepcopy=False) if names else []
