"""The parameterised ConvNet: the report's network, for any depth of 4 to 12 and any image of 28 to 256 pixels.

Shapes: N images, K metadata one-hots, C classes, S x S the map of a block.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainable.block_tail import block_tail, in_operators
from trainable.config import ConfigError, TrialConfig
from trainable.convolution import convolved
from trainable.stem import stem

STAGE_WIDTHS = (32, 64, 128, 256)


@dataclass(frozen=True)
class BlockPlan:
    """One block: convolution, batch norm, max pooling where `pool` is above 1, ReLU, dropout."""

    width: int  # output channels
    padding: int
    pool: int
    dropout: float
    map_size: int  # S after the block

    @property
    def features(self) -> int:
        """Values of an image after the block."""
        return self.width * self.map_size**2


def default_widths(depth: int) -> tuple[int, ...]:
    """Channels of each convolution: 32, 64, 128, 256, an equal share of the depth each; what is left over is spread
    over the stages, the last one first. Depth 8 is the report's (32, 32, 64, 64, 128, 128, 256, 256)."""
    stages = len(STAGE_WIDTHS)
    return tuple(STAGE_WIDTHS[stages - 1 - (depth - block) * stages // depth] for block in range(1, depth + 1))


def default_pools(depth: int, image_size: int) -> tuple[int, ...]:
    """Pool size of each block (1: no pooling), so that the last map is 1 x 1 and the head sees one value a channel.

    The first block has no padding (S = image_size - 2) and no pool. Of the others as many pool by 2 as it takes to
    come down to 1: block 2, the last block, and the rest evenly between. At 224 pixels and depth 8 these are all of
    them, as in the report. Where all of them do not suffice, pools grow by one, the last block's first.
    """
    size, blocks = image_size - 2, depth - 1
    halvings = size.bit_length() - 1  # floor(log2 S)
    if halvings <= blocks:
        pooled = {2 + k * (blocks - 1) // (halvings - 1) for k in range(halvings)}
        return tuple(2 if block in pooled else 1 for block in range(1, depth + 1))
    pools = [2] * blocks
    while _after(size, pools) > 1:
        smallest = min(pools)
        pools[max(i for i, pool in enumerate(pools) if pool == smallest)] += 1
    return (1, *pools)


def _after(size: int, pools: list[int]) -> int:
    for pool in pools:
        size //= pool
    return size


def plan(config: TrialConfig) -> tuple[BlockPlan, ...]:
    """The blocks of a configuration.

    Raises:
        ConfigError: naming the block, where its own pool (`config.pool`) is larger than its map. A pool of the rule is
            cut down to the map instead: pools of one's own may leave it less to do. Also where images shall grow, but
            the last map is more than 1 x 1: of a smaller image it would have fewer values than the head reads.
    """
    widths = config.widths or [max(1, round(width * config.width_factor)) for width in default_widths(config.depth)]
    dropout = config.dropout or (0.0,) * config.depth
    pools = default_pools(config.depth, config.image_size)
    size = config.image_size - 2
    blocks = []
    for index, (width, p, default) in enumerate(zip(widths, dropout, pools, strict=True)):
        pool = config.pool.get(index + 1, min(default, size))
        if pool > size:
            raise ConfigError(
                f"block {index + 1} pools {pool}x{pool}, but its map is {size}x{size} "
                f"(image_size {config.image_size}, depth {config.depth}, pool {dict(config.pool)})"
            )
        size //= pool
        blocks.append(BlockPlan(width, 0 if index == 0 else 1, pool, p, size))
    if config.start_scale < 1 and size > 1:
        raise ConfigError(
            f"start_scale is {config.start_scale}, but the last map is {size}x{size} (image_size {config.image_size}, "
            f"depth {config.depth}, pool {dict(config.pool)}); images can grow where it is 1x1"
        )
    return tuple(blocks)


class Block(nn.Module):
    """Convolution 3x3, batch norm, max pooling, ReLU, dropout: (N, I, S, S) to (N, O, S', S').

    Of images smaller than those planned for, a pool is cut down to its map, as in `plan`: where the last map is 1 x 1,
    it stays so, and each block does at every size what it will do at the last. (To drop a pool early on instead would
    show the last blocks their maps of full size, but only they make a small image quick.)
    """

    def __init__(self, channels: int, block: BlockPlan) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, block.width, 3, padding=block.padding)
        self.norm = nn.BatchNorm2d(block.width)
        self.padding = block.padding
        self.pool = block.pool
        self.dropout = block.dropout

    def forward(self, x: Tensor) -> Tensor:
        return self._through(x, relu=True, dropout=self.dropout)

    def convolve(self, x: Tensor) -> Tensor:
        """The block up to its ReLU: where a skip is added."""
        return self._through(x, relu=False, dropout=0.0)

    def activate(self, x: Tensor) -> Tensor:
        """The block from its ReLU on."""
        return F.dropout(F.relu(x), self.dropout, self.training)

    def _through(self, x: Tensor, relu: bool, dropout: float) -> Tensor:
        assert self.conv.bias is not None
        pool = min(self.pool, x.shape[3])
        if torch.compiler.is_compiling():  # which makes kernels of its own
            x = F.conv2d(x, self.conv.weight, padding=self.padding)
            return F.dropout(in_operators(x, self.norm, self.conv.bias, pool, relu), dropout, self.training)
        if relu and self.pool == 1 and self.padding == 0:
            y = stem(x, self.conv.weight, self.norm, self.conv.bias, dropout)
            if y is not None:
                return y
        x = convolved(x, self.conv.weight, self.padding)
        return block_tail(x, self.norm, self.conv.bias, pool, relu, dropout)


class HeadedNet(nn.Module):
    """Blocks under the report's head: linear layer, batch norm, ReLU, dropout, linear layer.

    Args:
        blocks: from (N, 3, S, S) images to maps of `features` values an image.
        features: the values of an image that the head reads, beside its metadata.
        metadata_width: K, the one-hots joined at the head.
        head_width: the first linear layer's outputs.
        head_dropout: in [0, 1).
        classes: C.
    """

    def __init__(
        self,
        blocks: Iterable[nn.Module],
        features: int,
        metadata_width: int,
        head_width: int,
        head_dropout: float,
        classes: int,
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.hidden = nn.Linear(features + metadata_width, head_width)
        self.hidden_norm = nn.BatchNorm1d(head_width)
        self.head_dropout = head_dropout
        self.output = nn.Linear(head_width, classes)

    def forward(self, images: Tensor, metadata: Tensor) -> Tensor:
        """(N, 3, S, S) normalised images and (N, K) one-hots to (N, C) logits."""
        x = self.blocks(images).flatten(1)
        x = F.relu(self.hidden_norm(self.hidden(torch.cat([x, metadata], dim=1))))
        logits: Tensor = self.output(F.dropout(x, self.head_dropout, self.training))
        return logits


class ConvNet(HeadedNet):
    """The report's network, parameterised.

    Args:
        config: its network part is read.
        metadata_width: K, the one-hots joined at the head.
        classes: C.
    Raises:
        ConfigError: where the blocks do not fit the image.
    """

    def __init__(self, config: TrialConfig, metadata_width: int, classes: int) -> None:
        plans = plan(config)
        channels = (3, *(block.width for block in plans))
        blocks = [Block(c, block) for c, block in zip(channels, plans, strict=False)]
        super().__init__(blocks, plans[-1].features, metadata_width, config.head_width, config.head_dropout, classes)


@torch.no_grad()
def start_as_identity(network: nn.Module) -> None:
    """Lets the first min(I, O) filters of each block's (O, I, 3, 3) pass one channel on; the others stay as drawn.

    Source: Zagoruyko and Komodakis 2017, DiracNets, eq. 2, as a start alone; Jordan 2024, 94 % on CIFAR-10 in 3.29
        seconds, section 3.3.
    """
    for block in network.modules():
        if isinstance(block, Block):
            nn.init.dirac_(block.conv.weight[: block.conv.in_channels])


def parameter_count(model: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
