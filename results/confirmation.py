"""What the best configurations of a search are worth, from trainings with fresh seeds that nothing was chosen by.

K configurations, S seeds. The k-th seed is the same for all configurations, so that they are compared in pairs. Some
configurations may have fewer seeds than others: those that did too badly with the first ones to be given more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from results.comparison import Difference, SharedSeeds
from results.scores import Estimate
from trainable.config import Objective
from trainable.errors import UserError

DEFAULT = "default"  # the name of a default that is none of the search's best
DRAWS = 4_000  # of the posterior: a probability is then known to 1 point
GRID = 60  # values of the spread; and a fourth of them of the noise
# The prior of the configurations' spread, in errors of a mean: with probability ALIKE they do not differ at all, else
# their variance is uniform (Stein's harmonic prior, as in Morris 1983), up to a spread of WIDEST. Without the first
# part equal configurations are shrunk too little, and with more of it different ones too much, as the best few of a
# search have a longer tail above than a normal distribution. By benchmarks/confirm_simulation.py, 1,000 searches of 24,
# their 8 best, a spread of 0 to 2 times the noise: a bias of at most 9 % of the search's own, covered in 94 to 96 %. Of
# the 3 best, where nothing differs, 13 %.
ALIKE, WIDEST = 0.03, 10.0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Tried:
    """A configuration and what it gave when it was trained again."""

    name: str  # of the search's trial that it was; or DEFAULT
    settings: Mapping[str, Any]  # what was searched
    accuracies: Mapping[int, float]  # on validation, of the best epoch, by seed
    seconds: float  # of training an epoch, on average
    parameters: int


@dataclass(frozen=True)
class Searched:
    """The search's winner, as the search saw it."""

    name: str
    accuracy: float
    compared: int  # configurations that it was the best of
    objective: Objective = "valid_accuracy"  # by which it was


@dataclass(frozen=True)
class Confirmed:
    """A configuration and what is known of it."""

    tried: Tried
    fresh: Estimate  # its mean over the seeds, with the t interval of the pooled deviation
    error: float  # one standard error of that mean
    worth: Estimate  # shrunk towards the others, so that being the best of them does not flatter it
    best_probability: float
    against_best: Difference | None  # None: it is that, or they share no seed
    against_default: Difference | None


@dataclass(frozen=True)
class Confirmation:
    """What a confirmation found."""

    rows: tuple[Confirmed, ...]  # the best first; those with fewer seeds after those with all
    images: int  # of validation
    deviation: float  # over seeds, pooled over the configurations
    freedom: int  # its degrees of freedom
    searched: Searched
    default: str  # a configuration's name
    tied: tuple[str, ...]  # with the best, which is one of them: of those with all seeds
    cheapest: str  # of the tied, by the seconds of an epoch, within a tenth by parameters

    @property
    def best(self) -> Confirmed:
        """The configuration with the best mean over all seeds."""
        return self.rows[0]

    def row(self, name: str) -> Confirmed | None:
        """A configuration by its name; None where none of its trainings succeeded."""
        return next((row for row in self.rows if row.tried.name == name), None)


def confirmation(
    tried: Sequence[Tried], searched: Searched, default: str, images: int, rng: np.random.Generator
) -> Confirmation:
    """What trainings with fresh seeds say of the configurations.

    Args:
        tried: the configurations, with as many accuracies as trainings succeeded.
        searched: the winner of the search; one of them.
        default: the name of one of them.
        images: of validation.
        rng: of the posterior's draws.
    Raises:
        UserError: where no configuration has two accuracies.
    """
    ran = [one for one in tried if one.accuracies]
    means = np.array([_mean(one) for one in ran])
    seeds = np.array([len(one.accuracies) for one in ran])
    freedom = int((seeds - 1).sum())
    if not freedom:
        raise UserError("no configuration was trained twice without failing, so there is no noise to compare with.")
    squares = sum(float(((np.array(list(one.accuracies.values())) - _mean(one)) ** 2).sum()) for one in ran)
    variance = max(squares / freedom, 1 / images**2)  # runs that agree by chance differ by an image at least
    # The default was not chosen from among the others: it is no measure of how they vary, unless it is one of them.
    alike = np.array([one.name != DEFAULT for one in ran])
    draws = posterior(means, seeds, alike, variance, freedom, rng)
    best_ones = draws == draws.max(1, keepdims=True)  # several where configurations do not differ
    chances = (best_ones / best_ones.sum(1, keepdims=True)).mean(0)
    lows, highs = np.quantile(draws, (0.025, 0.975), axis=0)

    order = sorted(range(len(ran)), key=lambda i: (-seeds[i], -means[i], ran[i].seconds))
    paired = SharedSeeds([one.accuracies for one in ran], images)
    best = ran[order[0]]
    by_name = {one.name: one for one in ran}
    rows = []
    for i in order:
        error = float(np.sqrt(variance / seeds[i]))
        margin = float(stats.t.ppf(0.975, freedom)) * error
        rows.append(
            Confirmed(
                tried=ran[i],
                fresh=_share(float(means[i]), float(means[i]) - margin, float(means[i]) + margin),
                error=error,
                worth=_share(float(draws[:, i].mean()), float(lows[i]), float(highs[i])),
                best_probability=float(chances[i]),
                against_best=paired.difference(ran[i].accuracies, best.accuracies),
                against_default=paired.difference(ran[i].accuracies, by_name[default].accuracies)
                if default in by_name
                else None,
            )
        )
    level = [
        row
        for row in rows
        if len(row.tried.accuracies) == seeds.max() and (row.against_best is None or not row.against_best.clear)
    ]
    return Confirmation(
        rows=tuple(rows),
        images=images,
        deviation=float(np.sqrt(variance)),
        freedom=freedom,
        searched=searched,
        default=default,
        tied=tuple(row.tried.name for row in level),
        cheapest=_cheapest([row.tried for row in level]).name,
    )


def posterior(
    means: Floats,
    seeds: NDArray[np.int64],
    alike: NDArray[np.bool_],
    variance: float,
    freedom: int,
    rng: np.random.Generator,
) -> Floats:
    """Draws of what K configurations are worth, each mean shrunk towards the others the more, the less they differ.

    Those that are alike are taken to be draws of one normal distribution, whose mean and variance are unknown, as is
    the noise. So the posterior of the best one needs no correction for its being the best, nor for seeds having been
    given to those that did well with the first.

    Args:
        means: (K,) over each one's seeds.
        seeds: (K,) how many.
        alike: (K,) whether it is shrunk; the others stay what they are. All do where fewer than two are alike.
        variance: over seeds.
        freedom: its degrees of freedom.
    Returns: (DRAWS, K).
    Source: Morris 1983, Parametric Empirical Bayes Inference, J. Am. Stat. Assoc. 78, with unequal seeds and a chance
        that there is no spread, integrated numerically over the noise and the spread instead of approximated.
    """
    # The noise's posterior, of equal probability between its GRID / 4 values.
    steps = (np.arange(GRID // 4) + 0.5) / (GRID // 4)
    noises = variance * freedom / stats.chi2.ppf(steps, freedom)
    rows = rng.integers(len(noises), size=DRAWS)
    spreads, centres = np.full(DRAWS, np.inf), np.zeros(DRAWS)
    if alike.sum() >= 2:
        y, n = means[alike], seeds[alike]
        steps = (np.arange(GRID) + 0.5) / GRID
        between = variance / n.mean() * (WIDEST * np.append(0, steps)) ** 2  # (GRID + 1,) the variance A
        prior = np.append(ALIKE, (1 - ALIKE) * steps / steps.sum())  # uniform in A: dA is 2 spread d(spread)
        precision = 1 / (between[:, None, None] + noises[:, None] / n)  # (GRID + 1, GRID / 4, K)
        total = precision.sum(-1)
        centre = (precision * y).sum(-1) / total
        log = 0.5 * (np.log(precision).sum(-1) - np.log(total) - (precision * (y - centre[..., None]) ** 2).sum(-1))
        weights = (np.exp(log - log.max()) * prior[:, None]).ravel()
        cells = rng.choice(weights.size, DRAWS, p=weights / weights.sum())
        rows = cells % len(noises)
        spreads = between[cells // len(noises)]
        centres = rng.normal(centre.ravel()[cells], total.ravel()[cells] ** -0.5)
    own = noises[rows, None] / seeds  # (DRAWS, K)
    share = own / (own + np.where(alike, spreads[:, None], np.inf))  # of the centre; 0 of one that is not shrunk
    return rng.normal((1 - share) * means + share * centres[:, None], np.sqrt((1 - share) * own))


def _share(value: float, low: float, high: float) -> Estimate:
    """An estimate of an accuracy, which is between 0 and 1 whatever the noise."""
    return Estimate(min(1.0, max(0.0, value)), max(0.0, low), min(1.0, high))


def _cheapest(tried: Sequence[Tried]) -> Tried:
    """The first of those whose epochs are the shortest, of these with the fewest parameters.

    On a machine that others use too seconds differ by themselves: within a tenth they count as equal.
    """
    least = min(one.seconds for one in tried)
    return min((one for one in tried if one.seconds <= 1.1 * least), key=lambda one: one.parameters)


def _mean(one: Tried) -> float:
    return float(np.mean(list(one.accuracies.values())))
