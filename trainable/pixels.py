"""Images decoded and resized once per image size, into one uint8 file that every trial of a node maps.

The file is named by the images' content, so an edited image is decoded again and nothing else is.
"""

import io
import os
import stat
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import IO, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL import __version__ as pillow

from trainable.errors import UserError
from trainable.files import make_folder, write_with
from trainable.table import Table

# Part of the cache's name: raise the number whenever the same file would become other pixels. Another Pillow may have
# another decoder of JPEG.
DECODER = f"1-pillow{pillow}"
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")  # no other decoder (EPS runs Ghostscript) sees the data
DIGEST_BYTES = 16
LARGEST = 2**30  # bytes of an image's file: more than the pixels of one at Pillow's limit take in any format
LARGE = 2**24  # pixels; an image of Pillow's limit, five times as many, takes up to a gigabyte while it is decoded
BATCH = 256  # images decoded ahead of the file: bounds the memory

# What is remembered of an image beside its pixels, so that a warm start decodes nothing.
FACTS = np.dtype(
    [
        ("identity", np.uint8, DIGEST_BYTES),  # digest of the RGB pixels at their original size
        ("sum", np.int64, 3),  # over the resized image's pixels, 0..255, a channel each
        ("square_sum", np.int64, 3),
    ]
)

T = TypeVar("T")
_one_large = Lock()


class Unreadable(Exception):
    """An image that cannot be used; the text goes on from its name: 'does not exist'."""


@dataclass(frozen=True)
class Pixels:
    """One uint8 file of decoded images."""

    path: Path  # .npy, (N, S, S, 3) uint8, RGB
    image_size: int  # S
    content: str  # hex digest of the images' files in order, independent of the size

    def open(self) -> NDArray[np.uint8]:
        """The (N, S, S, 3) images as a read-only memory map.

        Raises:
            UserError: if the file is missing, cut short or of another kind.
        """
        try:
            images: NDArray[np.uint8] = np.load(self.path, mmap_mode="r")
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{self.path} cannot be read ({error}). Delete it and start again.") from error
        side = self.image_size
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (side, side, 3):
            found = f"{images.dtype} of shape {images.shape}"
            raise UserError(
                f"{self.path} holds {found} instead of {side}x{side} RGB images. Delete it and start again."
            )
        return images


@dataclass(frozen=True)
class Prepared:
    """The images of a table, opened."""

    pixels: Pixels  # its file exists where no image has a fault
    facts: NDArray[np.void]  # (N,) of FACTS; zeros where the image has a fault
    faults: dict[int, str]  # row index -> what is wrong with the image, to go on from its name
    warnings: tuple[str, ...] = ()  # a line each


def prepare(table: Table, image_size: int, cache: Path, *, progress: bool) -> Prepared:
    """Hashes the table's images and decodes those that the cache lacks; collects what is wrong with them.

    Args:
        image_size: S, in pixels.
        cache: the folder of decoded images, made where it is missing.
        progress: whether to show a bar on stderr where that is a terminal.
    Raises:
        UserError: if the cache cannot be written.
    """
    root = os.path.realpath(table.root)
    number = len(table.images)
    digests: dict[int, bytes] = {}
    faults: dict[int, str] = {}

    def file_digest(index: int) -> bytes:
        return _digest(_read(root, table.images[index]))

    def decoded(index: int) -> tuple[bytes, NDArray[np.void]]:
        content = _read(root, table.images[index])
        if _digest(content) != digests[index]:
            raise Unreadable("changed while it was being read")
        return _decode(content, image_size)

    for index, digest in _in_threads(file_digest, range(number), "Reading images", progress):
        if isinstance(digest, Unreadable):
            faults[index] = str(digest)
        else:
            digests[index] = digest

    content = _digest(b"".join(digests.values())).hex()
    pixels = Pixels(cache / f"{content}-{image_size}px-v{DECODER}.npy", image_size, content)
    facts_path = pixels.path.with_suffix(".facts.npy")
    warnings: tuple[str, ...] = ()
    if not faults:
        stored = _stored_facts(pixels, facts_path, number)
        if stored is not None:
            return Prepared(pixels, stored, faults)
        if pixels.path.exists():
            warnings = (f"the decoded images in {pixels.path} are incomplete or damaged: they are decoded anew",)

    facts = np.zeros(number, FACTS)

    def write(file: IO[bytes]) -> None:
        # Plain writes, and not into a memory map: on a full disk a map kills the process, a write raises.
        shape = (number, image_size, image_size, 3)
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for index, image in _in_threads(decoded, list(digests), "Decoding images", progress):
            if isinstance(image, Unreadable):
                faults[index] = str(image)
            else:
                pixel_bytes, facts[index] = image
                if not faults:
                    file.write(pixel_bytes)
        if faults:
            raise Unreadable  # gives the file up

    with cache_writes(cache), _pillow_warnings(), suppress(Unreadable):
        make_folder(cache)
        write_with(pixels.path, write)
        write_with(facts_path, lambda file: np.save(file, facts))
    return Prepared(pixels, facts, faults, warnings)


def decoded_image(root: Path, image: str, image_size: int) -> NDArray[np.uint8] | None:
    """One image below `root`, (S, S, 3); None where it cannot be used."""
    try:
        with _pillow_warnings():
            content, _ = _decode(_read(os.path.realpath(root), image), image_size)
    except Unreadable:
        return None
    return np.frombuffer(content, np.uint8).reshape(image_size, image_size, 3)


@contextmanager
def cache_writes(cache: Path) -> Iterator[None]:
    """Turns a full disk or a forbidden folder into a UserError that names the cache."""
    try:
        yield
    except OSError as error:
        raise UserError(f"the cache folder {cache} cannot be written: {error.strerror or error}") from error


@contextmanager
def _pillow_warnings() -> Iterator[None]:
    """Pillow's remarks about odd metadata would flood the terminal; its doubt about a huge image is an error.

    To be entered in the main thread: the filters are the process's, not a thread's.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _stored_facts(pixels: Pixels, facts_path: Path, number: int) -> NDArray[np.void] | None:
    """The facts of a cache that is there and whole, else None."""
    try:
        facts: NDArray[np.void] = np.load(facts_path)
        whole = facts.dtype == FACTS and facts.shape == (number,) and len(pixels.open()) == number
    except (OSError, ValueError, EOFError, UserError):
        return None
    return facts if whole else None


def _in_threads(
    work: Callable[[int], T], indices: Sequence[int], title: str, progress: bool
) -> Iterator[tuple[int, T | Unreadable]]:
    """Each index with its result, or with the Unreadable that it raised, in order.

    Pillow, the file system and the hash all release the interpreter's lock, so threads are enough.
    """

    def caught(index: int) -> tuple[int, T | Unreadable]:
        try:
            return index, work(index)
        except Unreadable as fault:
            return index, fault

    def results() -> Iterator[tuple[int, T | Unreadable]]:
        pool = ThreadPoolExecutor()
        try:
            for start in range(0, len(indices), BATCH):
                yield from pool.map(caught, indices[start : start + BATCH])
        finally:  # a signal may end it, and a file system that no longer answers keeps a thread for ever
            pool.shutdown(wait=False, cancel_futures=True)

    if not (progress and sys.stderr.isatty()):
        return results()
    from rich.console import Console
    from rich.progress import track

    return iter(track(results(), title, len(indices), console=Console(stderr=True), transient=True))


def _read(root: str, image: str) -> bytes:
    """The file's bytes, of which there are some. Raises Unreadable."""
    path = Path(root, image)
    try:
        image.encode()  # a file name that is not UTF-8 could not be written into splits.csv or the submission
        if os.path.isabs(image) or not Path(os.path.realpath(path)).is_relative_to(root):
            raise Unreadable("leaves the data's folder")
        with open(path, "rb", opener=_open_at_once) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise Unreadable("is no regular file")
            if found.st_size > LARGEST:
                raise Unreadable(f"has more than {LARGEST} bytes")
            content = file.read()
    except (FileNotFoundError, NotADirectoryError):
        raise Unreadable("does not exist") from None
    except IsADirectoryError:
        raise Unreadable("is a folder") from None
    except (OSError, ValueError) as error:  # ValueError: that, or a null character
        raise Unreadable(f"cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if not content:
        raise Unreadable("is an empty file")
    return content


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a named pipe would wait for somebody who writes


def _decode(content: bytes, image_size: int) -> tuple[bytes, NDArray[np.void]]:
    """The (S, S, 3) RGB bytes of an image file's content, and its facts. Raises Unreadable."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened, _turn(opened):
            opened.load()  # an animation's first frame
            image = rgb(ImageOps.exif_transpose(opened))
            facts = np.zeros((), FACTS)
            facts["identity"] = np.frombuffer(_digest(repr(image.size).encode() + image.tobytes()), np.uint8)
            resized = np.asarray(image.resize((image_size, image_size), Image.Resampling.BILINEAR))
    except Unreadable:
        raise
    except UnidentifiedImageError:
        raise Unreadable("is not an image") from None
    except Exception as error:  # on broken files Pillow's decoders raise anything, struct.error and SyntaxError too
        raise Unreadable(f"cannot be decoded ({error})") from None
    channels = resized.reshape(-1, 3).astype(np.int64)
    facts["sum"] = channels.sum(axis=0)
    facts["square_sum"] = (channels * channels).sum(axis=0)
    return resized.tobytes(), facts


def _turn(image: Image.Image) -> AbstractContextManager[object]:
    """Of an image to be decoded: at once with others, or alone where it is large."""
    return _one_large if image.width * image.height > LARGE else nullcontext()


def rgb(image: Image.Image) -> Image.Image:
    """The image in RGB: transparency composited over white, 16-bit gray divided by 257 and rounded.

    Raises:
        Unreadable: for gray values outside 0..65535 and for floating-point pixels, whose range nobody knows.
    """
    if image.mode == "F":
        raise Unreadable("has floating-point pixels")
    if image.mode.startswith("I"):  # "I;16" and its byte orders; some 16-bit files open as the 32-bit "I"
        values = np.asarray(image).astype(np.int32)
        if values.min() < 0 or values.max() > 65535:
            raise Unreadable("has gray values outside 0..65535")
        # Pillow's own conversion clips at 255.
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=DIGEST_BYTES).digest()
