"""An ensemble's members trained again on all labelled rows, side by side on Ray; what is done is not done again."""

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from results.members import Member
from search import cluster as clusters
from trainable.checkpoint import load_best
from trainable.config import TrialConfig
from trainable.dataset import LabelledData, load_labelled, parse_age_groups, parse_fractions
from trainable.device import choose
from trainable.errors import UserError, storage_fault
from trainable.metrics import line
from trainable.refit import Refit
from trainable.table import count

POLL_SECONDS = 0.5
WORKER_RETRIES = 3


def refit_members(members: Sequence[Member], cache: Path, console: Console) -> list[Member]:
    """The members with the checkpoints of their refits, each trained unless it is there already.

    Raises:
        UserError: where the data are not what the run was made with, the cluster has no room, or a refit fails.
    """
    jobs = [_job(member) for member in members]
    sizes = _load(members, {job.config.image_size for job in jobs}, cache)
    left = [job for job in jobs if not job.done(sizes[job.config.image_size])]
    if left:
        _train(left, sizes, members[0].run.record["arguments"], console)
    return [replace(member, refit=job.checkpoint) for member, job in zip(members, jobs, strict=True)]


def _job(member: Member) -> Refit:
    """The refit of a member: its configuration, and the epoch that was its best."""
    trial = member.run.folder / "trials" / member.trial
    try:
        config = TrialConfig.from_dict(json.loads((trial / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{trial / 'config.json'} is missing or damaged ({error}).") from None
    folder, precision = member.run.folder / "refits" / member.trial, member.run.record["arguments"]["precision"]
    return Refit(folder, config, load_best(member.checkpoints[0]).epoch, precision)


def _load(members: Sequence[Member], sizes: Set[int], cache: Path) -> dict[int, LabelledData]:
    """All labelled rows at each of the image sizes. The members' runs share their data."""
    run = members[0].run
    said = run.record["arguments"]
    columns = {name for member in members for name in member.run.record["arguments"]["inputs"]}
    found = {
        size: load_labelled(
            said["data"],
            inputs=sorted(columns),
            target=said["target"],
            age_groups=parse_age_groups(said["age_groups"]),
            image_size=size,
            fractions=parse_fractions(said["split"]),
            folds=said["folds"],
            seed=said["seed"],
            cache=cache,
            progress=True,
            split_file=run.folder / "splits.csv",
        )
        for size in sizes
    }
    changed = [data for data in found.values() if data.fingerprint != run.data["fingerprint"]]
    if changed:
        raise UserError(f"--refit: the data at {said['data']} are not those that {run.folder} was made with.")
    return found


def _train(jobs: Sequence[Refit], sizes: Mapping[int, LabelledData], said: Mapping[str, Any], console: Console) -> None:
    cluster = clusters.start(None, said["cpus_per_trial"], said["gpus_per_trial"])
    try:
        handle = ray.put(dict(sizes))
        task = ray.remote(_refit).options(
            num_cpus=cluster.trial.cpus, num_gpus=cluster.trial.gpus, max_retries=WORKER_RETRIES
        )
        device = "cuda" if cluster.trial.gpus else "cpu"
        threads = max(1, round(cluster.trial.cpus))
        waiting = {task.remote(job, handle, device, threads): job for job in jobs}
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
            bars = {job.folder: progress.add_task(f"refit {job.folder.name}", total=job.epochs) for job in jobs}
            while waiting:
                ended, _ = ray.wait(list(waiting), timeout=POLL_SECONDS)
                for job in jobs:
                    progress.update(bars[job.folder], completed=job.epochs_done())
                for reference in ended:
                    job = waiting.pop(reference)
                    _check(reference, job)
                    console.print(f"Trained trial {job.folder.name} on all images for {count(job.epochs, 'epoch')}.")
    finally:
        ray.shutdown()


def _check(reference: Any, job: Refit) -> None:
    """Raises UserError, with the reason, where a refit failed."""
    try:
        ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        reason = storage_fault(error.cause) if isinstance(error.cause, Exception) else None
        raise UserError(f"--refit: trial {job.folder.name} failed: {reason or error.cause}") from error
    except ray.exceptions.RayError as error:
        raise UserError(f"--refit: trial {job.folder.name} failed: its worker died again and again.") from error


def _refit(job: Refit, sizes: Mapping[int, LabelledData], device: str, threads: int) -> None:
    """Runs in a Ray worker."""
    chosen = choose(device, job.precision, threads)
    for row in job.train(sizes[job.config.image_size], chosen):
        print(line(job.folder.name, row, job.epochs), flush=True)
