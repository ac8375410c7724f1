"""What a confirmation found, in words."""

from dataclasses import replace

import numpy as np
import pytest

from results.confirmation import DEFAULT
from results.confirmation_text import sentences
from tests.results.test_confirmation import confirmed
from trainable.errors import UserError


def test_ties_are_called_ties_and_the_cheapest_is_named() -> None:
    accuracies = {"0000": [0.60, 0.64, 0.62], "0007": [0.63, 0.61, 0.64], "0009": [0.20, 0.22, 0.21]}
    said = "\n".join(sentences(confirmed(accuracies, seconds=(0.5, 2.0, 0.1), default="0009")))
    assert (
        "The search's winner, trial 0000: best of 24 configurations looked like 58.1 %, is 62.0 % [59.8, 64.2] (95 %, "
        in said
    )
    assert "The best now is trial 0007, 62.7 % [60.5, 64.9] (3 seeds); as the best of 3, which flatters it, it" in said
    assert (
        "Tied with it, as no difference is beyond the noise: trial 0000. The cheapest of these 2 is trial 0000: "
        "0.50 s an epoch, 1,000 parameters." in said
    )
    assert "Trial 0007 beats the default: +41.7 points [+" in said
    assert "*: the default is trial 0009." in said


def test_a_winner_by_another_objective_than_accuracy_is_called_that() -> None:
    found = confirmed({"0000": [0.60, 0.64, 0.62], "0001": [0.2, 0.2, 0.3]})
    said = sentences(replace(found, searched=replace(found.searched, objective="valid_loss")))
    assert said[0].startswith("The search's winner, trial 0000: best by valid_loss of 24 configurations looked like")
    assert said[-1].startswith("Accuracy is the mean of the trials' best epochs by valid_loss on 1000 validation")


def test_a_winner_that_does_not_beat_the_default_is_said_not_to() -> None:
    found = confirmed({"0000": [0.60, 0.64, 0.62], DEFAULT: [0.62, 0.60, 0.63]}, default=DEFAULT)
    # Its three differences have a standard error of 1.86 points; Student's t with 2 degrees of freedom is 4.30.
    does_not = "Trial 0000 does not beat the default beyond the noise: +0.3 points [-7.7, +8.3] (95 %, n = 3 pairs)."
    assert does_not in sentences(found)
    ahead = confirmed({"0000": [0.60, 0.64, 0.62], DEFAULT: [0.92, 0.90, 0.93]}, default=DEFAULT)
    assert "The best is the space's default itself: the search found nothing better." in sentences(ahead)
    assert any(one.startswith("Trial 0000 is worse than the default: -29.7 points [-") for one in sentences(ahead))
    same = confirmed({"0000": [0.60, 0.64, 0.62], "0001": [0.2, 0.2, 0.3]}, default="0000")
    assert "The best is the space's default, trial 0000, itself: the search found nothing better." in sentences(same)


def test_those_that_few_seeds_do_not_tell_apart_are_said_to_be_left_there() -> None:
    accuracies = {"0000": [0.5, 0.7, 0.9, 0.9], "0001": [0.4, 0.6], "0002": [0.5, 0.7, 0.8, 0.9]}
    left = "Lower with the first 2 seeds and left there, though the noise could be why: trial 0001."
    assert left in sentences(confirmed(accuracies))
    alone = sentences(confirmed({"0000": [0.5, 0.7, 0.9, 0.9], "0001": [0.5, 0.6]}))
    assert left in alone and not any("is tied with it" in sentence for sentence in alone)


def test_what_failed_is_left_out() -> None:
    found = confirmed({"0000": [np.nan, np.nan], "0001": [0.5, 0.6]}, default="0000")
    assert [row.tried.name for row in found.rows] == ["0001"]
    assert found.best.against_default is None
    assert sentences(found)[:-1] == [
        "The search's winner, trial 0000: best of 24 configurations looked like 58.1 %, failed with each seed.",
        "The default failed with each seed, so nothing is compared with it.",
    ]
    with pytest.raises(UserError, match="no configuration was trained twice without failing"):
        confirmed({"0000": [0.5, np.nan], "0001": [0.6]})
