"""What is said of configurations that were trained again, on studies whose truth is known: no training."""

import io

import numpy as np
import pytest
from rich.console import Console

from benchmarks.confirm_simulation import replay
from results.confirmation import DEFAULT, Confirmation, Searched, Tried, confirmation
from results.confirmation_text import render

IMAGES = 1000


def confirmed(
    accuracies: dict[str, list[float]], winner: str = "0000", default: str = "0000", seconds: tuple[float, ...] = ()
) -> Confirmation:
    """Of configurations whose accuracies are those of the seeds 0, 1, 2, ...; nan where a training failed."""
    tried = []
    for place, (name, values) in enumerate(accuracies.items()):
        by_seed = {seed: value for seed, value in enumerate(values) if value == value}
        tried.append(Tried(name, {"lr": 0.1 / (place + 1)}, by_seed, seconds[place] if seconds else 1.0, 1000 + place))
    return confirmation(tried, Searched(winner, 0.581, 24), default, IMAGES, np.random.default_rng(0))


def test_means_and_intervals_are_those_of_the_pooled_deviation() -> None:
    found = confirmed({"0000": [0.50, 0.52, 0.54], "0001": [0.60, 0.60, 0.63]})
    # Squares (4 + 0 + 4) e-4 and (1 + 1 + 4) e-4 over 2 + 2 degrees of freedom; t(4) is 2.776 at 97.5 %.
    assert found.freedom == 4
    assert found.deviation == pytest.approx((14e-4 / 4) ** 0.5)
    best, other = found.rows
    assert (best.tried.name, other.tried.name) == ("0001", "0000")
    assert best.fresh.value == pytest.approx(0.61)
    assert best.error == pytest.approx((14e-4 / 4 / 3) ** 0.5)
    assert best.fresh.high - best.fresh.value == pytest.approx(2.776445 * best.error)


def test_a_seeds_own_effect_is_no_noise_of_a_difference() -> None:
    """Seeds that help or hurt both by up to 10 points, and a difference of 1 to 1.2 points at each."""
    found = confirmed({"0000": [0.50, 0.60, 0.55], "0001": [0.510, 0.612, 0.561]})
    gap = found.row("0000")
    assert gap is not None and gap.against_best is not None
    assert gap.against_best.value == pytest.approx(-0.011)
    # The differences' variance of 1 e-6 would be 0.5 e-6 of each; but accuracies on 1000 images differ by an image at
    # least, which is 1 e-6. t(2) is 4.3027 at 97.5 %.
    assert gap.against_best.error == pytest.approx((2e-6 / 3) ** 0.5)
    assert gap.against_best.margin == pytest.approx(4.3027 * gap.against_best.error, rel=1e-3)
    assert gap.against_best.clear and found.tied == ("0001",)
    assert gap.fresh.high - gap.fresh.value > 0.05


def test_differences_are_over_the_seeds_that_both_have() -> None:
    accuracies = {"0000": [0.5, 0.7, 0.9, 0.9], "0001": [0.4, 0.6], "0002": [0.5, 0.7, 0.8, 0.9]}
    found = confirmed(accuracies, default="0002")
    assert [row.tried.name for row in found.rows] == ["0000", "0002", "0001"]
    assert found.rows[2].against_best is not None
    assert found.rows[2].against_best.value == pytest.approx(-0.1)
    # In the tie are those alone that have all seeds.
    assert found.tied == ("0000", "0002")


def test_the_default_is_not_shrunk_towards_what_it_was_not_chosen_from() -> None:
    accuracies = {name: [0.6, 0.7, 0.65] for name in ("0000", "0001", "0002")}
    found = confirmed({**accuracies, DEFAULT: [0.1, 0.2, 0.15]}, default=DEFAULT)
    row = found.row(DEFAULT)
    assert row is not None and row.worth.value == pytest.approx(0.15, abs=0.003)
    assert row.best_probability == 0
    assert sum(row.best_probability for row in found.rows) == pytest.approx(1)


def test_the_same_accuracies_give_the_same_figures() -> None:
    accuracies = {"0000": [0.60, 0.64, 0.62], "0007": [0.63, 0.61, 0.64]}
    assert confirmed(accuracies) == confirmed(accuracies)


def shown(found: Confirmation) -> list[str]:
    text = io.StringIO()
    Console(file=text, width=80).print(render(found))
    return [line.rstrip() for line in text.getvalue().splitlines()]


def test_the_table_fits_80_columns_with_what_was_searched_below() -> None:
    found = confirmed({"0000": [0.60, 0.64], "0007": [0.63, 0.61], DEFAULT: [0.10, 0.14]}, default=DEFAULT)
    lines = shown(found)
    assert lines[0].split() == "trial seeds accuracy, % best, % against best against default s/epoch".split()
    assert lines[1].startswith("0000") and lines[3].startswith("default")
    assert lines[4:] == ["", "trial    searched", "0000     lr=0.1", "0007     lr=0.05", "default  lr=0.0333"]


def test_where_the_default_is_the_best_there_is_one_column_beside_it() -> None:
    found = confirmed({"0000": [0.60, 0.64], "0007": [0.13, 0.11]}, default="0000")
    assert "against best" in shown(found)[0] and "against default" not in shown(found)[0]
    assert shown(found)[1].startswith("0000*")


def test_equal_means_are_equally_likely_the_best() -> None:
    found = confirmed({name: [0.60, 0.62, 0.64] for name in ("0000", "0001", "0002", "0003")})
    assert [row.best_probability for row in found.rows] == pytest.approx([0.25] * 4, abs=0.03)


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_intervals_cover_the_truth_and_being_the_best_is_paid_for(ratio: float) -> None:
    """Of 24 configurations that do not differ, or by as much as two trainings of one do; 1,000 searches of five ratios
    are in benchmarks/confirm_simulation.py."""
    rng = np.random.default_rng(1)
    replays = [replay(rng, ratio, searched=24, top=8, seeds=5) for _ in range(300)]
    means = {name: float(np.mean([vars(one)[name] for one in replays])) for name in vars(replays[0])}
    # The bounds of 1,000 replays, and two standard errors of 300.
    assert abs(means["winner"]) < means["naive"] / 20
    assert abs(means["worth"]) < means["naive"] * 0.13 and means["raw"] > 2 * abs(means["worth"])
    assert 0.92 <= means["winner_covered"] <= 0.98 and 0.92 <= means["worth_covered"] <= 0.98
