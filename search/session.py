"""One session of a run: Ray is started, trials are trained, and how it ended is said."""

import math
import time
from collections.abc import Mapping

from rich.console import Console

from results.rungs import rungs
from search import cluster as clusters
from search import record
from search.cli import FAILED, INTERRUPTED, TERMINATED, say
from search.elastic import Elastic
from search.ensemble import EnsembleOptions
from search.gauges import Gauges
from search.nodes import check_nodes
from search.options import Options, again
from search.progress import Progress
from search.scheduler import SCHEDULERS, Scheduler
from search.searcher import StudySearcher
from search.standing import Standing
from search.study import Settings, StudyRecord
from search.track import Followed, trackers
from search.tuning import Stop, tune_trials
from search.usage import Usage
from spaces.space import Space
from trainable.dataset import LabelledData
from trainable.errors import UserError
from trainable.node import versions
from trainable.paths import trial_name
from trainable.splits import Split
from trainable.table import count
from trainable.tune import Shared

# What a time budget keeps back: this share of it for confirming, where that is asked for; else for Ray to end and the
# leaderboard; for the last round to the storage, where there is one; and for the ensemble, where it is asked for, a
# base, the fit of the weights, and a pass over the test images for each member, which is taken to cost as much as
# training on as many. Without the time to start Ray nothing is started.
CONFIRM_SHARE = 0.4
START_SECONDS = 12.0
CLOSING_SECONDS = 8.0
STORAGE_SECONDS = 5.0
ENSEMBLE_SECONDS = 10.0
FIT_SECONDS = 4e-4  # for each member and holdout image; measured: 2e-4 to 3e-4 on one core


class TooShort(UserError):
    """The time budget, or what is left of it, does not suffice to train anything."""


def train_left(
    options: Options,
    space: Space,
    sizes: Mapping[int, LabelledData],
    test_images: int,
    console: Console,
    began: float,
    since: float,
) -> tuple[StudyRecord, int]:
    """Trains the trials that are left, if any are. Returns the study and the exit code.

    Args and errors: as for `train`.
    """
    settings = Settings(
        options.epochs, options.image_size, options.inputs, options.target, space.objective, options.seed
    )
    study = StudyRecord(options.run, space, options.sampler, settings, options.trials, options.repeats)
    if study.unfinished() or len(study.frozen()) < options.trials:
        return study, train(options, sizes, test_images, study, console, began, since)
    done = count(len(study.frozen()), "trial")
    say(console, f"The run '{options.title}' has its {done} already: nothing is left to train.")
    return study, 0


def train(
    options: Options,
    sizes: Mapping[int, LabelledData],
    test_images: int,
    study: StudyRecord,
    console: Console,
    began: float,
    since: float,
) -> int:
    """Trains the trials that the study still lacks, notes the session in run.json, and returns the exit code.

    Args:
        sizes: the data at each image size.
        test_images: how many images the ensemble will predict within the time budget.
        began: time.monotonic() at the command's start, from which the time budget counts.
        since: when what led to this session began: that, or the end of an earlier session of the command.
    Raises:
        UserError: where the cluster cannot be had or has no room for a trial; TooShort before it is asked for.
    """
    history = [(trial_name(trial.number), trial.intermediate_values) for trial in study.frozen()]
    scheduler = Scheduler(
        options.scheduler,
        options.epochs,
        study.settings.objective,
        history,
        options.audit,
        options.seed,
        study.audited,
    )
    split = next(iter(sizes.values())).split
    seconds, passes = training_seconds(options, split, test_images, time.monotonic() - began)
    deadline = None if seconds is None else began + seconds
    tracking = trackers(options.track, Followed(options.home, options.run.relative_to(options.home)), study, console)
    stop = Stop(deadline, passes)
    with stop.on_signals():
        remedy = f"Mend it and go on with: {again(options)}"
        with clusters.running(
            options.address,
            options.cpus_per_trial,
            options.gpus_per_trial,
            remedy,
            lambda: not stop.due,
            console,
        ) as cluster:
            stop.take_signals()  # ray.init has taken SIGTERM for itself
            if stop.due:  # before there was room for a trial
                return _ending(options, stop, console)
            pixels = {data.pixels.path: data.pixels.path.stat().st_size for data in sizes.values()}
            check_nodes(cluster.others(), pixels)
            at_once = min(cluster.slots(), options.max_concurrent or cluster.slots())
            # Only now: a session that is refused trains nothing.
            for warning in [*cluster.crowded(at_once), *record.add_session(options, at_once)]:
                say(console, f"Warning: {warning}")
            _announce(options, study, at_once, cluster.dashboard, console)
            shared = Shared(
                run=options.run,
                title=options.title,
                data=sizes,
                device="cuda" if cluster.trial.gpus else "cpu",
                precision=options.precision,  # type: ignore[arg-type]  # argparse has checked it
                threads=max(1, round(options.cpus_per_trial)),
                compile=options.compile,  # type: ignore[arg-type]
                node=cluster.node,
                versions=versions(),
                keeper=cluster.keeper([options.run], pixels),
                judged=frozenset(SCHEDULERS[options.scheduler].judged(options.epochs)),
            )
            usage = Usage(at_once, since)
            compared = rungs(options.epochs) if options.scheduler == "asha" else []
            images = sum(len(part.train) for part in split.parts)
            standing = Standing(study, usage, compared, images, began, deadline)
            with Progress(standing, console) as progress:
                searcher = StudySearcher(study, scheduler, options.run, at_once)
                elastic = Elastic(cluster, searcher, options.max_concurrent, usage, stop, console)
                callbacks = [elastic, progress, Gauges(standing, options.title), *tracking]
                tune_trials(cluster, shared, searcher, scheduler, stop, callbacks)
            if said := usage.line(time.monotonic()):
                say(console, said)
    return _ending(options, stop, console)


def training_seconds(options: Options, split: Split, test_images: int, gone: float) -> tuple[float | None, float]:
    """When, in seconds from the command's start, a time budget ends the training, and how many passes over the training
    images have to fit before that for the ensemble's predictions. None: there is no budget.

    Args:
        test_images: as for `train`.
        gone: seconds since the command's start.
    Raises:
        TooShort: where it suffices for nothing.
    """
    budget = options.time_budget
    if budget is None:
        return None, 0.0
    kept, needed = kept_back(options, split), gone + START_SECONDS
    if options.confirm:
        seconds, passes = (1 - CONFIRM_SHARE) * budget, 0.0
        # Ray ends and starts again in between.
        least = max(needed / (1 - CONFIRM_SHARE), (CLOSING_SECONDS + START_SECONDS + kept) / CONFIRM_SHARE)
    else:
        seconds, least = budget - kept, needed + kept
        # Where no trial has run its course by then, the members have the holdout before them as well.
        holdout = len(split.weighed) if options.ensemble and not split.folds else 0
        passes = EnsembleOptions().members * (test_images + holdout) / len(split.parts[0].train)
    if budget < least:
        raise TooShort(f"--time-budget: too short to train anything; {math.ceil(least)}s would be the least.")
    return seconds, passes


def kept_back(options: Options, split: Split) -> float:
    """Seconds of a time budget that are needed after the last trial, but for passes over images."""
    fit = FIT_SECONDS * EnsembleOptions().members * len(split.weighed)
    storage = STORAGE_SECONDS if options.storage else 0.0
    return CLOSING_SECONDS + storage + (ENSEMBLE_SECONDS + fit if options.ensemble else 0.0)


def _announce(options: Options, study: StudyRecord, at_once: int, dashboard: str | None, console: Console) -> None:
    say(
        console,
        f"Run: {options.run}, {count(options.trials, 'trial')} of at most {count(options.epochs, 'epoch')}, "
        f"{at_once} at once, "
        f"by {options.sampler}{'' if options.scheduler == 'none' else f' and {options.scheduler}'}",
    )
    if study.unfinished():
        console.print(f"Going on with {count(study.unfinished(), 'unfinished trial')}.")
    if dashboard:
        console.print(f"Ray dashboard: {dashboard} (its token: ray get-auth-token)", soft_wrap=True)


def _ending(options: Options, stop: Stop, console: Console) -> int:
    """Says why the session ended before its time, if it did, and how to go on. Returns the exit code."""
    if stop.fault is not None:
        console.print(f"Stopped: {stop.fault}. Mend it and go on with: {again(options)}", soft_wrap=True)
        return FAILED
    if stop.signal is not None:
        console.print(f"Interrupted by {stop.signal.name}. Go on with: {again(options)}", soft_wrap=True)
        return INTERRUPTED if stop.signal.name == "SIGINT" else TERMINATED
    if stop.out_of_time and options.confirm:
        console.print(f"The trials' {100 * (1 - CONFIRM_SHARE):.0f} % of the time budget are used up.")
    elif stop.out_of_time:
        say_out_of_time(options, console)
    return 0


def say_out_of_time(options: Options, console: Console) -> None:
    """Says that the time budget is used up, and how to go on."""
    console.print(f"The time budget is used up. Go on with: {again(options)} --time-budget TIME", soft_wrap=True)
