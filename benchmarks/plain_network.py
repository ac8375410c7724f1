"""The report's network from PyTorch's own modules: what the peers train.

Ours has the same blocks, but runs the passes of one between convolutions as a single operator (trainable/block_tail.py)
and does not add the convolution's bias, which batch norm takes away again. A peer does all that its modules say.
"""

import torch
from torch import Tensor, nn

from trainable.config import TrialConfig
from trainable.model import ConvNet, parameter_count, plan


class PlainNet(nn.Module):
    """Blocks of convolution, batch norm, max pooling, ReLU and dropout under the report's head.

    Args:
        config: its network part is read.
        metadata_width: K, the one-hots joined at the head.
        classes: C.
    """

    def __init__(self, config: TrialConfig, metadata_width: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, blocks = 3, plan(config)
        for block in blocks:
            layers += [nn.Conv2d(channels, block.width, 3, padding=block.padding), nn.BatchNorm2d(block.width)]
            if block.pool > 1:
                layers.append(nn.MaxPool2d(block.pool))
            layers.append(nn.ReLU())
            if block.dropout:
                layers.append(nn.Dropout(block.dropout))
            channels = block.width
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Sequential(
            nn.Linear(blocks[-1].features + metadata_width, config.head_width),
            nn.BatchNorm1d(config.head_width),
            nn.ReLU(),
            nn.Dropout(config.head_dropout),
            nn.Linear(config.head_width, classes),
        )
        ours = parameter_count(ConvNet(config, metadata_width, classes))
        assert parameter_count(self) == ours, f"{parameter_count(self)} parameters instead of {ours}"

    def forward(self, images: Tensor, metadata: Tensor) -> Tensor:
        """(N, 3, S, S) normalised images and (N, K) one-hots to (N, C) logits."""
        logits: Tensor = self.head(torch.cat([self.features(images), metadata], dim=1))
        return logits
