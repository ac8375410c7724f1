"""What a Keeper hands out and takes in, without Ray."""

import hashlib
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from trainable import files
from trainable.keeper import WORKER, Gone, Keeper, Turn, assign, place_of, release
from trainable.paths import trial_folder


@pytest.fixture
def keeper(tmp_path: Path) -> Keeper:
    (tmp_path / "a-28px-v1.npy").write_bytes(b"0123456789")
    return Keeper([tmp_path / "run"], [tmp_path / "a-28px-v1.npy"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A trial's, which is assigned to the worker a."""
    folder = trial_folder(tmp_path / "run", "0003")
    assign(folder, "a")
    return folder


def gone(folder: Path, worker: str) -> str:
    return re.escape(f"{folder} is not worker {worker}'s any more")


def test_what_a_trial_leaves_comes_back(keeper: Keeper, folder: Path) -> None:
    assert keeper.left(folder, Turn("a", 1)) == {}
    left = {"latest.pt": b"state", "metrics.csv": b"epoch\n1\n", "best.safetensors": b"network"}
    assert keeper.keep(folder, left, Turn("a", 2)) is None
    assert keeper.keep(folder, {"metrics.csv": b"epoch\n1\n2\n"}, Turn("a", 3)) is None
    (folder / ".latest.pt.host.1.tmp").touch()
    assign(folder, "b")
    assert keeper.left(folder, Turn("b", 1)) == left | {"metrics.csv": b"epoch\n1\n2\n"}


def test_what_was_sent_again_is_kept_once_and_what_comes_late_not_at_all(keeper: Keeper, folder: Path) -> None:
    keeper.left(folder, Turn("a", 1))
    for number, content in ((2, b"one"), (3, b"two"), (2, b"one"), (3, b"late")):
        assert keeper.keep(folder, {"metrics.csv": content}, Turn("a", number)) is None
    assert (folder / "metrics.csv").read_bytes() == b"two"
    (folder / "metrics.csv").unlink()  # as the driver does with a resume state at a trial's end
    assert keeper.keep(folder, {"metrics.csv": b"two"}, Turn("a", 3)) is None
    assert not (folder / "metrics.csv").exists()


@pytest.mark.parametrize("died", [False, True], ids=["", "and the Keeper died meanwhile"])
def test_the_drivers_word_says_whose_a_trial_is_and_no_worker_can_change_it(
    keeper: Keeper, folder: Path, tmp_path: Path, died: bool
) -> None:
    assign(folder, "b")  # before a, which a cut network holds up, has got through with its first call
    keeper.left(folder, Turn("b", 1))
    assert keeper.keep(folder, {"metrics.csv": b"b"}, Turn("b", 2)) is None
    if died:
        keeper = Keeper([tmp_path / "run"], [])
    with pytest.raises(Gone, match=f"^{gone(folder, 'a')}$"):
        keeper.left(folder, Turn("a", 1))
    with pytest.raises(Gone, match=f"^{gone(folder, 'a')}$"):
        keeper.keep(folder, {"metrics.csv": b"a"}, Turn("a", 2))
    assert (folder / "metrics.csv").read_bytes() == b"b"
    assert keeper.keep(folder, {"metrics.csv": b"bb"}, Turn("b", 3)) is None
    assert (folder / "metrics.csv").read_bytes() == b"bb"


def test_a_worker_at_the_driver_waits_for_what_is_being_written(
    keeper: Keeper, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes, go_on, write = threading.Event(), threading.Event(), files.write_bytes

    def slowly(path: Path, content: bytes) -> None:
        writes.set()
        go_on.wait()
        write(path, content)

    monkeypatch.setattr("trainable.files.write_bytes", slowly)
    with ThreadPoolExecutor(2) as pool:
        kept = pool.submit(keeper.keep, folder, {"latest.pt": b"a"}, Turn("a", 1))
        writes.wait()
        settled = pool.submit(keeper.settled, folder)
        with pytest.raises(TimeoutError):
            settled.result(timeout=0.1)
        go_on.set()
        settled.result()
        assert kept.result() is None and (folder / "latest.pt").exists()


def test_after_a_trials_end_nothing_is_kept(keeper: Keeper, folder: Path) -> None:
    keeper.left(folder, Turn("a", 1))
    release(folder)
    with pytest.raises(Gone, match=f"^{gone(folder, 'a')}$"):
        keeper.keep(folder, {"latest.pt": b"a"}, Turn("a", 2))
    assert not list(folder.iterdir())
    release(folder)  # as after a kill in between


def test_what_the_disk_did_not_take_is_told_and_taken_when_it_is_sent_again(keeper: Keeper, folder: Path) -> None:
    (folder / "metrics.csv").mkdir()
    assert "Is a directory" in str(keeper.keep(folder, {"metrics.csv": b"a"}, Turn("a", 1)))
    (folder / "metrics.csv").rmdir()
    assert keeper.keep(folder, {"metrics.csv": b"a"}, Turn("a", 1)) is None
    assert (folder / "metrics.csv").read_bytes() == b"a"


def test_what_vouches_for_the_others_is_written_last(
    keeper: Keeper, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = (
        "refit.json latest.pt metrics.csv logits.npz fold2.safetensors fold1.safetensors error.txt config.json".split()
    )
    written: list[str] = []
    monkeypatch.setattr("trainable.files.write_bytes", lambda path, content: written.append(path.name))
    assert keeper.keep(folder, dict.fromkeys(names, b""), Turn("a", 1)) is None
    assert written == [*sorted(names[-2:]), "fold1.safetensors", "fold2.safetensors", *reversed(names[:4])]


@pytest.mark.parametrize("name", ["../run.json", "run.json", "latest.pt/x", ".hidden", "fold0.safetensors", "x\n", ""])
def test_another_files_name_is_refused_and_nothing_is_written(keeper: Keeper, folder: Path, name: str) -> None:
    assert place_of(name) is None
    with pytest.raises(ValueError, match="is no file that a training leaves"):
        keeper.keep(folder, {"metrics.csv": b"", name: b""}, Turn("a", 1))
    assert [path.name for path in folder.iterdir()] == [WORKER]


@pytest.mark.parametrize("folder", ["run/trials", "run/trials/..", "run/trials/0/1", "run/other/0000", "trials/0000"])
def test_another_folder_is_refused(keeper: Keeper, tmp_path: Path, folder: str) -> None:
    with pytest.raises(ValueError, match="is the folder of no training"):
        keeper.keep(tmp_path / folder, {"metrics.csv": b""}, Turn("a", 1))
    with pytest.raises(ValueError, match="is the folder of no training"):
        keeper.left(tmp_path / folder, Turn("a", 1))


def test_pixels_are_told_and_handed_out_in_parts(keeper: Keeper) -> None:
    assert keeper.size("a-28px-v1.npy") == 10
    assert keeper.digest("a-28px-v1.npy") == hashlib.sha256(b"0123456789").hexdigest()
    assert [keeper.part("a-28px-v1.npy", start, 4) for start in (0, 4, 8)] == [b"0123", b"4567", b"89"]
    with pytest.raises(KeyError):
        keeper.part("../run/run.json", 0, 1)
