import errno
import os
import resource
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from PIL import Image

from trainable import pixels
from trainable.errors import UserError
from trainable.pixels import Pixels, Prepared, prepare
from trainable.table import Table

GRAY16 = np.array([[0, 257, 65535], [32768, 300, 128]], np.uint16)


def table(folder: Path, *images: str) -> Table:
    return Table("faces.csv", folder, images, None, (), {})


def prepared(folder: Path, *images: str, size: int = 4) -> Prepared:
    return prepare(table(folder, *images), size, folder / "cache", progress=False)


def solid(path: Path, color: tuple[int, ...] | int, mode: str = "RGB", size: tuple[int, int] = (6, 5)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)


def first_pixel(folder: Path, image: str) -> list[int]:
    result = prepared(folder, image)
    assert result.faults == {}
    return result.pixels.open()[0, 0, 0].tolist()  # type: ignore[no-any-return]


# What becomes of each kind of image


def palette_with_transparency() -> Image.Image:
    image = Image.new("P", (6, 5), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.info["transparency"] = bytes([255, 0])  # color 1, blue, is fully transparent
    return image


def palette() -> Image.Image:
    image = Image.new("P", (6, 5), 1)
    image.putpalette([255, 0, 0, 0, 0, 250])
    return image


@pytest.mark.parametrize(
    ("image", "suffix", "expected"),
    [
        (Image.new("L", (6, 5), 77), "png", [77, 77, 77]),
        (Image.new("1", (6, 5), 1), "png", [255, 255, 255]),
        (Image.new("RGB", (6, 5), (10, 20, 30)), "png", [10, 20, 30]),
        (Image.new("RGBA", (6, 5), (10, 20, 30, 255)), "png", [10, 20, 30]),
        (Image.new("RGBA", (6, 5), (10, 20, 30, 0)), "png", [255, 255, 255]),
        (Image.new("RGBA", (6, 5), (0, 100, 200, 51)), "png", [204, 224, 244]),  # a fifth over white
        (Image.new("LA", (6, 5), (0, 51)), "png", [204, 204, 204]),
        (palette(), "png", [0, 0, 250]),
        (palette(), "gif", [0, 0, 250]),
        (palette_with_transparency(), "png", [255, 255, 255]),
        (Image.new("CMYK", (6, 5), (0, 0, 0, 0)), "tif", [255, 255, 255]),
        (Image.new("CMYK", (6, 5), (255, 0, 0, 0)), "tif", [0, 255, 255]),
        (Image.new("CMYK", (6, 5), (0, 0, 0, 255)), "jpg", [0, 0, 0]),
        (Image.fromarray(np.full((5, 6), 32768, np.uint16)), "png", [128, 128, 128]),
        (Image.fromarray(np.full((5, 6), 65535, np.uint16)), "tif", [255, 255, 255]),
        (Image.fromarray(np.full((5, 6), 514, np.int32)), "tif", [2, 2, 2]),
    ],
)
def test_every_mode_becomes_rgb(tmp_path: Path, image: Image.Image, suffix: str, expected: list[int]) -> None:
    image.save(tmp_path / f"a.{suffix}")
    assert first_pixel(tmp_path, f"a.{suffix}") == expected


def test_16_bits_are_scaled_and_not_clipped() -> None:
    rgb = np.asarray(pixels.rgb(Image.fromarray(GRAY16)))
    assert rgb[..., 0].tolist() == [[0, 1, 255], [128, 1, 0]]


def test_exif_orientation_is_honoured(tmp_path: Path) -> None:
    # Orientation 6: the camera was turned, so the stored left column is the upright image's top row.
    stored = np.zeros((6, 8, 3), np.uint8)
    stored[:, 0] = (250, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    upright = prepared(tmp_path, "a.png", size=8).pixels.open()[0]
    assert upright[0, :, 0].tolist() == [250] * 8
    assert upright[2:].max() == 0


def test_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (6, 5), color) for color in ("red", "lime")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert first_pixel(tmp_path, "a.gif") == [255, 0, 0]


def test_resizing_averages_over_what_it_shrinks(tmp_path: Path) -> None:
    # Stripes of one pixel: without antialiasing each result would be 0 or 255.
    Image.fromarray(np.tile(np.array([0, 255], np.uint8), (64, 32))).save(tmp_path / "a.png")
    values = prepared(tmp_path, "a.png").pixels.open()[0]
    assert values.shape == (4, 4, 3)
    assert 120 <= values.min() and values.max() <= 135


# What is wrong with an image


def truncated(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:1500])


def larger_than_any(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**42)  # of which the disk holds nothing


def link_outside(path: Path) -> None:
    solid(path.parent.parent / "outside.png", (1, 2, 3))
    path.symlink_to(path.parent.parent / "outside.png")


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "is a folder"),
        (os.mkfifo, "is no regular file"),
        (lambda path: path.touch(), "is an empty file"),
        (larger_than_any, "has more than 1073741824 bytes"),
        (lambda path: path.write_text("hello"), "is not an image"),
        (lambda path: path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n"), "is not an image"),
        (lambda path: Image.new("F", (6, 5)).save(path, format="TIFF"), "has floating-point pixels"),
        (
            lambda path: Image.fromarray(np.full((5, 6), 65536, np.int32)).save(path, format="TIFF"),
            "has gray values outside 0..65535",
        ),
        (link_outside, "leaves the data's folder"),
    ],
)
def test_an_image_that_cannot_be_used(tmp_path: Path, make: Callable[[Path], object], fault: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    make(data / "a.png")
    result = prepared(data, "a.png")
    assert result.faults == {0: fault}
    assert not result.pixels.path.exists()


@pytest.mark.parametrize(
    ("image", "fault"),
    [
        ("../a.png", "leaves the data's folder"),
        ("/etc/passwd", "leaves the data's folder"),
        ("b/../a.png/c", "does not exist"),
        ("a\0.png", "cannot be read (embedded null byte)"),
        (
            "a\udcff.png",
            "cannot be read ('utf-8' codec can't encode character '\\udcff' in position 1: surrogates not allowed)",
        ),
        ("a" * 300, "cannot be read (File name too long)"),
    ],
)
def test_a_path_that_cannot_be_used(tmp_path: Path, image: str, fault: str) -> None:
    data = tmp_path / "data"
    solid(data / "a.png", 0, "L")
    assert prepared(data, image).faults == {0: fault}


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp"])
def test_a_truncated_file_is_a_fault(tmp_path: Path, suffix: str) -> None:
    truncated(tmp_path / f"a.{suffix}")
    (fault,) = prepared(tmp_path, f"a.{suffix}").faults.values()
    assert fault.startswith("cannot be decoded (")


@pytest.mark.parametrize("limit", [20, 10])  # Pillow warns of 30 pixels, and refuses them
def test_a_huge_image_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    solid(tmp_path / "a.png", 0, "L", size=(6, 5))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    (fault,) = prepared(tmp_path, "a.png").faults.values()
    assert fault.startswith("cannot be decoded (Image size (30 pixels) exceeds limit")


def test_a_bomb_is_refused_by_what_it_says_before_it_is_unpacked(tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    size = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(png)
    (fault,) = prepared(tmp_path, "a.png").faults.values()
    assert fault.startswith("cannot be decoded (Image size (3600000000 pixels) exceeds limit of 178956970 pixels")


@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1)])
def test_an_image_of_any_shape_becomes_a_square(tmp_path: Path, size: tuple[int, int]) -> None:
    solid(tmp_path / "a.png", 200, "L", size=size)
    (image,) = prepared(tmp_path, "a.png", size=4).pixels.open()
    assert image.shape == (4, 4, 3) and (image == 200).all()


def test_of_large_images_one_is_decoded_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "LARGE", 10)
    at_once, most, convert = [0], [0], pixels.rgb

    def counted(image: Image.Image) -> Image.Image:
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        time.sleep(0.01)  # for the others to come in
        at_once[0] -= 1
        return convert(image)

    monkeypatch.setattr(pixels, "rgb", counted)
    names = [f"{number}.png" for number in range(8)]
    for number, name in enumerate(names):
        solid(tmp_path / name, number, "L", size=(6, 5))
    images = prepared(tmp_path, *names, size=2).pixels.open()
    assert images[:, 0, 0, 0].tolist() == list(range(8)) and most == [1]


def test_faults_of_every_kind_are_found_at_once(tmp_path: Path) -> None:
    solid(tmp_path / "good.png", 0, "L")
    (tmp_path / "text.png").write_text("hello")
    result = prepared(tmp_path, "gone.png", "good.png", "text.png")
    assert result.faults == {0: "does not exist", 2: "is not an image"}


# The cache


def test_facts_tell_pixels_apart_and_sum_them(tmp_path: Path) -> None:
    solid(tmp_path / "a.png", (1, 2, 3))
    solid(tmp_path / "same.bmp", (1, 2, 3))
    solid(tmp_path / "turned.png", (1, 2, 3), size=(5, 6))
    facts = prepared(tmp_path, "a.png", "same.bmp", "turned.png").facts
    same, turned = (facts["identity"][0] == facts["identity"][1:]).all(axis=1)
    assert (same, turned) == (True, False)
    assert facts["sum"][0].tolist() == [16, 32, 48]
    assert facts["square_sum"][0].tolist() == [16, 64, 144]


def test_a_cache_that_is_crafted_runs_no_code(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return os.mkdir, (tmp_path / "harm",)

    solid(tmp_path / "a.png", 7, "L")
    path = prepared(tmp_path, "a.png").pixels.path
    for file in (path, path.with_suffix(".facts.npy")):
        np.save(file, np.array([Harmful()], dtype=object), allow_pickle=True)
    assert (prepared(tmp_path, "a.png").pixels.open() == 7).all()  # decoded again
    assert not (tmp_path / "harm").exists()


def test_the_map_is_read_only_and_in_the_tables_order(tmp_path: Path) -> None:
    number = pixels.BATCH + 3
    for index in range(number):
        solid(tmp_path / f"{index}.png", index % 256, "L", size=(2, 2))
    images = prepared(tmp_path, *(f"{index}.png" for index in range(number)), size=2).pixels.open()
    assert isinstance(images, np.memmap) and images.dtype == np.uint8 and images.shape == (number, 2, 2, 3)
    assert images[:, 0, 0, 0].tolist() == [index % 256 for index in range(number)]
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0


def test_a_warm_start_decodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    solid(tmp_path / "a.png", (1, 2, 3))
    cold = prepared(tmp_path, "a.png")
    written = cold.pixels.path.stat().st_mtime_ns
    monkeypatch.setattr(pixels, "_decode", None)
    warm = prepared(tmp_path, "a.png")
    assert warm.pixels == cold.pixels
    assert np.array_equal(warm.facts, cold.facts)
    assert warm.pixels.path.stat().st_mtime_ns == written


def test_an_edited_image_is_decoded_again(tmp_path: Path) -> None:
    solid(tmp_path / "a.png", (1, 2, 3))
    before = prepared(tmp_path, "a.png").pixels
    solid(tmp_path / "a.png", (4, 5, 6))
    after = prepared(tmp_path, "a.png").pixels
    assert after.content != before.content
    assert [each.open()[0, 0, 0].tolist() for each in (before, after)] == [[1, 2, 3], [4, 5, 6]]


def test_content_is_independent_of_size_and_name_but_not_of_order(tmp_path: Path) -> None:
    for name, color in (("a.png", 1), ("b.png", 2), ("c.png", 1)):
        solid(tmp_path / name, color, "L")
    first = prepared(tmp_path, "a.png", "b.png").pixels
    assert prepared(tmp_path, "a.png", "b.png", size=8).pixels.content == first.content
    assert prepared(tmp_path, "c.png", "b.png").pixels == first
    assert prepared(tmp_path, "b.png", "a.png").pixels.content != first.content


@pytest.mark.parametrize("suffix", [".npy", ".facts.npy"])
@pytest.mark.parametrize("kept_bytes", [0, 50, 140])
def test_a_torn_cache_is_rebuilt(tmp_path: Path, suffix: str, kept_bytes: int) -> None:
    solid(tmp_path / "a.png", (1, 2, 3))
    whole = prepared(tmp_path, "a.png")
    torn = whole.pixels.path.with_suffix(suffix)
    content = torn.read_bytes()
    torn.write_bytes(content[:kept_bytes])
    again = prepared(tmp_path, "a.png")
    assert torn.read_bytes() == content
    assert whole.warnings == prepared(tmp_path, "a.png").warnings == ()
    assert again.warnings == (
        f"the decoded images in {whole.pixels.path} are incomplete or damaged: they are decoded anew",
    )


def test_a_torn_map_is_refused_by_name(tmp_path: Path) -> None:
    solid(tmp_path / "a.png", (1, 2, 3))
    torn = prepared(tmp_path, "a.png").pixels
    os.truncate(torn.path, 140)
    with pytest.raises(UserError) as error:
        torn.open()
    assert (
        str(error.value) == f"{torn.path} cannot be read (mmap length is greater than file size). "
        "Delete it and start again."
    )


def test_a_map_of_another_shape_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 4, 4), np.float32))
    with pytest.raises(UserError) as error:
        Pixels(tmp_path / "x.npy", 4, "").open()
    assert str(error.value) == (
        f"{tmp_path / 'x.npy'} holds float32 of shape (2, 4, 4) instead of 4x4 RGB images. Delete it and start again."
    )


def test_a_full_disk_names_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, writer: Callable[[IO[bytes]], object]) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    solid(tmp_path / "a.png", 0, "L")
    monkeypatch.setattr(pixels, "write_with", full)
    with pytest.raises(UserError) as error:
        prepared(tmp_path, "a.png")
    assert str(error.value) == f"the cache folder {tmp_path / 'cache'} cannot be written: No space left on device"


def test_a_write_that_fails_in_the_middle_leaves_nothing_of_the_cache(tmp_path: Path) -> None:
    solid(tmp_path / "a.png", (1, 2, 3))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))  # a file of 64 x 64 pixels has 12,416 bytes
    try:
        with pytest.raises(UserError) as error:
            prepared(tmp_path, "a.png", size=64)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(error.value) == f"the cache folder {tmp_path / 'cache'} cannot be written: File too large"
    assert list((tmp_path / "cache").iterdir()) == []
    assert prepared(tmp_path, "a.png", size=64).pixels.open()[0, 9, 9].tolist() == [1, 2, 3]


def test_a_cache_of_another_decoder_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    solid(tmp_path / "a.png", (1, 2, 3))
    before = prepared(tmp_path, "a.png").pixels
    np.save(before.path, np.zeros_like(before.open()))
    assert before.path.name == f"{before.content}-4px-v1-pillow{version('pillow')}.npy"
    monkeypatch.setattr(pixels, "DECODER", "2")
    after = prepared(tmp_path, "a.png").pixels
    assert after.path != before.path and after.content == before.content
    assert after.open()[0, 0, 0].tolist() == [1, 2, 3]


def test_an_image_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    solid(tmp_path / "a.png", 0, "L")
    read = pixels._read

    def edited(root: str, image: str) -> bytes:
        content = read(root, image)
        solid(tmp_path / "a.png", 1, "L")
        return content

    monkeypatch.setattr(pixels, "_read", edited)
    assert prepared(tmp_path, "a.png").faults == {0: "changed while it was being read"}


def test_two_processes_may_prepare_the_same_cache_at_once(tmp_path: Path) -> None:
    names = [f"{index}.png" for index in range(100)]
    for index, name in enumerate(names):
        solid(tmp_path / name, index, "L")
    script = (
        "import sys; from pathlib import Path\n"
        "from trainable.pixels import prepare; from trainable.table import Table\n"
        "folder = Path(sys.argv[1]); images = tuple(f'{index}.png' for index in range(100))\n"
        "table = Table('', folder, images, None, (), {})\n"
        "print(prepare(table, 4, folder / 'cache', progress=False).pixels.open()[:, 0, 0, 0].tolist())"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0].strip() for process in processes] == [str(list(range(100)))] * 2
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".npy", ".npy"]  # and nothing left over


def test_no_progress_bar_away_from_a_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    solid(tmp_path / "a.png", 0, "L")
    prepare(table(tmp_path, "a.png"), 4, tmp_path / "cache", progress=True)
    assert capfd.readouterr() == ("", "")
