"""The answer to a search, in sentences."""

from pathlib import Path

from optuna.distributions import CategoricalDistribution

from results.answer import answer
from results.facts import gather
from tests.results.test_facts import HEADER, facts, record, run, trial

__all__ = ["run"]  # a fixture


def test_the_answer_says_what_was_found_and_what_flatters_it(run: Path) -> None:
    assert answer(facts(run)) == [
        "The best of 4 trials is trial 0002: 60.0 ± 11.0 % on 20 validation images (± one standard error over the "
        "images). As the luckiest of so many it looks better than it is: confirm it before you believe it.",
        "2 trials of 5 were stopped early, which saved 3 of 12 epochs.",  # of the failed trial there were none
        "1 trial failed; the first, 0004: ConfigError: no such network.",
    ]


def test_repeats_are_compared_over_seeds(run: Path) -> None:
    values = [[0.60], [0.50], [0.62], [0.52], [0.61], [0.51]]
    trials = [trial(number, "COMPLETE", one, lr=(0.01, 0.001)[number % 2]) for number, one in enumerate(values)]
    for number, (one,) in enumerate(values):
        folder = run / "trials" / f"{number:04d}"
        folder.mkdir(exist_ok=True)
        (folder / "metrics.csv").write_text(f"{HEADER}\n1,1,0.5,1,{one},0.01,10\n")
    found = gather(run, record(6, "none"), trials)
    assert answer(found)[0] == (
        # A difference of runs is at least an image's: so is the error, 1/20 over the root of three.
        "The best configuration over seeds is lr=0.01: 61.0 ± 2.9 % (3 seeds). Not told apart from it: lr=0.001."
    )
    assert found.effects is None  # they are compared as what they are


def test_where_all_failed_it_is_said_and_why(run: Path) -> None:
    trials = [trial(number, "FAIL", []) for number in (4, 5)]
    found = gather(run, record(2), trials)
    assert answer(found) == ["All 2 trials failed; the first, 0004: ConfigError: no such network."]


def test_the_best_is_one_that_has_an_accuracy(run: Path) -> None:
    """The first of the leaderboard ran its course, but its metrics are gone."""
    (run / "trials" / "0000" / "metrics.csv").unlink()
    (run / "trials" / "0002" / "metrics.csv").unlink()
    assert answer(facts(run))[0].startswith("The best of 2 trials is trial 0003: 36.0 ± 10.7 % on 20 validation images")


def test_while_trials_are_to_come_the_best_is_so_far(run: Path) -> None:
    said = answer(facts(run, trials=9))[0]
    assert said.startswith("So far, the best of 4 trials is trial 0002: ") and said.endswith(
        "it looks better than it is."
    )


def test_a_choice_of_none_is_no_absence(run: Path) -> None:
    choices = {"lr": CategoricalDistribution((None, 0.1))}
    trials = []
    for number, (value, accuracy) in enumerate(((None, 0.6), (0.1, 0.5), (None, 0.62), (0.1, 0.51))):
        made = trial(number, "COMPLETE", [accuracy])
        made.params, made.distributions = {"lr": value}, dict(choices)
        trials.append(made)
        folder = run / "trials" / f"{number:04d}"
        (folder / "metrics.csv").write_text(f"{HEADER}\n1,1,0.5,1,{accuracy},0.01,10\n")
    assert answer(gather(run, record(4, "none"), trials))[0].startswith(
        "The best configuration over seeds is lr=None: "
    )


def test_a_run_without_trials_has_no_answer_yet(run: Path) -> None:
    found = gather(run, record(), [])
    assert answer(found) == ["No trial has finished an epoch yet, so there is nothing to rank."]
    assert not found.ended
