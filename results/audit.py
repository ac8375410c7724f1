"""What early stopping cost a search, from the trials that it was to stop and that were trained to their end after all.

A trial that was let run its course is known whatever its lot, one that was stopped with the probability P of the audit.
So the first count once here and the audited 1 / P times, for the stopped ones that nobody saw.

Source: Horvitz and Thompson 1952, A Generalization of Sampling Without Replacement From a Finite Universe.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial
from scipy import stats

from results.leaderboard import error_over_images, is_audited, read_metrics
from results.rungs import rungs
from results.scores import Estimate
from trainable.config import Objective, maximised
from trainable.fit import Row, objective_value
from trainable.paths import trial_folder, trial_name
from trainable.table import count

FEW = 10  # audited trials; with fewer one cannot tell a share of 0 from one of 30 %
TAU_VARIANCE = 0.437  # of Fisher's z of Kendall's tau, times n - 4 (Fieller, Hartley and Pearson 1957)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rung:
    """How well the order at an epoch foretells that at the end."""

    epoch: int
    tau: float | None  # Kendall's tau-b, weighted, of the best so far with the final best; None: one is constant
    interval: tuple[float, float] | None  # of 95 %; None: too few trials for one


@dataclass(frozen=True)
class Outcome:
    """A trial and its best epoch's objective."""

    trial: str
    value: float


@dataclass(frozen=True)
class First:
    """The trial that was the best after one epoch."""

    outcome: Outcome  # of the epochs that it had
    last_epoch: int | None  # up to which it is known; None: it came to its end
    epochs: int  # what taking it costs: one of each trial, and its others


@dataclass(frozen=True)
class Audit:
    """What an audit found."""

    share: float  # P: of the trials that are to be stopped, those that are audited
    objective: Objective
    images: int  # of validation
    epochs: int  # of a trial that runs its course
    ran: int  # trials that were let run their course
    stopped: int  # trials that were to be stopped, audited ones among them
    audited: tuple[Outcome, ...]  # those that came to their end, in the order of their numbers
    unfinished: int  # audited ones that did not
    effective: float  # trials that the weighted ones are worth: (sum w)^2 / sum w^2 (Kish 1965)
    rungs: tuple[Rung, ...]
    winner: Outcome | None  # the best that was let run its course
    beaten_by: tuple[str, ...]  # audited trials that ended above the winner
    beating: Estimate | None  # how many of the stopped would have, with 95 % (Clopper and Pearson 1934); None: unknown
    trained: int  # epochs, without the audit's
    left_out: int  # epochs that stopping leaves out, without an audit
    audit_epochs: int  # epochs that were trained for the audit
    first: First | None


@dataclass(frozen=True)
class _Known:
    """A trial and its epochs."""

    trial: str
    rows: Sequence[Row]
    stopped_at: int | None  # the epoch at which it was to be stopped
    audited: bool


def audit(run: Path, trials: Sequence[FrozenTrial], record: Mapping[str, Any]) -> Audit | None:
    """What the audit of a search says, so far; None where it has none, or no trial has been stopped.

    Args:
        run: the run's folder.
        trials: of its study.
        record: what its run.json says.
    Raises:
        UserError: where a trial's metrics.csv is damaged.
    """
    share = record["arguments"].get("audit")
    if share is None:
        return None
    objective, epochs = record["objective"], record["arguments"]["epochs"]
    sign = 1.0 if maximised(objective) else -1.0
    known = []
    for trial in trials:
        name = trial_name(trial.number)
        rows = read_metrics(trial_folder(run, name) / "metrics.csv")
        if rows and trial.state.name in ("COMPLETE", "PRUNED"):
            stopped_at = trial.user_attrs["end"]["epoch"] if trial.state.name == "PRUNED" else None
            known.append(_Known(name, rows, stopped_at, is_audited(trial)))

    def best(one: _Known, upto: int = epochs) -> float:
        return max(sign * objective_value(row, objective) for row in one.rows[:upto])

    ran = [one for one in known if one.stopped_at is None]
    stopped = [one for one in known if one.stopped_at is not None]
    if not stopped:
        return None
    audited = [one for one in stopped if one.audited and len(one.rows) >= epochs]
    ended = [*ran, *audited]
    weights = np.array([1.0] * len(ran) + [1 / share] * len(audited))
    effective = float(weights.sum() ** 2 / (weights**2).sum()) if ended else 0.0
    final = np.array([best(one) for one in ended])
    found = []
    for rung in rungs(epochs):
        tau = weighted_tau(np.array([best(one, rung) for one in ended]), final, weights)
        found.append(Rung(rung, tau, None if tau is None else tau_interval(tau, effective)))

    winner = max(ran, key=best, default=None)
    beaten_by = [one for one in audited if winner is not None and best(one) > best(winner)]
    first = max(known, key=lambda one: (best(one, 1), -one.rows[0]["valid_loss"]), default=None)

    def outcome(one: _Known) -> Outcome:
        return Outcome(one.trial, sign * best(one))

    counts = record["data"]["counts"]
    return Audit(
        share=share,
        objective=objective,
        images=counts.get("valid") or sum(counts.values()),  # over folds each image is judged once
        epochs=epochs,
        ran=len(ran),
        stopped=len(stopped),
        audited=tuple(map(outcome, audited)),
        unfinished=sum(one.audited for one in stopped) - len(audited),
        effective=effective,
        rungs=tuple(found),
        winner=None if winner is None else outcome(winner),
        beaten_by=tuple(one.trial for one in beaten_by),
        beating=None if winner is None else _number(len(beaten_by), len(audited), len(stopped)),
        trained=sum(one.stopped_at or len(one.rows) for one in known),
        left_out=sum(epochs - (one.stopped_at or epochs) for one in known),
        audit_epochs=sum(len(one.rows) - (one.stopped_at or 0) for one in stopped if one.audited),
        first=None if first is None else _first(first, outcome(first), len(known), epochs),
    )


def _first(one: _Known, outcome: Outcome, trials: int, epochs: int) -> First:
    known = None if len(one.rows) >= epochs else one.stopped_at or len(one.rows)
    return First(outcome, known, trials + epochs - 1)


def weighted_tau(one: Floats, other: Floats, weights: Floats) -> float | None:
    """Kendall's tau-b of two rankings of n things: the pairs in one order less those in the other, over all pairs, in
    which a pair counts as often as the product of its weights says. None where either ranks nothing.

    Args:
        one, other: (n,).
        weights: (n,) each thing's, above 0: one over the probability with which it is known.
    """
    pairs = np.outer(weights, weights)
    signs = [np.sign(values[:, None] - values) for values in (one, other)]
    untied = [float((pairs * sign**2).sum()) for sign in signs]
    if not all(untied):
        return None
    return float((pairs * signs[0] * signs[1]).sum()) / math.sqrt(untied[0] * untied[1])


def tau_interval(tau: float, n: float) -> tuple[float, float] | None:
    """95 % of Kendall's tau of n things, by Fisher's z; None for too few of them.

    Where all pairs agree, or none, it is taken to be one of them that does not: else the interval had no length.
    """
    if n <= 4:
        return None
    bound = 1 - 4 / (n * (n - 1))
    z = math.atanh(min(bound, max(-bound, tau)))
    margin = 1.959964 * math.sqrt(TAU_VARIANCE / (n - 4))
    return math.tanh(z - margin), max(tau, math.tanh(z + margin))


def _number(seen: int, looked: int, of: int) -> Estimate | None:
    """How many of some things are what `seen` of the `looked` ones are that were drawn from them."""
    if not looked:
        return None
    low = float(stats.beta.ppf(0.025, seen, looked - seen + 1)) if seen else 0.0
    high = float(stats.beta.ppf(0.975, seen + 1, looked - seen)) if seen < looked else 1.0
    # What was looked at is known.
    return Estimate(of * seen / looked, max(of * low, seen), min(of * high, of - (looked - seen)))


def sentences(found: Audit) -> list[str]:
    """What was found, in words."""
    n, said = len(found.audited), [stopped_text(found)]
    if not n:
        return [*said, "So what stopping cost is not known.", *_first_sentences(found)]
    if n < FEW:
        said.append(f"{n} audited {'is' if n == 1 else 'are'} few: what follows is a hint at most.")
    measured = [rung for rung in found.rungs if rung.tau is not None]
    if measured:
        weights = ""
        if found.share < 1:
            weights = f", which count {1 / found.share:.3g} times each, for the stopped that nobody saw (Horvitz and "
            weights += "Thompson 1952)"
        said.append(
            "Rank correlation of the best so far with the final best (Kendall's tau-b, 95 %): "
            f"{'; '.join(_rung_text(rung, found) for rung in measured)}. n = {found.ran} that ran their course and {n} "
            f"audited{weights}."
        )
    if found.winner is None or found.beating is None:
        said.append("No trial was let run its course, so there is no winner that a stopped one could have beaten.")
        return said
    return [*said, *verdict(found), *_first_sentences(found)]


def stopped_text(found: Audit) -> str:
    """How many trials were to be stopped and were audited, and which epochs that leaves out."""
    stopped = found.stopped
    not_yet = ""
    if found.unfinished:
        not_yet = f", and {found.unfinished} more {'is' if found.unfinished == 1 else 'are'} to but did not yet"
    return (
        f"Audit: of {count(stopped, 'trial')} that {'was' if stopped == 1 else 'were'} to be stopped, "
        f"{'it' if stopped == 1 else 'each'} was to run to its end with probability {found.share:g}; "
        f"{len(found.audited)} did{not_yet}. Stopping leaves out {found.left_out} of "
        f"{found.trained + found.left_out} epochs; the audit trained {found.audit_epochs} of these."
    )


def verdict(found: Audit) -> list[str]:
    """Whether stopping cost the search its best, in a sentence; none where that is not known."""
    if found.winner is None or found.beating is None:
        return []
    beaten = "none"
    if found.beaten_by:
        beaten = f"{len(found.beaten_by)} ({', '.join(found.beaten_by)})"
    above = [one.value for one in found.audited if one.trial in found.beaten_by]
    clear = [value for value in above if not _inside_noise(found, value, found.winner.value)]
    n = len(found.audited)
    beyond = f", {f'{len(clear)} of them ' if n > 1 else ''}beyond the noise"
    noise = "" if not found.beaten_by else beyond if clear else ", inside the noise"
    who = f"Of the {n} audited {beaten}"
    if n == 1:
        who = f"The one audited{f', {found.beaten_by[0]},' if found.beaten_by else ' has not'}"
    few = ", of few: a hint at most" if n < FEW else ""
    return [
        f"{who} ended above the best that was let live, trial {found.winner.trial} "
        f"({_value(found, found.winner.value)}){noise}. So of all {found.stopped} that were stopped it would be "
        f"{found.beating.value:.0f} (95 %: {math.ceil(found.beating.low)} to {math.floor(found.beating.high)}){few}."
    ]


def _rung_text(rung: Rung, found: Audit) -> str:
    digits = 1 if found.effective < 30 else 2
    assert rung.tau is not None
    if rung.interval is None:
        return f"epoch {rung.epoch} {rung.tau:.{digits}f} (too few for an interval)"
    low, high = rung.interval
    return f"epoch {rung.epoch} {rung.tau:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _first_sentences(found: Audit) -> list[str]:
    """What taking the best after one epoch gives. Source: Egele et al. 2023, arXiv 2307.15422."""
    first, winner = found.first, found.winner
    if first is None or winner is None:
        return []
    cost = f"for {first.epochs} epochs instead of {found.trained}"
    said = f"To take the best after one epoch (Egele et al. 2023) would have given trial {first.outcome.trial}, {cost}"
    if first.outcome.trial == winner.trial:
        return [f"{said}: it is the winner, too."]
    if first.last_epoch is not None:
        return [
            f"{said}. It was stopped after epoch {first.last_epoch} at {_value(found, first.outcome.value)}; what it "
            f"would have come to, beside the winner's {_value(found, winner.value)}, is not known."
        ]
    noise = ", which is inside the noise" if _inside_noise(found, first.outcome.value, winner.value) else ""
    return [f"{said}: {_value(found, first.outcome.value)}, and the winner {_value(found, winner.value)}{noise}."]


def _value(found: Audit, value: float) -> str:
    if found.objective != "valid_accuracy":
        return f"{value:.4f}"
    return f"{100 * value:.1f} ± {100 * error_over_images(value, found.images):.1f} % of {found.images} images"


def _inside_noise(found: Audit, one: float, other: float) -> bool:
    """Whether two accuracies are within twice the standard error of the difference that they would have on images of
    their own; on the same ones it is smaller."""
    if found.objective != "valid_accuracy":
        return False
    errors = [error_over_images(value, found.images) for value in (one, other)]
    return abs(one - other) <= 2 * math.hypot(*errors)
