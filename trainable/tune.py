"""The door to Ray: a `tune.Trainable` around the training loop, one step an epoch.

A trial's own folder is its record: metrics, the best epoch with its logits, and the latest epoch to resume from. So a
trial goes on wherever its actor or the whole search died, and Ray's own checkpoints are not needed. It is at the
driver; on other nodes its files are a copy, which travels (see `trainable.away`).

A result is told when its epoch's files are written. Meanwhile the next epoch trains already, in a thread of its own,
unless the driver may end the trial.
"""

import time
import traceback
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray import tune

from trainable import files, torch_compile
from trainable.ahead import Ahead
from trainable.away import Away, begin_beside, here, is_away
from trainable.checkpoint import checkpoint_names, save_best, save_latest
from trainable.config import TrialConfig
from trainable.dataset import LabelledData
from trainable.device import Compile, Precision, choose, out_of_memory
from trainable.errors import UserError, storage_fault
from trainable.examples import Examples, examples_of
from trainable.fit import Epoch, Row
from trainable.folds import fit_parts, preprocessing_text
from trainable.images import Images
from trainable.keeper import Gone, check_assigned
from trainable.logits import add_holdout, save_logits
from trainable.metrics import line, metrics_csv
from trainable.node import difference, versions
from trainable.paths import trial_folder
from trainable.resume import LATEST, NOT_BEST_AGAIN, Resumption, resumable


@dataclass(frozen=True)
class Shared:
    """What the trials of a search have in common."""

    run: Path  # the run's folder, absolute
    title: str  # what the run is called where its workers are seen
    data: Mapping[int, LabelledData]  # by image size
    device: str  # as in `device.choose`
    precision: Precision
    threads: int | None  # CPU threads a trial
    compile: Compile = "auto"  # as in `device.choose`
    node: str | None = None  # Ray's id of the driver's node; None: all workers are there
    versions: Mapping[str, str] = field(default_factory=dict)  # there, of what numbers depend on
    keeper: Any = None  # the handle of the run's Keeper, for workers on other nodes
    judged: frozenset[int] = frozenset()  # epochs after which a trial may be stopped


@dataclass(frozen=True)
class Trained:
    """An epoch whose files are written."""

    row: Row
    epochs: int  # of a trial that runs its course
    kept_seconds: float | None = None  # what its files kept from training; None: they were there already
    beside_seconds: float = 0.0  # of processor time, what they took from it while the next epoch was trained
    trained_at: float = 0.0  # by time.perf_counter
    anew: str | None = None  # why the trial had to begin anew, with this epoch
    earlier: Sequence[Row] = ()  # the epochs before it, of a trial that goes on


class ConvNetTrial(tune.Trainable):  # type: ignore[misc]  # Ray's class is untyped
    """One training run in a Ray actor, which is reused for the next. Its Tune configuration:

    trial: the trial's name, as in the run's folder.
    config: the TrialConfig as a dict.

    A step's result is a row of metrics.csv with `trial`, `training_iteration` (the epoch) and `done`; or, where the
    trial failed, `failed` with the reason; or, where the machine did (a full disk), `halt` with the reason. An epoch
    that was trained just now has its `kept_seconds`, in which files kept the actor from training, the `beside_seconds`
    of processor time that they took beside the next epoch, which trained the longer where no core was idle, and the
    `lost_seconds` before it, in which it did neither; the first of a trial that could not go on where it was says why
    it begins `anew`, and an actor's first why it is `slower` than it would be. A trial that goes on gives its last
    epoch once more, with the rows of the `earlier` ones.

    An actor whose trial the driver has given to another ends: nobody waits for it any more.
    """

    def setup(self, config: dict[str, Any], shared: Shared) -> None:
        self.shared = shared
        self.device = choose(shared.device, shared.precision, shared.threads, shared.compile)
        print(f"{self!r} on {self.device.reason}", flush=True)
        self.slower = self.device.slower  # until it is told
        self.worker: str | None = None  # what the driver knows this actor by, where it says whose a trial is
        self.away: Away | None = None
        if shared.keeper is not None:
            worker: str = ray.get_runtime_context().get_actor_id()
            self.worker, self.away = worker, Away(shared.keeper, worker) if is_away(shared.node) else None
        # The nodes that there were at the start have been asked; this one may have joined since.
        self.unfit = difference(shared.versions, versions()) if self.away else None
        # Pixels and labels are opened, and sent to a card, once for the trials that follow each other: by what they are
        # read for.
        self.examples: tuple[tuple[Any, ...], list[Examples], Images] | None = None
        self.trainer = ThreadPoolExecutor(1, "trainer")  # with as many threads an operator as `choose` has set
        self.free_at = time.perf_counter()  # since when nothing keeps it from training
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes the next trial. What can go wrong with it goes wrong in `step`, which can say so."""
        self.trial: str = new_config["trial"]
        self.folder = trial_folder(self.shared.run, self.trial)
        self.trial_config: dict[str, Any] = new_config["config"]
        self.rows: Iterator[Trained] | None = None
        torch_compile.forget()
        self.device.release()
        return True

    def step(self) -> dict[str, Any]:
        try:
            return self._step()
        except Gone as gone:
            print(f"trial {self.trial}: {gone}", flush=True)
            self.cleanup()
            raise SystemExit from gone  # to Ray the actor's end

    def _step(self) -> dict[str, Any]:
        try:
            if self.unfit is not None:
                raise UserError(f"{here()} {self.unfit}: install the same there, or take it out of the cluster")
            if self.rows is None:
                self.rows = self._train()
            trained = next(self.rows)
            epoch = int(trained.row["epoch"])
            result = {**trained.row, "trial": self.trial, "training_iteration": epoch, "done": epoch >= trained.epochs}
            if trained.kept_seconds is not None:
                lost = max(0.0, trained.trained_at - trained.row["seconds"] - self.free_at)
                self.free_at = trained.trained_at + trained.kept_seconds
                result |= {"kept_seconds": trained.kept_seconds, "beside_seconds": trained.beside_seconds}
                result["lost_seconds"] = lost
            if trained.anew is not None:
                result["anew"] = trained.anew
            if self.slower is not None:
                where = f"on {here()}, " if self.away is not None else ""
                result["slower"], self.slower = f"{where}{self.slower}", None
            if trained.earlier:
                result["earlier"] = list(trained.earlier)
            return result
        except Gone:
            raise
        except Exception as error:  # a trial's failure is a result: only Ray's own faults are worth a retry
            reason = self._reason(error)
            print(f"trial {self.trial} {reason}", flush=True)
            halt = str(error) if isinstance(error, UserError) else self._storage_fault(error)
            if halt is not None:
                return self._halt(halt)
            self._check_assigned()
            try:
                files.write_text(self.folder / "error.txt", traceback.format_exc())
                self._send()
            except (OSError, UserError) as fault:  # nothing can be kept here
                return self._halt(self._storage_fault(fault) or str(fault))
            return {"trial": self.trial, "failed": reason, "done": True}

    def _reason(self, error: Exception) -> str:
        """Why the trial failed, in a line."""
        if not out_of_memory(error):
            return f"{type(error).__name__}: {error}"
        batch, size = self.trial_config["batch_size"], self.trial_config["image_size"]
        return (
            f"out of memory: batch_size {batch} of {size} x {size} pixels through this network does not fit in what "
            f"{self.device.device} has free; search smaller ones, or have fewer trials at once (--max-concurrent, "
            "--gpus-per-trial)"
        )

    def _storage_fault(self, error: Exception) -> str | None:
        """As `storage_fault`, with the node where it is not the driver's."""
        fault = storage_fault(error)
        return fault if fault is None or self.away is None else f"{here()}: {fault}"

    def _halt(self, reason: str) -> dict[str, Any]:
        self.rows = None  # the next step, if there is one, tries again
        return {"trial": self.trial, "halt": reason, "done": False}

    def _train(self) -> Iterator[Trained]:
        """The epochs of this trial, each after its files are written."""
        if self.away is None:
            begin_beside(self.shared.keeper, self.folder)
        else:
            self.folder = self.away.begin(trial_folder(self.shared.run, self.trial))
        folder = self.folder
        files.make_folder(folder)
        config = TrialConfig.from_dict(self.trial_config)
        data = self.shared.data[config.image_size]
        if self.away is not None:
            data = self.away.with_pixels(data)
        parts, images = self._examples(config, data)
        print(f"trial {self.trial} with {images.where}", flush=True)
        same = {"config": config.to_dict(), "preprocessing": preprocessing_text(parts)}
        resumption = resumable(folder, same, config.objective, len(parts))
        latest = resumption.state
        if latest is not None:
            # It may have been damaged since, or have come from another trial.
            files.write_text(folder / "metrics.csv", metrics_csv(latest["rows"]))
            self._send()
            # The driver may have died before it heard of the last epoch, and a damaged study have lost some before; it
            # ignores what it knows already.
            *earlier, last = latest["rows"]
            yield Trained(last, config.epochs, earlier=earlier)
            if len(latest["rows"]) == config.epochs:
                return
        going_on: Resumption | None = resumption
        while going_on is not None:
            going_on = yield from self._epochs(folder, config, data, parts, same, going_on)

    def _examples(self, config: TrialConfig, data: LabelledData) -> tuple[list[Examples], Images]:
        """The examples of each part of the split, one or one a fold, and what keeps their pixels on a card."""
        columns = (config.inputs, config.target, config.experts)  # all that `examples_of` reads of the configuration
        key = (data.fingerprint, data.split_fingerprint, data.pixels.path, *columns)
        if self.examples is None or self.examples[0] != key:
            self.examples = None  # before others take as much memory
            self.device.release()
            parts = [examples_of(data, config, part) for part in data.split.parts]
            self.examples = key, parts, Images(parts[0].pixels, self.device)
        _, examples, images = self.examples
        return examples, images

    def _epochs(
        self,
        folder: Path,
        config: TrialConfig,
        data: LabelledData,
        parts: Sequence[Examples],
        same: Mapping[str, Any],
        resumption: Resumption,
    ) -> Generator[Trained, None, Resumption | None]:
        """The epochs that are left; `same` is as for `resumable`. Returns how the trial is to go on instead."""
        latest, anew, ahead = resumption.state, resumption.anew, resumption.ahead
        if anew is not None:
            print(f"trial {self.trial} begins anew: {anew}", flush=True)
        rows: list[Row] = list(latest["rows"]) if latest else []
        epochs = Ahead(_timed(fit_parts(config, parts, self.device, latest)), self.trainer)
        for epoch, trained_at in epochs:
            if ahead and not epoch.improved:
                return NOT_BEST_AGAIN
            ahead = False
            rows.append(epoch.row)
            ended = epoch.row["epoch"] == config.epochs
            networks = epoch.networks() if epoch.improved else ()
            # Nothing is trained from the course's end.
            state = {**same, "rows": rows} if ended else epoch.latest()
            goes_on = not ended and epoch.row["epoch"] not in self.shared.judged
            self._check_assigned()
            if goes_on:
                epochs.begin()
            free_at, used = time.perf_counter(), time.thread_time()
            if epoch.improved:
                for name, network in zip(checkpoint_names(len(networks)), networks, strict=True):
                    save_best(folder / name, network)
                save_logits(folder, data, epoch.valid_logits.numpy(), self.shared.device if ended else None)
            elif ended:
                add_holdout(folder, data, self.shared.device)
            files.write_text(folder / "metrics.csv", metrics_csv(rows))
            save_latest(folder / LATEST, state)  # last, as it vouches for all others
            self._send()
            print(line(self.trial, epoch.row, config.epochs), flush=True)
            if goes_on:
                kept, beside = free_at - trained_at, time.thread_time() - used
            else:
                kept, beside = time.perf_counter() - trained_at, 0.0
            yield Trained(epoch.row, config.epochs, kept, beside, trained_at, anew)
            anew = None  # it is said once
        return None

    def _check_assigned(self) -> None:
        """Raises Gone where the trial's own folder is not this worker's any more: when a head is lost its workers live
        on for a minute, in which the search may go on already."""
        if self.worker is not None and self.away is None:
            check_assigned(self.folder, self.worker)

    def _send(self) -> None:
        """Has the trial's files arrive where the run's folder is, if that is on another node."""
        if self.away is not None:
            self.away.send()

    def cleanup(self) -> None:
        self.trainer.shutdown(wait=False, cancel_futures=True)
        if self.away is not None:
            self.away.end()

    def __repr__(self) -> str:
        return f"convsearch {self.shared.title}"


def _timed(epochs: Iterator[Epoch]) -> Iterator[tuple[Epoch, float]]:
    """Each with the moment of its end, by time.perf_counter."""
    for epoch in epochs:
        yield epoch, time.perf_counter()
