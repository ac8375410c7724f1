"""The choice of a method: what it must never do, and what it does on members made for it."""

import re

import numpy as np
import pytest

from results.scores import Floats, fit_temperature, image_hits, image_losses
from results.selection import Selection, select, stratified_folds
from results.weights import METHODS


def members(scale: list[float], images: int, seed: int, skill: float = 1.5) -> tuple[Floats, np.ndarray]:
    """(M, N, 4) logits that favour the label by `skill`, under noise of the members' own scale; the labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(4, size=images)
    noise = np.array(scale)[:, None, None] * rng.normal(size=(len(scale), images, 4))
    return skill * np.eye(4)[labels] + noise, labels


def chosen(logits: Floats, labels: np.ndarray, method: str = "auto", ranked_here: bool = False) -> Selection:
    return select(logits, labels, method, np.random.default_rng(0), ranked_here=ranked_here)


@pytest.mark.parametrize("seed", range(4))
def test_near_equal_members_get_the_plain_mean(seed: int) -> None:
    selection = chosen(*members([1.0] * 6, 300, seed))
    assert selection.method == "uniform"
    assert selection.scores["uniform"].weights == pytest.approx([1 / 6] * 6)
    assert re.fullmatch(
        r"single loses [\d.]+ ± [\d.]+ and best loses [\d.]+ ± [\d.]+ against uniform; "
        r"convex (sav|los)es [\d.]+ ± [\d.]+ and greedy (sav|los)es [\d.]+ ± [\d.]+ against uniform "
        r"\(log loss, ± one standard error\)\.",
        selection.reason,
    )
    assert selection.scores["uniform"].accuracy_gain.low > 0  # six independent members are worth more than one


@pytest.mark.parametrize("seed", range(3))
def test_bad_members_have_fitted_weights_earn_their_place(seed: int) -> None:
    selection = chosen(*members([1.0, 1.0, 1.0, 20.0, 20.0], 600, seed))
    assert selection.method in ("convex", "greedy")
    assert sum(selection.scores[selection.method].weights[3:]) < 0.05


def test_one_good_member_among_hopeless_ones_is_taken_alone_or_nearly() -> None:
    selection = chosen(*members([0.1, 40.0, 40.0], 300, seed=0))
    assert selection.scores[selection.method].weights[0] > 0.97


def test_a_member_that_is_only_less_confident_does_not_beat_the_mean() -> None:
    logits, labels = members([1.0] * 5, 500, seed=1)
    logits[:4] *= 8  # as if overfitted: the calm member has by far the lowest log loss of its own
    assert chosen(logits, labels).method != "best"


@pytest.mark.parametrize("seed", [0, 4, 8])
def test_the_pick_of_the_best_member_is_scored_where_it_was_not_made(seed: int) -> None:
    # The members share most of their errors, so that of ten one leads the mean on these 200 images, by luck.
    rng = np.random.default_rng(seed)
    labels = rng.integers(5, size=200)
    shared = 1.2 * np.eye(5)[labels] + rng.normal(size=(200, 5))
    logits = shared + 0.15 * rng.normal(size=(10, 200, 5))
    tempered = [member / fit_temperature(member, labels) for member in (logits.mean(axis=0), *logits)]
    mean, *alone = [image_losses(member, labels).mean() for member in tempered]
    assert min(alone) < mean
    assert chosen(logits, labels).method == "uniform"


@pytest.mark.parametrize("images", [2, 3, 17, 120])
@pytest.mark.parametrize("seed", range(6))
def test_auto_is_never_worse_than_what_fits_no_weights(seed: int, images: int) -> None:
    rng = np.random.default_rng([seed, images])
    scale = rng.choice([0.5, 1.0, 3.0, 10.0], size=rng.integers(1, 6)).tolist()
    logits, labels = members(scale, images, seed, skill=float(rng.uniform(0, 3)))
    selection = chosen(logits, labels)
    losses = {name: score.log_loss.value for name, score in selection.scores.items()}
    assert losses[selection.method] <= min(losses["single"], losses["uniform"], losses["best"])
    assert losses["uniform"] <= image_losses(logits.mean(axis=0), labels).mean() + 1e-12


@pytest.mark.parametrize("images", [40, 80, 150, 250])
@pytest.mark.parametrize("seed", range(5))
def test_auto_is_never_worse_than_a_good_model_among_its_degraded_copies(seed: int, images: int) -> None:
    good, labels = members([1.0], images, seed)
    noise = np.random.default_rng([seed, images]).normal(size=(6, images, 4))
    spread = np.linspace(0.1, 1.0, 6)[:, None, None]
    logits = np.concatenate([good, good + spread * noise])
    selection = chosen(logits, labels)
    losses = {name: score.log_loss.value for name, score in selection.scores.items()}
    assert losses[selection.method] <= min(losses["single"], losses["uniform"], losses["best"])


@pytest.mark.parametrize("seed", [1, 3, 4, 5])  # draws with which the pick does waver
def test_the_single_best_by_validation_is_taken_where_the_pick_wavers(seed: int) -> None:
    # Two copies with so little noise that the pick falls on them in some folds, and one that spoils the mean.
    good, labels = members([1.0], 60, seed=1)
    noise = np.random.default_rng(seed).normal(size=(3, 60, 4))
    logits = np.concatenate([good, good + np.array([0.2, 0.2, 30.0])[:, None, None] * noise])
    selection = chosen(logits, labels)
    scores = selection.scores
    assert scores["single"].log_loss.value < scores["best"].log_loss.value
    assert selection.method == "single"
    assert scores["single"].weights == (1.0, 0.0, 0.0, 0.0)
    assert re.match(r"uniform loses [\d.]+ ± [\d.]+ and best loses [\d.]+ ± [\d.]+ against single; ", selection.reason)
    # But not where the members were ranked on these images, as with folds: there it is flattered.
    folded = chosen(logits, labels, ranked_here=True)
    assert folded.method == "greedy"
    assert re.match(r"greedy saves [\d.]+ ± [\d.]+ against best, more than one standard error", folded.reason)
    assert folded.scores == scores
    assert chosen(logits, labels, "single", ranked_here=True).method == "single"  # who asks for it gets it


def test_auto_is_never_worse_than_a_member_that_is_best_beyond_doubt() -> None:
    for best in range(3):
        scale = [4.0, 4.0, 4.0]
        scale[best] = 0.4
        logits, labels = members(scale, 200, seed=best)
        selection = chosen(logits, labels)
        alone = logits[best] / fit_temperature(logits[best], labels)
        assert selection.scores[selection.method].log_loss.value <= image_losses(alone, labels).mean() + 1e-9


def test_fitted_methods_are_scored_on_images_they_were_not_fitted_on() -> None:
    # Labels are pure chance and there are as many members as images: in-sample, weights look good; here they cannot.
    rng = np.random.default_rng(0)
    logits, labels = 3 * rng.normal(size=(40, 40, 2)), rng.integers(2, size=40)
    scores = chosen(logits, labels).scores
    for method in ("convex", "greedy"):
        fitted = np.tensordot(scores[method].weights, logits, axes=1)
        in_sample = image_losses(fitted, labels).mean()
        assert scores[method].log_loss.value > in_sample + 0.02


def test_one_member_leaves_nothing_to_weigh() -> None:
    selection = chosen(*members([1.0], 30, seed=0))
    assert (selection.method, selection.reason) == ("uniform", "there is one member, so there is nothing to weigh.")
    assert selection.scores["uniform"].accuracy_gain.value == 0.0


@pytest.mark.parametrize("method", [row.name for row in METHODS])
def test_a_method_that_was_asked_for_is_taken(method: str) -> None:
    logits, labels = members([1.0, 2.0], 40, seed=0)
    selection = chosen(logits, labels, method)
    assert (selection.method, selection.reason) == (method, "it was asked for.")
    assert selection.scores == chosen(logits, labels).scores


def test_the_single_model_is_the_first_and_not_the_best_on_holdout() -> None:
    logits, labels = members([3.0, 0.5], 100, seed=0)
    selection = chosen(logits, labels)
    assert selection.single.accuracy.value == image_hits(logits[0], labels).mean()
    assert selection.scores["best"].weights == (0.0, 1.0)
    assert selection.scores["best"].accuracy_gain.value > 0


def test_selection_repeats_itself() -> None:
    logits, labels = members([1.0, 1.0, 2.0], 50, seed=0)
    assert chosen(logits, labels) == chosen(logits.copy(), labels.copy())


@pytest.mark.parametrize(
    ("images", "method", "sentence"),
    [
        (1, "auto", "1 images cannot be split into those to fit on and those to score"),
        (5, "gredy", "no method is called 'gredy'"),
    ],
)
def test_what_cannot_be_selected_is_refused(images: int, method: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        chosen(np.zeros((2, images, 2)), np.zeros(images, np.int64), method)


@pytest.mark.parametrize("seed", range(3))
def test_folds_are_stratified(seed: int) -> None:
    labels = np.repeat([0, 1, 2], [20, 11, 3])
    folds = stratified_folds(labels, 5, np.random.default_rng(seed))
    assert sorted(np.bincount(folds)) == [6, 7, 7, 7, 7]
    for label, least, most in ((0, 4, 4), (1, 2, 3), (2, 0, 1)):
        counts = np.bincount(folds[labels == label], minlength=5)
        assert least <= counts.min() and counts.max() <= most


def test_folds_are_shuffled() -> None:
    labels = np.zeros(100, np.int64)
    one, two = (stratified_folds(labels, 5, np.random.default_rng(seed)) for seed in (0, 1))
    assert (one != two).any()
