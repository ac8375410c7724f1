"""A search without Ray, that dies at a chosen write point: the command itself, its study, scheduler, files and trials
are the real ones, and a kill is a SIGKILL.

Two things are put in place of others, so that hundreds of searches take minutes. Ray Tune is a loop that asks, judges
and tells in Ray's order, with one worker, a process forked from the driver's, which is replaced when it dies. And the
worker's `fit_parts` makes up its epochs, from configuration and epoch alone as the real one does.

A write point is a moment before one of the calls by which Python changes what is below a folder: a file is opened to
write, renamed, removed or cut, a folder made or removed; and one inside a write, whose file is then cut in the middle
of what was written. Between two of them a kill leaves what it leaves at the second.
"""

import json
import mmap
import os
import re
import signal
import socket
import struct
import sys
import traceback
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from itertools import count
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from ray.tune import Callback
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

import search.run
import search.session
import trainable.tune
from benchmarks.pictures import CLASSES
from search.cluster import Cluster, Resources
from search.scheduler import Scheduler
from search.tuning import Stop
from trainable.checkpoint import Best
from trainable.config import TrialConfig
from trainable.device import Device
from trainable.examples import Examples
from trainable.fit import WORST, Epoch, NonFiniteLossError, Row, merit
from trainable.network import build_network
from trainable.tune import ConvNetTrial, Shared

HOPELESS_LR = 1.0  # trials that learn faster than this fail
KILLED = -signal.SIGKILL  # how a process has ended
BROKEN = 70  # the exit code of a command that raised
WRITES = os.O_WRONLY | os.O_RDWR


@dataclass(frozen=True)
class Point:
    """A write point."""

    number: int  # among those of its command, driver and worker together, from 0
    worker: bool  # whether it is the worker's
    call: str  # open, write, rename, remove, mkdir, rmdir or truncate
    path: str  # below the folder; of a temporary file that of the file which it will be


class Watch:
    """Counts the write points of a process and of those forked from it, and kills where it is told to.

    Once begun it stays for the life of the process.

    Args:
        folder: below which they are.
        fatal: whether to kill at a point.
        log: where the points are noted, a line each, the last of which is that of a kill.
    """

    def __init__(self, folder: Path, fatal: Callable[[Point], bool], log: Path) -> None:
        self._folder = f"{folder}/"
        self._fatal = fatal
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._shared = mmap.mmap(-1, 4)  # the number of the next point
        self._driver = 0
        self._sizes: dict[str, int] = {}  # of files when they were opened to write, until they are on the disk

    def begin(self) -> None:
        """Watches this process from now on, as the driver."""
        self._driver = os.getpid()
        sys.addaudithook(self._hear)
        fsync = os.fsync

        def watched(descriptor: int) -> None:  # which tells the end of a write; no audit event does
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            if path in self._sizes:
                start = self._sizes.pop(path)
                self._reach("write", path, torn=start + (os.fstat(descriptor).st_size - start) // 2)
            fsync(descriptor)

        os.fsync = watched  # type: ignore[assignment]  # with descriptors, as all of ours have them

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if flags & WRITES and (inside := self._inside(path)):
                self._reach("open", inside)
                self._sizes.setdefault(inside, os.stat(inside).st_size if os.path.exists(inside) else 0)
        elif event == "os.rename" and (inside := self._inside(arguments[1])):
            self._reach("rename", inside)
        elif event == "os.mkdir" and (inside := self._inside(arguments[0])) and not os.path.exists(inside):
            self._reach("mkdir", inside)
        elif event in ("os.remove", "os.rmdir", "os.truncate"):
            beside = arguments[1] if event != "os.truncate" else -1  # shutil.rmtree names files beside an open folder
            if (inside := self._inside(arguments[0], beside)) and os.path.exists(inside):
                self._reach(event.removeprefix("os."), inside)

    def _inside(self, path: Any, beside: int = -1) -> str | None:
        """A path of the folder, as text. Args: beside: a descriptor of what it is relative to; -1 for none."""
        if isinstance(path, int):
            return None
        text = os.fsdecode(path)
        if beside != -1:
            text = f"{os.readlink(f'/proc/self/fd/{beside}')}/{text}"
        return text if text.startswith(self._folder) else None

    def _reach(self, call: str, path: str, torn: int | None = None) -> None:
        (number,) = struct.unpack("i", self._shared)
        self._shared[:] = struct.pack("i", number + 1)
        worker = os.getpid() != self._driver
        point = Point(number, worker, call, final_name(path.removeprefix(self._folder)))
        os.write(self._log, f"{number}\t{worker:d}\t{call}\t{point.path}\n".encode())
        if self._fatal(point):
            if torn is not None:
                self._folder = "\0"  # this process hears of nothing more
                os.truncate(path, torn)
            os.kill(os.getpid(), signal.SIGKILL)


def final_name(path: str) -> str:
    """The path that a temporary file will have: of a/.b.json.HOST.PROCESS-NUMBER.tmp it is a/b.json."""
    temporary = re.compile(rf"(^|/)\.([^/]+)\.{re.escape(socket.gethostname())}-[0-9]+\.[0-9]+-[0-9]+\.tmp$")
    return temporary.sub(r"\1\2", path)


def points_of(log: Path) -> list[Point]:
    """What a Watch has noted."""
    lines = [line.split("\t") for line in log.read_text().splitlines()]
    return [Point(int(number), worker == "1", call, path) for number, worker, call, path in lines]


def made_up_epochs(
    config: TrialConfig, parts: Sequence[Examples], device: Device, latest: dict[str, Any] | None = None
) -> Iterator[Epoch]:
    """In place of `fit_parts`: an epoch's numbers and network are drawn from it and the configuration, seed and all."""
    (examples,) = parts
    drawn_from = zlib.crc32(json.dumps(config.to_dict(), sort_keys=True).encode())
    same = {"config": config.to_dict(), "preprocessing": examples.preprocessing.to_json()}
    rows: list[Row] = list(latest["rows"]) if latest else []
    best = max((merit(row, config.objective) for row in rows), default=WORST)
    for epoch in range(len(rows) + 1, config.epochs + 1):
        if config.lr > HOPELESS_LR and epoch > 1:
            raise NonFiniteLossError(f"the training loss is inf in epoch {epoch}")
        rng = np.random.default_rng([drawn_from, epoch])
        weights = int(rng.integers(2**32))
        loss, accuracy = rng.uniform(1, 2), rng.uniform(0, 1)
        row = {"epoch": epoch, "train_loss": loss, "train_accuracy": accuracy, "valid_loss": loss}
        row |= {"valid_accuracy": accuracy, "lr": config.lr, "seconds": 0.5}
        rows.append(row)
        improved = merit(row, config.objective) > best
        best = max(best, merit(row, config.objective))
        yield Epoch(
            row,
            improved,
            torch.from_numpy(rng.standard_normal((len(examples.valid), CLASSES), dtype=np.float32)),
            networks=lambda epoch=epoch, weights=weights: (_network(config, examples, epoch, weights),),  # type: ignore[misc]  # mypy: no defaults
            latest=lambda: {**same, "rows": list(rows)},
        )


def _network(config: TrialConfig, examples: Examples, epoch: int, seed: int) -> Best:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        state = build_network(config, examples.preprocessing).state_dict()
    return Best(config, examples.preprocessing, state, epoch)


@dataclass(frozen=True)
class OneSlot(Cluster):
    """No Ray, but room for a trial."""

    def slots(self) -> int:
        return 1

    def crowded(self, at_once: int) -> list[str]:
        return []


class Worker:
    """A process that trains the trials which it is given; where it has died a new one, unless its driver dies with it.

    Args:
        alone: whether it dies without its driver.
    """

    def __init__(self, shared: Shared, alone: bool) -> None:
        self._shared, self._alone = shared, alone
        self._to: Connection | None = None
        self._process = 0

    def step(self, config: dict[str, Any]) -> dict[str, Any]:
        """The next epoch of a trial, after as many deaths as there may be."""
        while True:
            if self._to is None:
                self._start()
            assert self._to is not None
            try:
                self._to.send(config)
                result: dict[str, Any] = self._to.recv()
                return result
            except (EOFError, ConnectionError):
                if self.end() != KILLED:
                    raise RuntimeError("the worker has ended by itself") from None
                if not self._alone:
                    os.kill(os.getpid(), signal.SIGKILL)  # it has done nothing since

    def _start(self) -> None:
        self._to, its = Pipe()
        self._process = os.fork()
        if self._process:
            its.close()
            return
        try:
            self._to.close()
            self._live(its)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(0)

    def _live(self, its: Connection) -> None:
        trainable.tune.fit_parts = made_up_epochs  # type: ignore[attr-defined]
        trial = ConvNetTrial.__new__(ConvNetTrial)  # Ray's constructor asks Ray for its address
        config: dict[str, Any] = {}
        while True:
            try:
                wanted = its.recv()
            except EOFError:  # the driver has ended
                return
            if not config:
                trial.setup(wanted, self._shared)
            elif wanted != config:
                trial.reset_config(wanted)
            config = wanted
            its.send(trial.step())

    def end(self) -> int:
        """Ends the process, if there is one. Returns how it ended."""
        if self._to is None:
            return 0
        self._to.close()
        self._to = None
        _, status = os.waitpid(self._process, 0)
        return os.waitstatus_to_exitcode(status)


def tune_here(
    alone: bool,
    cluster: Cluster,
    shared: Shared,
    searcher: Searcher,
    scheduler: Scheduler,
    stop: Stop,
    callbacks: Sequence[Callback],
) -> None:
    """In place of `tune_trials`: the calls of Ray's controller, in its order.

    Args:
        alone: as of Worker; the others are those of `tune_trials`.
    """
    worker = Worker(shared, alone)
    for number in count():
        name = str(number)
        config = searcher.suggest(name)
        if config == Searcher.FINISHED:
            break
        trial = SimpleNamespace(config=config)
        while True:
            # Ray, too, counts the step of a failure, and the time; one slot asks for nothing ahead, however long.
            result = {"training_iteration": 0, "time_total_s": 1.0, **worker.step(config)}
            if stop(name, result) or stop.fault is not None:
                worker.end()
                return
            if not result["done"]:
                if scheduler.on_trial_result(None, trial, result) != TrialScheduler.STOP:
                    searcher.on_trial_result(name, result)
                    continue
            scheduler.on_trial_complete(None, trial, result)
            searcher.on_trial_complete(name, result=result)
            break
    worker.end()


def without_ray(alone: bool = False) -> None:
    """Has this process's searches train without Ray. Args: as of Worker."""
    search.session.clusters.start = lambda *options: OneSlot(Resources(1.0, 0.0), None, None, None)  # type: ignore[attr-defined]
    search.session.tune_trials = partial(tune_here, alone)  # type: ignore[attr-defined]


def command(arguments: Sequence[str], watch: Watch, alone: bool, said: Path) -> int:
    """Runs `search.run` in a process forked from this one, watched. Returns its exit code, or KILLED.

    It waits for the worker, too: a fork holds what its driver had open, the run's lock among it.

    Args:
        alone: as of Worker.
        said: a file to which what it says is added.
    """
    ends, held = os.pipe()  # by all that are forked until they end
    process = os.fork()
    if process:
        os.close(held)
        _, status = os.waitpid(process, 0)
        os.read(ends, 1)
        os.close(ends)
        return os.waitstatus_to_exitcode(status)
    code = BROKEN
    try:
        with open(said, "a") as text, redirect_stdout(text), redirect_stderr(text):
            try:
                without_ray(alone)
                watch.begin()
                code = search.run.main(arguments)
            except BaseException:
                traceback.print_exc()
    finally:  # whatever happens, a fork does not go on as this process
        os._exit(code)
