"""The samplers by name: Optuna's, built anew for each trial so that they carry no state outside the study."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.samplers import BaseSampler


@dataclass(frozen=True)
class SamplerRow:
    """One sampler: from the run's seed and a trial's number to a sampler for that trial."""

    name: str
    summary: str
    build: Callable[[int, int], BaseSampler]


def _seed(run_seed: int, number: int) -> int:
    return int(np.random.SeedSequence([run_seed, number]).generate_state(1)[0])


def _random(seed: int, number: int) -> BaseSampler:
    return optuna.samplers.RandomSampler(seed=_seed(seed, number))


def _tpe(seed: int, number: int) -> BaseSampler:
    # Multivariate, and with the constant liar that keeps concurrent trials apart, by Optuna 5's defaults.
    return optuna.samplers.TPESampler(seed=_seed(seed, number))


def _gp(seed: int, number: int) -> BaseSampler:
    return optuna.samplers.GPSampler(seed=_seed(seed, number), independent_sampler=_random(seed, number))


def _cmaes(seed: int, number: int) -> BaseSampler:
    # Its covariance lives in the study. Categorical parameters, which it cannot model, are drawn at random.
    return optuna.samplers.CmaEsSampler(
        seed=_seed(seed, number), independent_sampler=_random(seed, number), warn_independent_sampling=False
    )


def _qmc(seed: int, number: int) -> BaseSampler:
    # One scrambled Sobol sequence for the run; which of its points is next stands in the study.
    return optuna.samplers.QMCSampler(
        scramble=True, seed=seed, independent_sampler=_random(seed, number), warn_independent_sampling=False
    )


SAMPLERS = {
    row.name: row
    for row in (
        SamplerRow("tpe", "tree-structured Parzen estimator (Bergstra et al. 2011); learns from stopped trials", _tpe),
        SamplerRow("random", "independent draws", _random),
        SamplerRow("grid", "each point of the space's grid once", _random),
        SamplerRow("gp", "Gaussian process with log expected improvement; learns from completed trials only", _gp),
        SamplerRow("cmaes", "covariance matrix adaptation (Hansen); learns from completed trials only", _cmaes),
        SamplerRow("qmc", "scrambled Sobol sequence: even coverage", _qmc),
    )
}
