"""What training does to its images: a batch at a time, each image with its own draws, on the device that trains.

Shapes: B images of 3 channels and S x S pixels, float32 in 0..255, not normalised yet; R rounds of RandAugment.

Every draw is made on the CPU from torch's global generator, and is small: so it is the same on every device, and a step
never waits for what a card has computed. What is off, or certain, draws nothing. Draws are made in the order in which
they act: flip, rotation, shift, distortion, RandAugment, brightness, contrast, grayscale, holes.

Why by hand: benchmarks/augment_throughput.py, 64 images of 64 px on one CPU thread, times as long as this file's:

                                    flip   rotation + shift   brightness + contrast   8 holes   RandAugment
    kornia 0.9.0                    1.8 (*)      1.4                   2.9               10     1.2, but not an image's
    torchvision 0.29.1, by image    3.7          3.0                   6.7               12     1.9

(*) of a flip that took twice as long as today's.

kornia draws for each image and is not slow, but its RandAugment takes the same operations for a whole batch, it bends
no grid, it cuts one hole a pass, and it samples once for each movement where one sampling does here: what it could do
is the smaller part. torchvision's v2 draws once a batch, so it must go image by image, and takes 1.2 s to import.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from trainable.config import Augmentation
from trainable.device import Device

CELLS = 5  # each way, of the grid that distortion bends; the report's
MAX_MAGNITUDE = 30  # of RandAugment


@dataclass(frozen=True)
class Mixed:
    """A batch whose images are each a mixture of two: the loss is share * own label's + (1 - share) * partner's."""

    images: Tensor  # (B, 3, S, S)
    partner: Tensor  # (B,) int64 on the images' device: the image of the batch that is mixed in
    share: float  # of the own image, in [0, 1], the same for the whole batch


class Augmenter:
    """One trial's augmentation.

    Args:
        settings: what to do.
        images: N, the rows of the data, each of which gets its coin for alternating_flip.
        seed: decides those coins, and nothing else.
        fill: (3,) the training mean colour in 0..255: what holes show, and where an image has been moved away.
        device: where the batches are.
    """

    def __init__(self, settings: Augmentation, images: int, seed: int, fill: Sequence[float], device: Device) -> None:
        self.settings = settings
        self._sent = device.send
        self.fill = device.send(torch.tensor(fill, dtype=torch.float32)).view(1, 3, 1, 1)
        # Three numbers: an epoch's own draws are seeded with two.
        self.coins = torch.from_numpy(np.random.default_rng((seed, 0, 1)).random(images) < 0.5)

    def __call__(self, images: Tensor, rows: Tensor, epoch: int) -> Tensor:
        """The batch as an epoch shows it. The batch that is given stays as it is.

        Args:
            images: (B, 3, S, S) float32 in 0..255, on the device.
            rows: (B,) int64 on the CPU, the images' rows in the data, each in [0, N).
            epoch: from 1.
        Returns: the same shape, type, range and memory format.
        """
        settings, count, size = self.settings, len(images), images.shape[3]
        layout = (
            torch.channels_last if images.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
        )
        flipped = self._flipped(rows, epoch)
        if settings.rotation or settings.shift or settings.distortion or settings.randaugment:
            matrix = turn(uniform(settings.rotation, count)) @ translation(*uniform(settings.shift, 2, count))
            if flipped is not None:
                matrix = mirror(flipped) @ matrix
            nodes = uniform(settings.distortion, count, 2, CELLS - 1, CELLS - 1) if settings.distortion else None
            which, strength = draw_operations(settings.randaugment, settings.magnitude, count)
            images = warp(
                images,
                self._sent(matrix @ operations_matrix(which, strength)),
                None if nodes is None else self._sent(nodes),
                self.fill,
            )
            operate(images, which, strength, self._sent)
        elif flipped is not None:
            images = mirrored(images, self._sent(flipped.nonzero()[:, 0]))
        if settings.brightness or settings.contrast:
            brightness, contrast = 1 + uniform(settings.brightness, count), 1 + uniform(settings.contrast, count)
            images = adjust(images, self._sent(brightness), self._sent(contrast))
        grayed = happens(settings.grayscale, count)
        if grayed is not None:
            images = torch.where(self._sent(grayed)[:, None, None, None], luma(images), images)
        if settings.holes:
            middle_rows, middle_columns = self._sent(torch.randint(size, (2, count, settings.holes)))
            side = max(1, round(settings.hole_size * size))
            images = punch(images, middle_rows, middle_columns, side, self.fill)
        return images.contiguous(memory_format=layout)

    def mix(self, images: Tensor) -> Mixed | None:
        """Mixup or cutmix, a fair coin a batch deciding where both are on; None where neither is.

        The share is one draw a batch from Beta(alpha, alpha), as in the code of both papers. Metadata are not mixed:
        the network reads the own image's.

        Args:
            images: (B, 3, S, S) on the device, normalised or not. They stay as they are.
        Source: Zhang et al. 2018, mixup; Yun et al. 2019, CutMix, algorithm A1.
        """
        settings = self.settings
        if not settings.mixup and not settings.cutmix:
            return None
        cut = bool(settings.cutmix) and (not settings.mixup or bool(torch.rand(()) < 0.5))
        alpha = settings.cutmix if cut else settings.mixup
        share = torch.distributions.Beta(alpha, alpha).sample().item()
        partner = self._sent(torch.randperm(len(images)))
        if not cut:
            return Mixed(torch.lerp(images[partner], images, share), partner, share)
        row, column = torch.randint(images.shape[3], (2,)).tolist()
        return cutmix(images, partner, share, row, column)

    def _flipped(self, rows: Tensor, epoch: int) -> Tensor | None:
        """(B,) bool on the CPU: which images to mirror. None: none.

        Alternating flip (Jordan 2024, 94% on CIFAR-10 in 3.29 Seconds, section 3.6) mirrors by a fixed coin in the
        first epoch and shows the other view in each epoch after, so that two epochs show both views of every image.
        """
        if self.settings.alternating_flip:
            return self.coins[rows] ^ (epoch % 2 == 0)
        return happens(self.settings.flip, len(rows))


# Draws, on the CPU


def uniform(bound: float, *shape: int) -> Tensor:
    """Uniform in [-bound, bound); zeros, and no draw, where that is 0."""
    return bound * (2 * torch.rand(shape) - 1) if bound else torch.zeros(shape)


def happens(probability: float, count: int) -> Tensor | None:
    """(count,) bool, each True with the probability. None where that is 0; no draw where it is 0 or 1."""
    if probability == 0:
        return None
    return torch.rand(count) < probability if probability < 1 else torch.ones(count, dtype=torch.bool)


# Geometry: (B, 3, 3) matrices take a place in the result to its place in the image. Places are (x, y, 1), x to the
# right and y down, with the image's edges at -1 and 1. The first factor of a product acts on the image first.


def turn(degrees: Tensor) -> Tensor:
    """(B, 3, 3) counter-clockwise about the centre, by (B,) degrees."""
    cos, sin = degrees.deg2rad().cos(), degrees.deg2rad().sin()
    return _matrices(cos, -sin, 0, sin, cos, 0)


def translation(x: Tensor, y: Tensor) -> Tensor:
    """(B, 3, 3) to the right and down, by (B,) parts of the side each."""
    return _matrices(1, 0, -2 * x, 0, 1, -2 * y)


def mirrored(images: Tensor, which: Tensor) -> Tensor:
    """The images (B, 3, S, S), those with the (n,) numbers left to right. Whole images are copied, where to choose
    between two for each value would take several times as long on a CPU."""
    rows = images.permute(0, 2, 3, 1)  # in the order of memory, where channels come last
    result = rows.clone().index_copy_(0, which, rows.index_select(0, which).flip(2))
    return result.permute(0, 3, 1, 2)


def mirror(flipped: Tensor) -> Tensor:
    """(B, 3, 3) left to right, where the (B,) bool says so."""
    return _matrices(1 - 2 * flipped.float(), 0, 0, 0, 1, 0)


def _matrices(*entries: Tensor | float) -> Tensor:
    """(B, 3, 3) of the upper two rows' six entries, (B,) or the same for all."""
    columns = torch.broadcast_tensors(*(torch.as_tensor(entry) for entry in (*entries, 0, 0, 1)))
    return torch.stack(columns, dim=-1).float().view(-1, 3, 3)


def warp(images: Tensor, matrix: Tensor, nodes: Tensor | None, fill: Tensor) -> Tensor:
    """The images moved, bilinearly, with the fill where nothing is left; all of the geometry in one sampling.

    Args:
        images: (B, 3, S, S).
        matrix: (B, 3, 3).
        nodes: (B, 2, CELLS - 1, CELLS - 1) how far the distortion's inner nodes are moved in x and y, in cells; applied
            to the result of the matrix. Between the nodes it is interpolated, which folds nothing up to half a cell.
        fill: (1, 3, 1, 1).
    """
    size = images.shape[3]
    line = (2 * torch.arange(size, device=images.device) + 1) / size - 1
    x, y = line[None, None, :], line[None, :, None]
    if nodes is not None:
        cell = 2 * (size - 1) / size / CELLS  # the border's nodes are the centres of its pixels
        moved = F.interpolate(F.pad(nodes * cell, (1, 1, 1, 1)), (size, size), mode="bilinear", align_corners=True)
        x, y = x + moved[:, 0], y + moved[:, 1]
    # Not affine_grid, which multiplies matrices: in TF32, on a card, that would be off by a tenth of a pixel.
    (a, b, c), (d, e, f) = (matrix[:, row, :, None, None].unbind(1) for row in (0, 1))
    grid = torch.stack((a * x + (b * y + c), d * x + (e * y + f)), dim=-1)
    return F.grid_sample(images - fill, grid, align_corners=False).add_(fill).clamp_(0, 255)


# Colour and holes


def luma(images: Tensor) -> Tensor:
    """(B, 1, ...) the gray of (B, 3, ...) colours, by ITU-R BT.601, as in Pillow."""
    red, green, blue = images[:, 0:1], images[:, 1:2], images[:, 2:3]
    return (0.299 * red + 0.587 * green + 0.114 * blue).clamp_(0, 255)


def adjust(images: Tensor, brightness: Tensor, contrast: Tensor) -> Tensor:
    """The images (B, 3, S, S) times a brightness, then away from their mean gray by a contrast, both (B,); clamped."""
    gray = luma(images.mean((2, 3)))[:, 0]
    offset, factor = gray * brightness * (1 - contrast), brightness * contrast
    return torch.addcmul(offset[:, None, None, None], images, factor[:, None, None, None]).clamp_(0, 255)


def punch(images: Tensor, rows: Tensor, columns: Tensor, side: int, fill: Tensor) -> Tensor:
    """The images with square holes, cut off at the border.

    Args:
        images: (B, 3, S, S).
        rows, columns: (B, holes) int64, the holes' middle pixels.
        side: of a hole, in pixels; an even one has one pixel more before its middle than after.
        fill: (1, 3, 1, 1).
    Source: DeVries and Taylor 2017, Cutout.
    """
    line = torch.arange(images.shape[3], device=images.device)
    first_row, first_column = rows[..., None] - side // 2, columns[..., None] - side // 2
    down = (line >= first_row) & (line < first_row + side)  # (B, holes, S)
    across = (line >= first_column) & (line < first_column + side)
    # The product counts the holes over a pixel: exact in any number format, and far smaller than (B, holes, S, S).
    inside = torch.bmm(down.float().transpose(1, 2), across.float()) > 0
    return torch.where(inside[:, None], fill, images)


def cutmix(images: Tensor, partner: Tensor, share: float, row: int, column: int) -> Mixed:
    """The images with a square of their partners' around a pixel, of 1 - share of the area but for what the border
    cuts off. The share that is returned is the true one."""
    size = images.shape[3]
    side = int(size * math.sqrt(1 - share))
    top, left = row - side // 2, column - side // 2
    box = (..., slice(max(top, 0), top + side), slice(max(left, 0), left + side))
    mixed = images.clone()
    mixed[box] = images[partner][box]
    return Mixed(mixed, partner, 1 - mixed[0, 0][box].numel() / size**2)


# RandAugment (Cubuk et al. 2020)


@dataclass(frozen=True)
class Operation:
    """One of RandAugment's operations. Its strength is the magnitude's part of 30, in [-1, 1] if signed, else [0, 1].

    It moves the image, by a matrix of (n,) strengths; or changes its colours, (n, 3, S, S) by (n, 1, 1, 1) strengths,
    of which the caller clamps the result; or leaves it as it is.
    """

    name: str
    summary: str
    signed: bool = False  # whether a coin decides the direction
    matrix: Callable[[Tensor], Tensor] | None = None
    colours: Callable[[Tensor, Tensor], Tensor] | None = None


def _away_from(gray: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Pillow's ImageEnhance: from what an image degenerates to, by a factor of 0.1 to 1.9."""
    return lambda images, strength: torch.lerp(gray(images), images, 1 + 0.9 * strength)


def _smooth(images: Tensor) -> Tensor:
    """Pillow's SMOOTH: the mean of 3 x 3 pixels, the middle one counted 5 times; the border as it is."""
    result = images.clone()
    # Not a convolution, which a card computes in TF32.
    result[:, :, 1:-1, 1:-1] = (9 * F.avg_pool2d(images, 3, stride=1) + 4 * images[:, :, 1:-1, 1:-1]) / 13
    return result


def _autocontrast(images: Tensor, _: Tensor) -> Tensor:
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    return torch.where(high > low, (images - low) * (255 / (high - low)), images)


def _equalize(images: Tensor, _: Tensor) -> Tensor:
    """Pillow's ImageOps.equalize, on values rounded to whole ones."""
    levels = images.round().long().flatten(2)  # (n, 3, S * S)
    counts = levels.new_zeros(*levels.shape[:2], 256).scatter_add_(2, levels, torch.ones_like(levels))
    step = (levels.shape[2] - counts.gather(2, levels.amax(2, keepdim=True))) // 255
    below = counts.cumsum(2) - counts
    table = ((below + step // 2) // step.clamp_min(1)).clamp_max(255)
    return torch.where(step > 0, table.gather(2, levels), levels).view(images.shape).float()


def _posterize(images: Tensor, strength: Tensor) -> Tensor:
    step = torch.exp2((4 * strength).round())
    return (images / step).floor() * step


OPERATIONS = (  # with the ranges of torchvision's RandAugment, whose magnitudes are 0..30 too
    Operation("identity", "nothing"),
    Operation("rotate", "by up to 30 degrees", True, matrix=lambda strength: turn(30 * strength)),
    Operation("shear_x", "sideways, by up to 0.3", True, matrix=lambda s: _matrices(1, 0.3 * s, 0, 0, 1, 0)),
    Operation("shear_y", "upwards, by up to 0.3", True, matrix=lambda s: _matrices(1, 0, 0, 0.3 * s, 1, 0)),
    Operation(
        "translate_x",
        "sideways, by up to 150/331 of the side",
        True,
        matrix=lambda strength: translation(150 / 331 * strength, torch.zeros_like(strength)),
    ),
    Operation(
        "translate_y",
        "upwards, by up to 150/331 of the side",
        True,
        matrix=lambda strength: translation(torch.zeros_like(strength), 150 / 331 * strength),
    ),
    Operation("brightness", "0.1 to 1.9 times as far from black", True, colours=_away_from(torch.zeros_like)),
    Operation("colour", "0.1 to 1.9 times as far from gray", True, colours=_away_from(luma)),
    Operation(
        "contrast",
        "0.1 to 1.9 times as far from the mean gray",
        True,
        colours=_away_from(lambda images: luma(images.mean((2, 3), keepdim=True))),
    ),
    Operation("sharpness", "0.1 to 1.9 times as far from the smoothed image", True, colours=_away_from(_smooth)),
    Operation("posterize", "8 to 4 bits a channel", colours=_posterize),
    Operation(
        "solarize",
        "inverts what is at least 256 to 0",
        colours=lambda images, strength: torch.where(images < 256 * (1 - strength), images, 255 - images),
    ),
    Operation("autocontrast", "each channel from 0 to 255", colours=_autocontrast),
    Operation("equalize", "each channel's histogram flat", colours=_equalize),
)


def draw_operations(rounds: int, magnitude: int, count: int) -> tuple[Tensor, Tensor]:
    """(R, B) int64 rows of OPERATIONS, uniform, and (R, B) float strengths. No draw for no rounds."""
    if rounds == 0:
        return torch.zeros(0, count, dtype=torch.int64), torch.zeros(0, count)
    which = torch.randint(len(OPERATIONS), (rounds, count))
    sign = 1 - 2 * torch.randint(2, (rounds, count))
    signed = torch.tensor([row.signed for row in OPERATIONS])[which]
    return which, torch.where(signed, sign, 1) * magnitude / MAX_MAGNITUDE


def operations_matrix(which: Tensor, strength: Tensor) -> Tensor:
    """(B, 3, 3) all that the drawn operations move, so that it is one sampling with the rest of the geometry.

    So an image is moved first, and its colours change then: of operations of one kind the order is as drawn.
    """
    product = torch.eye(3).repeat(which.shape[1], 1, 1)
    for drawn, by in zip(which, strength, strict=True):
        for number, row in enumerate(OPERATIONS):
            if row.matrix is not None:
                here = drawn == number
                product[here] = product[here] @ row.matrix(by[here])
    return product


def operate(images: Tensor, which: Tensor, strength: Tensor, sent: Callable[[Tensor], Tensor]) -> None:
    """Changes the colours of the images (B, 3, S, S) as the drawn operations say, in place, each image by its own.

    The groups of images are made on the CPU, where the draws are, so that their sizes need not be read from a card, to
    which they are `sent`.
    """
    order = which.argsort(dim=1)
    by = strength.gather(1, order)
    sizes = F.one_hot(which, len(OPERATIONS)).sum(1).tolist()
    orders, bys = sent(order), sent(by)
    for number, counts in enumerate(sizes):
        groups = zip(OPERATIONS, orders[number].split(counts), bys[number].split(counts), strict=True)
        for row, group, amount in groups:
            if row.colours is not None and len(group):
                images[group] = row.colours(images[group], amount[:, None, None, None]).clamp_(0, 255)
