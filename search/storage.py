"""A place that outlives this machine, where files are put and got: a folder that others see too, or an object store."""

import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar

from pyarrow import fs

from trainable import files
from trainable.errors import DISK_FAULTS, UserError, storage_fault

ANSWER_SECONDS = 60.0  # credentials are looked for in several places, and a name that is not found is asked for again
PROBE = ".probe"
AT_ONCE = 8  # calls
KINDS = ("file://", "s3://", "gs://")  # pyarrow knows more; what is written to those may be seen when half is there
PIECE = 2**23  # bytes; of an object each is a request
Result = TypeVar("Result")
State = tuple[int | None, ...]  # of a file: something that changes with it


class Silent(Exception):
    """A storage has not answered for ANSWER_SECONDS."""

    def __init__(self) -> None:
        super().__init__(f"it does not answer within {ANSWER_SECONDS:.0f} s")


class Storage:
    """One folder of it. Its methods raise whatever the place's own library does, mostly OSError; and so they do where a
    symbolic link is in the way, by which others who can write there would have any file read or replaced.

    Args:
        place: a folder's absolute path, or a URI of one of KINDS, as s3://BUCKET/FOLDER.
        name: of the folder there; it need not exist.
    Raises:
        UserError: where the place is of another kind.
    """

    def __init__(self, place: str, name: str) -> None:
        self.place = place
        self.shown = shown(place, name)
        if _is_uri(place):
            if not place.startswith(KINDS):
                raise UserError(
                    f"--storage: {self.shown} is of no kind that is known; give a folder, s3://BUCKET/FOLDER or "
                    "gs://BUCKET/FOLDER."
                )
            if place.startswith("s3://"):  # a small file is one request then, instead of three
                place += ("&" if "?" in place else "?") + "allow_delayed_open=true"
            self._system, root = fs.FileSystem.from_uri(place)
        else:
            self._system, root = fs.LocalFileSystem(), place
        self._root = f"{root.rstrip('/')}/{name}"
        self._steps = 0  # that were made in a call: a piece read, a file listed

    @property
    def folder(self) -> Path | None:
        """The folder, where it is one of this machine's file system."""
        return Path(self._root) if isinstance(self._system, fs.LocalFileSystem) else None

    def states(self) -> dict[str, State]:
        """All files, by their paths in the folder, with slashes, in order."""
        if self.folder is not None:
            found = {}
            for name, state in _states(self._path(""), ""):
                found[name] = state
                self._steps += 1
            return dict(sorted(found.items()))
        infos = self._system.get_file_info(fs.FileSelector(self._root, recursive=True, allow_not_found=True))
        states = {
            info.path[len(self._root) + 1 :]: (info.size, info.mtime_ns)
            for info in infos
            if info.type == fs.FileType.File
        }
        return dict(sorted(states.items()))

    def read(self, name: str) -> bytes | None:
        """A file's content; None where there is no such file."""
        try:
            with self._system.open_input_stream(self._path(name)) as file:
                pieces = []
                while piece := file.read(PIECE):
                    pieces.append(piece)
                    self._steps += 1
                return b"".join(pieces)
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Replaces a file by `content`, atomically: an object appears when it is whole."""
        path = self._path(name)
        if self.folder is not None:
            files.make_folder(Path(path).parent)
            files.write_bytes(Path(path), content)
            return
        with self._system.open_output_stream(path) as file:
            file.write(content)

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""
        with suppress(FileNotFoundError):
            self._system.delete_file(self._path(name))

    def _path(self, name: str) -> str:
        """A file's, in its file system. Raises ValueError for one outside of the folder."""
        parts = name.split("/")
        if name and {"", ".", ".."}.intersection(parts):
            raise ValueError(f"{name!r} is the name of no file in {self.shown}")
        if self.folder is not None:
            for number in range(len(parts) + 1):
                _check_no_link("/".join([self._root, *parts[:number]]).rstrip("/"))
        return f"{self._root}/{name}"

    def ask(self, call: Callable[[], Result]) -> Result:
        """What a call of its methods returns or raises, waited for in such a way that a signal still ends the command.

        Raises:
            Silent: where it does neither, and nothing is read or listed, for ANSWER_SECONDS. It is left alone then: a
                command is to write nothing more there.
        """
        return next(self.ask_all([call]))

    def ask_all(self, calls: Iterable[Callable[[], Result]]) -> Iterator[Result]:
        """What several calls return, in the order in which they answer. Raises as `ask` does."""
        return _answers(calls, lambda: self._steps)


def shown(place: str, name: str = "") -> str:
    """A place as it is shown, or what has a name there: without a URI's query, which says how to get there."""
    place = place.partition("?")[0] if _is_uri(place) else place
    return f"{place.rstrip('/')}/{name}" if name else place


def connect(place: str, run: Path) -> Storage:
    """The storage of a run at a place, after a file was written, read and removed there.

    Raises:
        UserError: where that cannot be done, or not within ANSWER_SECONDS; or the place is in the run's own folder.
    """
    place_shown = shown(place)
    try:
        return next(_answers([partial(_tried, place, run)]))
    except UserError:
        raise
    except Silent:
        raise UserError(
            f"--storage: {place_shown} does not answer within {ANSWER_SECONDS:.0f} s; mend it, or choose another place."
        ) from None
    except Exception as error:  # each kind of place has its own library
        why = what_is_wrong(error)
        remedy = "make it a folder that can be written, or choose another place"
        if _is_uri(place):
            remedy = "check that it exists and that the credentials for it are in the environment"
        raise UserError(f"--storage: {place_shown} cannot be used from this machine ({why}); {remedy}.") from None


def _is_uri(place: str) -> bool:
    return ":" in place.partition("/")[0]


def _check_no_link(path: str) -> None:
    if os.path.islink(path):
        raise _is_link(path)


def _is_link(path: str) -> OSError:
    return OSError(f"{path} is a symbolic link, which is not followed: remove it")


def _states(folder: str, inside: str) -> Iterator[tuple[str, State]]:
    """Those of all files in a folder of this machine's, by their paths after `inside`; of none, where it is gone."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():  # which the folder's list tells, unlike os.path.islink
                raise _is_link(entry.path)
            if entry.is_dir():
                yield from _states(entry.path, f"{inside}{entry.name}/")
            elif entry.is_file():
                with suppress(FileNotFoundError):
                    found = entry.stat()
                    yield f"{inside}{entry.name}", (found.st_size, found.st_mtime_ns)


@contextmanager
def telling(storage: Storage, run: Path, *, alone: bool) -> Iterator[None]:
    """What a storage does not do inside, though it was tried, is a sentence; a fault of the disk here stays one.

    Args:
        run: the run's folder, which may be on a disk behind a network, too.
        alone: whether the run can do without it, and come back to it.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # as in `connect`
        if storage_fault(error, DISK_FAULTS) is not None or _is_here(error, run, storage):  # else of a network
            raise
        raise UserError(
            f"--storage: {storage.shown} does not do what it is asked ({what_is_wrong(error)}); give the same command "
            f"again{', or --storage none' if alone else ''}."
        ) from error


def _is_here(error: Exception, run: Path, storage: Storage) -> bool:
    """Whether a file system's error is of the run's folder, or of what is written beside it on its way there."""
    name = error.filename if isinstance(error, OSError) else None
    if not isinstance(name, str):
        return False
    there = storage.folder is not None and Path(name).is_relative_to(storage.folder)
    return Path(name).is_relative_to(run.parent) and not there


def _tried(place: str, run: Path) -> Storage:
    storage, content = Storage(place, run.name), b"convsearch"
    if storage.folder is not None and run.resolve() in (storage.folder.resolve(), *storage.folder.resolve().parents):
        raise UserError(f"--storage: {storage.shown} is the run's own folder, or in it; choose another place.")
    storage.write(PROBE, content)
    if storage.read(PROBE) != content:
        raise OSError("what was written came back as something else")
    storage.remove(PROBE)
    return storage


def _answers(calls: Iterable[Callable[[], Result]], progress: Callable[[], int] = lambda: 0) -> Iterator[Result]:
    """What the calls return, AT_ONCE at a time, as it comes; raises what one raises, when those under way are over.

    Raises Silent where none answers, and `progress` stays what it is, for ANSWER_SECONDS; they are left alone then.
    They run in threads that no end of the process waits for, as a library may hear of no signal.
    """
    answers: SimpleQueue[tuple[Result | None, Exception | None]] = SimpleQueue()

    def ask(call: Callable[[], Result]) -> None:
        try:
            answers.put((call(), None))
        except Exception as error:
            answers.put((None, error))

    def begin(number: int) -> int:
        begun = [threading.Thread(target=ask, args=[call], daemon=True) for call in islice(left, number)]
        for thread in begun:
            thread.start()
        return len(begun)

    left = iter(calls)
    asked, fault = begin(AT_ONCE), None
    while asked:
        before = progress()
        try:
            result, error = answers.get(timeout=ANSWER_SECONDS)
        except Empty:
            if progress() == before:
                raise Silent from None
            continue
        asked -= 1
        fault = fault or error
        if fault is None:
            asked += begin(1)
            yield result  # type: ignore[misc]  # None only beside an error
    if fault is not None:
        raise fault


def what_is_wrong(error: Exception) -> str:
    """What is wrong, in a few words: Arrow tells the operation first, then what the store said, then a number."""
    if isinstance(error, OSError) and error.strerror and not error.strerror.startswith("["):
        return error.strerror
    text = (str(error) or type(error).__name__).partition("\n")[0]
    text = re.sub(r"^When .*?: (?=AWS Error)|^Detail: ", "", text)
    return re.sub(r"\s*\(Request ID.*|[. ]+$", "", text)
