"""From stored pixels to logits: the one path for validation, holdout and test. It never augments."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from trainable.checkpoint import Best
from trainable.config import Views
from trainable.device import Device, choose, out_of_memory
from trainable.errors import UserError
from trainable.head import head_of
from trainable.images import Images
from trainable.network import build_network
from trainable.preprocess import Preprocessing

BATCH = 256  # images; larger batches gained nothing on a CPU


def normalised(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """(B, 3, S, S) in 0..255 to the network's units: mean 0 and deviation 1 over the training part."""
    scale, shift = _constants(preprocessing.mean, preprocessing.std, images.device)
    return torch.addcmul(shift, images, scale)


@lru_cache(maxsize=64)
def _constants(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Scale and shift of `normalised`, on the device: made once, as each copy to a card would make the step wait."""
    means, deviations = torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
    scale, shift = 1 / (255 * deviations), -means / deviations
    return tuple(constant.float().to(device).view(1, 3, 1, 1) for constant in (scale, shift))  # type: ignore[return-value]


def view_list(images: Tensor, views: Views) -> list[Tensor]:
    """The views of (B, 3, S, S) images that evaluation averages over, the images themselves first.

    "flip" adds the mirror image; "flip_shift" adds both shifted by a 32nd of the side to the upper left and to the
    lower right, edges repeated. They are those of Jordan 2024, 94 % on CIFAR-10 in 3.29 seconds, section 3.5, but for
    the edges, which are mirrored there, and the weights: there the unshifted views count twice, here all the same.
    """
    if views == "one":
        return [images]
    if views == "flip":
        return [images, images.flip(3)]
    side = images.shape[3]
    by = max(1, round(side / 32))
    padded = F.pad(images, (by, by, by, by), mode="replicate")
    shifted = [padded[:, :, 2 * by :, 2 * by :], padded[:, :, :side, :side]]
    return [view for image in (images, *shifted) for view in (image, image.flip(3))]


def outputs_of(
    model: nn.Module,
    images: Images,
    metadata: Tensor,
    rows: NDArray[np.int64],
    preprocessing: Preprocessing,
    views: Views = "one",
) -> Tensor:
    """(N, O) float32 outputs on the CPU, in evaluation mode and averaged over the views, of the N given rows. Where
    there is no memory for BATCH of them, so many at a time as there is.

    `metadata` is (., K), on the images' device, indexed by the same rows.
    """
    device = images.device
    training = model.training
    model.eval()

    def outputs(batch: NDArray[np.int64]) -> Tensor:
        inputs = metadata[device.send(torch.from_numpy(batch))]
        seen = view_list(normalised(images(batch), preprocessing), views)
        return torch.stack([model(view, inputs).float() for view in seen]).mean(dim=0)

    parts: list[Tensor] = []
    start, size = 0, BATCH
    with torch.inference_mode(), device.autocast():
        while start < len(rows):
            try:
                parts.append(outputs(rows[start : start + size]))
                start += size
                continue
            except Exception as error:
                if size == 1 or not out_of_memory(error):
                    raise
                size //= 2  # a batch that trains may be far smaller than BATCH
            device.release()
        result = torch.cat(parts).cpu()
    model.train(training)
    return result


def build(best: Best, device: Device) -> nn.Module:
    """The network of a checkpoint, with its weights, in evaluation mode on the device.

    Raises:
        UserError: where the weights are not those of the configuration's network.
    """
    model = build_network(best.config, best.preprocessing)
    try:
        model.load_state_dict(best.state)
    except RuntimeError as error:
        found = " ".join(str(error).splitlines()[1].split())
        raise UserError(f"A checkpoint's weights do not fit its configuration's network: {found}") from None
    return device.place(model).eval()


def predict(
    best: Best,
    pixels: NDArray[np.uint8],
    columns: Mapping[str, Sequence[str]],
    device: str = "auto",
    rows: NDArray[np.int64] | None = None,
) -> NDArray[np.float32]:
    """(N, C) logits of a checkpoint for N images; preprocessing and views come from the checkpoint alone.

    Args:
        best: the checkpoint.
        pixels: (N, S, S, 3) uint8 with S the checkpoint's image size.
        columns: metadata cells as text, (N,) each; those that the checkpoint does not use are ignored.
        device: as in `device.choose`.
        rows: numbers of the images that are asked for, (R,) for (R, C); None: all.
    Raises:
        ValueError: if the pixels have another size than the checkpoint's.
        UserError: as `build`.
    """
    size = best.preprocessing.image_size
    if pixels.shape[1:] != (size, size, 3):
        raise ValueError(f"pixels are {pixels.shape[1:]}; the checkpoint was trained on {(size, size, 3)}")
    # A network that was trained in float32 predicts in it; one of bfloat16 does so where the hardware has it.
    chosen = choose(device, "float32" if best.precision == "float32" else "auto")
    model = build(best, chosen)
    images = Images(pixels, chosen, once=True)
    metadata = torch.from_numpy(best.preprocessing.metadata(columns, len(pixels))).to(chosen.device)
    rows = np.arange(len(pixels)) if rows is None else rows
    outputs = outputs_of(model, images, metadata, rows, best.preprocessing, best.config.views)
    result: NDArray[np.float32] = head_of(best.config, best.preprocessing).logits(outputs).numpy()
    return result
