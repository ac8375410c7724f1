"""Floating-point operations of the ConvNet, from its plan: what a share of a machine's peak is a share of.

A multiplication and an addition are two. Convolutions and linear layers alone count, each as its definition says.
"""

from trainable.config import TrialConfig
from trainable.model import plan


def forward_flops(config: TrialConfig, metadata_width: int, classes: int) -> int:
    """Of one image's forward pass. K = `metadata_width`, C = `classes`."""
    blocks = plan(config)
    head = config.head_width * (blocks[-1].features + metadata_width + classes)
    return sum(_convolutions(config)) + 2 * head


def training_flops(config: TrialConfig, metadata_width: int, classes: int) -> int:
    """Of one image's step: forward, and as much again for each of the gradients of the weights and of the inputs. The
    first convolution's input is the image, which needs no gradient."""
    return 3 * forward_flops(config, metadata_width, classes) - _convolutions(config)[0]


def _convolutions(config: TrialConfig) -> list[int]:
    """Of each convolution 3x3, whose outputs are counted before pooling."""
    flops = []
    channels, size = 3, config.image_size - 2  # the first has no padding
    for block in plan(config):
        flops.append(2 * 9 * channels * block.width * size**2)
        channels, size = block.width, block.map_size
    return flops
