"""An ensemble's members trained again on all labelled rows, side by side on Ray; what is done is not done again."""

import time
from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import ray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from results.members import Member, run_name
from search import cluster as clusters
from search.cli import Interrupted, say
from search.labelled import labelled_again
from search.nodes import check_nodes
from search.options import check_ranges
from search.record import lock
from search.tuning import Stop
from trainable import files, torch_compile
from trainable.away import away_from, begin_beside
from trainable.checkpoint import load_best
from trainable.config import TrialConfig
from trainable.dataset import LabelledData
from trainable.device import choose
from trainable.errors import UserError, storage_fault
from trainable.folds import fold_config
from trainable.keeper import assign, check_assigned, release
from trainable.metrics import line
from trainable.paths import REFITS, trial_folder
from trainable.refit import Refit
from trainable.table import count
from trainable.untrusted import parse_json

POLL_SECONDS = 0.5
WORKER_RETRIES = 3  # of a refit whose worker died
DIED = "its worker died again and again"
CANCEL_SECONDS = 5.0


def refit_members(members: Sequence[Member], address: str | None, cache: Path, console: Console) -> list[Member]:
    """The members with the checkpoints of their refits, each trained unless it is there already.

    Holds the locks of the members' runs.

    Args:
        address: as in `cluster.start`.
    Raises:
        UserError: where another command works on a run, the data are not what the run was made with, the cluster has no
            room, or a refit fails; then the others have been trained all the same.
        Interrupted: after SIGINT or SIGTERM, with Ray shut down.
    """
    with ExitStack() as locks:
        for folder in {member.run.folder: None for member in members}:
            locks.enter_context(lock(folder))
        first = members[0].run  # the members' runs share their data
        try:
            check_ranges(first.record["arguments"])
        except ValueError as error:
            raise UserError(f"{first.folder / 'run.json'} is damaged ({error}); restore it from a copy.") from None
        jobs = [_job(member) for member in members]
        columns = {name for member in members for name in member.run.record["arguments"]["inputs"]}
        sizes = {
            size: labelled_again(first.folder, first.record, columns, size, cache, "--refit")
            for size in {job.config.image_size for job in jobs}
        }
        left = [job for job in jobs if not job.done(sizes[job.config.image_size])]
        if left:
            _train(left, sizes, first.record["arguments"], address, console)
        for job in jobs:  # another node's worker has removed its copy alone, and one that was killed none
            files.remove(job.folder / "latest.pt")
            release(job.folder)
    return [replace(member, refit=job.checkpoint) for member, job in zip(members, jobs, strict=True)]


def _job(member: Member) -> Refit:
    """The refit of a member: the configuration and the epoch of its checkpoint, whose hash the manifest keeps."""
    best = load_best(member.checkpoints[0])
    config = _unfolded(best.config, member) if member.run.folds else best.config
    folder, arguments = member.run.folder.absolute() / REFITS / member.trial, member.run.record["arguments"]
    compile = arguments.get("compile", "auto")  # which runs from before it lack
    return Refit(folder, config, best.epoch, arguments["precision"], compile)


def _unfolded(first: TrialConfig, member: Member) -> TrialConfig:
    """The trial's configuration from that of its first fold, which has another seed, drawn from the trial's."""
    path = trial_folder(member.run.folder, member.trial) / "config.json"
    try:
        config = replace(first, seed=parse_json(path.read_text(encoding="utf-8"))["seed"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is missing or damaged ({error}).") from None
    if fold_config(config, 0) != first:
        raise UserError(f"{path}: its seed is not the one that trial {member.trial} was trained with.")
    return config


def _train(
    jobs: Sequence[Refit],
    sizes: Mapping[int, LabelledData],
    said: Mapping[str, Any],
    address: str | None,
    console: Console,
) -> None:
    stop = Stop(deadline=None)
    with stop.on_signals():
        remedy = "Mend it and give the same command again."
        with clusters.running(
            address, said["cpus_per_trial"], said["gpus_per_trial"], remedy, lambda: not stop.due, console
        ) as cluster:
            stop.take_signals()  # ray.init has taken SIGTERM for itself
            pixels = {data.pixels.path: data.pixels.path.stat().st_size for data in sizes.values()}
            check_nodes(cluster.others(), pixels)
            at_once = said["max_concurrent"] or len(jobs)  # as in the search
            runs = {job.folder.parent.parent for job in jobs}
            keeper = cluster.keeper(runs, pixels)
            shared = ray.put((dict(sizes), cluster.node, keeper))
            failed = _trained(jobs, shared, cluster, at_once, stop, console)
    if stop.signal is not None:
        raise Interrupted(stop.signal)
    if failed:
        raise UserError(f"--refit: {'; '.join(failed)}. What was trained is kept; the same command tries again.")


def _trained(
    jobs: Sequence[Refit],
    shared: ray.ObjectRef,
    cluster: clusters.Cluster,
    at_once: int,
    stop: Stop,
    console: Console,
) -> list[str]:
    """Trains until all have ended or `stop` has a signal. Returns a clause for each that failed.

    Raises:
        UserError: where the cluster has had no room for too long.
    """
    trial, had_room = cluster.trial, time.monotonic()
    task = ray.remote(_refit).options(num_cpus=trial.cpus, num_gpus=trial.gpus, max_retries=0)
    device = "cuda" if trial.gpus else "cpu"
    threads = max(1, round(trial.cpus))
    left = deque(jobs)
    waiting: dict[ray.ObjectRef, Refit] = {}
    deaths: Counter[Path] = Counter()
    failed: list[str] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    view = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
    with view as progress, ExitStack() as ending:
        ending.callback(_cancel, waiting)
        bars = {job.folder: progress.add_task(f"refit {_named(job)}", total=job.epochs) for job in jobs}
        while (left or waiting) and stop.signal is None:
            while left and len(waiting) < at_once:
                job = left.popleft()
                worker = uuid4().hex  # a task has no name of Ray's that another try at it has not
                try:
                    assign(job.folder, worker)
                except OSError as error:
                    failed.append(f"{_named(job)} failed: {storage_fault(error) or error}")
                    continue
                waiting[task.remote(job, worker, shared, device, threads)] = job
            ended, _ = ray.wait(list(waiting), timeout=POLL_SECONDS)
            if cluster.slots():
                had_room = time.monotonic()
            elif time.monotonic() - had_room > clusters.PATIENCE_SECONDS:
                raise UserError(
                    f"--refit: the cluster has no room any more: {cluster.shortage()}. What was trained is kept; give "
                    "the same command again when there is room."
                )
            for job in jobs:
                progress.update(bars[job.folder], completed=job.epochs_done())
            for reference in ended:
                job = waiting.pop(reference)
                fault = _fault(reference)
                if fault == DIED and deaths[job.folder] < WORKER_RETRIES:
                    deaths[job.folder] += 1
                    left.append(job)
                    continue
                if fault is not None:
                    failed.append(f"{_named(job)} failed: {fault}")
                    continue
                say(console, f"Trained {_named(job)} on all images for {count(job.epochs, 'epoch')}.")
    return failed


def _cancel(tasks: Collection[ray.ObjectRef]) -> None:
    """Ends what still trains, before Ray goes: it would print of each task that it loses in going."""
    for task in tasks:
        ray.cancel(task, force=True)
    if tasks:
        ray.wait(list(tasks), num_returns=len(tasks), timeout=CANCEL_SECONDS)


def _named(job: Refit) -> str:
    return f"trial {job.folder.name} of {run_name(job.folder.parent.parent)}"


def _fault(reference: ray.ObjectRef) -> str | None:
    """Why a refit failed; None where it did not."""
    try:
        ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        reason = storage_fault(error.cause) if isinstance(error.cause, Exception) else None
        return reason or str(error.cause)
    except ray.exceptions.RayError:
        return DIED
    return None


def _refit(
    job: Refit, worker: str, shared: tuple[Mapping[int, LabelledData], str | None, Any], device: str, threads: int
) -> None:
    """Runs in a Ray worker.

    Args:
        worker: as in Away.
        shared: the data at each image size; Ray's id of the driver's node, and the Keeper there, for workers on others.
    """
    torch_compile.forget()  # what the process trained before
    sizes, node, keeper = shared
    chosen, data = choose(device, job.precision, threads, job.compile), sizes[job.config.image_size]
    with away_from(node, keeper, worker) as away:
        if away is None:
            begin_beside(keeper, job.folder)
        else:
            job, data = replace(job, folder=away.begin(job.folder)), away.with_pixels(data)
        for row in job.train(data, chosen):
            print(line(job.folder.name, row, job.epochs), flush=True)
            if away is None:
                check_assigned(job.folder, worker)
            else:
                away.send()
        if away is not None:
            away.send()
