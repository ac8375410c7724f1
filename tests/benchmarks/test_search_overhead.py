import json
import sys

import pytest

from benchmarks import search_overhead


def test_a_search_says_where_its_time_went(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["search_overhead", "--images", "60", "--image-size", "28", "--trials", "4", "--epochs", "1"]
    monkeypatch.setattr(sys, "argv", [*command, "--seeds", "2"])
    search_overhead.main()
    written = json.loads(capsys.readouterr().out)
    assert len(written["details"]) == 2
    for details in written["details"]:
        assert details["epochs"] == [1, 1, 1, 1]
        assert len(details["between_trials_seconds"]) == 4 - details["workers"]
        assert sum(details["shares"].values()) == pytest.approx(1)
        assert "training and validation" in details["the_search_said"][0]
    lost = [1 - details["shares"]["training and validation"] for details in written["details"]]
    assert written["figures"][2]["ours"] == pytest.approx(sum(lost) / 2) and written["figures"][2]["n"] == 2


def test_too_few_trials_are_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["search_overhead", "--trials", "2"])
    with pytest.raises(SystemExit):
        search_overhead.main()
    assert "--trials: 2 on 2 slots leave nothing between trials; give more." in capsys.readouterr().err
