import json
import sys

import pytest

from benchmarks import precision_accuracy


def test_the_difference_is_that_of_pairs() -> None:
    """Differences of 1, 2 and 3 points: mean 2, standard error 1 / sqrt(3), and t = 4.3027 for two degrees."""
    found = {"float32": {7: 0.5, 8: 0.6, 9: 0.7}, "bfloat16": {9: 0.73, 7: 0.51, 8: 0.62}}
    mean, end = precision_accuracy.figures_of(found, "both")
    assert (mean.ours, mean.peer, mean.n) == (pytest.approx(62), pytest.approx(60), 3)
    assert end.ours == pytest.approx(2 - 4.3027 / 3**0.5, abs=1e-3)
    assert end.met
    found["bfloat16"][7] = 0.49  # -1, 2 and 3 points: mean 4 / 3, whose noise is that of 2 and more below
    assert not precision_accuracy.figures_of(found, "both")[1].met


def test_both_formats_train_with_the_same_seeds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["precision_accuracy", "--images", "60", "--image-size", "28", "--seeds", "2", "--epochs", "1"]
    monkeypatch.setattr(sys, "argv", command)
    precision_accuracy.main()
    result = json.loads(capsys.readouterr().out)
    found = result["details"]["accuracies"]
    assert found["float32"].keys() == found["bfloat16"].keys() and len(found["float32"]) == 2
    assert [figure["n"] for figure in result["figures"]] == [2, 2]
    assert result["details"]["valid_images"] == 9


def test_a_single_seed_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["precision_accuracy", "--seeds", "1"])
    with pytest.raises(SystemExit):
        precision_accuracy.main()
    assert "--seeds: 1 has no noise; give 2 at least." in capsys.readouterr().err
