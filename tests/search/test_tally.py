"""Counts of trials, against those that a look at all of them would give."""

from pathlib import Path

from optuna.trial import TrialState

from search.tally import End, Tally
from tests.search.follow import Search


def test_trials_that_are_looked_at_apart_are_not_counted() -> None:
    tally, stopped = Tally(), End(TrialState.PRUNED, 3, audited=False)
    for name in ("0000", "0001"):
        tally.end(name, stopped)
    tally.end("0002", End(TrialState.FAIL, 0, audited=False))
    assert tally.ends() == {stopped: 2, End(TrialState.FAIL, 0, audited=False): 1}
    assert tally.ends(apart=["0001", "0003"])[stopped] == 1


def test_a_study_that_is_taken_up_again_counts_what_the_one_before_had_counted(tmp_path: Path) -> None:
    search = Search(tmp_path)
    for trial in (search.start(), search.start(), search.start()):
        search.epoch(trial, 1, 0.5)
    search.start()
    search.record.complete("0000", 2, 0.5)
    search.record.prune("0001", 1, 0.5, audited=True)
    search.record.fail("0003", "why")
    ends = {
        End(TrialState.COMPLETE, 2, audited=False): 1,
        End(TrialState.PRUNED, 1, audited=True): 1,
        End(TrialState.FAIL, 0, audited=False): 1,
    }
    for tally in (search.record.tally, Search(tmp_path).record.tally):
        assert tally.heard == {1: 3, 2: 1}
        assert tally.ends() == ends
