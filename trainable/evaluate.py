"""From stored pixels to logits: the one path for validation, holdout and test. It never augments."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainable.checkpoint import Best
from trainable.device import Device, choose
from trainable.model import ConvNet
from trainable.preprocess import Preprocessing

BATCH = 256  # images; larger batches gained nothing on a CPU


def to_network(pixels: NDArray[np.uint8], preprocessing: Preprocessing, device: Device) -> Tensor:
    """(B, S, S, 3) uint8 to (B, 3, S, S) normalised, on the device and in its memory format."""
    images = torch.from_numpy(pixels).to(device.device).permute(0, 3, 1, 2).float()
    std = torch.tensor(preprocessing.std, dtype=torch.float64)
    mean = torch.tensor(preprocessing.mean, dtype=torch.float64)
    scale, shift = (constant.float().to(device.device).view(1, 3, 1, 1) for constant in (1 / (255 * std), -mean / std))
    return torch.addcmul(shift, images, scale).contiguous(memory_format=device.memory_format)


def logits_of(
    model: nn.Module,
    pixels: NDArray[np.uint8],
    metadata: Tensor,
    rows: NDArray[np.int64],
    preprocessing: Preprocessing,
    device: Device,
) -> Tensor:
    """(N, C) float32 logits on the CPU, in evaluation mode, of the N given rows of the (., S, S, 3) pixels.

    `metadata` is (., K), on the device, indexed by the same rows.
    """
    training = model.training
    model.eval()
    parts = []
    with torch.inference_mode(), device.autocast():
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            images = to_network(pixels[batch], preprocessing, device)
            parts.append(model(images, metadata[torch.from_numpy(batch).to(device.device)]))
        result = torch.cat(parts).float().cpu()
    model.train(training)
    return result


def build(best: Best, device: Device) -> ConvNet:
    """The network of a checkpoint, with its weights, in evaluation mode on the device."""
    preprocessing = best.preprocessing
    model = ConvNet(best.config, preprocessing.metadata_width, len(preprocessing.classes))
    model.load_state_dict(best.state)
    return device.place(model).eval()


def predict(
    best: Best, pixels: NDArray[np.uint8], columns: Mapping[str, Sequence[str]], device: str = "auto"
) -> NDArray[np.float32]:
    """(N, C) logits of a checkpoint for N images; preprocessing comes from the checkpoint alone.

    Args:
        best: the checkpoint.
        pixels: (N, S, S, 3) uint8 with S the checkpoint's image size.
        columns: metadata cells as text, (N,) each; those that the checkpoint does not use are ignored.
        device: as in `device.choose`.
    Raises:
        ValueError: if the pixels have another size than the checkpoint's.
    """
    size = best.preprocessing.image_size
    if pixels.shape[1:] != (size, size, 3):
        raise ValueError(f"pixels are {pixels.shape[1:]}; the checkpoint was trained on {(size, size, 3)}")
    # A network that was trained in float32 predicts in it; one of bfloat16 does so where the hardware has it.
    chosen = choose(device, "float32" if best.precision == "float32" else "auto")
    model = build(best, chosen)
    metadata = torch.from_numpy(best.preprocessing.metadata(columns, len(pixels))).to(chosen.device)
    rows = np.arange(len(pixels))
    result: NDArray[np.float32] = logits_of(model, pixels, metadata, rows, best.preprocessing, chosen).numpy()
    return result
