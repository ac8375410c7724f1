"""A run's folder a second time, at a storage, from where another machine goes on with it.

The driver's folder stays the one that all is read from and written to. What has changed is copied, in an order such
that a run can be made of what is at the storage at any moment: see `Mirror.round`, and `search.fetch` for the way back.
"""

import os
import secrets
import sqlite3
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from urllib.parse import quote

from search.record import begun
from search.storage import State, Storage, telling, what_is_wrong
from search.study import JOURNAL, goes_on_from
from trainable import files
from trainable.errors import UserError, reason
from trainable.keeper import place_of
from trainable.paths import REFITS, TRIALS
from trainable.untrusted import parse_json

OWNER = ".owner"  # at the storage: whose mirror it is
RECORD = ".mirror.json"  # in the run's folder
TRAININGS = (f"/{TRIALS}", f"/{REFITS}")  # what their folders are in
NEWS = ".fetched"  # in the run's folder: what came later from its storage, whole, on the way to its place
VITAL = ("run.json", JOURNAL)  # which a run never loses by itself


@dataclass
class Mirrored:
    """What a run's folder knows of its mirror, and keeps in RECORD."""

    storage: str  # as it is shown
    owner: str = field(default_factory=lambda: secrets.token_hex(16))  # its name there, another in each session
    former: tuple[str, ...] = ()  # names that it had: there, until the storage has the new one, and at other storages
    files: dict[str, State] = field(default_factory=dict)  # each file's state when it was copied, by its path
    # Of a folder that was fetched and is not yet the one that is mirrored there:
    taken_from: str | None = None  # the owner then, '' for none; None for any other folder
    found: dict[str, State] = field(default_factory=dict)  # each file's state there when it was read, or before

    @classmethod
    def of(cls, run: Path, storage: Storage) -> "Mirrored":
        """What the folder knows; of another storage than its last one nothing but its own name. Not even that, where it
        had not caught up with the last one: it never will then, and is a stranger there.

        Raises:
            UserError: where that is damaged.
        """
        known = cls.read(run)
        if known is None or (known.storage != storage.shown and known.taken_from is not None):
            return cls(storage.shown)
        return known if known.storage == storage.shown else cls(storage.shown, known.owner, known.former)

    @classmethod
    def read(cls, run: Path) -> "Mirrored | None":
        """What the folder knows of its last storage. Raises as `of` does."""
        try:
            said = parse_json((run / RECORD).read_text(encoding="utf-8"))
            known, found = (
                {name: tuple(state) for name, state in part.items()} for part in (said["files"], said.get("found", {}))
            )
            if not all(map(is_mirrored, (*known, *found))):  # who has written that wants other files gone
                raise ValueError("it names what no mirror has")
            former = tuple(map(str, said.get("former", ())))
            return cls(str(said["storage"]), str(said["owner"]), former, known, said.get("taken_from"), found)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{run / RECORD}, what the run knows of its mirror, is damaged ({reason(error)}): delete it, and "
                "choose another place with --storage."
            ) from error

    def write(self, run: Path) -> None:
        """Keeps it."""
        files.write_json(run / RECORD, vars(self))


class TakenOver(Exception):
    """Another folder is mirrored at the storage by now: its driver has gone on from there."""


class FaultHere(Exception):
    """The run's folder cannot be read, or what it knows of its mirror not be written: the storage is not to blame."""


class Mirror:
    """A run's folder and its mirror.

    Args:
        run: the run's folder.
        storage: the run's.
    """

    def __init__(self, run: Path, storage: Storage) -> None:
        self._run, self._storage = run, storage
        self._known = Mirrored.of(run, storage)
        self.written = 0  # files
        self._changes = self._noted = 0  # at the storage; of those, the ones that RECORD has

    def _telling(self) -> AbstractContextManager[None]:
        return telling(self._storage, self._run, alone=self._known.taken_from is None)

    def check(self) -> None:
        """Raises UserError unless this folder is the one that is mirrored at the storage, or may become it: nothing is
        there, or what was fetched from there and not gone on with here. Besides, as `telling` does."""
        with self._telling():
            owner = owner_of(self._storage)
            if not self.may_go_on(owner):
                self._refuse(owner)

    def may_go_on(self, owner: str) -> bool:
        """Whether nothing is lost where the folder goes on with a mirror that is an owner's: it is its own, and has no
        trials that the folder has not; or it was fetched, and nothing has been trained here since."""
        known = self._known
        if known.taken_from is not None:
            is_its = self._is_own(owner) or owner == known.taken_from
            return is_its and _trained(known.files) == _trained(states(self._run))
        return self._is_own(owner) and self._lost() is None

    def _is_own(self, owner: str) -> bool:
        return owner in (self._known.owner, *self._known.former)

    def _lost(self) -> str | None:
        """The path of a study there that has trials that the folder has not; None where no training is lost."""
        there = self._storage.ask(self._storage.states)
        if not any(is_training(name.rpartition("/")[0]) for name in there):
            return None
        if not begun(self._run):
            return JOURNAL
        studies = sorted(filter(is_journal, filter(is_mirrored, there)), key=len)  # the search's, then confirmations'
        return next((name for name in studies if not self._goes_on_from(name)), None)

    def _goes_on_from(self, journal: str) -> bool:
        there = self._storage.ask(partial(self._storage.read, journal)) or b""
        news = self._run / NEWS / journal
        return goes_on_from(news if news.exists() else self._run / journal, there)

    def _refuse(self, owner: str) -> None:
        """Raises UserError for a storage that is not this folder's, but where it has nothing of a run."""
        shown, known = self._storage.shown, self._known
        if self._is_own(owner) and known.taken_from is None:
            part = (self._lost() or "").rpartition(JOURNAL)[0].partition("/")[0]
            inside, anew = (f" in {part}", f", delete {shown}/{part} to begin that anew") if part else ("", "")
            raise UserError(
                f"--storage: {shown} has trials{inside} that {self._run} has not: files are lost here, or older. Move "
                f"this folder away and bring them by --resume {self._run.name}{anew}, or choose another place or "
                "another --name."
            )
        if not owner:
            if any(map(is_mirrored, self._storage.ask(self._storage.states))):
                raise UserError(
                    f"--storage: {shown} has files that are no run's; choose another place, or another --name."
                )
            return
        if self._storage.ask(partial(self._storage.read, JOURNAL)) is None:  # its driver may be about to begin
            raise UserError(
                f"--storage: {shown} is that of a run made elsewhere, which has no trials yet; choose another place "
                "or another --name, or delete it if nobody works on it."
            )
        if begun(self._run) or known.taken_from is not None:
            raise UserError(
                f"--storage: {shown} is another state of the run than {self._run}: it was gone on with elsewhere. "
                "Move this folder away to go on with that one, or choose another place."
            )
        raise UserError(
            f"--storage: {shown} is a run already, made elsewhere; go on with that one by --resume "
            f"{self._run.name}, or choose another --name."
        )

    def claim(self) -> None:
        """Makes this folder the one that is mirrored at the storage, under a new name: a copy that was made of it is
        another from then on. What has gone there since it was copied is copied again. The caller holds the run's lock.
        Raises as `check` does."""
        self.check()
        with self._telling():
            there, known = self._storage.ask(self._storage.states), self._known
            self._known = Mirrored(self._storage.shown, former=(*known.former, known.owner))
            if JOURNAL in there:  # else there is nothing to catch up with
                is_fetched = known.taken_from is not None
                copied = {name: state for name, state in known.files.items() if is_fetched or name in there}
                self._known = replace(self._known, files=copied, taken_from=known.taken_from, found=known.found)
            self._known.write(self._run)  # before the storage has the name: a kill in between leaves no stranger there
            self._storage.ask(partial(self._storage.write, OWNER, self._known.owner.encode()))

    def round(self) -> None:
        """Copies what has changed since the last one.

        A training's files are read in the order opposite to the one they are written in, and copied in that one, so
        that those which vouch for others never come before them. The journals are read before all else and copied
        after it: when they tell of a trial's end its files are there. What is gone goes last, as `latest.pt` does after
        the journal has a trial's end. So a trial's files may be ahead of the journal, but never behind. What was
        trained stays there, whatever is gone here: see `_may_go`.

        Raises:
            TakenOver: where the storage is another folder's.
            FaultHere: what this machine's disk does not do; besides, whatever the storage's library raises. A run of
                which this disk has lost so much that nobody could go on from here keeps what it has at the storage.
        """
        with _here(self._run):
            found = {name for names in _by_folder(self._run) for name in names}
            for name in VITAL:
                if name in self._known.files and name not in found:  # the disk has gone, and left its mount point
                    raise FileNotFoundError(f"{name} is missing")
        journals = self._changed(sorted(filter(is_journal, found)))
        with _here(self._run):
            folders = _by_folder(self._run)
        for names in folders:
            found.update(names)
            changed = self._changed(name for name in reversed(names) if not is_journal(name))
            self._copy(dict(reversed(changed.items())))
        self._copy(journals)
        folders_left = {name.rpartition("/")[0] for name in found}
        gone = [name for name in self._known.files.keys() - found if _may_go(name, folders_left)]
        if gone:
            self._check_owner()
        for name in gone:
            self._storage.remove(name)
            del self._known.files[name]
            self._changes += 1
        if self._changes != self._noted:
            with _here(self._run):
                self._known.write(self._run)
            self._noted = self._changes

    def _changed(self, names: Iterable[str]) -> dict[str, tuple[State, bytes]]:
        """Of files those that are not at the storage as they are, in the given order: the state before, the content."""
        changed = {}
        for name in names:
            with _here(self._run), suppress(FileNotFoundError):
                state = _state(self._run, name)
                if self._known.files.get(name) != state:
                    changed[name] = state, _content(self._run / name)
        return changed

    def _copy(self, contents: Mapping[str, tuple[State, bytes]]) -> None:
        if contents:
            self._check_owner()
        for name, (state, content) in contents.items():
            self._storage.write(name, content)
            self._known.files[name] = state
            self.written += 1
            self._changes += 1

    def _check_owner(self) -> None:
        owner = self._storage.read(OWNER)
        if owner is None:  # the place may come back
            raise FileNotFoundError(f"its {OWNER} has gone, as where nothing is mounted")
        if owner != self._known.owner.encode():
            raise TakenOver


@contextmanager
def _here(run: Path) -> Iterator[None]:
    """What goes wrong inside does so in the run's folder."""
    try:
        yield
    except Exception as error:  # a database has its own
        raise FaultHere(f"{run} cannot be mirrored ({what_is_wrong(error)})") from error


def is_journal(name: str) -> bool:
    """Whether a path is that of a study."""
    return name.rpartition("/")[2] == JOURNAL


def is_training(folder: str) -> bool:
    """Whether a folder is that of a trial or a refit, by its path in the run's."""
    return f"/{folder}".rpartition("/")[0].endswith(TRAININGS)


def _may_go(name: str, folders_left: Collection[str]) -> bool:
    """Whether a file that is gone goes from the storage, too. Of studies and trainings a run removes none but the
    `latest.pt` of what has ended, and all else stays beside that; any other has been lost.

    Args:
        folders_left: that have files.
    """
    folder, _, file = name.rpartition("/")
    if is_training(folder):
        return file == "latest.pt" and folder in folders_left
    return not is_journal(name)


def _trained(known: Mapping[str, State]) -> dict[str, State]:
    """Of files those that every training changes: whoever looks at a run may write all else."""
    return {name: state for name, state in known.items() if is_journal(name) or name.endswith("/metrics.csv")}


def owner_of(storage: Storage) -> str:
    """Whose mirror a storage is; '' for nobody's. Raises as `Storage.ask` does."""
    return (storage.ask(partial(storage.read, OWNER)) or b"").decode(errors="replace")


def is_mirrored(name: str) -> bool:
    """Whether a file belongs to a mirror, by its path in the run's folder: nothing hidden, no database's own files, and
    of Ray's experiment only what was reported. Nothing outside the folder has such a path."""
    *folders, file = name.split("/")
    return (
        not any(part.startswith(".") or not part for part in (*folders, file))
        and not file.endswith(("-journal", "-wal", "-shm"))
        and ("tune" not in folders or file == "result.json")
    )


def states(run: Path) -> dict[str, State]:
    """The state of each file of a run that is mirrored, by its path."""
    found = {}
    for name in (name for names in _by_folder(run) for name in names):
        with suppress(FileNotFoundError):
            found[name] = _state(run, name)
    return found


def _by_folder(run: Path) -> list[list[str]]:
    """The paths of the files that are mirrored, folder by folder, trainings first; a training's in the order in which
    they are written. Ten thousand trials are to take no more than about a second. Raises OSError where a folder cannot
    be listed: what is in it has not gone."""
    found: list[tuple[bool, list[str]]] = []
    for folder, folders, names in os.walk(run, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]  # one that is written to goes any moment
        inside = folder[len(str(run)) + 1 :]
        mirrored = filter(is_mirrored, (f"{inside}/{name}" if inside else name for name in names))
        found.append((is_training(inside), sorted(mirrored, key=_place)))
    return [names for _, names in sorted(found, key=lambda pair: (not pair[0], pair[1]))]


def _raise(error: OSError) -> None:
    raise error


@cache
def _place_of(file: str) -> int:
    return place_of(file) or 0


def _place(name: str) -> tuple[int, str]:
    return _place_of(name.rpartition("/")[2]), name


def _state(run: Path, name: str) -> State:
    """Of a file; FileNotFoundError where there is none, or what is there leads elsewhere."""
    found = os.lstat(f"{run}/{name}")
    if not stat.S_ISREG(found.st_mode):
        raise FileNotFoundError(name)
    return found.st_ino, found.st_mtime_ns, found.st_size


def _content(path: Path) -> bytes:
    """A file's content; of a database that is written to, a whole state."""
    if path.suffix != ".db":
        return path.read_bytes()
    with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as database:
        return database.serialize()
