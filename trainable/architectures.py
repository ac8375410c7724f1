"""The networks a trial can train: a table of rows that spaces, help texts and tests read.

Shapes: N images, K metadata one-hots, O outputs, S x S the map of a block.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from trainable.config import TrialConfig
from trainable.model import Block, BlockPlan, ConvNet, HeadedNet, plan
from trainable.references import Reference

CIFAR10_WIDTHS, CIFAR10_STRIDES, CIFAR10_HEAD = (64, 128, 256, 256), (2, 2, 1, 1), 2048


class Pair(nn.Module):
    """Two blocks and a skip over both, added ahead of the second's ReLU: (N, I, S, S) to (N, O, S', S').

    The skip is the identity where the two blocks keep both the width and the map. Where they change either, it is
    average pooling by the product of their pools (none where that is 1), a convolution 1x1 and a batch norm.

    Source: He et al. 2016, Deep Residual Learning, fig. 2 and the projections of section 3.3, option B. They stride;
        pooling first, so that no value is passed over, is He et al. 2019, Bag of Tricks, fig. 2c.
    """

    def __init__(self, channels: int, first: BlockPlan, second: BlockPlan) -> None:
        super().__init__()
        self.first = Block(channels, first)
        self.second = Block(first.width, second)
        self.skip = _skip(channels, first, second)

    def forward(self, x: Tensor) -> Tensor:
        return self.second.activate(self.second.convolve(self.first(x)) + self.skip(x))


class _AveragePool(nn.Module):
    """Average pooling, cut down to the map as a block's pool is: (N, I, S, S) to (N, I, S', S')."""

    def __init__(self, pool: int) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, min(self.pool, x.shape[3]))


def _skip(channels: int, first: BlockPlan, second: BlockPlan) -> nn.Sequential:
    layers: list[nn.Module] = []
    if first.padding == 0:
        layers.append(nn.ZeroPad2d(-1))  # the pixels on which the unpadded convolution is centred
    if (pool := first.pool * second.pool) > 1:
        layers.append(_AveragePool(pool))  # floors as the two pools do: S // a // b is S // ab
    if layers or channels != second.width:
        layers += [nn.Conv2d(channels, second.width, 1, bias=False), nn.BatchNorm2d(second.width)]
    return nn.Sequential(*layers)  # of no layers: the identity


def residual(config: TrialConfig, metadata_width: int, outputs: int) -> HeadedNet:
    """The ConvNet with a skip over each pair of convolutions, counted from the last: with the same blocks and head.

    Of an odd depth the first convolution stands alone, as the one of He et al. does.

    Raises:
        ConfigError: where the blocks do not fit the image.
    """
    plans = plan(config)

    def blocks() -> Iterator[nn.Module]:
        alone = len(plans) % 2
        channels = 3
        if alone:
            yield Block(channels, plans[0])
            channels = plans[0].width
        for first, second in zip(plans[alone::2], plans[alone + 1 :: 2], strict=True):
            yield Pair(channels, first, second)
            channels = second.width

    return HeadedNet(blocks(), plans[-1].features, metadata_width, config.head_width, config.head_dropout, outputs)


def cifar10(config: TrialConfig, metadata_width: int, outputs: int) -> HeadedNet:
    """The report's first network: four convolutions 3x3, the first two with stride 2, each with batch norm, max
    pooling by 2 and ReLU; then 2,048 hidden values.

    Convolutions are padded by 1, and pools round up, so that each stride and pool takes S to ceil(S / 2). The last map
    is then ceil(image_size / 64) a side: 4 at 193 to 256 pixels, which are the report's 4,096 values; 1 up to 64.
    """
    layers: list[nn.Module] = []
    channels = 3
    for width, stride in zip(CIFAR10_WIDTHS, CIFAR10_STRIDES, strict=True):
        layers += [
            nn.Conv2d(channels, width, 3, stride=stride, padding=1),
            nn.BatchNorm2d(width),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.ReLU(inplace=True),
        ]
        channels = width
    side = -(-config.image_size // 64)
    return HeadedNet(layers, channels * side**2, metadata_width, CIFAR10_HEAD, config.head_dropout, outputs)


@dataclass(frozen=True)
class ArchitectureRow:
    """One architecture: from (configuration, K, O) to a module that takes (N, 3, S, S) normalised images and (N, K)
    one-hots to (N, O) outputs, with fresh weights from torch's generator. S is the configuration's `image_size`."""

    name: str
    summary: str
    build: Callable[[TrialConfig, int, int], nn.Module]


def _reference(name: str, summary: str) -> ArchitectureRow:
    return ArchitectureRow(name, summary, partial(Reference, name))


ARCHITECTURES = {
    row.name: row
    for row in (
        ArchitectureRow("convnet", "the report's ConvNet, at any depth, width and pooling", ConvNet),
        ArchitectureRow(
            "residual", "the ConvNet with a skip over each pair of convolutions (He et al. 2016)", residual
        ),
        ArchitectureRow("cifar10", "the report's first network: four wide convolutions, 2,048 hidden values", cifar10),
        _reference("alexnet", "AlexNet with one tower (Krizhevsky 2014)"),
        _reference("resnet18", "ResNet, 18 layers (He et al. 2016)"),
        _reference("resnet34", "ResNet, 34 layers (He et al. 2016)"),
        _reference("resnet50", "ResNet, 50 layers with bottlenecks (He et al. 2016)"),
        _reference("wide_resnet50_2", "ResNet-50 with bottlenecks twice as wide (Zagoruyko and Komodakis 2016)"),
        _reference("resnext50_32x4d", "ResNet-50 with grouped convolutions, 32 groups of 4 (Xie et al. 2017)"),
        _reference("efficientnet_b0", "EfficientNet, the smallest (Tan and Le 2019)"),
        _reference("mobilenet_v3_small", "MobileNetV3, the smaller one (Howard et al. 2019)"),
    )
}
