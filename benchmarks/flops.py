"""Floating-point operations of the ConvNet, from its plan: what a share of a machine's peak is a share of.

A multiplication and an addition are two. Convolutions and linear layers alone count, each as its definition says.
"""

from dataclasses import dataclass

from trainable.config import TrialConfig
from trainable.model import plan


@dataclass(frozen=True)
class Convolution:
    """One of 3x3, of an image's maps."""

    inputs: int  # channels
    outputs: int  # channels
    padding: int
    size: int  # the side of its outputs, before pooling

    @property
    def flops(self) -> int:
        """Of the forward pass."""
        return 2 * 9 * self.inputs * self.outputs * self.size**2


def convolutions(config: TrialConfig) -> list[Convolution]:
    """Those of the network, in order."""
    found = []
    channels, size = 3, config.image_size
    for block in plan(config):
        found.append(Convolution(channels, block.width, block.padding, size - 2 + 2 * block.padding))
        channels, size = block.width, block.map_size
    return found


def forward_flops(config: TrialConfig, metadata_width: int, classes: int) -> int:
    """Of one image's forward pass. K = `metadata_width`, C = `classes`."""
    blocks = plan(config)
    head = config.head_width * (blocks[-1].features + metadata_width + classes)
    return sum(convolution.flops for convolution in convolutions(config)) + 2 * head


def training_flops(config: TrialConfig, metadata_width: int, classes: int) -> int:
    """Of one image's step: forward, and as much again for each of the gradients of the weights and of the inputs. The
    first convolution's input is the image, which needs no gradient."""
    return 3 * forward_flops(config, metadata_width, classes) - convolutions(config)[0].flops
