"""What a parameter did, at an epoch that all trials reached."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from scipy import stats

from results.effects import Effects, effects

LOSS = CategoricalDistribution(("focal", "cross_entropy"))
DROPOUT = FloatDistribution(0, 0.5)


def trial(
    number: int,
    params: Mapping[str, Any],
    distributions: Mapping[str, BaseDistribution],
    state: TrialState = TrialState.PRUNED,
) -> FrozenTrial:
    made = create_trial(
        state=state,
        params=dict(params),
        distributions=dict(distributions),
        value=0.5 if state == TrialState.COMPLETE else None,
    )
    made.number = number
    return made


def of_losses(values: Sequence[tuple[str, float]]) -> Effects | None:
    trials = [trial(number, {"loss": loss}, {"loss": LOSS}) for number, (loss, _) in enumerate(values)]
    return effects(trials, {number: [value] for number, (_, value) in enumerate(values)})


def test_two_choices_differ_by_their_means_with_the_pooled_t_interval() -> None:
    one, other = [0.50, 0.52, 0.54, 0.56, 0.53], [0.40, 0.44, 0.42, 0.46]
    found = of_losses([("focal", value) for value in one] + [("cross_entropy", value) for value in other])
    assert found is not None
    (effect,) = found.effects
    assert effect.change == "cross_entropy instead of focal"  # of which there are more
    gap = np.mean(other) - np.mean(one)
    squares = np.var(one) * 5 + np.var(other) * 4
    margin = stats.t.ppf(0.975, 7) * math.sqrt(squares / 7 * (1 / 5 + 1 / 4))
    assert effect.accuracy.value == pytest.approx(gap)
    assert (effect.accuracy.low, effect.accuracy.high) == pytest.approx((gap - margin, gap + margin))
    assert effect.clear
    assert found.importances == ()  # of so few trials


def test_a_difference_inside_the_noise_is_not_clear() -> None:
    found = of_losses([("focal", 0.5), ("cross_entropy", 0.51)] * 3 + [("focal", 0.56), ("cross_entropy", 0.44)])
    assert found is not None and not found.effects[0].clear


def test_a_number_s_effect_is_from_a_low_value_to_a_high_one() -> None:
    values = np.linspace(0, 0.5, 11)  # a tenth are below 0.05, a tenth above 0.45
    trials = [trial(number, {"p": float(value)}, {"p": DROPOUT}) for number, value in enumerate(values)]
    found = effects(trials, {number: [0.3 + 0.2 * value] for number, value in enumerate(values)})
    assert found is not None
    assert found.effects[0].change == "from 0.05 to 0.45"
    assert found.effects[0].accuracy.value == pytest.approx(0.08)


def test_a_learning_rate_counts_by_its_logarithm() -> None:
    rates = [10.0**-power for power in range(1, 10)]
    distribution = FloatDistribution(1e-9, 1, log=True)
    trials = [trial(number, {"lr": rate}, {"lr": distribution}) for number, rate in enumerate(rates)]
    found = effects(trials, {number: [0.5 + 0.01 * math.log10(rate)] for number, rate in enumerate(rates)})
    assert found is not None
    low, high = (float(part) for part in found.effects[0].change.removeprefix("from ").split(" to "))
    assert found.effects[0].accuracy.value == pytest.approx(0.01 * math.log10(high / low))


def test_the_dropout_of_many_convolutions_counts_as_two_halves() -> None:
    rng = np.random.default_rng(0)
    names = [f"dropout_{number}" for number in range(1, 9)]
    params = [
        {name: float(value) for name, value in zip(names, rng.uniform(0, 0.5, 8), strict=True)} for _ in range(40)
    ]
    trials = [trial(number, one, dict.fromkeys(names, DROPOUT)) for number, one in enumerate(params)]
    accuracies = [
        0.5 + 0.2 * np.mean([one[name] for name in names[4:]]) + rng.normal(0, 0.005) for one in params
    ]  # the first half does nothing
    found = effects(trials, {number: [value] for number, value in enumerate(accuracies)})
    assert found is not None and found.together
    assert [effect.parameter for effect in found.effects] == ["dropout_1-4"] * 2 + ["dropout_5-8"] * 2
    assert [effect.clear for effect in found.effects] == [False, False, True, False]
    assert found.effects[0].change.startswith("on average from ")
    assert found.parameters == tuple(names)


def test_what_is_best_in_the_middle_is_told_from_its_ends() -> None:
    """Of -(p - 1/4)^2 over 0 to 1/2 the tenths are 0.05 and 0.45: alike, and 0.04 below the middle."""
    values = np.linspace(0, 0.5, 11)
    trials = [trial(number, {"p": float(value)}, {"p": DROPOUT}) for number, value in enumerate(values)]
    found = effects(trials, {number: [0.5 - (value - 0.25) ** 2] for number, value in enumerate(values)})
    assert found is not None and found.curved
    ends, middle = found.effects
    assert (ends.change, middle.change) == ("from 0.05 to 0.45", "in the middle of 0.05 and 0.45 against both")
    assert ends.accuracy.value == pytest.approx(0, abs=1e-12)
    assert middle.accuracy.value == pytest.approx(0.04)
    assert middle.clear


def test_of_many_trials_the_importances_are_shares_with_intervals() -> None:
    rng = np.random.default_rng(2)
    params = [{"p": float(rng.uniform(0, 0.5)), "q": float(rng.uniform(0, 0.5))} for _ in range(60)]
    trials = [trial(number, one, {"p": DROPOUT, "q": DROPOUT}) for number, one in enumerate(params)]
    found = effects(trials, {number: [0.3 + one["p"] + rng.normal(0, 0.02)] for number, one in enumerate(params)})
    assert found is not None
    assert [one.parameter for one in found.importances] == ["p", "q"]
    assert sum(one.share.value for one in found.importances) == pytest.approx(1)
    assert found.importances[0].share.low > found.importances[1].share.high


def test_choices_that_read_alike_are_kept_apart() -> None:
    choices = CategoricalDistribution((None, "None", 1))
    trials = [trial(number, {"c": (None, "None", 1)[number % 3]}, {"c": choices}) for number in range(12)]
    found = effects(trials, {number: [0.5 + number % 3 / 100 + number / 1e5] for number in range(12)})
    assert found is not None
    assert {effect.change for effect in found.effects} == {"'None' instead of None", "1 instead of None"}


def test_trials_are_compared_by_the_best_of_the_epochs_that_all_have() -> None:
    trials = [trial(number, {"loss": ("focal", "cross_entropy")[number % 2]}, {"loss": LOSS}) for number in range(8)]
    accuracies = {number: [0.3, 0.2] + ([0.9, 0.9] if number % 2 else []) for number in range(8)}
    found = effects(trials, accuracies)
    assert found is not None
    assert (found.epoch, found.trials) == (2, 8)
    assert found.effects[0].accuracy.value == pytest.approx(0)


def test_what_not_all_trials_have_or_what_never_varied_is_left_out() -> None:
    distributions = {"loss": LOSS, "gamma": DROPOUT, "same": DROPOUT}
    trials = []
    for number in range(10):
        params = {"loss": ("focal", "cross_entropy")[number % 2], "same": 0.1, **({"gamma": 0.2} if number % 2 else {})}
        trials.append(trial(number, params, {name: distributions[name] for name in params}))
    found = effects(trials, {number: [0.5 + number / 1000] for number in range(10)})
    assert found is not None
    assert [effect.parameter for effect in found.effects] == ["loss"]
    assert found.left_out == ("gamma", "same")


def test_few_trials_for_many_parameters_have_each_fitted_alone() -> None:
    rng = np.random.default_rng(1)
    names = [f"x{letter}" for letter in "abcdef"]
    trials = [
        trial(number, {name: float(rng.uniform(0, 0.5)) for name in names}, dict.fromkeys(names, DROPOUT))
        for number in range(10)
    ]
    found = effects(trials, {number: [float(rng.uniform())] for number in range(10)})
    assert found is not None and not found.together
    assert len(found.effects) == 6


def test_of_as_many_values_as_trials_nothing_is_told() -> None:
    networks = CategoricalDistribution([f"net{number}" for number in range(10)])
    distributions = {"network": networks, "x": DROPOUT}
    trials = [
        trial(number, {"network": f"net{number}", "x": number % 2 / 4}, distributions, TrialState.COMPLETE)
        for number in range(10)
    ]
    accuracies = {number: [0.5 + number / 1000] for number in range(10)}
    found = effects(trials, accuracies)
    assert found is not None and not found.together
    assert [effect.parameter for effect in found.effects] == ["x"]
    assert found.too_many == ("network",)


@pytest.mark.parametrize("count", [0, 7])
def test_too_few_trials_say_nothing(count: int) -> None:
    assert (
        of_losses([("focal", 0.5), ("cross_entropy", 0.6)][:count] * 4 if count == 0 else [("focal", 0.5)] * count)
        is None
    )


def test_trials_that_failed_or_have_only_just_begun_or_no_number_do_not_count() -> None:
    trials = [trial(number, {"loss": ("focal", "cross_entropy")[number % 2]}, {"loss": LOSS}) for number in range(8)]
    trials += [trial(8, {"loss": "focal"}, {"loss": LOSS}, TrialState.FAIL)]
    trials += [
        trial(9, {"loss": "focal"}, {"loss": LOSS}, TrialState.RUNNING),
        trial(10, {"loss": "focal"}, {"loss": LOSS}),
    ]
    accuracies = {**{number: [0.5, 0.6] for number in range(8)}, 8: [0.1], 9: [0.1], 10: [0.5, math.nan]}
    found = effects(trials, accuracies)
    assert found is not None
    assert (found.epoch, found.trials) == (2, 8)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
