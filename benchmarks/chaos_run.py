"""One search over which the faults of a schedule come, until it says that it is done."""

import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from optuna.storages.journal._storage import JournalOperation

from benchmarks.chaos_check import History, Told, acknowledged, check
from benchmarks.chaos_nodes import Marked, NodeError, Nodes, kill, wait_for
from benchmarks.chaos_schedule import EPOCHS, KINDS, TRIALS, Fault, Schedule
from benchmarks.figures import ROOT
from search.cli import FAILED, FAILED_TRIALS, INTERRUPTED, TERMINATED, USAGE
from search.study import JOURNAL
from trainable.files import write_text

NAME = "run"
SEED = 5  # of the searches: a trial is the same in all of them
DISK_MB = 64  # of the disk that gets full
LIMIT_SECONDS = 900.0  # for one schedule, on a machine however busy
DAY_SECONDS = 86400.0
PATIENCE_SECONDS = 20.0  # for workers to end with their driver
FILLER = "filler"
DIED = "its worker died; it goes on"  # as search.progress says it
SENTENCE, KILLED = (FAILED, USAGE), (-signal.SIGKILL,)
ENDS: Mapping[str, tuple[int, ...]] = {  # the codes with which a command may end under each fault, but for its own
    **dict.fromkeys(("disk", "cut", "node", "head", "memory"), SENTENCE),
    **dict.fromkeys(("driver", "torn", "journal"), KILLED),
    "signal": (INTERRUPTED, TERMINATED, -signal.SIGINT, -signal.SIGTERM),  # the last two: before Python handles them
    **dict.fromkeys(("worker", "clock"), ()),
}
TORN = ("latest.pt", "best.safetensors", "logits.npz", "metrics.csv")

SPACE = """
from spaces.space import Space
from trainable.config import TrialConfig

NANS = {nans}

def sample(trial):
    lr = trial.suggest_float("lr", 1e-4, 1e-2, log=True)
    lr, optimizer = (1e30, "sgd") if trial.number in NANS else (lr, "adam")
    return TrialConfig(
        depth=4, widths=(4, 8, 8, 8), dropout=(0.0, 0.0, 0.0, 0.1), optimizer=optimizer, lr=lr, batch_size=32
    )

SPACE = Space("chaos", "a network of four narrow convolutions", sample)
"""

# Python runs a module of this name before anything else, in the workers as well.
CLOCK = """
import time

true_time = time.time

def jumped():
    try:
        with open({path!r}) as file:
            return true_time() + float(file.read())
    except (OSError, ValueError):
        return true_time()

time.time = jumped
"""


@dataclass(frozen=True)
class Outcome:
    """How a search came through."""

    line: str  # the schedule
    happened: list[str]  # the faults that came before its end
    sessions: int  # commands that it took
    deaths: int  # of workers whose trials went on, as the commands said
    seconds: float
    wrong: list[str]  # nothing, if it came through


class Place:
    """Where searches run, one after the other.

    Args:
        folder: for all that is written.
        disk: whether the runs are to be on a disk of their own, which can be filled; only root may.
    Attributes:
        marked: the processes of the searches, and of the cluster that they join.
        nodes: that cluster, for a search on two nodes.
    """

    def __init__(self, folder: Path, disk: bool) -> None:
        self.folder = folder
        self.runs = folder / "runs"
        self.runs.mkdir()
        self._disk = disk
        if disk:
            # Before any cluster starts: a network namespace has the mounts that there were when it was entered.
            mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "none", str(self.runs)]
            subprocess.run(mount, check=True)
        hook = folder / "hook"
        hook.mkdir()
        (hook / "sitecustomize.py").write_text(CLOCK.format(path=str(folder / "clock")))
        self.marked = Marked({"PYTHONPATH": f"{hook}:{ROOT}", "RAY_TMPDIR": str(folder)})
        self.nodes: Nodes | None = None

    def jump(self, seconds: float) -> None:
        """From now on the clock is so far ahead."""
        write_text(self.folder / "clock", str(seconds))

    def fill(self) -> None:
        """From now on nothing can be written to the runs' disk."""
        _fill(self.runs / FILLER)

    def empty(self) -> None:
        """There is room again."""
        (self.runs / FILLER).unlink(missing_ok=True)

    def close(self) -> None:
        """Ends what is left of the processes, and the disk with its runs."""
        self.marked.kill()
        if self._disk:
            subprocess.run(["umount", "--lazy", str(self.runs)], check=True)


@dataclass
class Siege:
    """A search under a schedule's faults."""

    schedule: Schedule
    place: Place
    folder: Path  # of this search
    faults: deque[Fault] = field(default_factory=deque)
    undo: list[tuple[float, Callable[[], None]]] = field(default_factory=list)  # time.monotonic(), what ends a fault
    happened: list[Fault] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)  # a trial for each of its files
    before: list[Mapping[str, Told]] = field(default_factory=list)  # as the study was at each command's end
    sessions: int = 0
    reached: float | None = None  # seconds since the command began: when the next fault's epochs were there

    @property
    def run(self) -> Path:
        return self.place.runs / NAME

    def come_through(self, unbroken: History | None) -> Outcome:
        """Gives the command until it says that the search is done, and checks what it has left.

        Args:
            unbroken: what is to be compared with; None: this is it.
        """
        began = time.monotonic()
        self.folder.mkdir(parents=True)
        (self.folder / "space.py").write_text(SPACE.format(nans=set(self.schedule.nans)))
        self.faults.extend(self.schedule.faults)
        try:
            wrong = self._commands(began + LIMIT_SECONDS)
            if not wrong:
                kills = sum(KINDS[fault.kind].kills for fault in self.happened)
                wrong = check(self.run, kills, self.torn, self.before, unbroken)
        except NodeError as error:
            wrong = [str(error)]
        finally:
            self.place.jump(0)
        shutil.copytree(self.run, self.folder / NAME)
        shutil.rmtree(self.run)
        came = [str(fault) for fault in self.happened]
        deaths = sum(log.read_text(errors="replace").count(DIED) for log in self.folder.glob("said*.txt"))
        return Outcome(str(self.schedule), came, self.sessions, deaths, round(time.monotonic() - began, 1), wrong)

    def _commands(self, deadline: float) -> list[str]:
        """Gives the command again and again. Returns what is wrong with how it ended."""
        while self.sessions <= len(self.schedule.faults) + 1:
            known = len(self.happened)
            code, said = self._command(deadline)
            if code is None:
                return [f"it did not end within {LIMIT_SECONDS:g} s: {_last(said)}"]
            if "Traceback" in said:
                return [f"it ended with code {code} and a traceback: {_last(said)}"]
            with suppress(FileNotFoundError):
                self.before.append(acknowledged(self.run))
            if code in (0, FAILED_TRIALS):
                left = f"a worker has outlived the command by {PATIENCE_SECONDS:g} s"
                return [] if wait_for(lambda: not self.place.marked.workers(), PATIENCE_SECONDS) else [left]
            if len(self.happened) == known:
                return [f"it ended with code {code}, and nothing had happened: {_last(said)}"]
            if not any(code in ENDS[fault.kind] for fault in self.happened[known:]):
                return [f"it ended with code {code}: {_last(said)}"]
        return [f"it was not done after {self.sessions} commands: {_last(said)}"]

    def _command(self, deadline: float) -> tuple[int | None, str]:
        """Gives the command once. Returns its exit code, None where it had to be ended; and what it has said."""
        self.sessions += 1
        self.reached = None
        joined = ["--address", self.place.nodes.address] if self.place.nodes else []
        options = ["--space", str(self.folder / "space.py"), "--trials", str(TRIALS), "--epochs", str(EPOCHS)]
        options += ["--sampler", "random", "--scheduler", self.schedule.scheduler, "--seed", str(SEED)]
        options += ["--max-concurrent", "2", "--gpus-per-trial", "0", *joined]
        options += ["--out", str(self.run.parent), "--name", NAME, "--cache", str(self.place.folder / "cache")]
        prefix = self.place.nodes.prefix(0) if self.place.nodes else []
        environment = self.place.nodes.environment if self.place.nodes else self.place.marked.environment
        log = self.folder / f"said{self.sessions}.txt"
        with open(log, "wb") as file:
            command = [*prefix, sys.executable, "-u", "-m", "search.run", *options]
            process = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
        began = time.monotonic()
        try:
            while process.poll() is None:
                now = time.monotonic()
                if now > deadline:
                    return None, log.read_text(errors="replace")
                self._put_right(now)
                if self.faults and self._is_due(self.faults[0], now - began):
                    self._bring(self.faults.popleft(), process, now)
                    self.reached = None
                time.sleep(0.02)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            self._put_right(float("inf"))
            if self.place.nodes:
                self.place.nodes.ready()
        return process.returncode, log.read_text(errors="replace")

    def _put_right(self, now: float) -> None:
        """Ends the faults whose time has come."""
        for moment, end in list(self.undo):
            if moment <= now:
                self.undo.remove((moment, end))
                end()

    def _is_due(self, fault: Fault, seconds: float) -> bool:
        """Args: seconds: since the command began."""
        if fault.epochs == 0:
            return seconds >= fault.seconds
        if self.reached is None and epochs_told(self.run / JOURNAL) >= fault.epochs:
            self.reached = seconds
        return self.reached is not None and seconds - self.reached >= fault.seconds

    def _bring(self, fault: Fault, process: "subprocess.Popen[bytes]", now: float) -> None:
        """Lets a fault happen, or nothing where there is nothing that it could happen to."""
        chance, nodes = fault.chance, self.place.nodes
        if fault.kind in ("node", "head", "cut", "memory"):
            assert nodes is not None
            if fault.kind == "head":
                nodes.kill_head()
            elif fault.kind == "node":
                nodes.kill_other()
                self.undo.append((now + 6 * chance, nodes.mend))
            elif fault.kind == "cut":
                nodes.cut()
                self.undo.append((now + 1 + 14 * chance, nodes.mend))
            else:
                nodes.choke()
                self.undo.append((now + 2 + 2 * chance, nodes.let_breathe))
        elif fault.kind == "worker":
            workers = self.place.marked.workers()
            if not workers:
                return
            kill(workers[int(chance * len(workers))], signal.SIGKILL)
        elif fault.kind == "clock":
            self.place.jump((2 * chance - 1) * DAY_SECONDS)
        elif fault.kind == "disk":
            self.place.fill()
            self.undo.append((now + 1 + 4 * chance, self.place.empty))
        elif fault.kind == "signal":
            process.send_signal(signal.SIGINT if chance < 0.5 else signal.SIGTERM)
        else:
            process.kill()
            process.wait()
            if fault.kind != "driver":
                # Nobody may write what is damaged now.
                wait_for(lambda: not self.place.marked.workers(), PATIENCE_SECONDS)
                if not (self._tear(chance) if fault.kind == "torn" else cut_line(self.run / JOURNAL, chance)):
                    fault = Fault("driver", fault.epochs, fault.seconds, fault.chance)
        self.happened.append(fault)

    def _tear(self, chance: float) -> bool:
        """Damages a file of an open trial. Returns whether there was one."""
        open_trials = sorted(self.run.glob("trials/*/latest.pt"))
        files = [path.parent / name for path in open_trials for name in TORN if (path.parent / name).exists()]
        if not files:
            return False
        rng = np.random.default_rng(int(1000 * chance))
        path = files[int(rng.integers(len(files)))]
        content = path.read_bytes()
        at = int(rng.integers(len(content)))
        path.write_bytes(content[:at] if rng.random() < 0.5 else content[:at] + rng.bytes(len(content) - at))
        self.torn.append(path.parent.name)
        return True


def epochs_told(journal: Path) -> int:
    """How many epochs the study has been told of."""
    word = f'"op_code":{JournalOperation.SET_TRIAL_INTERMEDIATE_VALUE.value}'.encode()
    return journal.read_bytes().count(word) if journal.exists() else 0


def cut_line(journal: Path, chance: float) -> bool:
    """Leaves of a journal's last line a part without its end, as of a writer that was killed; or lets half a line
    follow it. Returns whether there was a line."""
    if not journal.exists():
        return False
    content = journal.read_bytes()
    last = content.splitlines(keepends=True)[-1:] or [b""]
    if len(last[0]) < 2:
        return False
    part = last[0][: 1 + int(chance * (len(last[0]) - 1))].rstrip(b"\n")
    journal.write_bytes((content if chance < 0.5 else content[: -len(last[0])]) + part)
    return True


def _fill(path: Path) -> None:
    """Writes until nothing more fits on the disk."""
    with suppress(OSError), open(path, "ab", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))


def _last(said: str) -> str:
    return said.strip()[-1500:]
