"""Configurations compared: means, errors and intervals worked out on paper."""

import io
import math
from collections.abc import Sequence

import pandas as pd
import pytest
from rich.console import Console
from rich.table import Table

from results.comparison import (
    Compared,
    Published,
    compared,
    difference,
    render_comparison,
    render_published,
)


def of(*accuracies: float, images: int = 100, **settings: object) -> Compared:
    return Compared(settings, accuracies, images)


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
        Compared({"optimizer": "sgd", "momentum": 0.9}, (0.6,), 100),
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


@pytest.mark.parametrize(("other", "clear"), [((0.4, 0.5, 0.6), False), ((0.3, 0.4, 0.5), True)])
def test_welchs_interval_of_three_seeds_each(other: Sequence[float], clear: bool) -> None:
    # Equal errors e = 0.0577350: together e sqrt 2; degrees of freedom (2 e^2)^2 / (e^4 / 2 + e^4 / 2) = 4, of which
    # the 97.5 % quantile is 2.776445.
    found = difference(of(0.6, 0.7, 0.8), of(*other))
    assert found.value == pytest.approx(0.7 - other[1])
    assert found.error == pytest.approx(0.0816497)
    assert found.margin == pytest.approx(2.776445 * 0.0816497)  # 0.226696
    assert found.clear == clear


def test_welchs_interval_of_unequal_errors() -> None:
    # Errors squared 0.01 / 3 and 0.0001: together 0.00343333; degrees of freedom 0.00343333^2 / (0.00333333^2 / 2 +
    # 0.0001^2 / 1) = 2.118, between 2 (quantile 4.302653) and 3 (3.182446).
    found = difference(of(0.6, 0.7, 0.8), of(0.50, 0.52))
    assert (found.value, found.error) == (pytest.approx(0.19), pytest.approx(0.0585947))
    assert 3.182446 < found.margin / found.error < 4.302653
    assert found.margin / found.error == pytest.approx(4.302653 - 0.118 * (4.302653 - 3.182446), rel=0.03)


def test_beside_a_single_run_the_interval_is_normal() -> None:
    found = difference(of(0.6, 0.7, 0.8), of(0.8, images=100))
    assert found.error == pytest.approx(math.sqrt(0.01 / 3 + 0.0016))
    assert found.margin == pytest.approx(1.959964 * found.error)
    assert (found.value, found.clear) == (pytest.approx(-0.1), False)


def test_seeds_that_agree_by_chance_still_differ_by_an_image() -> None:
    # Variance 1 / 100^2, of the mean of two half of it: 0.00707107. Two such: 0.01, with two degrees of freedom.
    assert of(0.5, 0.5).error == pytest.approx(0.00707107)
    found = difference(of(0.54, 0.54), of(0.5, 0.5))
    assert found.margin == pytest.approx(4.302653 * 0.01)
    assert not found.clear  # 0.04
    assert difference(of(0.6, 0.6), of(0.5, 0.5)).clear
    assert not difference(of(0.5, 0.5), of(0.5, 0.5)).clear


def test_the_view_says_mean_error_seeds_and_what_is_noise() -> None:
    found = [of(0.6, 0.7, 0.8, lr=0.01), of(0.4, 0.5, 0.6, lr=0.1), of(0.3, 0.4, 0.5, lr=0.2), of(0.2, lr=0.3)]
    assert lines(render_comparison(found))[1:] == [
        ["70.0", "±5.8", "3", "lr=0.01"],
        ["50.0", "±5.8", "3", "-20.0", "±22.7,", "noise", "lr=0.1"],
        ["40.0", "±5.8", "3", "-30.0", "±22.7", "lr=0.2"],
        ["20.0", "±4.0", "1", "-50.0", "±13.8", "lr=0.3"],  # 1.96 sqrt(0.0577350^2 + 0.04^2)
    ]


def test_a_published_difference_has_the_error_of_two_single_runs() -> None:
    published = Published({"do7": (0.686, 0.686), "do5": (0.627, 0.627)}, 822)
    found = published.difference("do7", "do5")
    # sqrt((0.686 * 0.314 + 0.627 * 0.373) / 822) = sqrt((0.215404 + 0.233871) / 822)
    assert (found.value, found.error) == (pytest.approx(0.059), pytest.approx(0.0233786, rel=1e-5))
    assert found.margin == pytest.approx(0.0458212, rel=1e-5)
    assert found.clear


def test_a_published_range_adds_a_quarter_of_it_as_an_error() -> None:
    published = Published({"alexnet": (0.46, 0.54), "none": (0.0, 0.0)}, 822)
    # The middle 0.5: 0.25 / 822 = 0.000304136, and (0.08 / 4)^2 = 0.0004.
    found = published.difference("alexnet", "none")
    assert (found.value, found.error) == (pytest.approx(0.5), pytest.approx(math.sqrt(0.000704136), rel=1e-5))


def test_the_published_figures_stand_beside_ours_and_pairs_are_counted() -> None:
    # Of 1000 images, so that a difference of 0.09 and more is clear, and 0.01 is noise.
    ours = {"A": 0.70, "B": 0.60, "C": 0.69, "D": 0.30, "mine": 0.5}
    theirs = {"A": (0.70, 0.70), "B": (0.69, 0.69), "C": (0.50, 0.50), "D": (0.38, 0.42), "E": (0.9, 0.9)}
    found = [of(accuracy, images=1000, model=name) for name, accuracy in ours.items()]
    view, sentence = render_published(found, Published(theirs, 1000))
    assert lines(view) == [
        ["configuration", "ours,", "%", "seeds", "published,", "%"],
        ["A", "70.0", "±1.4", "1", "70.0"],
        ["B", "60.0", "±1.5", "1", "69.0"],
        ["C", "69.0", "±1.5", "1", "50.0"],
        ["D", "30.0", "±1.4", "1", "38", "to", "42"],
        ["mine", "50.0", "±1.6", "1", "-"],
    ]
    # Here all but A-C; there all but A-B; in both B-C, whose order is the other one, and A-D, B-D, C-D.
    assert sentence == (
        "Of 6 pairs with a figure on both sides, 5 differ beyond the noise (95 %) here and 5 there, "
        "about 0 of each by chance alone; of the 4 that do in both, 3 have the same order."
    )
