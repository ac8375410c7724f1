"""What a machine has, and in what another differs."""

from importlib.metadata import version
from pathlib import Path

from trainable.node import LIBRARIES, described, difference, versions


def test_the_versions_are_those_that_are_installed() -> None:
    assert set(versions()) == {"python", *LIBRARIES}
    assert versions()["torch"] == version("torch")


def test_a_folder_that_is_not_there_yet_is_on_its_parents_disk(tmp_path: Path) -> None:
    node = described(tmp_path / "not" / "yet", {})
    assert node.versions == versions() and node.free > 0


def test_a_place_that_cannot_be_written_is_told_where_it_is_needed(tmp_path: Path) -> None:
    pixels = tmp_path / "driver" / "a.npy"
    assert described(tmp_path, {pixels: 6}).fault is None
    assert described(Path("/proc/none"), {pixels: 6}).fault == "cannot write into /proc (No such file or directory)"
    pixels.parent.mkdir()
    pixels.write_bytes(b"pixels")
    assert described(Path("/proc/none"), {pixels: 6}).fault is None


def test_decoded_images_that_are_there_need_no_room(tmp_path: Path) -> None:
    first, second = (tmp_path / "driver" / name for name in ("a.npy", "b.npy"))
    assert described(tmp_path, {first: 6, second: 4}).lacks == 10
    (tmp_path / "a.npy").write_bytes(b"pixels")
    assert described(tmp_path, {first: 6, second: 4}).lacks == 4
    assert described(tmp_path, {first: 7, second: 4}).lacks == 11  # it has not come whole


def test_a_difference_is_told_with_both_versions() -> None:
    here = {"python": "3.11.7", "torch": "2.14.1"}
    assert difference(here, here | {"pillow": "1"}) is None
    assert difference(here, here | {"torch": "2.13.0"}) == "has torch 2.13.0, and the driver's node 2.14.1"
    assert difference(here, {"python": "3.11.7"}) == "has no torch, and the driver's node 2.14.1"
