from typing import Any

import pytest
import torch
from torch.nn import functional as F

from trainable.config import MAX_DEPTH, MAX_IMAGE_SIZE, MIN_DEPTH, MIN_IMAGE_SIZE, ConfigError, TrialConfig
from trainable.model import (
    Block,
    BlockPlan,
    ConvNet,
    default_pools,
    default_widths,
    parameter_count,
    plan,
    start_as_identity,
)

REPORT = TrialConfig(inputs=("Gender", "Race"))  # 224 px, depth 8, no dropout on convolutions
TWO_ONE_HOTS, CLASSES = 10, 5


def tiny(**changes: Any) -> TrialConfig:
    settings: dict[str, Any] = {"depth": 4, "widths": (4, 4, 4, 4), "head_width": 8, "image_size": 28}
    return TrialConfig(**(settings | changes))


def images(count: int, size: int = 28) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def maps(config: TrialConfig) -> list[int]:
    return [block.map_size for block in plan(config)]


def test_report_network_size() -> None:  # convolutions 1,172,256 + batch norms 1,920 + head 8,773
    model = ConvNet(REPORT, TWO_ONE_HOTS, CLASSES)
    blocks: list[Any] = list(model.blocks)
    assert sum(parameter_count(block.conv) for block in blocks) == 1_172_256
    assert sum(parameter_count(block.norm) for block in blocks) == 1_920
    head = (model.hidden, model.hidden_norm, model.output)
    assert sum(parameter_count(layer) for layer in head) == 8_773
    assert parameter_count(model) == 1_182_949


def test_report_network_maps_and_head() -> None:
    assert maps(REPORT) == [222, 111, 55, 27, 13, 6, 3, 1]
    assert [block.width for block in plan(REPORT)] == [32, 32, 64, 64, 128, 128, 256, 256]
    assert [block.padding for block in plan(REPORT)] == [0, 1, 1, 1, 1, 1, 1, 1]
    model = ConvNet(REPORT, TWO_ONE_HOTS, CLASSES)
    assert (model.hidden.in_features, model.hidden.out_features) == (266, 32)
    assert (model.output.in_features, model.output.out_features) == (32, 5)


def test_the_maps_of_the_plan_are_those_of_the_network() -> None:
    config = TrialConfig(widths=(2,) * 8, pool={6: 3})
    x, sizes = images(1, 224), []
    for block in ConvNet(config, 0, CLASSES).eval().blocks:
        x = block(x)
        sizes.append(x.shape[2:])
    assert sizes == [(size, size) for size in (222, 111, 55, 27, 13, 4, 2, 1)]
    assert maps(config) == [222, 111, 55, 27, 13, 4, 2, 1]


def test_do2_1_pools_3_by_3_with_stride_3_at_block_6() -> None:
    do2_1 = TrialConfig(dropout=(0, 0, 0, 0, 0, 0.55, 0.55, 0), pool={6: 3})
    assert [block.pool for block in plan(do2_1)] == [1, 2, 2, 2, 2, 3, 2, 2]
    assert [block.dropout for block in plan(do2_1)] == [0, 0, 0, 0, 0, 0.55, 0.55, 0]
    assert maps(do2_1) == [222, 111, 55, 27, 13, 4, 2, 1]
    assert parameter_count(ConvNet(do2_1, TWO_ONE_HOTS, CLASSES)) == 1_182_949


@pytest.mark.parametrize(
    ("depth", "widths"),
    [
        (4, (32, 64, 128, 256)),
        (5, (32, 64, 128, 256, 256)),
        (6, (32, 64, 64, 128, 256, 256)),
        (7, (32, 64, 64, 128, 128, 256, 256)),
        (8, (32, 32, 64, 64, 128, 128, 256, 256)),
        (9, (32, 32, 64, 64, 128, 128, 256, 256, 256)),
        (10, (32, 32, 64, 64, 64, 128, 128, 256, 256, 256)),
        (11, (32, 32, 64, 64, 64, 128, 128, 128, 256, 256, 256)),
        (12, (32, 32, 32, 64, 64, 64, 128, 128, 128, 256, 256, 256)),
    ],
)
def test_widths_of_each_depth(depth: int, widths: tuple[int, ...]) -> None:
    assert default_widths(depth) == widths


@pytest.mark.parametrize(
    ("depth", "image_size", "pools"),
    [
        (8, 224, (1, 2, 2, 2, 2, 2, 2, 2)),
        (8, 64, (1, 2, 2, 1, 2, 2, 1, 2)),  # 62 px: 5 halvings over blocks 2 to 8
        (8, 28, (1, 2, 1, 2, 1, 2, 1, 2)),  # 26 px: 4 halvings
        (12, 224, (1, 2, 2, 1, 2, 1, 2, 2, 1, 2, 1, 2)),
        (4, 28, (1, 2, 3, 3)),  # 26, 13, 4, 1; pools of 2, 2 and 3 would leave a map of 2
        (4, 256, (1, 5, 5, 6)),  # 254, 50, 10, 1,
    ],
)
def test_pools_by_hand(depth: int, image_size: int, pools: tuple[int, ...]) -> None:
    assert default_pools(depth, image_size) == pools


@pytest.mark.parametrize("depth", range(MIN_DEPTH, MAX_DEPTH + 1))
def test_every_depth_comes_down_to_one_value_a_channel_at_every_image_size(depth: int) -> None:
    for image_size in range(MIN_IMAGE_SIZE, MAX_IMAGE_SIZE + 1):
        blocks = plan(TrialConfig(depth=depth, image_size=image_size))
        assert (len(blocks), blocks[0].map_size, blocks[-1].map_size) == (depth, image_size - 2, 1)
        assert blocks[0].pool == 1
        assert all(block.pool >= 2 for block in (blocks[1], blocks[-1]))


@pytest.mark.parametrize("depth", range(MIN_DEPTH, MAX_DEPTH + 1))
@pytest.mark.parametrize("image_size", [28, 65])
def test_every_depth_trains(depth: int, image_size: int) -> None:
    config = TrialConfig(depth=depth, image_size=image_size, widths=(2,) * depth)
    model = ConvNet(config, 0, CLASSES)
    logits = model(images(2, image_size), torch.zeros(2, 0))
    assert logits.shape == (2, CLASSES)
    logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_pools_of_ones_own_may_leave_the_rule_less_to_do() -> None:
    config = tiny(pool={2: 8})  # 26, 3, 1, and nothing is left for block 4's pool of 3
    assert [block.pool for block in plan(config)] == [1, 8, 3, 1]
    assert maps(config) == [26, 3, 1, 1]


def test_smaller_pools_of_ones_own_widen_the_head() -> None:
    config = tiny(pool={2: 1, 3: 1, 4: 1})
    assert maps(config) == [26, 26, 26, 26]
    assert ConvNet(config, 2, CLASSES).hidden.in_features == 4 * 26**2 + 2


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            tiny(pool={2: 8, 3: 8}),
            "block 3 pools 8x8, but its map is 3x3 (image_size 28, depth 4, pool {2: 8, 3: 8})",
        ),
        (
            TrialConfig(pool={8: 4}),
            "block 8 pools 4x4, but its map is 3x3 (image_size 224, depth 8, pool {8: 4})",
        ),
    ],
)
def test_a_network_that_does_not_fit_is_a_sentence_that_names_the_block(config: TrialConfig, message: str) -> None:
    for build in (plan, lambda config: ConvNet(config, 0, CLASSES)):
        with pytest.raises(ConfigError) as error:
            build(config)
        assert str(error.value) == message


def test_metadata_reach_the_logits() -> None:
    model = ConvNet(tiny(), 2, CLASSES).eval()
    x = images(1).expand(2, -1, -1, -1)
    first, second = model(x, torch.eye(2))
    assert not torch.allclose(first, second)
    same = model(x, torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    assert torch.allclose(same[0], same[1])


def test_a_block_is_convolution_norm_pool_relu() -> None:
    block = Block(3, BlockPlan(width=4, padding=1, pool=2, dropout=0.0, map_size=14))
    torch.nn.init.uniform_(block.norm.weight, -1.0, 1.0)  # of either sign: pooling before or after the norm differ
    x = images(2)
    with torch.no_grad():
        expected = F.relu(F.max_pool2d(block.norm(block.conv(x)), 2, stride=2))
        torch.testing.assert_close(block(x), expected, rtol=1e-5, atol=1e-5)


def test_dropout_stands_after_pool_and_relu() -> None:
    block = Block(3, BlockPlan(width=4, padding=1, pool=2, dropout=0.5, map_size=14))
    x = images(2)
    with torch.no_grad():
        dropped = block(x)
        block.dropout = 0.0
        kept = block(x)  # the same batch statistics
    # Dropout ahead of the pool would let a window's second largest value through.
    assert torch.all((dropped == 0) | (dropped == 2 * kept))
    assert (dropped == 0)[kept > 0].double().mean().item() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("block", range(4))
def test_a_dropout_acts_on_its_own_block_in_training_alone(block: int) -> None:
    dropout = tuple(0.5 if index == block else 0.0 for index in range(4))
    model = ConvNet(tiny(dropout=dropout, head_dropout=0.0), 0, CLASSES)
    varies = []
    with torch.no_grad():
        x = images(8)
        for layer in model.blocks:
            varies.append(not torch.equal(layer(x), layer(x)))
            layer.eval()
            x = layer(x)
    assert varies == [index == block for index in range(4)]
    model.eval()
    assert torch.equal(model(images(2), torch.zeros(2, 0)), model(images(2), torch.zeros(2, 0)))


@pytest.mark.parametrize(("head_dropout", "varies"), [(0.0, False), (0.5, True)])
def test_the_heads_dropout_acts_in_training_alone(head_dropout: float, varies: bool) -> None:
    model = ConvNet(tiny(head_dropout=head_dropout), 0, CLASSES)
    x, none = images(4), torch.zeros(4, 0)
    assert torch.equal(model(x, none), model(x, none)) is not varies
    model.eval()
    assert torch.equal(model(x, none), model(x, none))


def test_parameters_that_are_frozen_do_not_count() -> None:
    model = ConvNet(tiny(), 0, CLASSES)
    before = parameter_count(model)
    model.output.requires_grad_(False)
    assert parameter_count(model) == before - (8 * CLASSES + CLASSES)


# Smaller images than planned for


@pytest.mark.parametrize("depth", range(MIN_DEPTH, MAX_DEPTH + 1))
@pytest.mark.parametrize("size", [MIN_IMAGE_SIZE, 64, 100, MAX_IMAGE_SIZE])
def test_every_smaller_image_ends_as_one_value_a_channel(depth: int, size: int) -> None:
    config = tiny(depth=depth, widths=(1,) * depth, image_size=size, start_scale=0.25)
    network = ConvNet(config, 0, CLASSES).eval()
    for side in sorted({size // 4, size // 2, size - 8, size}):
        assert network.blocks(images(2, side)).shape == (2, 1, 1, 1)


def test_a_pool_that_no_longer_fits_is_cut_down_to_its_map() -> None:
    x, sizes = images(1, 112), []
    for block in ConvNet(TrialConfig(widths=(2,) * 8, start_scale=0.5), 0, CLASSES).eval().blocks:
        x = block(x)
        sizes.append(x.shape[3])
    assert sizes == [110, 55, 27, 13, 6, 3, 1, 1]  # at 224: 222, 111, 55, 27, 13, 6, 3, 1


def test_images_cannot_grow_where_the_last_map_is_larger() -> None:
    with pytest.raises(ConfigError) as error:
        ConvNet(tiny(pool={4: 1}, start_scale=0.5), 0, CLASSES)
    assert str(error.value) == (
        "start_scale is 0.5, but the last map is 4x4 (image_size 28, depth 4, pool {4: 1}); images can grow where it "
        "is 1x1"
    )
    ConvNet(tiny(pool={4: 1}), 0, CLASSES)


# Identity


@pytest.mark.parametrize(("channels", "width"), [(3, 5), (4, 4), (6, 2)])
def test_the_first_filters_pass_their_channels_on(channels: int, width: int) -> None:
    torch.manual_seed(0)
    block = Block(channels, BlockPlan(width, padding=1, pool=1, dropout=0.0, map_size=9))
    drawn = block.conv.weight.detach().clone()
    start_as_identity(block)
    x = torch.randn(2, channels, 9, 9)
    passed = min(channels, width)
    assert torch.equal(F.conv2d(x, block.conv.weight, padding=1)[:, :passed], x[:, :passed])
    assert torch.equal(block.conv.weight[passed:], drawn[passed:])
    assert block.conv.weight.requires_grad
