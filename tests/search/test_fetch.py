"""A run is brought from its mirror and goes on, whenever the machine that made it was lost."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from rich.console import Console

from results.leaderboard import read_metrics
from search import mirror as mirrors
from search import run as search_run
from search import storage as storages
from search.fetch import catch_up, fetch
from search.mirror import OWNER, Mirror, TakenOver
from search.mirrored import while_mirrored
from search.options import parser
from search.storage import Storage
from search.study import JOURNAL, StudyRecord, stored_trials
from tests.search.follow import Search
from trainable import files
from trainable.errors import UserError
from trainable.paths import trial_name

EPOCHS = 4
CONSOLE = Console(file=io.StringIO())


def writes(run: Path) -> Iterator[None]:
    """The writes of a search of four trials by a driver and two workers, one at a time, in turns."""
    record = Search(run).record
    files.write_json(run / "run.json", {"objective": "valid_loss"})
    turns = [training(run, record), training(run, record)]
    while turns:
        turn = turns.pop(0)
        try:
            yield next(turn)
        except StopIteration:
            if record.frozen()[-1].number < record.trials - 1:
                turns.append(training(run, record))
        else:
            turns.append(turn)


def training(run: Path, record: StudyRecord) -> Iterator[None]:
    """A trial's writes, as `trainable.tune` and `search.searcher` have them; each file says of which epoch it is."""
    asked = record.ask()
    assert asked is not None
    name = asked.trial
    folder = run / "trials" / name
    folder.mkdir(parents=True)
    files.write_json(folder / "config.json", asked.config.to_dict())
    yield
    rows = ["epoch,valid_loss,valid_accuracy,seconds"]
    last = EPOCHS - int(name) % 2  # every other trial is stopped
    for epoch in range(1, last + 1):
        rows.append(f"{epoch},{loss(name, epoch)},0.5,1.0")
        for file, content in (("best.safetensors", str(epoch)), ("metrics.csv", "\n".join(rows) + "\n")):
            files.write_text(folder / file, content)
            yield
        files.write_text(folder / "latest.pt", str(epoch))
        yield
        if epoch < last:
            record.report(name, epoch, loss(name, epoch))
            yield
    (record.complete if last == EPOCHS else record.prune)(name, last, loss(name, last))
    yield
    (folder / "latest.pt").unlink()
    yield


def loss(name: str, epoch: int) -> float:
    return 2.0 - int(name) / 10 - epoch / 7


class Cut(Exception):
    """The driver's machine is lost."""


class Cutting(Storage):
    """A folder beside which the run goes on at each write, until the last that it takes.

    Args:
        takes: how many writes.
        steps: of the run, between two.
    """

    def __init__(self, place: Path, takes: int, steps: int, run: Iterator[None]) -> None:
        super().__init__(str(place), "run")
        self.takes, self.steps, self.run = takes, steps, run
        self.had: set[str] = set()  # files

    def go_on(self) -> bool:
        """Whether the run went on."""
        return any([next(self.run, self) is not self for _ in range(self.steps)])

    def write(self, name: str, content: bytes) -> None:
        if not self.takes:
            raise Cut
        self.takes -= 1
        super().write(name, content)
        self.had.add(name)
        self.go_on()

    def remove(self, name: str) -> None:
        super().remove(name)
        self.go_on()


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_run_can_be_made_of_what_is_at_the_storage_after_any_write(
    steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    for takes in range(2, 1000, 4):
        home = tmp_path / str(takes)
        home.mkdir()
        run = home / "run"
        run.mkdir()
        storage = Cutting(home / "there", takes, steps, writes(run))
        monkeypatch.setattr(mirrors, "_by_folder", partial(gone_on_and_listed, storage))
        mirror = Mirror(run, storage)
        mirror.claim()
        try:
            while storage.go_on():
                mirror.round()
            mirror.round()
            over = True
        except Cut:
            over = False
        monkeypatch.undo()
        fetched = home / "elsewhere" / "run"
        fetch(fetched, Storage(str(home / "there"), "run"), CONSOLE)
        if fetched.exists():
            seen |= check(fetched, storage.had)
        if over:
            break
    assert over and seen == {TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING}


def gone_on_and_listed(storage: Cutting, run: Path, listed: Any = mirrors._by_folder) -> Any:
    storage.go_on()
    return listed(run)


def check(run: Path, had: set[str]) -> set[TrialState]:
    """That a run is what a killed driver leaves, of files that its storage had. Returns the states of its trials."""
    trials = stored_trials(run)
    assert {path.name for path in (run / "trials").iterdir()} <= {trial_name(trial.number) for trial in trials}
    for trial in trials:
        folder = run / "trials" / trial_name(trial.number)
        epochs = [int(row["epoch"]) for row in read_metrics(folder / "metrics.csv")]
        latest = int((folder / "latest.pt").read_text()) if (folder / "latest.pt").exists() else 0
        best = int((folder / "best.safetensors").read_text()) if (folder / "best.safetensors").exists() else 0
        assert best >= len(epochs) >= latest
        assert epochs == list(range(1, len(epochs) + 1))
        if trial.state == TrialState.RUNNING:  # it has heard of all epochs but perhaps the last
            assert latest or f"trials/{folder.name}/latest.pt" not in had
            assert set(epochs[:-1]) <= set(trial.intermediate_values) <= set(epochs)
            for epoch, value in trial.intermediate_values.items():
                assert value == loss(folder.name, epoch)
        else:
            assert epochs == sorted(trial.intermediate_values) and best == len(epochs)
    return {trial.state for trial in trials}


@pytest.fixture
def mirrored(tmp_path: Path) -> Storage:
    """Of a run with a trial under way."""
    run = tmp_path / "here" / "run"
    run.mkdir(parents=True)
    going = writes(run)
    for _ in range(9):
        next(going)
    storage = Storage(str(tmp_path / "there"), "run")
    mirror = Mirror(run, storage)
    mirror.claim()
    mirror.round()
    return storage


def test_a_fetched_run_is_the_storages_from_then_on(mirrored: Storage, tmp_path: Path) -> None:
    run, before = tmp_path / "elsewhere" / "run", mirrored.read(OWNER)
    fetch(run, mirrored, CONSOLE)
    fetch(run, mirrored, CONSOLE)  # it has begun
    assert mirrored.read(OWNER) == before
    mirror = claimed(run, mirrored)
    assert mirrored.read(OWNER) not in (before, None)
    mirror.round()
    assert mirror.written <= 1  # the study, where it has been told what its files knew
    with pytest.raises(UserError, match="is another state of the run"):
        Mirror(tmp_path / "here" / "run", mirrored).claim()


def test_a_fetched_run_whose_machine_goes_on_after_all_is_another_state(mirrored: Storage, tmp_path: Path) -> None:
    run = tmp_path / "elsewhere" / "run"
    fetch(run, mirrored, CONSOLE)
    Mirror(tmp_path / "here" / "run", mirrored).claim()
    with pytest.raises(UserError, match=r"is another state of the run .*: .* Move this folder away to go on with that"):
        Mirror(run, mirrored).claim()


def claimed(run: Path, storage: Storage) -> Mirror:
    """The mirror of a folder that becomes the one there, as `while_mirrored` has it."""
    Mirror(run, storage).claim()
    catch_up(run, storage)
    return Mirror(run, storage)


@pytest.mark.parametrize("between", ["fetched", "claimed"])
def test_what_its_last_driver_wrote_meanwhile_is_not_lost(between: str, tmp_path: Path) -> None:
    here, run, storage = tmp_path / "here" / "run", tmp_path / "run", Storage(str(tmp_path / "there"), "run")
    here.mkdir(parents=True)
    going = writes(here)
    for _ in range(9):
        next(going)
    last = Mirror(here, storage)
    last.claim()
    last.round()
    fetch(run, storage, CONSOLE)
    before = len(stored_trials(run))
    if between == "claimed":  # a kill before it was caught up with
        Mirror(run, storage).claim()
        storage.write(OWNER, last._known.owner.encode())  # in the midst of its round
    list(going)
    last.round()
    mirror = claimed(run, storage)
    assert before < len(stored_trials(run)) == 4
    assert {trial.state for trial in stored_trials(run)} == {TrialState.COMPLETE, TrialState.PRUNED}
    assert check(run, set()) and not list(run.rglob("latest.pt"))
    mirror.round()
    assert mirror.written == 0
    with pytest.raises(TakenOver):
        put_more(here)
        last.round()


def put_more(run: Path) -> None:
    (run / "leaderboard.csv").write_text("trial\n")


def test_a_fetched_folder_that_went_on_by_itself_is_another_state(mirrored: Storage, tmp_path: Path) -> None:
    run, before = tmp_path / "elsewhere" / "run", mirrored.read(OWNER)
    fetch(run, mirrored, CONSOLE)
    record = Search(run).record  # as with --storage none
    asked = record.ask()
    assert asked is not None
    record.fail(asked.trial, "")
    with pytest.raises(UserError, match="is another state of the run"):
        Mirror(run, mirrored).claim()
    assert mirrored.read(OWNER) == before


def empty(run: Path) -> None:
    """As `rm -r run/*` does."""
    for path in run.glob("[!.]*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def empty_and_begin_anew(run: Path) -> None:
    """As with --storage none."""
    empty(run)
    for _, _ in zip(range(9), writes(run), strict=False):
        pass


def bring_back_an_older_state(run: Path) -> None:
    """As a backup does."""
    journal = (run / JOURNAL).read_bytes()
    (run / JOURNAL).write_bytes(journal[: journal.rstrip().rfind(b"\n") + 1])


@pytest.mark.parametrize("lose", [empty, empty_and_begin_anew, bring_back_an_older_state])
def test_a_folder_that_has_lost_trials_takes_them_from_no_mirror(
    mirrored: Storage, tmp_path: Path, lose: Callable[[Path], None]
) -> None:
    run, there = tmp_path / "here" / "run", {name: mirrored.read(name) for name in mirrored.states()}
    lose(run)
    with pytest.raises(UserError) as told:
        while_mirrored(lambda: 0, run, mirrored, CONSOLE)
    assert str(told.value) == (
        f"--storage: {mirrored.shown} has trials that {run} has not: files are lost here, or older. Move this folder "
        "away and bring them by --resume run, or choose another place or another --name."
    )
    if lose is empty:
        with pytest.raises(
            UserError, match="^--storage: .*/there/run is a run, but .*/run is in its way here; move th"
        ):
            fetch(run, mirrored, CONSOLE)
    assert {name: mirrored.read(name) for name in mirrored.states()} == there
    run.rename(tmp_path / "moved")
    fetch(run, mirrored, CONSOLE)
    claimed(run, mirrored).round()
    assert check(run, set()) == {TrialState.RUNNING}
    assert {name for name in there if name != OWNER} == set(mirrors.states(run))


def confirm(run: Path) -> Path:
    """Begins a confirmation, if only an epoch of its first trial. Returns its study."""
    tier = run / "confirm" / "1"
    tier.mkdir(parents=True, exist_ok=True)
    next(training(tier, Search(tier).record))
    return tier / JOURNAL


def test_a_folder_from_before_its_confirmation_takes_that_from_no_mirror(mirrored: Storage, tmp_path: Path) -> None:
    run = tmp_path / "here" / "run"
    confirm(run)
    claimed(run, mirrored).round()
    study = mirrored.read(f"confirm/1/{JOURNAL}")
    claimed(run, mirrored)
    (run / "confirm").rename(tmp_path / "before")  # as where a backup of before is brought back
    with pytest.raises(UserError) as told:
        Mirror(run, mirrored).claim()
    assert str(told.value) == (
        f"--storage: {mirrored.shown} has trials in confirm that {run} has not: files are lost here, or older. Move "
        f"this folder away and bring them by --resume run, delete {mirrored.shown}/confirm to begin that anew, or "
        "choose another place or another --name."
    )
    assert study and mirrored.read(f"confirm/1/{JOURNAL}") == study
    shutil.rmtree(f"{mirrored.shown}/confirm")
    second = confirm(run)
    claimed(run, mirrored).round()
    assert mirrored.read(f"confirm/1/{JOURNAL}") == second.read_bytes() != study


def test_a_confirmation_that_failed_before_its_first_trial_may_be_another(mirrored: Storage, tmp_path: Path) -> None:
    run = tmp_path / "here" / "run"
    tier = run / "confirm" / "1"
    tier.mkdir(parents=True)
    Search(tier)
    claimed(run, mirrored).round()
    asked = mirrored.read(f"confirm/1/{JOURNAL}")
    (tier / JOURNAL).unlink()  # as the next command does, which is killed before the next round
    study = confirm(run)
    assert asked and not study.read_bytes().startswith(asked)
    claimed(run, mirrored).round()
    assert mirrored.read(f"confirm/1/{JOURNAL}") == study.read_bytes()


def test_a_run_that_failed_before_its_first_trial_begins_anew(tmp_path: Path) -> None:
    run, storage = tmp_path / "run", Storage(str(tmp_path / "there"), "run")
    for _ in range(2):  # a study each
        run.mkdir(exist_ok=True)
        (run / "run.json").write_text('{"objective": "valid_loss"}')
        (run / JOURNAL).unlink(missing_ok=True)
        Search(run)
        fetch(run, storage, CONSOLE)
        assert while_mirrored(lambda: 0, run, storage, CONSOLE) == 0
        assert storage.read(JOURNAL) == (run / JOURNAL).read_bytes()


def test_a_trial_that_its_study_did_not_know_when_it_was_fetched_is_brought_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, run, storage = tmp_path / "here" / "run", tmp_path / "run", Storage(str(tmp_path / "there"), "run")
    here.mkdir(parents=True)
    record = Search(here).record
    files.write_json(here / "run.json", {"objective": "valid_loss"})
    next(training(here, record))
    last = Mirror(here, storage)
    last.claim()
    last.round()
    second = training(here, record)
    for _ in range(4):
        next(second)

    def write(self: Storage, name: str, content: bytes, write: Callable[..., None] = Storage.write) -> None:
        if name == JOURNAL:
            raise Cut
        write(self, name, content)

    with monkeypatch.context() as cut, pytest.raises(Cut):
        cut.setattr(Storage, "write", write)
        last.round()
    fetch(run, storage, CONSOLE)
    assert not (run / "trials" / "0001").exists()
    last.round()
    claimed(run, storage)
    assert mirrors.states(run / "trials").keys() == mirrors.states(here / "trials").keys()


def test_what_a_storage_does_not_do_is_told_with_what_else_there_is(
    mirrored: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, fetched = tmp_path / "here" / "run", tmp_path / "elsewhere" / "run"
    fetch(fetched, mirrored, CONSOLE)
    monkeypatch.setattr(Storage, "write", lambda self, name, content: 1 / 0)
    said = f"--storage: {mirrored.shown} does not do what it is asked (division by zero); give the same command again"
    for folder, what in ((run, f"{said}, or --storage none."), (fetched, f"{said}.")):
        with pytest.raises(UserError) as told:
            Mirror(folder, mirrored).claim()
        assert str(told.value) == what


def test_a_fetched_folder_that_was_looked_at_is_gone_on_with(mirrored: Storage, tmp_path: Path) -> None:
    run = tmp_path / "elsewhere" / "run"
    fetch(run, mirrored, CONSOLE)
    put_more(run)
    (run / "trials" / "0000" / "config.json").write_text("{}")
    mirror = claimed(run, mirrored)
    mirror.round()
    for name in ("leaderboard.csv", "trials/0000/config.json"):
        assert mirrored.read(name) == (run / name).read_bytes()


def all_files(run: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != mirrors.RECORD}


@pytest.mark.parametrize("when", ["before it is claimed", "when it is claimed"])
def test_a_mirror_that_is_gone_takes_nothing_from_what_was_fetched(
    mirrored: Storage, tmp_path: Path, when: str
) -> None:
    run = tmp_path / "elsewhere" / "run"
    fetch(run, mirrored, CONSOLE)
    fetched = all_files(run)
    if when == "when it is claimed":
        Mirror(run, mirrored).claim()
    shutil.rmtree(tmp_path / "there")
    if when == "when it is claimed":
        with pytest.raises(UserError, match=r"^--storage: the run that was at .*/there/run has gone; give "):
            catch_up(run, mirrored)
    mirror = claimed(run, mirrored)
    mirror.round()
    assert all_files(run) == fetched and mirror.written == len(mirrors.states(run)) == len(mirrored.states()) - 1


def test_a_name_that_is_taken_there_is_refused_with_what_to_do(mirrored: Storage, tmp_path: Path) -> None:
    before, command = mirrored.read(OWNER), ["--space", "depth", "--out", str(tmp_path / "c"), "--name", "run"]
    with pytest.raises(
        UserError, match=r"^--storage: .*/there/run is a run already, made elsewhere; .*--resume run, or .*--name\.$"
    ):
        search_run._command(
            {**vars(parser().parse_args([*command, "--storage", str(tmp_path / "there")])), "command": ""}, 0.0
        )
    assert mirrored.read(OWNER) == before and not (tmp_path / "c").exists()


def test_a_run_that_has_not_begun_comes_once(tmp_path: Path) -> None:
    storage, run = Storage(str(tmp_path / "there"), "run"), tmp_path / "elsewhere" / "run"
    fetch(run, storage, CONSOLE)
    assert not run.exists()
    first = tmp_path / "here" / "run"
    first.mkdir(parents=True)
    Search(first)
    (first / "run.json").write_text('{"objective": "valid_loss"}')
    mirror = Mirror(first, storage)
    mirror.claim()
    mirror.round()
    for _ in range(2):
        fetch(run, storage, CONSOLE)
        assert (run / JOURNAL).read_bytes() == (first / JOURNAL).read_bytes()


def test_a_folder_in_the_way_is_left_as_it_is(mirrored: Storage, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "cat.jpg").touch()
    before = mirrored.read(OWNER)
    with pytest.raises(UserError, match="^--storage: .*/there/run is a run, but .*/run is in its way here; move that"):
        fetch(tmp_path / "run", mirrored, CONSOLE)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["cat.jpg"] and mirrored.read(OWNER) == before


def test_a_fetch_that_fails_leaves_nothing(mirrored: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: Storage, name: str, whole: Callable[[Storage, str], bytes | None] = Storage.read) -> bytes | None:
        if name.startswith("trials"):
            raise OSError("AWS Error SLOW_DOWN")
        return whole(self, name)

    out, before = tmp_path / "elsewhere", mirrored.read(OWNER)
    monkeypatch.setattr(Storage, "read", read)
    with pytest.raises(
        UserError, match=r"^--storage: .*/there/run does not do what it is asked \(AWS Error SLOW_DOWN\);"
    ):
        fetch(out / "run", mirrored, CONSOLE)
    assert list(out.iterdir()) == [] and mirrored.read(OWNER) == before


def test_a_link_at_a_storage_is_told_and_not_followed(mirrored: Storage, tmp_path: Path) -> None:
    assert mirrored.folder is not None
    (tmp_path / "secret").write_text("secret")
    (mirrored.folder / "trials" / "0000" / "notes.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(
        UserError, match=r"^--storage: .*/there/run does .* \(.*/0000/notes\.txt is a symbolic link, .*\.$"
    ):
        fetch(tmp_path / "elsewhere" / "run", mirrored, CONSOLE)
    assert not list((tmp_path / "elsewhere").iterdir())


READER = """
from search import cli, run, storage

def read(self, name, read=storage.Storage.read):
    if name != storage.PROBE:
        print(name, flush=True)
    return read(self, name)

storage.Storage.read = read
cli.process(run.main)
"""


def test_a_storage_that_no_longer_answers_is_left_by_a_signal_and_in_time(
    mirrored: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mirrored.folder is not None
    (mirrored.folder / JOURNAL).unlink()
    os.mkfifo(mirrored.folder / JOURNAL)  # nobody will ever write into it
    out, before = tmp_path / "elsewhere", mirrored.read(OWNER)
    process = subprocess.Popen(
        [sys.executable, "-c", READER, "--resume", "run", "--out", str(out), "--storage", str(tmp_path / "there")],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == f"{JOURNAL}\n"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=300)[1].startswith("Terminated.") and process.returncode == 143

    monkeypatch.setattr(storages, "ANSWER_SECONDS", 0.2)
    with pytest.raises(UserError, match=r"/there/run does not do what it is asked \(it does not answer within 0 s\);"):
        fetch(out / "run", mirrored, CONSOLE)
    assert not out.exists() and mirrored.read(OWNER) == before


def test_what_no_mirror_has_is_not_fetched(mirrored: Storage, tmp_path: Path) -> None:
    for name in ("tune/tuner.pkl", ".lock", "trials/0000/.x", "trials/notes.txt"):
        mirrored.write(name, b"")
    run = tmp_path / "elsewhere" / "run"
    fetch(run, mirrored, CONSOLE)
    assert not {"tuner.pkl", ".lock", ".x"} & {path.name for path in run.rglob("*")}


DRIVER = "from search import mirrored, run; mirrored.EVERY_SECONDS = 0.2; run.main()"


def test_a_search_whose_machine_is_lost_goes_on_elsewhere(
    tiny: str, cache: Path, cluster: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--storage", str(tmp_path / "there"), "--cache", str(cache), "--address", cluster, "--gpus-per-trial", "0"]
    options = ["--space", tiny, "--trials", "2", "--epochs", "12", "--sampler", "random", "--scheduler", "none"]
    command = ["--out", str(tmp_path / "lost"), "--name", "run", "--max-concurrent", "1", *options, *place]
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, *command],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.DEVNULL,
    )
    there, deadline = tmp_path / "there" / "run", time.monotonic() + 300
    while not (there / "trials" / "0000" / "latest.pt").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    shutil.rmtree(tmp_path / "lost")
    known = len(read_metrics(there / "trials" / "0000" / "metrics.csv"))

    assert search_run.main(["--resume", "run", "--out", str(tmp_path / "found"), *place]) == 0
    run, said = tmp_path / "found" / "run", capsys.readouterr().out
    assert "of the run 'run' from" in said and "Going on with 1 unfinished trial." in said
    assert [trial.state for trial in stored_trials(run)] == [TrialState.COMPLETE] * 2
    for trial in stored_trials(run):
        metrics = read_metrics(run / "trials" / trial_name(trial.number) / "metrics.csv")
        assert [row["epoch"] for row in metrics] == list(range(1, 13))
        assert [row["valid_accuracy"] for row in metrics] == list(trial.intermediate_values.values())
    with open(run / "tune" / "0000" / "result.json") as file:
        trained = [line for line in map(json.loads, file) if "kept_seconds" in line]
    assert known and len(trained) <= 12 + 1
    assert Storage(str(tmp_path / "there"), "run").read("leaderboard.csv") == (run / "leaderboard.csv").read_bytes()


def test_a_study_that_is_damaged_there_is_one_sentence(mirrored: Storage, tmp_path: Path) -> None:
    before, journal = mirrored.read(OWNER), mirrored.read(JOURNAL)
    assert journal is not None
    mirrored.write(JOURNAL, b"{" + journal)
    with pytest.raises(UserError) as told:
        fetch(tmp_path / "elsewhere" / "run", mirrored, CONSOLE)
    assert str(told.value).startswith(
        f"--storage: what is at {mirrored.shown} cannot be gone on with: the study is dam"
    )
    assert not list((tmp_path / "elsewhere").iterdir()) and mirrored.read(OWNER) == before


@pytest.mark.parametrize("content", [b"[" * 100_000, b"[]", b"{}"])
def test_a_record_that_is_damaged_there_is_one_sentence(mirrored: Storage, tmp_path: Path, content: bytes) -> None:
    mirrored.write("run.json", content)
    with pytest.raises(UserError, match=r"^--storage: what is at .*/run cannot .*: run\.json is missing or damaged \("):
        fetch(tmp_path / "elsewhere" / "run", mirrored, CONSOLE)
    assert not list((tmp_path / "elsewhere").iterdir())
