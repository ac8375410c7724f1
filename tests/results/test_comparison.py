"""Configurations compared: means, errors and intervals worked out on paper."""

import io
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from rich.table import Table

from results.comparison import (
    Compared,
    Figure,
    compared,
    comparer,
    difference,
    margin,
    method_text,
    render_comparison,
    render_published,
)


def of(*accuracies: float, images: int = 100, **settings: object) -> Compared:
    return Compared(settings, accuracies, images)


SEEDS = (7, 8, 9)
# B is below A by 5, 4 and 6 points, whatever the seed does to both.
A = Compared({"name": "A"}, (0.60, 0.62, 0.70), 1000, seeds=SEEDS)
B = Compared({"name": "B"}, (0.55, 0.58, 0.64), 1000, seeds=SEEDS)


def test_runs_that_share_seeds_are_compared_in_pairs() -> None:
    """Of two configurations that is the paired t test: a deviation of 1 point, two degrees of freedom, t = 4.303."""
    found = comparer([A, B])(B, A)
    assert found.value == pytest.approx(-0.05)
    assert found.error == pytest.approx(0.01 / math.sqrt(3))
    assert found.margin == pytest.approx(4.303 * 0.01 / math.sqrt(3), rel=1e-3)
    assert found.clear and not difference(B, A, 2).clear
    assert "in pairs" in method_text([A, B])


def test_the_order_of_the_seeds_does_not_matter() -> None:
    turned = Compared(B.settings, B.accuracies[::-1], 1000, seeds=SEEDS[::-1])
    assert comparer([A, turned])(A, turned).margin == pytest.approx(comparer([A, B])(A, B).margin)


def test_a_seed_that_one_lost_is_not_compared() -> None:
    """Two pairs, 5 and 4 points apart: a deviation of 0.707 points, one degree of freedom, t = 12.706."""
    fewer = Compared(B.settings, B.accuracies[:2], 1000, failed=1, seeds=SEEDS[:2])
    found = comparer([A, fewer])(A, fewer)
    assert found.value == pytest.approx(0.045)
    assert found.margin == pytest.approx(12.706 * math.sqrt(0.00005 / 2), rel=1e-3)


@pytest.mark.parametrize("seeds", [(), (1, 2, 3), (7, 2, 3)])
def test_runs_that_share_no_two_seeds_are_independent(seeds: tuple[int, ...]) -> None:
    other = Compared(B.settings, B.accuracies, 1000, seeds=seeds)
    assert comparer([A, other])(A, other) == difference(A, other, 2)
    assert method_text([A, other]) == "Games and Howell 1976"


def lines(view: Table) -> list[list[str]]:
    text = io.StringIO()
    Console(file=text, width=120).print(view)
    return [line.split() for line in text.getvalue().splitlines()]


def test_trials_with_the_same_settings_are_one_configuration() -> None:
    table = pd.DataFrame(
        [
            {"state": "COMPLETE", "valid_accuracy": 0.5, "optimizer": "adam", "momentum": math.nan},
            {"state": "COMPLETE", "valid_accuracy": 0.6, "optimizer": "sgd", "momentum": 0.9},
            {"state": "COMPLETE", "valid_accuracy": 0.7, "optimizer": "adam", "momentum": math.nan},
            {"state": "COMPLETE", "valid_accuracy": 0.1, "optimizer": "sgd", "momentum": 0.8},
            {"state": "PRUNED", "valid_accuracy": 0.9, "optimizer": "adam", "momentum": math.nan},
            {"state": "FAIL", "valid_accuracy": math.nan, "optimizer": "sgd", "momentum": 0.9},
        ]
    )
    assert compared(table, ["optimizer", "momentum"], 100) == [
        Compared({"optimizer": "adam"}, (0.5, 0.7), 100),
        Compared({"optimizer": "sgd", "momentum": 0.9}, (0.6,), 100, failed=1),
        Compared({"optimizer": "sgd", "momentum": 0.8}, (0.1,), 100),
    ]


def test_of_several_seeds_the_error_is_over_the_seeds() -> None:
    # Deviations -0.1, 0, +0.1: variance 0.02 / 2 = 0.01, and of the mean of three 0.01 / 3.
    one = of(0.6, 0.7, 0.8)
    assert one.mean == pytest.approx(0.7)
    assert one.error == pytest.approx(0.0577350)


def test_of_one_run_the_error_is_over_its_images() -> None:
    assert of(0.8, images=100).error == pytest.approx(0.04)  # sqrt(0.8 * 0.2 / 100)
    assert of(0.8, images=400).error == pytest.approx(0.02)


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_where_all_images_are_alike_the_error_is_worth_one_image(accuracy: float) -> None:
    assert of(accuracy, images=400).error == pytest.approx(1 / 400)


@pytest.mark.parametrize(("other", "clear"), [((0.4, 0.5, 0.6), False), ((0.3, 0.4, 0.5), True)])
def test_the_interval_of_two_with_three_seeds_each_is_welchs(other: Sequence[float], clear: bool) -> None:
    # Equal errors e = 0.0577350: together e sqrt 2; degrees of freedom (2 e^2)^2 / (e^4 / 2 + e^4 / 2) = 4, of which
    # the 97.5 % quantile is 2.776445.
    found = difference(of(0.6, 0.7, 0.8), of(*other), 2)
    assert found.value == pytest.approx(0.7 - other[1])
    assert found.error == pytest.approx(0.0816497)
    assert found.margin == pytest.approx(2.776445 * 0.0816497)  # 0.226696
    assert found.clear == clear


@pytest.mark.parametrize(
    ("configurations", "quantile"), [(2, 3.93), (3, 5.04), (4, 5.76), (10, 7.83), (20, 9.23)]
)  # of the studentized range at 95 % with 4 degrees of freedom, as tables have it
def test_of_more_configurations_the_interval_is_games_and_howells(configurations: int, quantile: float) -> None:
    found = difference(of(0.6, 0.7, 0.8), of(0.3, 0.4, 0.5), configurations)
    assert found.margin == pytest.approx(quantile / math.sqrt(2) * 0.0816497, rel=1e-3)


def test_degrees_of_freedom_of_unequal_errors_are_rounded_down() -> None:
    # Errors squared 0.01 / 3 and 0.0001: together 0.00343333; degrees of freedom 0.00343333^2 / (0.00333333^2 / 2 +
    # 0.0001^2 / 1) = 2.118, and 2 have the quantile 4.302653.
    found = difference(of(0.6, 0.7, 0.8), of(0.50, 0.52), 2)
    assert (found.value, found.error) == (pytest.approx(0.19), pytest.approx(0.0585947))
    assert found.margin == pytest.approx(4.302653 * found.error)


def test_single_runs_have_a_normal_interval() -> None:
    found = difference(of(0.6), of(0.8), 2)
    assert found.error == pytest.approx(0.0632456)  # sqrt(0.24 / 100 + 0.16 / 100)
    assert found.margin == pytest.approx(1.959964 * found.error)
    assert (found.value, found.clear) == (pytest.approx(-0.2), True)
    # The studentized range of four with infinitely many degrees of freedom: 3.633.
    assert difference(of(0.6), of(0.8), 4).margin == pytest.approx(3.633 / math.sqrt(2) * found.error, rel=1e-4)


def test_beside_a_single_run_the_degrees_of_freedom_are_the_seeds() -> None:
    # Errors squared 0.01 / 3 over 3 seeds and 0.0016 over images: (0.00493333^2) / (0.00333333^2 / 2) = 4.38.
    found = difference(of(0.6, 0.7, 0.8), of(0.8, images=100), 2)
    assert found.error == pytest.approx(math.sqrt(0.01 / 3 + 0.0016))
    assert found.margin == pytest.approx(2.776445 * found.error)


def test_seeds_that_agree_by_chance_still_differ_by_an_image() -> None:
    # Variance 1 / 100^2, of the mean of two half of it: 0.00707107. Two such: 0.01, with two degrees of freedom.
    assert of(0.5, 0.5).error == pytest.approx(0.00707107)
    found = difference(of(0.54, 0.54), of(0.5, 0.5), 2)
    assert found.margin == pytest.approx(4.302653 * 0.01)
    assert not found.clear  # 0.04
    assert difference(of(0.6, 0.6), of(0.5, 0.5), 2).clear
    assert not difference(of(0.5, 0.5), of(0.5, 0.5), 2).clear


@pytest.mark.parametrize("configurations", [4, 16])
def test_of_configurations_that_are_all_alike_few_tables_have_a_clear_difference_from_the_best(
    configurations: int,
) -> None:
    rng = np.random.default_rng(0)

    def share(corrected: int) -> float:
        tables = 1000
        false = 0
        for accuracies in rng.normal(0.55, 0.01, (tables, configurations, 3)):
            found = sorted((of(*seeds, images=1000) for seeds in accuracies.tolist()), key=lambda one: -one.mean)
            false += any(difference(one, found[0], corrected).clear for one in found[1:])
        return false / tables

    assert share(configurations) <= 0.05
    assert share(2) > 0.10  # as if the best had been named before


def test_the_view_says_mean_error_seeds_and_what_is_noise() -> None:
    found = [of(0.6, 0.7, 0.8, lr=0.01), of(0.3, 0.4, 0.5, lr=0.1), of(0.2, 0.3, 0.4, lr=0.2), of(0.2, lr=0.3)]
    # Of four, of which three have seeds: 5.757 / sqrt 2 = 4.071 at 4 degrees of freedom. The last has an error of 0.04:
    # together sqrt(0.01 / 3 + 0.0016) = 0.0702377, with 4.38.
    assert lines(render_comparison(found)) == [
        ["accuracy,", "%", "seeds", "against", "the", "best", "of", "4,", "points", "configuration"],
        ["70.0", "±5.8", "3", "lr=0.01"],
        ["40.0", "±5.8", "3", "-30.0", "±33.2,", "noise", "lr=0.1"],
        ["30.0", "±5.8", "3", "-40.0", "±33.2", "lr=0.2"],
        ["20.0", "±4.0", "1", "-50.0", "±28.6", "lr=0.3"],
    ]


def figure(low: float, high: float | None = None, words: str = "", images: int = 1000) -> Figure:
    return Figure(low, low if high is None else high, words, images)


def test_a_published_figure_has_the_error_of_a_single_run() -> None:
    one, other = figure(0.686, images=822), figure(0.627, images=822)
    assert margin(one) == pytest.approx(1.959964 * math.sqrt(0.215404 / 822))
    found = difference(one, other, 2)
    # sqrt((0.686 * 0.314 + 0.627 * 0.373) / 822) = sqrt((0.215404 + 0.233871) / 822)
    assert (found.value, found.error) == (pytest.approx(0.059), pytest.approx(0.0233786, rel=1e-5))
    assert found.margin == pytest.approx(0.0458212, rel=1e-5)
    assert found.clear
    # Of all eleven of the report: the studentized range of 10 is 4.474, of 12 is 4.622.
    assert 4.474 < math.sqrt(2) * difference(one, other, 11).margin / found.error < 4.622
    assert not difference(one, other, 11).clear


def test_a_published_range_adds_a_quarter_of_it_as_an_error() -> None:
    # The middle 0.5: 0.25 / 822 = 0.000304136, and (0.08 / 4)^2 = 0.0004.
    found = figure(0.46, 0.54, images=822)
    assert (found.mean, found.error) == (pytest.approx(0.5), pytest.approx(math.sqrt(0.000704136), rel=1e-5))


def test_the_own_interval_of_a_mean_over_seeds_is_students() -> None:
    assert margin(of(0.6, 0.7, 0.8)) == pytest.approx(4.302653 * 0.0577350)
    assert margin(of(0.8, images=100)) == pytest.approx(1.959964 * 0.04)


def test_the_published_figures_stand_beside_ours_and_clear_orders_are_named() -> None:
    # Of 1000 images and four configurations, so that a difference of 0.09 is clear (0.059 is the most noise) and 0.01
    # is not.
    ours = {"A": 0.70, "B": 0.60, "C": 0.69, "D": 0.30, "mine": 0.5}
    theirs = {
        "A": figure(0.70),
        "B": figure(0.69),
        "C": figure(0.50),
        "D": figure(0.28, 0.32),
        "E": figure(0.9),
    }
    found = [of(accuracy, images=1000, epochs=1, model=name) for name, accuracy in ours.items()]
    view, sentences = render_published(found, "model", theirs)
    assert lines(view) == [
        ["configuration", "ours,", "%", "seeds", "published,", "%"],
        ["A", "70.0", "±2.8", "1", "70.0", "±2.8"],  # 1.96 * sqrt(0.21 / 1000)
        ["B", "60.0", "±3.0", "1", "69.0", "±2.9"],
        ["C", "69.0", "±2.9", "1", "50.0", "±3.1"],
        ["D", "30.0", "±2.8", "1", "28", "to", "32"],
        ["mine", "50.0", "±3.1", "1", "-"],
    ]
    # Here all but A-C; there all but A-B; in both B-C, whose order is the other one, and A-D, B-D, C-D.
    assert sentences.splitlines() == [
        "Of 6 pairs with a figure on both sides, 5 differ beyond the noise here and 5 there, by intervals that hold "
        "together at 95 % on each side.",
        "On both sides, in the same order: A, B, C over D.",
        "On both sides, here the other way round: C over B.",
    ]


def test_a_published_figure_that_was_words_is_shown_as_they_are() -> None:
    found = [of(0.5, model="alexnet"), of(0.6, model="do1")]
    published = {"alexnet": figure(0.46, 0.54, "high 40s to low 50s")}
    view, sentences = render_published(found, "model", published)
    assert lines(view)[1] == ["alexnet", "50.0", "±9.8", "1", "high", "40s", "to", "low", "50s"]
    assert sentences.splitlines() == [
        "Of 0 pairs with a figure on both sides, 0 differ beyond the noise here and 0 there, by intervals that hold "
        "together at 95 % on each side.",
        "On both sides, in the same order: none.",
        "On both sides, here the other way round: none.",
    ]


def test_a_parameter_that_is_called_like_a_column_of_ours_has_its_own_name_again() -> None:
    table = pd.DataFrame([{"state": "COMPLETE", "valid_accuracy": 0.5, "epochs": 9, "epochs (searched)": 3}])
    assert compared(table, ["epochs (searched)"], 100) == [Compared({"epochs": 3}, (0.5,), 100)]
