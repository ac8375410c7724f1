"""The samplers by name: Optuna's, built anew for each trial so that they carry no state outside the study."""

import io
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial

from trainable.errors import UserError, reason

DAMAGED_CMAES = "the study's CMA-ES state is damaged ({}): choose another --name."


@dataclass(frozen=True)
class SamplerRow:
    """One sampler: from the run's seed and a trial's number to a sampler for that trial."""

    name: str
    summary: str
    build: Callable[[int, int], BaseSampler]

    def following(self, before: BaseSampler, run_seed: int, number: int) -> BaseSampler:
        """The sampler for a trial. Which parameters all trials have it takes over from `before`, the study's one so
        far: to find that out anew is a pass over all trials."""
        sampler = self.build(run_seed, number)
        if isinstance(sampler, TPESampler) and isinstance(before, TPESampler):
            sampler._search_space = before._search_space
        return sampler


def _seed(run_seed: int, number: int) -> int:
    return int(np.random.SeedSequence([run_seed, number]).generate_state(1)[0])


def _random(seed: int, number: int) -> BaseSampler:
    return optuna.samplers.RandomSampler(seed=_seed(seed, number))


def _tpe(seed: int, number: int) -> BaseSampler:
    # Multivariate, and with the constant liar that keeps concurrent trials apart, by Optuna 5's defaults.
    return TPESampler(seed=_seed(seed, number))


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


def unmodelled(sampler: str, every: set[str], numbers: set[str], all_of_them: set[str]) -> set[str]:
    """The parameters of a space that a sampler draws at random, because it cannot model them.

    Args:
        sampler: a name of SAMPLERS.
        every: the parameters that each trial has.
        numbers: those of them that are numbers.
        all_of_them: the parameters that any trial has.
    """
    if sampler in ("cmaes", "qmc"):
        return all_of_them - numbers
    return all_of_them - every if sampler == "gp" else set()


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


class _CmaEsUnpickler(pickle.Unpickler):
    """Loads the sampler's own arrays and classes; anything else that a pickle may name is refused."""

    ALLOWED = {
        "cmaes._cma": {"CMA"},
        "numpy": {"dtype", "ndarray"},
        "numpy._core.multiarray": {"_reconstruct", "scalar"},
        "numpy._core.numeric": {"_frombuffer"},
        "numpy.random._mt19937": {"MT19937"},
        "numpy.random._pickle": {"__bit_generator_ctor", "__randomstate_ctor"},
    }

    def find_class(self, module: str, name: str) -> Any:
        if name not in self.ALLOWED.get(module, ()):
            raise UserError(
                f"the study's CMA-ES state names {module}.{name}, which Optuna does not write: "
                "somebody may have tampered with it. Choose another --name."
            )
        return super().find_class(module, name)


def check_cmaes_state(trials: Iterable[FrozenTrial]) -> None:
    """Makes sure that Optuna can be let loose on a study of its CMA-ES sampler, whose state it keeps there as pickles.

    These pickles are all that is unpickled of a run, and another may have written them.

    Raises:
        UserError: where a pickle holds anything else than that sampler's state, or is damaged.
    """
    for trial in trials:
        count = sum(key.startswith("cma:optimizer:") for key in trial.system_attrs)
        if count:
            try:
                state = "".join(trial.system_attrs[f"cma:optimizer:{part}"] for part in range(count))
                loaded = _CmaEsUnpickler(io.BytesIO(bytes.fromhex(state))).load()
            except UserError:
                raise
            except Exception as error:  # a pickle may raise anything
                raise UserError(DAMAGED_CMAES.format(reason(error))) from error
            if type(loaded).__name__ != "CMA":  # of the types that it may have
                raise UserError(DAMAGED_CMAES.format(f"it is of type {type(loaded).__name__}"))
