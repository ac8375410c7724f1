from pathlib import Path

import pytest

from benchmarks.runs import Trial, run
from benchmarks.search_overhead import between_trials, shares


def epoch(seconds: float, kept: float, lost: float, beside: float = 0.0) -> dict[str, float]:
    return {"seconds": seconds, "kept_seconds": kept, "beside_seconds": beside, "lost_seconds": lost}


# A worker's first trial: 3 s of set-up, 2 + 2 s of training, 0.5 + 0.5 s of files, 0.25 s between, and of
# the second training 0.125 s for the first one's files. Then another's.
FIRST = Trial("0000", 7, 105.25, (epoch(2, 0.5, 3, beside=0.125), epoch(2, 0.5, 0.25)))
SECOND = Trial("0001", 7, 109.0, (epoch(3, 0.5, 0.25),))


def test_a_trials_time_begins_at_its_first_step() -> None:
    assert (FIRST.began, FIRST.trained, FIRST.kept, FIRST.between_epochs) == (100.0, 3.875, 1.125, 0.25)
    assert (FIRST.before, SECOND.before, SECOND.began) == (3.0, 0.25, 105.5)


def test_only_a_workers_later_trials_are_between_trials() -> None:
    other = Trial("0002", 8, 107.0, (epoch(1, 0, 5),))
    assert between_trials([FIRST, SECOND, other]) == [0.25]


def test_the_shares_are_of_the_slots_time() -> None:
    found = shares([FIRST, SECOND], slots=2)  # 18 s
    assert found == {
        "training and validation": pytest.approx(6.875 / 18),
        "files": pytest.approx(1.625 / 18),
        "between epochs": pytest.approx(0.25 / 18),
        "between trials": pytest.approx(0.25 / 18),
        "idle": pytest.approx(0.5),
    }


def test_a_command_that_fails_is_shown(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"search.run ended with code 2:\nError: --data: .*nowhere"):
        run("search.run", {"data": tmp_path / "nowhere.csv", "resume": None})


def test_a_command_that_goes_well_says_what_it_said() -> None:
    done = run("search.run", {"list-spaces": True, "space": "dropout"})
    assert "dropout_8" in done.said and done.seconds > 0
