import json
import math
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from benchmarks import search_quality
from benchmarks.pictures import read_rows, write_images
from benchmarks.quality_space import SPACE
from benchmarks.search_quality import SEARCHED, UNTOUCHED, accuracy_of, ahead_from, alike, at, cut, difference, summary
from spaces import dropout


def test_the_untouched_images_are_a_share_of_each_class_and_nobody_elses(tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    (tmp_path / "cut").mkdir()
    cut(write_images(tmp_path / "all", 100), tmp_path / "cut")
    untouched, searched = read_rows(tmp_path / "cut" / UNTOUCHED), read_rows(tmp_path / "cut" / SEARCHED)
    assert Counter(row["Label"] for row in untouched) == dict.fromkeys("01234", 3)
    assert {row["Image"] for row in untouched}.isdisjoint(row["Image"] for row in searched)
    assert len(untouched) + len(searched) == 100


def test_both_sides_have_one_recipe() -> None:
    trial = optuna.trial.FixedTrial(dict(SPACE.starts[0]))
    assert SPACE.sample(trial) == replace(dropout.sample(trial), t_max=None)
    assert SPACE.starts == dropout.SPACE.starts


def test_accuracy_is_of_a_submissions_classes(tmp_path: Path) -> None:
    (tmp_path / "submission.csv").write_text("Id,Category\na,1\nb,2\nc,1\nd,0\n")
    (tmp_path / "data.csv").write_text("Image,Label\na,1\nb,0\nc,1\nd,0\n")
    assert accuracy_of(tmp_path / "submission.csv", tmp_path / "data.csv") == 0.75


def test_a_curve_keeps_its_value_until_the_next_point() -> None:
    points = [{"minutes": 1.0, "best": 0.4}, {"minutes": 3.0, "best": 0.5}]
    assert [at(points, "best", minutes) for minutes in (0.5, 1.0, 2.9, 3.0)] == [None, 0.4, 0.4, 0.5]


def test_ours_is_ahead_from_where_it_never_falls_back() -> None:
    moments = [1.0, 2.0, 3.0, 4.0]
    assert ahead_from([None, 0.6, 0.5, 0.7], moments, 0.55) == 4.0
    assert ahead_from([None, 0.6, 0.6, 0.7], moments, 0.55) == 2.0
    assert ahead_from([None, 0.6, 0.6, 0.5], moments, 0.55) == math.inf


def test_a_difference_has_students_interval_over_the_seeds() -> None:
    # 0.01, 0.02 and 0.03: deviation 0.01, and t of two degrees of freedom is 4.303.
    assert difference([0.51, 0.52, 0.53], [0.5, 0.5, 0.5]) == pytest.approx((0.02, 4.303 * 0.01 / 3**0.5), rel=1e-3)
    assert difference([0.6], [0.5])[1] == math.inf


def half(**finals: float) -> dict[str, object]:
    points = [{"minutes": 1.0, **{name: value - 0.1 for name, value in finals.items()}}, {"minutes": 3.0, **finals}]
    return {"settings": {"minutes": 3.0, "every": 60.0}, "points": points}


def test_halves_are_of_one_machine_whose_cpu_was_once_told_without_its_family() -> None:
    machine = dict.fromkeys(("cores", "bf16", "memory_gb", "gpu", "system", "versions"), "same")
    full, short = {**machine, "cpu": "A B family 26 model 2"}, {**machine, "cpu": "A B"}
    assert alike(full, full) and alike(full, short) and alike(short, full)
    assert not alike(full, {**machine, "cpu": "A B family 26 model 21"})
    assert not alike(full, {**full, "versions": "others"})


def test_the_summary_compares_the_ends_seed_by_seed() -> None:
    mine = [half(ensemble=0.65, single=0.55), half(ensemble=0.67, single=0.55)]
    figures, details = summary(mine, [half(best=0.5), half(best=0.5)], images=100)
    ends, low, passed, *_ = figures
    assert (ends.ours, ends.peer, ends.n) == (pytest.approx(66), pytest.approx(50), 2)
    assert low.ours == pytest.approx(16 - 12.706, abs=1e-2) and low.met
    assert (passed.ours, passed.peer, passed.met) == (1.0, 3.0, True)
    assert details["mean_curves"]["peer"] == pytest.approx([0.4, 0.4, 0.5])
    assert details["standard_errors"]["peer"] == pytest.approx([0.05, 0.05])


def test_both_sides_search_are_judged_and_are_not_done_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "all").mkdir()
    command = ["search_quality", "--data", str(write_images(tmp_path / "all", 100)), "--folder", str(tmp_path / "done")]
    command += [
        "--seeds",
        "1",
        "--image-size",
        "28",
        "--epochs",
        "1",
        "--trials",
        "2",
        "--minutes",
        "5",
        "--every",
        "5",
    ]
    monkeypatch.setattr(sys, "argv", command)
    search_quality.main()
    first = json.loads(capsys.readouterr().out)
    assert first["details"]["untouched_images"] == 15
    mine, theirs = first["details"]["halves"]
    assert mine["points"][-1].keys() == {"minutes", "ensemble", "single"}
    assert theirs["points"][-1].keys() == {"minutes", "best"}
    assert sorted(path.name for path in (tmp_path / "done").glob("*-0*")) == ["ours-0.json", "peer-0.json"]
    search_quality.main()  # finds both halves
    assert json.loads(capsys.readouterr().out)["details"] == first["details"]
    monkeypatch.setattr(sys, "argv", [*command, "--epochs", "2"])
    with pytest.raises(SystemExit, match="give another --folder"):
        search_quality.main()
    path = tmp_path / "done" / "peer-0.json"
    path.write_text(path.read_text().replace('"cores": ', '"cores": 1'))
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit, match=r"peer-0.json was made on .*Give another --folder.$"):
        search_quality.main()
