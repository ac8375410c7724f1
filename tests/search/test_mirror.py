"""A run's folder at a storage: what is copied, in which order, and whose it is. The way back is in test_fetch.py."""

import io
import json
import os
import re
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import count
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.killable import Point, Watch, points_of
from search import mirror as mirrors
from search import mirrored as following
from search.mirror import OWNER, RECORD, FaultHere, Mirror, Mirrored, TakenOver, is_mirrored
from search.mirrored import Follower, while_mirrored
from search.storage import Storage, connect
from search.study import JOURNAL
from trainable.errors import UserError


class Noted(Storage):
    """A folder that notes what is done to it."""

    def __init__(self, place: Path, name: str = "run") -> None:
        super().__init__(str(place), name)
        self.done: list[str] = []
        self.fault: OSError | None = None

    def write(self, name: str, content: bytes) -> None:
        if self.fault is not None:
            raise self.fault
        super().write(name, content)
        self.done.append(name)

    def remove(self, name: str) -> None:
        super().remove(name)
        self.done.append(f"not {name}")


def put(run: Path, *names: str) -> None:
    for name in names:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(f"{name} {time.monotonic_ns()}")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = tmp_path / "runs" / "run"
    put(run, "run.json", JOURNAL, "trials/0000/latest.pt", "trials/0000/best.safetensors", "trials/0000/config.json")
    put(run, "confirm/plan.json", f"confirm/1/{JOURNAL}", "confirm/1/trials/0001/metrics.csv", "refits/0000/refit.json")
    return run


@pytest.fixture
def storage(tmp_path: Path) -> Noted:
    return Noted(tmp_path / "there")


@pytest.fixture
def mirror(run: Path, storage: Noted) -> Mirror:
    mirror = Mirror(run, storage)
    mirror.claim()
    storage.done.clear()
    return mirror


def same(run: Path, storage: Storage) -> bool:
    """Whether each file at the storage is as it is here, and all are there."""
    names = [name for name in storage.states() if name != OWNER]
    return sorted(mirrors.states(run)) == names and all(
        (run / name).read_bytes() == storage.read(name) for name in names
    )


def test_trainings_go_first_as_they_are_written_and_the_studies_last(run: Path, storage: Noted, mirror: Mirror) -> None:
    mirror.round()
    assert storage.done == [
        "confirm/1/trials/0001/metrics.csv",
        "refits/0000/refit.json",
        "trials/0000/config.json",
        "trials/0000/best.safetensors",
        "trials/0000/latest.pt",
        "confirm/plan.json",
        "run.json",
        f"confirm/1/{JOURNAL}",
        JOURNAL,
    ]
    assert same(run, storage)


def test_only_what_has_changed_is_copied_again_and_what_is_gone_goes_last(
    run: Path, storage: Noted, mirror: Mirror
) -> None:
    mirror.round()
    storage.done.clear()
    mirror.round()
    assert storage.done == []
    put(run, JOURNAL, "trials/0000/best.safetensors", "leaderboard.csv")
    (run / "trials/0000/latest.pt").unlink()
    mirror.round()
    assert storage.done == [
        "trials/0000/best.safetensors",
        "leaderboard.csv",
        JOURNAL,
        "not trials/0000/latest.pt",
    ]
    assert same(run, storage)
    storage.done.clear()
    again = Mirror(run, storage)  # of a later command
    again.claim()
    again.round()
    assert storage.done == [OWNER]


def lose_all(run: Path) -> None:
    run.rename(run.with_name("moved"))


def leave_the_mount_point(run: Path) -> None:
    lose_all(run)
    run.mkdir()


def begin_anew_on_it(run: Path) -> None:
    leave_the_mount_point(run)
    put(run, "trials/0000/metrics.csv")  # as a worker's epoch comes


@pytest.mark.parametrize("lose", [lose_all, leave_the_mount_point, begin_anew_on_it])
def test_a_disk_that_has_gone_takes_nothing_from_the_mirror(
    run: Path, storage: Noted, mirror: Mirror, lose: Callable[[Path], None]
) -> None:
    mirror.round()
    there = {name: storage.read(name) for name in storage.states()}
    lose(run)
    storage.done.clear()
    with pytest.raises(
        FaultHere, match=rf"^{run} cannot be mirrored \((No such file or directory|run\.json is missing)\)$"
    ):
        mirror.round()
    assert storage.done == [] and {name: storage.read(name) for name in storage.states()} == there


@pytest.mark.parametrize("lost", ["trials/0000", "confirm", "refits/0000", "trials/0000/best.safetensors"])
def test_what_was_trained_and_is_lost_here_stays_there(run: Path, storage: Noted, mirror: Mirror, lost: str) -> None:
    put(run, "trials/0001/config.json", "leaderboard.csv")
    mirror.round()
    there = storage.states().keys()
    (run / "leaderboard.csv").unlink()  # which may be made again
    (run / lost).unlink() if (run / lost).is_file() else shutil.rmtree(run / lost)
    mirror.round()
    again = Mirror(run, storage)  # of a later command
    again.claim()
    again.round()
    assert there - storage.states().keys() == {"leaderboard.csv", *(["confirm/plan.json"] if lost == "confirm" else [])}


def test_what_a_folder_has_that_cannot_be_listed_is_not_taken_to_be_gone(
    run: Path, storage: Noted, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / ".ensemble.host.1-0.tmp").mkdir()  # it need not be
    mirror.round()
    storage.done.clear()
    scandir = os.scandir

    def failing(folder: str) -> Iterator[os.DirEntry[str]]:
        if folder.endswith(fails):
            raise OSError(5, "Input/output error")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", failing)
    fails = ".tmp"
    mirror.round()
    fails = "/run/trials"
    with pytest.raises(FaultHere, match=r"/runs/run cannot be mirrored \(Input/output error\)$"):
        mirror.round()
    monkeypatch.undo()
    assert storage.done == [] and same(run, storage)


@pytest.mark.parametrize(
    ("name", "mirrored"),
    [
        ("run.json", True),
        ("trials/0000/latest.pt", True),
        ("tune/0000/result.json", True),
        ("confirm/1/tune/0000/result.json", True),
        ("study.journal", True),
        ("mlflow.db", True),
        ("mlflow.db-journal", False),
        ("tune/tuner.pkl", False),
        ("tune/experiment_state-1.json", False),
        ("confirm/1/tune/0000/params.pkl", False),
        (".lock", False),
        ("confirm/1/.lock", False),
        ("trials/0000/.latest.pt.host.1.tmp", False),
        ("../run.json", False),
        ("/etc/passwd", False),
        ("trials/../../x", False),
    ],
)
def test_what_belongs_to_a_mirror(name: str, mirrored: bool) -> None:
    assert is_mirrored(name) == mirrored


def test_a_link_is_not_followed(run: Path, storage: Noted, mirror: Mirror, tmp_path: Path) -> None:
    put(tmp_path, "secret", "folder/secret")
    (run / "link").symlink_to(tmp_path / "secret")
    (run / "folder").symlink_to(tmp_path / "folder")
    mirror.round()
    assert same(run, storage) and not {"link", "folder/secret"} & set(storage.states())


def test_a_database_is_copied_as_its_last_transaction_left_it(run: Path, storage: Noted, mirror: Mirror) -> None:
    with closing(sqlite3.connect(run / "mlflow.db", isolation_level=None)) as writing:
        writing.execute("CREATE TABLE runs (epoch)")
        writing.execute("BEGIN")
        writing.execute("INSERT INTO runs VALUES (1)")
        mirror.round()
        writing.execute("COMMIT")
    copied = storage.read("mlflow.db")
    assert copied is not None
    with closing(sqlite3.connect(":memory:")) as database:
        database.deserialize(copied)
        assert database.execute("SELECT count(*) FROM runs").fetchall() == [(0,)]


def test_files_that_are_no_runs_are_left_alone(run: Path, storage: Noted, tmp_path: Path) -> None:
    put(tmp_path / "there" / "run", "cats/1.jpg")
    with pytest.raises(UserError, match="^--storage: .*/there/run has files that are no run's; choose another place"):
        Mirror(run, storage).claim()
    assert list(storage.states()) == ["cats/1.jpg"]


def test_another_folders_mirror_is_not_overwritten(run: Path, storage: Noted, mirror: Mirror, tmp_path: Path) -> None:
    mirror.round()
    other = tmp_path / "elsewhere" / "run"
    put(other, JOURNAL, "trials/0000/config.json")
    with pytest.raises(
        UserError, match=f"^--storage: .* is another state of the run than {other}: .* Move this folder"
    ):
        Mirror(other, storage).claim()
    assert same(run, storage)


@pytest.mark.parametrize("first", ["original", "copy"])
def test_a_copy_of_the_folder_is_another_one_as_soon_as_either_goes_on(
    run: Path, storage: Noted, mirror: Mirror, tmp_path: Path, first: str
) -> None:
    mirror.round()
    copy = shutil.copytree(run, tmp_path / "copy" / "run")
    goes_on, refused = (run, copy) if first == "original" else (copy, run)
    Mirror(goes_on, storage).claim()
    put(run, "trials/0000/latest.pt")
    storage.done.clear()
    with pytest.raises(TakenOver):  # a driver that was at work on the original
        mirror.round()
    with pytest.raises(UserError, match=f"^--storage: .* is another state of the run than {refused}: .* Move this"):
        Mirror(refused, storage).claim()
    assert storage.done == []


def test_a_folder_comes_back_from_another_storage(run: Path, storage: Noted, mirror: Mirror, tmp_path: Path) -> None:
    mirror.round()
    other = Noted(tmp_path / "another")
    for place in (other, storage, other):
        again = Mirror(run, place)
        again.claim()
        again.round()
        assert same(run, place)


def test_who_has_been_taken_over_writes_nothing_more(run: Path, storage: Noted, mirror: Mirror) -> None:
    mirror.round()
    put(run, JOURNAL, "trials/0000/latest.pt")
    storage.write(OWNER, b"another's")
    storage.done.clear()
    with pytest.raises(TakenOver):
        mirror.round()
    assert storage.done == []


def test_a_name_that_another_run_has_just_taken_is_refused(run: Path, storage: Noted, tmp_path: Path) -> None:
    (run / JOURNAL).unlink()
    first = Mirror(run, storage)
    first.claim()
    first.round()
    other = tmp_path / "elsewhere" / "run"
    put(other, "run.json")
    there, said = (
        storage.states(),
        f"^--storage: {storage.shown} is that of a run made elsewhere, which has no trials",
    )
    with pytest.raises(UserError, match=rf"{said} yet; choose .* --name, or delete it if nobody works on it\.$"):
        Mirror(other, storage).claim()
    assert storage.states() == there and first.round() is None


@pytest.mark.forks
def test_a_sigkill_at_any_write_leaves_what_is_claimed_and_mirrored_by_the_next_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # no power is cut
    run, points = tmp_path / "run", list[Point]()
    put(run, "run.json", JOURNAL, "trials/0000/config.json")
    for number in count():
        home, log = tmp_path / str(number), tmp_path / f"{number}.points"
        here, place = shutil.copytree(run, home / "run"), str(home / "there")
        process = os.fork()
        if process == 0:
            with suppress(BaseException):
                Watch(home, lambda point, number=number: point.number == number, log).begin()  # type: ignore[misc]  # mypy: no defaults
                mirrored(here, place)
                os._exit(0)
            os._exit(1)
        killed = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        assert same(here, mirrored(here, place))
        if killed != -signal.SIGKILL:
            assert killed == 0
            points = points_of(log)
            break
    assert {(point.call, Path(point.path).name) for point in points} >= {
        (call, name) for call in ("open", "write", "rename") for name in (RECORD, OWNER, JOURNAL)
    }


def mirrored(run: Path, place: str) -> Storage:
    storage = connect(place, run)
    Mirror(run, storage).claim()
    Mirror(run, storage).round()
    return storage


@pytest.mark.parametrize("lost", ["", "[^.]", "trials/0000/"])
def test_what_has_gone_at_the_storage_is_copied_again_by_the_next_command(
    run: Path, storage: Noted, mirror: Mirror, lost: str
) -> None:
    mirror.round()
    for name in storage.states():
        if re.match(lost, name):
            storage.remove(name)
    again = Mirror(run, storage)
    again.claim()
    again.round()
    assert same(run, storage)


@pytest.mark.parametrize("kept", ["here", "there"])
def test_a_kill_while_it_is_claimed_leaves_it_claimable(run: Path, storage: Noted, kept: str) -> None:
    """The name is here first: of the two places one has it, or both."""
    Mirror(run, storage).claim()
    if kept == "here":
        storage.remove(OWNER)
    else:
        put(storage.folder or Path(), JOURNAL)  # the run has begun
    storage.fault = OSError("AWS Error SLOW_DOWN")
    for _ in range(2):  # as if killed in between, too
        with pytest.raises(UserError, match="does not do what it is asked"):
            Mirror(run, storage).claim()
    storage.fault = None
    Mirror(run, storage).claim()
    assert storage.read(OWNER) == json.loads((run / RECORD).read_text())["owner"].encode()


def told(command: Callable[[], int], run: Path, storage: Storage | None) -> tuple[int, str]:
    text = io.StringIO()
    code = while_mirrored(command, run, storage, Console(file=text, width=200))
    return code, text.getvalue()


def test_what_a_command_does_is_at_the_storage_when_it_ends(run: Path, storage: Noted) -> None:
    def command() -> int:
        put(run, "trials/0001/config.json")
        return 3

    code, said = told(command, run, storage)
    assert code == 3 and same(run, storage)
    assert said == (
        f"Mirrored: {storage.shown}; on another machine go on with: python -m search.run --resume run --storage "
        f"{storage.place}\n"
    )


def test_an_interrupted_commands_work_is_at_the_storage_too(run: Path, storage: Noted) -> None:
    def command() -> int:
        put(run, "trials/0001/config.json")
        raise SystemExit(143)

    with pytest.raises(SystemExit):
        told(command, run, storage)
    assert same(run, storage)


def test_without_a_storage_nothing_is_done(run: Path) -> None:
    assert told(lambda: 3, run, None) == (3, "")
    assert not (run / RECORD).exists()


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_storage_that_takes_nothing_is_said_once_and_tried_again(
    run: Path, storage: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "EVERY_SECONDS", 0.01)
    tried: list[str] = []
    monkeypatch.setattr(Storage, "read", lambda self, name, read=Storage.read: tried.append(name) or read(self, name))

    def command() -> int:
        storage.fault = OSError(28, "No space left on device")
        put(run, "trials/0001/config.json")
        before = len(tried)
        wait_for(lambda: len(tried) > before + 2)
        storage.fault = None
        return 0

    code, said = told(command, run, storage)
    assert code == 0 and same(run, storage)
    assert said.count("Warning: ") == 1 and "lags behind (No space left on device); the run goes on here" in said


def test_a_storage_that_is_gone_for_a_while_is_not_taken_for_another_machines(
    run: Path, storage: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "EVERY_SECONDS", 0.01)
    text, folder = io.StringIO(), storage.folder or Path()

    def command() -> int:
        wait_for(lambda: same(run, storage))
        folder.rename(f"{folder}.away")  # what it is mounted on is empty
        put(run, "trials/0001/config.json")
        wait_for(lambda: "Warning" in text.getvalue())
        assert not folder.exists()
        Path(f"{folder}.away").rename(folder)
        return 0

    assert while_mirrored(command, run, storage, Console(file=text, width=200)) == 0
    assert same(run, storage) and text.getvalue().count("Warning: ") == 1
    assert "lags behind (its .owner has gone, as where nothing is mounted); the run goes on here" in text.getvalue()


def test_a_storage_that_hangs_is_told_of_meanwhile_and_goes_on(
    run: Path, storage: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "EVERY_SECONDS", 0.01)
    monkeypatch.setattr(following, "ANSWER_SECONDS", 0.01)
    text, answers, hangs = io.StringIO(), threading.Event(), threading.Event()
    answers.set()

    def write(self: Storage, name: str, content: bytes, write: Callable[..., None] = Storage.write) -> None:
        if not answers.is_set():
            hangs.set()
            assert answers.wait(60)
        write(self, name, content)

    monkeypatch.setattr(Storage, "write", write)

    def warnings() -> int:
        return text.getvalue().count("Warning: ")

    def command() -> int:
        wait_for(lambda: same(run, storage))
        answers.clear()
        put(run, "trials/0001/config.json")
        wait_for(hangs.is_set)
        before = warnings()  # a disk that is slow for a moment may have made some
        wait_for(lambda: warnings() > 0)
        time.sleep(0.1)  # is asked of it ten times
        assert warnings() <= before + 1
        answers.set()
        return 0

    assert while_mirrored(command, run, storage, Console(file=text, width=200)) == 0
    assert same(run, storage)
    assert "lags behind (it does not answer within 60 s); the run goes on here" in text.getvalue()


@pytest.mark.parametrize("mended", [True, False])
def test_what_the_disk_here_does_not_do_is_not_the_storages_fault(
    run: Path, storage: Noted, monkeypatch: pytest.MonkeyPatch, mended: bool
) -> None:
    monkeypatch.setattr(following, "EVERY_SECONDS", 0.01)

    def command() -> int:
        wait_for(lambda: Mirrored.of(run, storage).files == mirrors.states(run))
        (run / RECORD).unlink()
        (run / RECORD).mkdir()  # where it cannot be written
        put(run, "trials/0001/config.json")
        wait_for(lambda: "trials/0001/config.json" in storage.done)
        if mended:
            (run / RECORD).rmdir()
        return 0

    code, said = told(command, run, storage)
    assert same(run, storage) and "lags behind" not in said
    if mended:
        assert code == 0 and Mirrored.of(run, storage).files == mirrors.states(run)
    else:
        assert code == 1
        assert said.count(f"Warning: {run} cannot be mirrored (Is a directory); what is missing at") == 1
        assert said.endswith(f"Not all of the run is at {storage.shown}: {run} cannot be mirrored (Is a directory).\n")


@pytest.mark.parametrize(("code", "ends"), [(0, 1), (3, 1), (2, 2), (130, 130)])
def test_a_command_whose_work_is_not_at_the_storage_fails(run: Path, storage: Noted, code: int, ends: int) -> None:
    def command() -> int:
        storage.fault = OSError(28, "No space left on device")
        put(run, "trials/0001/config.json")
        return code

    ended, said = told(command, run, storage)
    assert ended == ends
    assert said.endswith(f"Not all of the run is at {storage.shown}: No space left on device.\n")


def test_the_end_does_not_wait_for_one_that_no_longer_answers(
    run: Path, storage: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "PATIENCE_SECONDS", 0.1)
    again, before = [], set(threading.enumerate())

    def command() -> int:
        monkeypatch.setattr(Storage, "write", lambda self, name, content: wait_for(lambda: bool(again)))
        put(run, "trials/0001/config.json")
        return 0

    ended, said = told(command, run, storage)
    again.append(True)
    for thread in set(threading.enumerate()) - before:
        thread.join()
    assert ended == 1 and said.endswith(f"Not all of the run is at {storage.shown}: it does not answer.\n")


def test_a_deadline_ends_the_waiting_however_patient_it_is(
    run: Path, storage: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "PATIENCE_SECONDS", 3600.0)
    again, before, text = threading.Event(), set(threading.enumerate()), io.StringIO()

    def command() -> int:
        monkeypatch.setattr(Storage, "write", lambda self, name, content: again.wait())
        put(run, "trials/0001/config.json")
        return 0

    code = while_mirrored(command, run, storage, Console(file=text, width=200), time.monotonic() + 0.5)
    again.set()
    for thread in set(threading.enumerate()) - before:
        thread.join()
    assert code == 1
    assert text.getvalue().endswith(f"Not all of the run is at {storage.shown}: there is no time left.\n")


def test_it_can_be_ended_by_several_threads(run: Path, storage: Noted, mirror: Mirror) -> None:
    text = io.StringIO()
    storage.fault = OSError(28, "No space left on device")
    follower = Follower(mirror, storage, Console(file=text, width=200))
    threads = [threading.Thread(target=follower.end, args=[time.monotonic() + 60]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    follower.end()
    assert text.getvalue().count(f"Not all of the run is at {storage.shown}: No space left on device.\n") == 1


def test_another_machine_that_goes_on_is_told_of_and_this_one_goes_on_for_itself(
    run: Path, storage: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "EVERY_SECONDS", 0.01)

    def command() -> int:
        storage.write(OWNER, b"another's")
        put(run, "trials/0001/config.json")
        return 0

    ended, said = told(command, run, storage)
    assert ended == 1 and "trials/0001/config.json" not in storage.states()
    assert said.count("another machine has gone on with the run from there") == 2


@pytest.mark.parametrize("part", ["files", "found"])
@pytest.mark.parametrize("name", ["../../thesis.txt", "{}/thesis.txt", "trials/../../thesis.txt", ".bashrc", "a//b"])
def test_what_a_folder_knows_of_its_mirror_may_be_crafted(
    run: Path, storage: Noted, mirror: Mirror, tmp_path: Path, part: str, name: str
) -> None:
    put(tmp_path, "thesis.txt")
    mirror.round()
    said = json.loads((run / RECORD).read_text())
    said |= {"taken_from": "", "found": {}} | {part: {name.format(tmp_path): [1, 2, 3]}}
    (run / RECORD).write_text(json.dumps(said))
    with pytest.raises(UserError, match=r"/\.mirror\.json, .* is damaged \(it names what no mirror has\): delete"):
        told(lambda: 0, run, storage)
    assert (tmp_path / "thesis.txt").exists()


@pytest.mark.parametrize("content", ["[" * 100_000, "[]", '{"storage": "", "owner": "a"}'])
def test_what_a_folder_knows_of_its_mirror_may_be_damaged(tmp_path: Path, content: str) -> None:
    (tmp_path / ".mirror.json").write_text(content)
    with pytest.raises(UserError, match=r"\.mirror\.json, what the run knows of its mirror, is damaged \("):
        Mirrored.of(tmp_path, Storage(str(tmp_path / "there"), "run"))
