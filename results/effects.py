"""What each searched parameter did to the accuracy, at an epoch that all trials reached, with intervals.

Trials that were stopped count with those that ran on: what is compared is the best of the first E epochs, and E is the
last epoch that all of them have. So no parameter looks good because the scheduler let its trials train longer.
N trials.
"""

import math
import warnings
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState
from scipy import stats

from results.scores import Estimate
from results.settings import numbered

FAMILY = 4  # as many numbered parameters, as of each convolution, or more count as two: the first half and the last
LEAST_TRIALS = 8  # fewer say nothing of effects
MANY_TRIALS = 50  # with fewer the best tenth, by which importances go, is fewer than five, as Optuna advises against
RESAMPLES = 100  # of the trials, for the importances' intervals

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Effect:
    """The difference that a parameter made, in accuracy."""

    parameter: str  # or the half of a family: 'dropout_1-4'
    change: str  # 'from 0 to 0.5', 'adamw instead of adam'
    accuracy: Estimate  # with an interval that holds together with those of all effects, at 95 %

    @property
    def clear(self) -> bool:
        """Whether it is beyond the noise."""
        return not self.accuracy.low <= 0 <= self.accuracy.high


@dataclass(frozen=True)
class Importance:
    """How much a parameter decides whether a trial is among the best."""

    parameter: str
    share: Estimate  # of all parameters' importance


@dataclass(frozen=True)
class Effects:
    """What the trials say of the parameters."""

    epoch: int  # E
    trials: int  # N
    parameters: tuple[str, ...]  # those that all trials have and that varied
    effects: tuple[Effect, ...]
    together: bool  # fitted with each other; else, for want of trials, each alone
    curved: bool  # whether numbers may have an effect that is no straight line
    importances: tuple[Importance, ...]  # the most important first; none of fewer than MANY_TRIALS
    left_out: tuple[str, ...]  # parameters that not all trials have, or that never varied
    too_many: tuple[str, ...]  # that have as many values as there are trials, or nearly: nothing can be told


@dataclass(frozen=True)
class _Factor:
    """One parameter, or half of a family, as columns of a regression, and what is asked of their coefficients."""

    name: str
    columns: Floats  # (N, K)
    changes: tuple[str, ...]
    contrasts: Floats  # (changes, K)


def effects(trials: Sequence[FrozenTrial], accuracies: Mapping[int, Sequence[float]]) -> Effects | None:
    """The effects of what was searched; None where there are too few trials, or nothing varied.

    Args:
        trials: of the study; those that failed are not looked at.
        accuracies: on validation, by trial number, an epoch each.
    """
    ran = [
        trial
        for trial in trials
        if trial.state != TrialState.FAIL
        and accuracies.get(trial.number)
        and np.isfinite(accuracies[trial.number]).all()
    ]
    # One that has only just begun would make all others as short.
    ended = [trial for trial in ran if trial.state.is_finished()]
    if len(ended) < LEAST_TRIALS:
        return None
    epoch = min(len(accuracies[trial.number]) for trial in ended)
    ran = [trial for trial in ran if len(accuracies[trial.number]) >= epoch]
    values = np.array([max(accuracies[trial.number][:epoch]) for trial in ran])
    common = [name for name in ran[0].params if all(name in trial.params for trial in ran)]
    varied = [name for name in common if len({repr(trial.params[name]) for trial in ran}) > 1]
    if not varied:
        return None
    groups = _groups(varied, ran)
    for curved in (True, False):
        factors = [factor for group in groups for factor in _factors(group, ran, curved)]
        together = _fits(factors)
        if together:
            break
    too_many = [] if together else [factor.name for factor in factors if not _fits([factor])]
    factors = [factor for factor in factors if factor.name not in too_many]
    fitted = _fitted(factors, values, factors) if together else _alone(factors, values)
    return Effects(
        epoch=epoch,
        trials=len(ran),
        parameters=tuple(varied),
        effects=tuple(fitted),
        together=together,
        curved=curved,
        importances=_importances(ran, varied, values) if len(ran) >= MANY_TRIALS else (),
        left_out=tuple(sorted({name for trial in ran for name in trial.params} - set(varied))),
        too_many=tuple(too_many),
    )


def _groups(names: Sequence[str], trials: Sequence[FrozenTrial]) -> list[list[str]]:
    """The parameters, those of a family of numbers together."""
    groups: dict[str, list[str]] = {}
    for name in names:
        stem, number = numbered(name)
        numeric = all(_is_number(trial.params[name]) for trial in trials)
        groups.setdefault(f"{stem}_" if number is not None and numeric else name, []).append(name)
    return [
        part for group in groups.values() for part in ([group] if len(group) >= FAMILY else [[one] for one in group])
    ]


def _factors(group: Sequence[str], trials: Sequence[FrozenTrial], curved: bool) -> list[_Factor]:
    if len(group) == 1:
        return [_factor(group[0], trials, curved)]
    found = []
    for half in (group[: len(group) // 2], group[len(group) // 2 :]):
        means = np.array([[trial.params[name] for name in half] for trial in trials], float).mean(1)
        found.append(_number(f"{half[0]}-{numbered(half[-1])[1]}", means, log=False, curved=curved, how="on average "))
    return found


def _factor(name: str, trials: Sequence[FrozenTrial], curved: bool) -> _Factor:
    values = [trial.params[name] for trial in trials]
    distribution = trials[0].distributions[name]
    if not isinstance(distribution, CategoricalDistribution):
        return _number(name, np.array(values, float), bool(getattr(distribution, "log", False)), curved)
    if all(_is_number(value) for value in values) and len(set(values)) > 2:
        return _number(name, np.array(values, float), min(values) > 0 and max(values) / min(values) >= 30, curved)
    keys = [repr(value) for value in values]
    levels = sorted(set(keys), key=lambda level: (-keys.count(level), keys.index(level)))  # the commonest first
    texts = {repr(value): str(value) for value in values}
    if len(set(texts.values())) < len(texts):  # None and 'None'
        texts = {level: level for level in levels}
    columns = np.array([[key == level for level in levels[1:]] for key in keys], float)
    changes = tuple(f"{texts[level]} instead of {texts[levels[0]]}" for level in levels[1:])
    return _Factor(name, columns, changes, np.eye(len(changes)))


def _number(name: str, values: Floats, log: bool, curved: bool, how: str = "") -> _Factor:
    """A number u, scaled so that 0 is a low value and 1 a high one: a tenth of the trials are below the one, a tenth
    above the other, as the very ends may be one trial each. With its square it may have its best in the middle."""
    low, high = np.quantile(values, (0.1, 0.9), method="nearest").tolist()
    if low == high:
        low, high = float(values.min()), float(values.max())
    scaled = np.log(values / low) / np.log(high / low) if log else (values - low) / (high - low)
    change = f"from {low:.3g} to {high:.3g}"
    if not curved or len(np.unique(values)) < 3:
        return _Factor(name, scaled[:, None], (f"{how}{change}",), np.ones((1, 1)))
    # a u + b u^2: at 1 less at 0; and at 1/2 less the mean of the two.
    contrasts = np.array([[1.0, 1.0], [0.0, -0.25]])
    changes = (f"{how}{change}", f"{how}in the middle of {low:.3g} and {high:.3g} against both")
    return _Factor(name, np.stack([scaled, scaled**2], axis=1), changes, contrasts)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _design(factors: Sequence[_Factor]) -> Floats:
    columns = np.concatenate([factor.columns for factor in factors], axis=1)
    return np.concatenate([np.ones((len(columns), 1)), columns], axis=1)


def _fits(factors: Sequence[_Factor]) -> bool:
    """Whether there are twice as many trials as coefficients, and the coefficients can be told apart."""
    design = _design(factors)
    trials, columns = design.shape
    return trials >= 2 * columns - 1 and bool(np.linalg.matrix_rank(design) == columns)


def _fitted(factors: Sequence[_Factor], values: Floats, compared: Sequence[_Factor]) -> list[Effect]:
    """The effects of an additive model by least squares, with intervals that hold for all of the compared factors by
    Bonferroni's inequality."""
    design = _design(factors)
    coefficients, *_ = np.linalg.lstsq(design, values, rcond=None)
    freedom = len(values) - design.shape[1]
    variance = float(((values - design @ coefficients) ** 2).sum()) / freedom
    covariance = np.linalg.inv(design.T @ design) * variance
    asked = sum(len(factor.changes) for factor in compared)
    quantile = float(stats.t.ppf(1 - 0.025 / asked, freedom))
    found, first = [], 1  # after the intercept
    for factor in factors:
        own = slice(first, first + factor.columns.shape[1])
        first = own.stop
        for change, contrast in zip(factor.changes, factor.contrasts, strict=True):
            value = float(contrast @ coefficients[own])
            margin = quantile * math.sqrt(max(0.0, float(contrast @ covariance[own, own] @ contrast)))
            found.append(Effect(factor.name, change, Estimate(value, value - margin, value + margin)))
    return found


def _alone(factors: Sequence[_Factor], values: Floats) -> list[Effect]:
    return [effect for factor in factors for effect in _fitted([factor], values, factors)]


def _importances(trials: Sequence[FrozenTrial], names: Sequence[str], values: Floats) -> tuple[Importance, ...]:
    """Optuna's importances at equal fidelity; intervals from trials drawn again with replacement.

    Source: Watanabe et al. 2023, PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary Subspaces.
    """
    rng = np.random.default_rng(0)
    distributions: dict[str, BaseDistribution] = {name: trials[0].distributions[name] for name in names}
    params = [{name: trial.params[name] for name in names} for trial in trials]

    def shares(rows: NDArray[np.int64]) -> dict[str, float]:
        chosen = [_complete(place, params[row], distributions, float(values[row])) for place, row in enumerate(rows)]
        return _ped_anova(chosen, names)

    found = shares(np.arange(len(trials)))
    drawn = [shares(rng.integers(len(trials), size=len(trials))) for _ in range(RESAMPLES)]
    importances = []
    for name, share in found.items():
        low, high = np.quantile([one[name] for one in drawn], (0.025, 0.975))
        importances.append(Importance(name, Estimate(share, float(low), float(high))))
    return tuple(sorted(importances, key=lambda one: -one.share.value))


def _complete(
    place: int, params: dict[str, Any], distributions: dict[str, BaseDistribution], value: float
) -> FrozenTrial:
    """A trial of its own identity, which the importances go by, even where it is drawn twice."""
    return FrozenTrial(
        number=place,
        trial_id=place,
        state=TrialState.COMPLETE,
        value=value,
        params=params,
        distributions=distributions,
        datetime_start=None,
        datetime_complete=None,
        user_attrs={},
        system_attrs={},
        intermediate_values={},
    )


class _Valued(optuna.Study):
    """A study of given trials, which are not copied: a hundred times a thousand would take minutes."""

    def __init__(self, trials: list[FrozenTrial]) -> None:
        study = optuna.create_study(direction="maximize")
        super().__init__(study.study_name, study._storage)
        self._valued = trials

    def get_trials(self, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        """All of them: they are complete."""
        return self._valued


def _ped_anova(trials: list[FrozenTrial], names: Sequence[str]) -> dict[str, float]:
    """Each parameter's share of the importance."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # where all trials are alike, so are the importances
        raw = PedAnovaImportanceEvaluator().evaluate(_Valued(trials), params=list(names))
    total = sum(raw.values())
    return {name: raw.get(name, 0.0) / total if total > 0 and math.isfinite(total) else 0.0 for name in names}
