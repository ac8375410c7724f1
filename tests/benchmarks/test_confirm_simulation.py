import json
import sys

import numpy as np
import pytest

from benchmarks import confirm_simulation
from benchmarks.confirm_simulation import NOISE, replay


def test_the_best_of_many_equal_ones_looks_better_than_it_is() -> None:
    rng = np.random.default_rng(0)
    replays = [replay(rng, 0.0, searched=24, top=4, seeds=3) for _ in range(200)]
    # The expected maximum of 24 standard normal variables is 1.948.
    assert np.mean([one.naive for one in replays]) == pytest.approx(1.948 * NOISE, abs=0.1 * NOISE)
    assert abs(np.mean([one.winner for one in replays])) < 0.15 * NOISE  # fresh seeds know nothing of that
    assert np.mean([one.raw for one in replays]) > 1.5 * abs(np.mean([one.worth for one in replays]))


def test_it_says_how_often_the_truth_was_covered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["confirm_simulation", "--replays", "3", "--top", "3"])
    confirm_simulation.main()
    result = json.loads(capsys.readouterr().out)
    assert [one["ratio"] for one in result["details"]] == [0.0, 0.25, 0.5, 1.0, 2.0]
    covers = [figure for figure in result["figures"] if "covers" in figure["what"]]
    assert len(covers) == 2 * 5 and all(0 <= figure["ours"] <= 1 and figure["n"] == 3 for figure in covers)


def test_a_top_that_is_more_than_all_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["confirm_simulation", "--top", "25"])
    with pytest.raises(SystemExit):
        confirm_simulation.main()
    assert "--top: 25 is not a number from 2 to --searched, 24." in capsys.readouterr().err
