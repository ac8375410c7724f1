import pytest

from search.usage import Usage


def epoch(seconds: float, kept: float, lost: float, beside: float = 0.0) -> dict[str, float]:
    return {"seconds": seconds, "kept_seconds": kept, "beside_seconds": beside, "lost_seconds": lost}


def test_the_time_of_the_slots_is_told_in_shares() -> None:
    # Two slots, the first step 5 s after the command, 20 s from there to the end: 40 s.
    usage = Usage(2, began=100.0)
    # These 3 s were before the first step; of its files 0.5 s of processor time were written beside the next epoch.
    usage.add("0000", epoch(9.0, 1.0, lost=3.0, beside=0.5), now=115.0)
    usage.add("0001", epoch(8.0, 1.0, lost=3.0), now=115.5)  # and of these all but 1.5 s
    usage.add("0000", epoch(9.0, 0.0, lost=0.5), now=124.5)
    assert usage.line(now=125.0) == (
        "First step after 5.0 s. Time of the slots since: training and validation 63.8 %, "
        "checkpoints and logits 6.2 %, between epochs 1.2 %, between trials 3.8 %, idle 25.0 %."
    )


def test_what_is_lost_before_a_trials_first_epoch_is_between_trials() -> None:
    usage = Usage(1, began=0.0)
    for trial, lost, now in (("0000", 1.0, 2.0), ("0000", 0.25, 3.25), ("0001", 2.0, 6.25), ("0001", 0.25, 7.5)):
        usage.add(trial, epoch(1.0, 0.0, lost), now)
    assert (usage.between_epochs, usage.between_trials) == (0.5, 2.0)


def test_a_trial_that_began_before_the_one_that_was_heard_first_lost_nothing() -> None:
    usage = Usage(2, began=0.0)
    usage.add("0000", epoch(1.0, 0.0, lost=2.0), now=6.0)
    usage.add("0001", epoch(2.0, 0.0, lost=2.0), now=6.5)
    assert usage.between_trials == 0


def test_a_session_that_trained_nothing_says_nothing() -> None:
    assert Usage(2, began=0.0).line(now=60.0) == ""


def test_what_was_lost_so_far_leaves_out_what_is_under_way() -> None:
    # Two slots from 90 s on. At 110 s: one trial has been heard of at 100 s, the other began at 85 s.
    usage = Usage(2, began=80.0)
    usage.add("0000", epoch(8.0, 2.0, lost=0.0), now=100.0)
    assert usage.lost(110.0, [100.0, 85.0]) == pytest.approx(1 - 8 / (40 - 10 - 20))


def test_nothing_is_lost_before_the_first_epoch() -> None:
    assert Usage(2, began=0.0).lost(60.0, [10.0]) is None


def test_slots_that_come_and_go_count_while_they_are_there() -> None:
    usage = Usage(2, began=0.0)
    usage.add("0000", epoch(10.0, 0.0, lost=0.0), now=10.0)
    usage.resize(1, now=20.0)
    usage.resize(4, now=30.0)
    # 2 x 20 s, 10 s and 4 x 10 s: 90 s, of which 10 were training.
    assert usage.lost(40.0, []) == pytest.approx(8 / 9)
    assert "training and validation 11.1 %" in usage.line(now=40.0)
