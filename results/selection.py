"""Which way to weigh the members: each is scored on images that its weights were not fitted on, and the simple wins
ties. M members, N images, C classes, R repeats."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from results.scores import (
    Estimate,
    Floats,
    Labels,
    Logits,
    accuracy_estimate,
    calibration_estimate,
    fit_temperature,
    image_gaps,
    image_hits,
    image_losses,
    log_loss_estimate,
    paired_difference,
    pooled,
    standard_error,
)
from results.weights import METHODS, Method

FOLDS = 5
REPEATS = 3  # different shuffles, so that the choice does not hang on one
AUTO = "auto"


@dataclass(frozen=True)
class Score:
    """One method on the holdout."""

    weights: tuple[float, ...]  # (M,) fitted on all of the holdout: those to use
    temperature: float  # fitted on the pooled logits that were scored
    log_loss: Estimate  # nats an image, after the temperature
    accuracy: Estimate
    calibration_error: Estimate  # after the temperature
    accuracy_gain: Estimate  # over the single model, paired
    log_loss_gain: Estimate  # nats saved, paired; more is better


@dataclass(frozen=True)
class Selection:
    """Every method's score, the choice and why."""

    images: int  # N
    scores: dict[str, Score]  # by method, simplest first
    method: str  # the choice
    reason: str  # in words, to follow the method's name and a colon

    @property
    def single(self) -> Score:
        """The first member alone, chosen by validation: by other images than these, but for folds."""
        return self.scores["single"]


@dataclass(frozen=True)
class _Outcome:
    """What a way of weighing gives on images that it was not fitted on."""

    weights: Floats  # (M,)
    temperature: float
    losses: Floats  # (N,)
    hits: Floats  # (N,)
    gaps: Floats  # (N, B)


def select(
    logits: Logits, labels: Labels, method: str, rng: np.random.Generator, *, ranked_here: bool = False
) -> Selection:
    """Scores every method on the holdout and chooses one.

    Each is scored by cross-fitting: 5 stratified folds, 3 shuffles, each image under weights found without it. That
    goes for the pick of the best member too: of ten members that share most of their errors, one leads the plain mean
    on 200 images by luck nearly always, and costs half a point on others. All are compared as they would be used, so
    each with its one temperature: otherwise a member that is merely less over- or underconfident than the others
    would pass for a better one.

    "auto" starts from the lowest log loss of three that fit no weights: the single best by validation, the plain mean
    and the pick of the best member. A method that fits weights, convex before greedy, replaces what is chosen so far
    if its log loss is lower by more than one standard error of the paired difference. So the choice is never worse
    here than any of the three.

    With folds the members were ranked on these very images. That flatters the first, so that "auto" leaves it out and
    has the pick of the best member instead, which is scored on other folds than it is made on.

    Args:
        logits: (M, N, C) of the holdout; the first member is the best single model by validation.
        labels: (N,), each in [0, C).
        method: "auto" or the name of a row of `METHODS`.
        rng: draws folds, bags and resamples.
        ranked_here: whether the members were ranked on these images.
    Raises: ValueError for fewer than two images or an unknown method, and as `image_losses` does.
    """
    members, images = logits.shape[:2]
    if images < 2:
        raise ValueError(f"{images} images cannot be split into those to fit on and those to score")
    if method != AUTO and method not in [row.name for row in METHODS]:
        raise ValueError(f"no method is called {method!r}")
    wide = logits.astype(np.float64)
    folds = [stratified_folds(labels, min(FOLDS, images), rng) for _ in range(REPEATS)]
    outcomes = {row.name: _outcome(row, wide, labels, folds, rng) for row in METHODS}
    name, reason = _choice(outcomes, members, ranked_here) if method == AUTO else (method, "it was asked for.")
    return Selection(
        images=images,
        scores={row: _score(outcome, outcomes["single"], rng) for row, outcome in outcomes.items()},
        method=name,
        reason=reason,
    )


def stratified_folds(labels: Labels, folds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(N,) fold of each image, in [0, folds): sizes differ by at most one, overall and within a class.

    Classes are dealt out one after the other, so one of fewer images than folds is in as many folds as it can be.
    """
    shuffled = rng.permutation(len(labels))
    dealt = shuffled[np.argsort(labels[shuffled], kind="stable")]
    assigned = np.empty(len(labels), np.int64)
    assigned[dealt] = np.arange(len(labels)) % folds
    return assigned


def _outcome(
    method: Method, logits: Floats, labels: Labels, folds: list[NDArray[np.int64]], rng: np.random.Generator
) -> _Outcome:
    scored = np.empty((len(folds), *logits.shape[1:]))  # (R, N, C)
    for repeat, assigned in enumerate(folds):
        for fold in range(int(assigned.max()) + 1):
            held, rest = assigned == fold, assigned != fold
            scored[repeat, held] = pooled(logits[:, held], method.weigh(logits[:, rest], labels[rest], rng))
    return _measured(method.weigh(logits, labels, rng), scored, labels)


def _measured(weights: Floats, scored: Floats, labels: Labels) -> _Outcome:
    """The outcome of (R, N, C) pooled logits, averaged over the repeats."""
    temperature = fit_temperature(scored, labels)
    tempered = scored / temperature
    return _Outcome(
        weights,
        temperature,
        losses=image_losses(tempered, labels).mean(axis=0),
        hits=image_hits(tempered, labels).mean(axis=0),
        gaps=image_gaps(tempered, labels).mean(axis=0),
    )


def _choice(outcomes: dict[str, _Outcome], members: int, ranked_here: bool) -> tuple[str, str]:
    """The chosen method's name, and why, by the rule of `select`."""
    if members == 1:
        return "uniform", "there is one member, so there is nothing to weigh."
    plain = [row.name for row in METHODS if not row.fitted and not (ranked_here and row.name == "single")]
    name = min(plain, key=lambda method: float(outcomes[method].losses.mean()))  # the first, the simplest, of equals
    others = [f"{other} {_against(outcomes[other].losses, outcomes[name].losses)}" for other in plain if other != name]
    reason = f"{' and '.join(others)} against {name}"
    rivals: list[str] = []
    for method in (row.name for row in METHODS if row.fitted):
        new, old = outcomes[method].losses, outcomes[name].losses
        comparison = f"{method} {_against(new, old)}"
        if (old - new).mean() > standard_error(old - new):
            name, reason, rivals = method, f"{comparison} against {name}, more than one standard error", []
        else:
            rivals.append(comparison)
    if rivals:
        reason += f"; {' and '.join(rivals)} against {name}"
    return name, f"{reason} (log loss, ± one standard error)."


def _against(new: Floats, old: Floats) -> str:
    """'saves 0.0123 ± 0.0045' or 'loses ...': how (N,) new losses differ from old ones on the same images."""
    saved = float((old - new).mean())
    return f"{'saves' if saved > 0 else 'loses'} {abs(saved):.4f} ± {standard_error(old - new):.4f}"


def _score(outcome: _Outcome, single: _Outcome, rng: np.random.Generator) -> Score:
    return Score(
        weights=tuple(outcome.weights.tolist()),
        temperature=outcome.temperature,
        log_loss=log_loss_estimate(outcome.losses),
        accuracy=accuracy_estimate(outcome.hits),
        calibration_error=calibration_estimate(outcome.gaps, rng),
        accuracy_gain=paired_difference(outcome.hits, single.hits, rng),
        log_loss_gain=paired_difference(single.losses, outcome.losses, rng),
    )
