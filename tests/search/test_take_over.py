"""A run that was fetched is taken over from a driver that lives on, and that is cut short at any moment."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
from optuna.trial import TrialState

from benchmarks.killable import Point, Watch, points_of
from results.leaderboard import read_metrics
from search.fetch import catch_up, fetch
from search.mirror import NEWS, RECORD, Mirror, states
from search.mirrored import while_mirrored
from search.storage import Storage
from search.study import JOURNAL, stored_trials
from tests.search.follow import Search
from tests.search.test_fetch import CONSOLE, all_files, check, writes
from trainable import files
from trainable.errors import UserError
from trainable.paths import trial_name

ANOTHER = "^--storage: .*/there/run is another state of the run than .*: it was gone on with elsewhere. Move this"


class TakenOver:
    """A run that was fetched and claimed, after its driver wrote more than what was fetched."""

    def __init__(self, home: Path) -> None:
        home.mkdir(exist_ok=True)
        self.home, self.here, self.run = home, home / "here" / "run", home / "run"
        self.storage = Storage(str(home / "there"), "run")
        self.here.mkdir(parents=True)
        self.going = writes(self.here)
        for _ in range(9):
            next(self.going)
        self.last = Mirror(self.here, self.storage)
        self.last.claim()
        self.last.round()
        fetch(self.run, self.storage, CONSOLE)
        for _ in range(22):
            next(self.going)
        self.last.round()
        Mirror(self.run, self.storage).claim()

    def has_caught_up(self) -> bool:
        """Whether all that its driver wrote is here, and no more."""
        here, there = mirrored_files(self.run), mirrored_files(self.here)
        return here.keys() == there.keys() and all(
            here[name] == there[name] for name in here if not name.endswith(JOURNAL)
        )


def mirrored_files(run: Path) -> dict[str, bytes]:
    return {name: (run / name).read_bytes() for name in states(run)}


def is_behind(run: Path) -> bool:
    """Whether the study tells of epochs whose files are not here."""
    return any(
        len(read_metrics(run / "trials" / trial_name(trial.number) / "metrics.csv")) < len(trial.intermediate_values)
        for trial in stored_trials(run)
    )


def train(run: Path) -> int:
    """Goes on with a run, to its end."""
    record = Search(run).record
    while (asked := record.ask()) is not None:
        folder = run / "trials" / asked.trial
        folder.mkdir(exist_ok=True, parents=True)
        (folder / "metrics.csv").write_text("epoch,valid_loss,valid_accuracy,seconds\n9,0.5,0.5,1.0\n")
        (folder / "best.safetensors").write_text("trained here")
        record.complete(asked.trial, 9, 0.5)
    return 0


@pytest.fixture
def taken_over(tmp_path: Path) -> TakenOver:
    return TakenOver(tmp_path / "home")


def killed(taken_over: TakenOver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between claim and catch-up."""


def cut_off(taken_over: TakenOver, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link fails after the studies."""

    def read(self: Storage, name: str, whole: Callable[[Storage, str], bytes | None] = Storage.read) -> bytes | None:
        if name.startswith("trials"):
            raise OSError("AWS Error SLOW_DOWN")
        return whole(self, name)

    monkeypatch.setattr(Storage, "read", read)
    with pytest.raises(
        UserError, match=r"/there/run does not do what it is asked \(.*\); give the same command again\.$"
    ):
        catch_up(taken_over.run, taken_over.storage)
    monkeypatch.undo()


@pytest.mark.parametrize("cut", [killed, cut_off])
@pytest.mark.parametrize("without", ["none", "another"])
def test_what_goes_on_without_its_storage_before_it_has_caught_up_is_another_state_there(
    taken_over: TakenOver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cut: Callable[[TakenOver, pytest.MonkeyPatch], None],
    without: str,
) -> None:
    run, storage = taken_over.run, taken_over.storage
    before = all_files(run)
    cut(taken_over, monkeypatch)
    assert all_files(run) == before and check(run, set())
    elsewhere = Storage(str(tmp_path / "another"), "run") if without == "another" else None
    assert while_mirrored(lambda: train(run), run, elsewhere, CONSOLE) == 0
    here, there = all_files(run), {name: storage.read(name) for name in storage.states()}
    for _ in range(2):
        with pytest.raises(UserError, match=ANOTHER):
            while_mirrored(lambda: train(run), run, storage, CONSOLE)
    assert all_files(run) == here and {name: storage.read(name) for name in storage.states()} == there
    run.rename(tmp_path / "moved")
    fetch(run, storage, CONSOLE)
    assert while_mirrored(lambda: train(run), run, storage, CONSOLE) == 0
    assert {trial.state for trial in stored_trials(run)} == {TrialState.COMPLETE, TrialState.PRUNED}


@pytest.mark.parametrize("cut", [killed, cut_off])
def test_the_same_command_again_catches_up(
    taken_over: TakenOver, monkeypatch: pytest.MonkeyPatch, cut: Callable[[TakenOver, pytest.MonkeyPatch], None]
) -> None:
    cut(taken_over, monkeypatch)
    assert while_mirrored(lambda: 0, taken_over.run, taken_over.storage, CONSOLE) == 0
    assert taken_over.has_caught_up() and not (taken_over.run / NEWS).exists()


def test_what_is_damaged_there_by_then_replaces_nothing(taken_over: TakenOver) -> None:
    run, storage, before = taken_over.run, taken_over.storage, mirrored_files(taken_over.run)
    storage.write(JOURNAL, b"{" + (storage.read(JOURNAL) or b""))
    with pytest.raises(UserError, match="/there/run cannot be gone on with: the study is damaged"):
        while_mirrored(lambda: 0, run, storage, CONSOLE)
    assert mirrored_files(run) == before and not (run / NEWS).exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", r", what came .*, does not fit .* \(.*\): move it away"),
        ("/trials", r", what came .*, does not fit .* \(.*\): move it away"),
        ("/trials/0000/config.json/x", "/trials/0000/config.json is a folder, where a run has a file: put that in its"),
    ],
)
def test_what_is_on_the_way_may_be_crafted(taken_over: TakenOver, name: str, said: str) -> None:
    run = taken_over.run
    path, before = Path(f"{run}/{NEWS}{name}"), mirrored_files(run)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("crafted")
    with pytest.raises(UserError, match=f"^{run}/{NEWS}{said}"):
        while_mirrored(lambda: 0, run, None, CONSOLE)
    assert mirrored_files(run) == before


@pytest.mark.forks
def test_a_sigkill_at_any_write_of_a_catch_up_leaves_a_run_that_goes_on_with_its_storage_and_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # no power is cut
    monkeypatch.setattr(files, "_sync_all", lambda path: None)
    points, settled = list[Point](), set[bool]()
    for number in count():
        taken_over, log = TakenOver(tmp_path / str(number)), tmp_path / f"{number}.points"
        run, storage = taken_over.run, taken_over.storage
        before = mirrored_files(run)
        process = os.fork()
        if process == 0:
            with suppress(BaseException):
                Watch(taken_over.home, lambda point, number=number: point.number == number, log).begin()  # type: ignore[misc]  # mypy: no defaults
                catch_up(run, storage)
                os._exit(0)
            os._exit(1)
        ended = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        if ended != -signal.SIGKILL:
            assert ended == 0 and taken_over.has_caught_up()
            points = points_of(log)
            break
        Mirror(run, storage).check()
        assert not is_behind(run)
        if number % 2:  # with its storage at once
            assert while_mirrored(lambda: 0, run, storage, CONSOLE) == 0
            assert taken_over.has_caught_up() and not (run / NEWS).exists()
            continue
        assert while_mirrored(lambda: 0, run, None, CONSOLE) == 0
        settled.add(taken_over.has_caught_up())
        assert check(run, set()) and (taken_over.has_caught_up() or mirrored_files(run) == before)
        assert while_mirrored(lambda: 0, run, storage, CONSOLE) == 0
        assert taken_over.has_caught_up()
    assert settled == {True, False}
    assert {Path(point.path).name for point in points} >= {RECORD, JOURNAL, NEWS, "metrics.csv"}
