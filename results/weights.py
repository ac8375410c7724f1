"""Ways to weigh the members of an ensemble: (M, N, C) logits and (N,) labels in, (M,) weights out.

The ensemble is the weighted mean of the members' logits. Weights are at least 0 and sum to 1. M members, N images,
C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import LinearConstraint, minimize

from results.scores import Floats, Labels, Logits, fit_temperature, image_losses, pooled, probabilities

ROUNDS = 20  # members added after the start, so that a weight is known to about 1/25
BAGS = 10  # enough for some ten members: with 20, as in the paper, cross-fitting takes twice as long
BAG_SHARE = 0.5  # of the members, as in the paper
TIE = 1e-12  # nats; losses nearer than this are rounding apart


def single_weights(logits: Logits, labels: Labels) -> Floats:
    """(M,) weights, all on the first member, which validation has put there: nothing is fitted."""
    weights: Floats = np.eye(len(logits))[0]
    return weights


def uniform_weights(logits: Logits, labels: Labels) -> Floats:
    """(M,) equal weights: the plain mean, which fits nothing."""
    return np.full(len(logits), 1 / len(logits))


def best_weights(logits: Logits, labels: Labels) -> Floats:
    """(M,) weights, all on the member of lowest log loss, each at its best temperature (the first of equals)."""
    losses = [image_losses(member / fit_temperature(member, labels), labels).mean() for member in logits]
    weights: Floats = np.eye(len(logits))[np.argmin(losses)]
    return weights


def greedy_weights(logits: Logits, labels: Labels, rounds: int = ROUNDS) -> Floats:
    """Ensemble selection on log loss: each round adds, with replacement, the member that helps most.

    It starts from the best members, as many as have the lowest log loss together (sorted initialisation), and what
    is returned is the trajectory's best point, so that a flat round does not end it early. Of equally good members
    one that is already in is taken, before the first.

    Args:
        logits: (M, N, C), M and N at least 1.
        labels: (N,), each in [0, C).
        rounds: members to add after the start, at least 0.
    Returns: (M,) the share of each member in the selection.
    Raises: ValueError as `image_losses` does.
    Source: Caruana et al. 2004, Ensemble Selection from Libraries of Models, sections 2.1 and 2.2.
    """
    logits = np.asarray(logits, np.float64)
    members = len(logits)
    order = image_losses(logits, labels).mean(axis=-1).argsort(kind="stable")
    sums = logits[order].cumsum(axis=0)
    starts = image_losses(sums / np.arange(1, members + 1)[:, None, None], labels).mean(axis=-1)
    size = int(starts.argmin()) + 1
    counts = np.zeros(members)
    counts[order[:size]] = 1
    total = sums[size - 1]  # the selection's running sum: a round is one pass over the members
    best_loss, best_counts = starts[size - 1], counts.copy()
    for grown in range(size + 1, size + 1 + rounds):
        losses = image_losses((total + logits) / grown, labels).mean(axis=-1)
        equals = losses <= losses.min() + TIE
        inside = equals & (counts > 0)
        chosen = int(np.argmax(inside if inside.any() else equals))
        total = total + logits[chosen]
        counts[chosen] += 1
        if losses[chosen] < best_loss - TIE:
            best_loss, best_counts = losses[chosen], counts.copy()
    shares: Floats = best_counts / best_counts.sum()
    return shares


def bagged_greedy_weights(logits: Logits, labels: Labels, rng: np.random.Generator) -> Floats:
    """Mean of `greedy_weights` over 10 bags, each of half the members (two at least, where there are two).

    A member that shines on these images by luck is missing from half the bags.

    Args and errors: as for `greedy_weights`; `rng` draws the bags.
    Source: Caruana et al. 2004, Ensemble Selection from Libraries of Models, section 2.3.
    """
    members = len(logits)
    weights = np.zeros(members)
    for _ in range(BAGS):
        bag = np.sort(rng.permutation(members)[: max(2, round(BAG_SHARE * members))])
        weights[bag] += greedy_weights(logits[bag], labels) / BAGS
    return weights


def convex_weights(logits: Logits, labels: Labels) -> Floats:
    """The weights on the simplex of lowest log loss, shrunk towards equal ones.

    Minimises, over w >= 0 with sum 1, the mean log loss plus sum((M w - 1)^2) / (2 N), which is convex. The penalty
    is a Gaussian prior: before any image is seen, a member's weight relative to the plain mean's is 1 with a
    standard deviation of 1. So giving a member up costs half a nat over all images together, giving up all but one
    costs M (M - 1) / 2, and what N images say outweighs both as N grows.

    Args:
        logits: (M, N, C), M and N at least 1.
        labels: (N,), each in [0, C).
    Returns: (M,) weights.
    Raises: ValueError as `image_losses` does.
    """
    logits = np.asarray(logits, np.float64)
    members, images, classes = logits.shape
    targets = np.eye(classes)[labels]

    def objective(weights: Floats) -> tuple[float, Floats]:
        mean = pooled(logits, weights)
        excess = members * weights - 1
        loss = image_losses(mean, labels).mean() + (excess @ excess) / (2 * images)
        slope = np.tensordot(logits, probabilities(mean) - targets, axes=2) / images + members * excess / images
        return float(loss), slope

    start = uniform_weights(logits, labels)
    fitted = minimize(
        objective,
        start,
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * members,
        constraints=LinearConstraint(np.ones(members), 1.0, 1.0),
        options={"ftol": 1e-12, "maxiter": 500},
    )
    weights: Floats = fitted.x.clip(0.0) / fitted.x.clip(0.0).sum()
    return weights


@dataclass(frozen=True)
class Method:
    """One way to weigh members."""

    name: str
    summary: str
    weigh: Callable[[Logits, Labels, np.random.Generator], Floats]
    fitted: bool  # whether it fits weights, and so has to be better than the plain by more than the noise


METHODS = (  # simplest first
    Method("single", "the best by validation", lambda logits, labels, _: single_weights(logits, labels), fitted=False),
    Method("uniform", "the plain mean", lambda logits, labels, _: uniform_weights(logits, labels), fitted=False),
    Method("best", "the best member alone", lambda logits, labels, _: best_weights(logits, labels), fitted=False),
    Method("convex", "fitted, shrunk to equal", lambda logits, labels, _: convex_weights(logits, labels), fitted=True),
    Method("greedy", "fitted by selection", bagged_greedy_weights, fitted=True),
)
