"""What a Keeper hands out and takes in, without Ray."""

import hashlib
from pathlib import Path

import pytest

from trainable.keeper import Keeper, Turn, place_of, trial_folder


@pytest.fixture
def keeper(tmp_path: Path) -> Keeper:
    (tmp_path / "a-28px-v1.npy").write_bytes(b"0123456789")
    return Keeper([tmp_path / "run"], [tmp_path / "a-28px-v1.npy"])


def test_what_a_trial_leaves_comes_back(keeper: Keeper, tmp_path: Path) -> None:
    folder = trial_folder(tmp_path / "run", "0003")
    assert keeper.left(folder, Turn("a", 1)) == {}
    left = {"latest.pt": b"state", "metrics.csv": b"epoch\n1\n", "best.safetensors": b"network"}
    assert keeper.keep(folder, left, Turn("a", 2)) is None
    assert keeper.keep(folder, {"metrics.csv": b"epoch\n1\n2\n"}, Turn("a", 3)) is None
    (folder / ".latest.pt.host.1.tmp").touch()
    assert keeper.left(folder, Turn("b", 1)) == left | {"metrics.csv": b"epoch\n1\n2\n"}


def test_what_was_sent_again_is_kept_once_and_what_comes_late_not_at_all(keeper: Keeper, tmp_path: Path) -> None:
    folder = trial_folder(tmp_path / "run", "0003")
    keeper.left(folder, Turn("a", 1))
    for number, content in ((2, b"one"), (3, b"two"), (2, b"one"), (3, b"late")):
        assert keeper.keep(folder, {"metrics.csv": content}, Turn("a", number)) is None
    assert (folder / "metrics.csv").read_bytes() == b"two"
    (folder / "metrics.csv").unlink()  # as the driver does with a resume state at a trial's end
    assert keeper.keep(folder, {"metrics.csv": b"two"}, Turn("a", 3)) is None
    assert not (folder / "metrics.csv").exists()


def test_of_two_workers_the_last_to_begin_is_the_one(keeper: Keeper, tmp_path: Path) -> None:
    folder = trial_folder(tmp_path / "run", "0003")
    keeper.left(folder, Turn("a", 1))
    keeper.left(folder, Turn("b", 1))
    assert keeper.keep(folder, {"metrics.csv": b"b"}, Turn("b", 2)) is None
    gone = f"another worker has gone on with {folder}"
    assert keeper.keep(folder, {"metrics.csv": b"a"}, Turn("a", 2)) == gone
    assert keeper.left(folder, Turn("a", 1)) == {"metrics.csv": b"b"}  # comes late, and takes nothing over
    assert keeper.keep(folder, {"metrics.csv": b"bb"}, Turn("b", 3)) is None
    keeper.left(folder, Turn("a", 3))  # the trial has come back
    assert keeper.keep(folder, {"metrics.csv": b"a"}, Turn("a", 4)) is None
    assert keeper.keep(folder, {"metrics.csv": b"b"}, Turn("b", 4)) == gone
    assert (folder / "metrics.csv").read_bytes() == b"a"


def test_a_keeper_that_died_meanwhile_takes_what_comes(keeper: Keeper, tmp_path: Path) -> None:
    folder = trial_folder(tmp_path / "run", "0003")
    assert keeper.keep(folder, {"metrics.csv": b"a"}, Turn("a", 7)) is None
    assert (folder / "metrics.csv").read_bytes() == b"a"


def test_what_the_disk_did_not_take_is_taken_when_it_is_sent_again(keeper: Keeper, tmp_path: Path) -> None:
    folder = trial_folder(tmp_path / "run", "0003")
    (tmp_path / "run").write_text("no folder")
    assert "Not a directory" in str(keeper.keep(folder, {"metrics.csv": b"a"}, Turn("a", 1)))
    (tmp_path / "run").unlink()
    assert keeper.keep(folder, {"metrics.csv": b"a"}, Turn("a", 1)) is None
    assert (folder / "metrics.csv").read_bytes() == b"a"


def test_what_vouches_for_the_others_is_written_last(
    keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = (
        "refit.json latest.pt metrics.csv logits.npz fold2.safetensors fold1.safetensors error.txt config.json".split()
    )
    written: list[str] = []
    monkeypatch.setattr("trainable.files.write_bytes", lambda path, content: written.append(path.name))
    assert keeper.keep(tmp_path / "run/refits/0000", dict.fromkeys(names, b""), Turn("a", 1)) is None
    assert written == [*sorted(names[-2:]), "fold1.safetensors", "fold2.safetensors", *reversed(names[:4])]


@pytest.mark.parametrize("name", ["../run.json", "run.json", "latest.pt/x", ".hidden", "fold0.safetensors", "x\n", ""])
def test_another_files_name_is_refused_and_nothing_is_written(keeper: Keeper, tmp_path: Path, name: str) -> None:
    assert place_of(name) is None
    with pytest.raises(ValueError, match="is no file that a training leaves"):
        keeper.keep(tmp_path / "run/refits/0000", {"metrics.csv": b"", name: b""}, Turn("a", 1))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("folder", ["run/trials", "run/trials/..", "run/trials/0/1", "run/other/0000", "trials/0000"])
def test_another_folder_is_refused(keeper: Keeper, tmp_path: Path, folder: str) -> None:
    with pytest.raises(ValueError, match="is the folder of no training"):
        keeper.keep(tmp_path / folder, {"metrics.csv": b""}, Turn("a", 1))
    with pytest.raises(ValueError, match="is the folder of no training"):
        keeper.left(tmp_path / folder, Turn("a", 1))


def test_a_disk_that_takes_nothing_is_told(keeper: Keeper, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("no folder")
    assert "Not a directory" in str(keeper.keep(tmp_path / "run/refits/0000", {"metrics.csv": b""}, Turn("a", 1)))


def test_pixels_are_told_and_handed_out_in_parts(keeper: Keeper) -> None:
    assert keeper.pixels("a-28px-v1.npy") == (10, hashlib.sha256(b"0123456789").hexdigest())
    assert [keeper.part("a-28px-v1.npy", start, 4) for start in (0, 4, 8)] == [b"0123", b"4567", b"89"]
    with pytest.raises(KeyError):
        keeper.part("../run/run.json", 0, 1)
