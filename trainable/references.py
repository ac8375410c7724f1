"""Networks of the literature, as torchvision builds them, with random weights: what the ConvNet is compared with."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainable.config import TrialConfig

MIN_SIDE = 64  # pixels; below, AlexNet's pools run out of map, and the others' last maps are a single value


class Reference(nn.Module):
    """A network of torchvision, from scratch, whose last linear layer reads the metadata beside the image's features.

    Images below 64 pixels are enlarged to 64, bilinearly. Each dropout layer of the original drops with
    `config.head_dropout`; an original without any (the ResNets) gets one on the features. In all of them the metadata
    are joined behind the dropout and are never dropped. The last layer is initialised as `nn.Linear` is: the
    originals' rules are made for 1,000 classes. Of EfficientNet the stochastic depth is kept, at the paper's 0.2.

    On a CUDA device AlexNet's adaptive pooling sums its gradients in no fixed order, unless its map is 6 x 6 (as at
    224 pixels): two runs of one seed may then differ in the last digits.

    Args:
        name: one of `torchvision.models`.
        config: `head_dropout` is read.
        metadata_width: K, the one-hots joined at the head.
        outputs: O.
    """

    def __init__(self, name: str, config: TrialConfig, metadata_width: int, outputs: int) -> None:
        from torchvision import models  # type: ignore[import-untyped]  # here, as it costs a worker's start a second

        super().__init__()
        self.network: nn.Module = models.get_model(name, weights=None, num_classes=outputs)
        layers = list(self.network.named_modules())
        dropouts = [layer for _, layer in layers if isinstance(layer, nn.Dropout)]
        for dropout in dropouts:
            dropout.p = config.head_dropout
        last, features = [(path, layer.in_features) for path, layer in layers if isinstance(layer, nn.Linear)][-1]
        self.network.set_submodule(last, nn.Identity() if dropouts else nn.Dropout(config.head_dropout))
        self.output = nn.Linear(features + metadata_width, outputs)

    def forward(self, images: Tensor, metadata: Tensor) -> Tensor:
        """(N, 3, S, S) normalised images and (N, K) one-hots to (N, O)."""
        if images.shape[-1] < MIN_SIDE:
            images = F.interpolate(images, size=(MIN_SIDE, MIN_SIDE), mode="bilinear")
        outputs: Tensor = self.output(torch.cat([self.network(images), metadata], dim=1))
        return outputs
