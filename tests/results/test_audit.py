"""What an audit says, of trials whose epochs are written by hand."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from scipy import stats

from results.audit import Audit, audit, sentences, tau_interval, verdict, weighted_tau
from trainable.metrics import METRICS

EPOCHS = 4  # rungs 1 and 3


def record(share: float | None, objective: str = "valid_accuracy") -> dict[str, Any]:
    counts = {"train": 200, "valid": 100, "holdout": 100}
    return {"arguments": {"audit": share, "epochs": EPOCHS}, "objective": objective, "data": {"counts": counts}}


def frozen(run: Path, number: int, accuracies: Sequence[float], end: Mapping[str, Any] | None) -> FrozenTrial:
    """A trial with its metrics.csv; it ran its course where `end` is None."""
    folder = run / "trials" / f"{number:04d}"
    folder.mkdir(parents=True)
    rows = [f"{epoch},1,0.5,{2 - value},{value},0.1,1" for epoch, value in enumerate(accuracies, start=1)]
    (folder / "metrics.csv").write_text("\n".join([",".join(METRICS), *rows, ""]))
    state = TrialState.COMPLETE if end is None else TrialState[end["state"]]
    value = max(accuracies) if end is None else None
    trial = optuna.trial.create_trial(state=state, value=value, user_attrs={"end": end or {"state": "COMPLETE"}})
    trial.number = number
    return trial


def stopped(epoch: int) -> dict[str, Any]:
    return {"state": "PRUNED", "epoch": epoch, "value": 0.0}


def audited(epoch: int) -> dict[str, Any]:
    return {**stopped(epoch), "audited": True}


@pytest.fixture
def trials(tmp_path: Path) -> list[FrozenTrial]:
    """Two that ran their course, two that were stopped, and two of which were audited; one failed."""
    return [
        frozen(tmp_path, 0, [0.5, 0.6, 0.7, 0.6], None),
        frozen(tmp_path, 1, [0.4, 0.5, 0.6, 0.8], None),
        frozen(tmp_path, 2, [0.2], stopped(1)),
        frozen(tmp_path, 3, [0.3, 0.3, 0.3, 0.9], audited(1)),
        frozen(tmp_path, 4, [0.55, 0.5, 0.5], stopped(3)),
        frozen(tmp_path, 5, [0.1, 0.2, 0.2, 0.2], audited(3)),
        frozen(tmp_path, 6, [0.99], {"state": "FAIL", "reason": "none"}),
    ]


def found_in(run: Path, trials: Sequence[FrozenTrial], share: float = 0.5) -> Audit:
    found = audit(run, trials, record(share))
    assert found is not None
    return found


def test_a_search_without_an_audit_has_none(tmp_path: Path, trials: list[FrozenTrial]) -> None:
    assert audit(tmp_path, trials, record(None)) is None
    assert audit(tmp_path, trials, {**record(None), "arguments": {"epochs": EPOCHS}}) is None  # a run from before it


def test_epochs_are_counted_with_and_without_the_audit(tmp_path: Path, trials: list[FrozenTrial]) -> None:
    found = found_in(tmp_path, trials)
    assert (found.ran, found.stopped, found.unfinished) == (2, 4, 0)
    assert found.trained == 4 + 4 + 1 + 1 + 3 + 3
    assert found.left_out == 3 + 3 + 1 + 1
    assert found.audit_epochs == 3 + 1
    assert sentences(found)[0] == (
        "Audit: of 4 trials that were to be stopped, each was to run to its end with probability 0.5; 2 did. Stopping "
        "leaves out 8 of 24 epochs; the audit trained 4 of these."
    )


def test_an_audited_trial_that_ends_above_the_winner_is_named(tmp_path: Path, trials: list[FrozenTrial]) -> None:
    found = found_in(tmp_path, trials)
    assert found.winner is not None and (found.winner.trial, found.winner.value) == ("0001", 0.8)
    assert [(one.trial, one.value) for one in found.audited] == [("0003", 0.9), ("0005", 0.2)]
    assert found.beaten_by == ("0003",)
    # One of two is 1.3 to 98.7 % by Clopper and Pearson; of four that are two known ones, and 1 to 3.
    assert found.beating is not None
    assert (found.beating.value, found.beating.low, found.beating.high) == (2, 1, 3)
    said = sentences(found)
    assert "2 audited are few: what follows is a hint at most." in said
    assert (
        "Of the 2 audited 1 (0003) ended above the best that was let live, trial 0001 (80.0 ± 4.0 % of 100 "
        "images), inside the noise. So of all 4 that were stopped it would be 2 (95 %: 1 to 3), of few: a hint at most."
        in said
    )


def test_of_one_audited_trial_it_is_said_in_the_singular(tmp_path: Path, trials: list[FrozenTrial]) -> None:
    above, below = (verdict(found_in(tmp_path, [*trials[:3], one]))[0] for one in (trials[3], trials[5]))
    assert above.startswith("The one audited, 0003, ended above the best that was let live, trial 0001 (80.0 ± 4.0 %")
    assert below.startswith("The one audited has not ended above the best that was let live, trial 0001 (80.0 ± 4.0 %")
    assert below.endswith("So of all 2 that were stopped it would be 0 (95 %: 0 to 1), of few: a hint at most.")


def test_the_audited_count_once_for_each_that_nobody_saw(tmp_path: Path, trials: list[FrozenTrial]) -> None:
    found = found_in(tmp_path, trials)
    # Weights 1 1 2 2. Final bests 0.7 0.8 0.9 0.2; after epoch 1 0.5 0.4 0.3 0.1, after epoch 3 0.7 0.6 0.3 0.2.
    # Of the pairs 01 02 03 12 13 23 with weights 1 2 2 2 2 4 the first, second and fourth are in the other order, at
    # both: (8 - 5) / 13.
    assert [(rung.epoch, rung.tau) for rung in found.rungs] == [(1, pytest.approx(3 / 13)), (3, pytest.approx(3 / 13))]
    assert found.effective == pytest.approx(36 / 10)
    assert all(rung.interval is None for rung in found.rungs)  # too few
    assert any("epoch 1 0.2 (too few for an interval); epoch 3 0.2" in sentence for sentence in sentences(found))


def test_the_best_after_one_epoch_beside_the_winner(tmp_path: Path, trials: list[FrozenTrial]) -> None:
    first = found_in(tmp_path, trials).first
    assert first is not None and (first.outcome.trial, first.last_epoch, first.epochs) == ("0004", 3, 6 + 3)
    known = [trial for trial in trials if trial.number != 4]
    found = found_in(tmp_path, known)
    assert found.first is not None and found.first.outcome.trial == "0000" and found.first.last_epoch is None
    assert sentences(found)[-1] == (
        "To take the best after one epoch (Egele et al. 2023) would have given trial 0000, for 8 epochs instead of 13: "
        "70.0 ± 4.6 % of 100 images, and the winner 80.0 ± 4.0 % of 100 images, which is inside the noise."
    )


def test_one_that_was_cut_short_is_no_evidence(tmp_path: Path) -> None:
    trials = [frozen(tmp_path, 0, [0.5] * 4, None), frozen(tmp_path, 1, [0.4, 0.9, 0.9], audited(1))]
    found = found_in(tmp_path, trials)
    assert (found.audited, found.unfinished, found.beating) == ((), 1, None)
    assert sentences(found)[:2] == [
        "Audit: of 1 trial that was to be stopped, it was to run to its end with probability 0.5; 0 did, and 1 more is "
        "to but did not yet. Stopping leaves out 3 of 8 epochs; the audit trained 2 of these.",
        "So what stopping cost is not known.",
    ]


def test_without_a_trial_nothing_is_claimed(tmp_path: Path) -> None:
    assert audit(tmp_path, [], record(0.5)) is None  # nothing was stopped
    only = found_in(tmp_path, [frozen(tmp_path, 0, [0.1, 0.2, 0.2, 0.2], audited(3))])
    assert only.winner is None
    assert "so there is no winner that a stopped one could have beaten" in sentences(only)[-1]


def test_of_a_loss_less_is_better(tmp_path: Path, trials: list[FrozenTrial]) -> None:
    found = audit(tmp_path, trials, record(0.5, "valid_loss"))
    assert found is not None and found.winner is not None
    assert (found.winner.trial, found.winner.value, found.beaten_by) == ("0001", pytest.approx(1.2), ("0003",))
    assert "(1.2000)" in "".join(sentences(found))


def test_weights_of_one_give_kendalls_tau_b() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.integers(6, size=(2, 30)).astype(float)
    assert weighted_tau(one, other, np.ones(30)) == pytest.approx(stats.kendalltau(one, other).statistic)
    assert weighted_tau(np.ones(3), other[:3], np.ones(3)) is None


def test_a_weight_is_as_many_of_its_kind() -> None:
    one, other = np.array([1.0, 2.0, 3.0]), np.array([2.0, 1.0, 3.0])
    # Of two copies of the last thing the pair between them is a tie in both.
    doubled = weighted_tau(one[[0, 1, 2, 2]], other[[0, 1, 2, 2]], np.ones(4))
    assert weighted_tau(one, other, np.array([1.0, 1.0, 2.0])) == pytest.approx(doubled)


def test_the_interval_of_tau_is_fishers() -> None:
    interval = tau_interval(0.5, 24)
    assert interval is not None
    # z = 0.5493, and sqrt(0.437 / 20) is 0.14782.
    assert interval == pytest.approx((np.tanh(0.5493 - 0.28972), np.tanh(0.5493 + 0.28972)), abs=1e-4)
    assert tau_interval(0.5, 4) is None
    all_agree = tau_interval(1.0, 10)
    assert all_agree is not None and 0 < all_agree[0] < 1 and all_agree[1] == 1.0
