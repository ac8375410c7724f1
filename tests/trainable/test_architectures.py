import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainable.architectures import ARCHITECTURES, Pair
from trainable.config import SHAPED, Architecture, ConfigError, TrialConfig
from trainable.model import Block, BlockPlan, HeadedNet, parameter_count, plan

ROOT = Path(__file__).parents[2]
K, OUTPUTS = 10, 5
# Parameters as published for 1,000 classes, and the features that the last layer reads.
PUBLISHED = {
    "alexnet": (61_100_840, 4096),
    "resnet18": (11_689_512, 512),
    "resnet34": (21_797_672, 512),
    "resnet50": (25_557_032, 2048),
    "wide_resnet50_2": (68_883_240, 2048),
    "resnext50_32x4d": (25_028_904, 2048),
    "efficientnet_b0": (5_288_548, 1280),
    "mobilenet_v3_small": (2_542_856, 1024),
}
OURS = ("convnet", "residual", "cifar10")
LIGHT = ("alexnet", "resnet18", "efficientnet_b0", "mobilenet_v3_small")  # quick enough for 224 pixels


def build(name: Any, image_size: int = 28, seed: int = 0, **settings: Any) -> Any:
    config = TrialConfig(architecture=name, image_size=image_size, **settings)
    torch.manual_seed(seed)
    return ARCHITECTURES[name].build(config, K, OUTPUTS)


def parameters(name: str, image_size: int = 224, **settings: Any) -> int:
    """Counted without memory or random draws."""
    with torch.device("meta"):
        return parameter_count(build(name, image_size, **settings))


def images(count: int, size: int = 28, channels: int = 3) -> Tensor:
    made = torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(0))
    return made.contiguous(memory_format=torch.channels_last)


def metadata(*columns: int) -> Tensor:
    return F.one_hot(torch.tensor(columns), K).float()


@pytest.fixture(scope="module", params=ARCHITECTURES)
def small(request: pytest.FixtureRequest) -> tuple[str, nn.Module]:
    """A name and its network for 28 pixels, in evaluation. Built once for all tests, which must not move weights."""
    return request.param, build(request.param, head_dropout=0.0).to(memory_format=torch.channels_last).eval()


def test_the_table_has_a_row_for_each_name_of_the_configuration() -> None:
    assert tuple(ARCHITECTURES) == get_args(Architecture)
    assert all(row.summary for row in ARCHITECTURES.values())
    assert set(ARCHITECTURES) == {*OURS, *PUBLISHED}


def test_torchvision_is_not_imported_until_one_of_its_networks_is_built() -> None:
    code = (
        "import sys; from trainable.architectures import ARCHITECTURES, TrialConfig\n"
        f"for name in {OURS}: ARCHITECTURES[name].build(TrialConfig(architecture=name), 0, 2)\n"
        "print('torch' in sys.modules, 'torchvision' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["True", "False"]


# What holds for every row


def test_the_same_seed_gives_the_same_weights(small: tuple[str, nn.Module]) -> None:
    name, network = small
    assert all(map(torch.equal, build(name).parameters(), network.parameters()))


def test_a_network_without_memory_counts_the_same(small: tuple[str, nn.Module]) -> None:
    name, network = small
    assert parameters(name, 28) == parameter_count(network)


def test_metadata_reach_the_outputs(small: tuple[str, nn.Module]) -> None:
    _, network = small
    with torch.no_grad():
        outputs = network(images(1).expand(3, -1, -1, -1), metadata(0, 0, 9))
    assert outputs.shape == (3, OUTPUTS)
    assert torch.allclose(outputs[0], outputs[1])
    assert not torch.allclose(outputs[0], outputs[2])


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16], ids=str)
def test_gradients_reach_every_parameter(small: tuple[str, nn.Module], compute: torch.dtype) -> None:
    _, network = small
    network.train().zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=compute == torch.bfloat16):
        outputs = network(images(2), metadata(0, 1))
    assert outputs.dtype == compute
    outputs.float().square().sum().backward()
    network.eval()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("size", [32, 63, 64, 224, 256])
@pytest.mark.parametrize("name", OURS)
def test_our_networks_train_on_two_images_of_any_size(name: str, size: int) -> None:
    network = build(name, size)
    outputs = network(images(2, size), metadata(0, 1))
    assert outputs.shape == (2, OUTPUTS)
    outputs.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("small", PUBLISHED, indirect=True)
def test_the_references_take_two_images_of_any_size(small: tuple[str, nn.Module]) -> None:
    name, network = small
    network.train()  # in which batch norm would refuse a map without values
    with torch.no_grad():
        for size in (32, 64, 224) if name in LIGHT else (32, 64):
            outputs = network(images(2, size), metadata(0, 1))
            assert outputs.shape == (2, OUTPUTS) and outputs.isfinite().all()
    network.eval()


@pytest.mark.parametrize(("head_dropout", "varies"), [(0.0, False), (0.5, True)])
@pytest.mark.parametrize("name", [*OURS, "alexnet", "resnet18", "mobilenet_v3_small"])
def test_the_heads_dropout_acts_in_training_alone(name: str, head_dropout: float, varies: bool) -> None:
    network = build(name, head_dropout=head_dropout)
    with torch.no_grad():
        assert torch.equal(network(images(4), metadata(*range(4))), network(images(4), metadata(*range(4)))) != varies
        network.eval()
        assert torch.equal(network(images(4), metadata(*range(4))), network(images(4), metadata(*range(4))))


# Residual


def test_residual_counts_what_its_projections_add() -> None:
    # The ConvNet's 1,182,949, and 1x1 convolutions without bias 3->32, 32->64, 64->128, 128->256 with batch norms.
    projections = 3 * 32 + 32 * 64 + 64 * 128 + 128 * 256
    norms = 2 * (32 + 64 + 128 + 256)
    assert parameters("convnet") == 1_182_949
    assert parameters("residual") == 1_182_949 + projections + norms == 1_227_013


@pytest.mark.parametrize(
    ("depth", "kinds"),
    [(4, [Pair, Pair]), (5, [Block, Pair, Pair]), (11, [Block] + [Pair] * 5), (12, [Pair] * 6)],
)
def test_pairs_are_counted_from_the_last_convolution(depth: int, kinds: list[type]) -> None:
    network = build("residual", depth=depth, widths=(2,) * depth)
    assert [type(block) for block in network.blocks] == kinds


@pytest.mark.parametrize(
    "settings",
    [
        {"depth": depth, "image_size": size, "pool": pool, "widths": tuple(2 + i // 3 for i in range(depth))}
        for depth, size, pool in [(4, 28, {}), (5, 65, {}), (8, 225, {6: 3}), (9, 28, {1: 2}), (12, 40, {1: 3, 12: 1})]
    ],
    ids=str,
)
def test_the_skips_maps_are_those_of_the_plan(settings: dict[str, Any]) -> None:
    network: HeadedNet = build("residual", **settings)
    plans = plan(TrialConfig(architecture="residual", **settings))
    x, alone = images(2, settings["image_size"]), settings["depth"] % 2
    for block, end in zip(network.blocks, plans[1 - alone :: 2], strict=True):
        x = block(x)
        assert x.shape == (2, end.width, end.map_size, end.map_size)


def pair(channels: int, *, widths: tuple[int, int] = (4, 4), pools: tuple[int, int] = (1, 1), padding: int = 1) -> Pair:
    """A pair whose second batch norm gives zeros: nothing but the skip is left."""
    plans = [BlockPlan(w, pad, pool, 0.0, 0) for w, pool, pad in zip(widths, pools, (padding, 1), strict=True)]
    made = Pair(channels, *plans)
    nn.init.zeros_(made.second.norm.weight)
    return made


def test_a_pair_that_keeps_width_and_map_skips_by_the_identity() -> None:
    x = images(2, 6, channels=4).relu()
    made = pair(4, widths=(7, 4))
    assert torch.equal(made(x), x)
    nn.init.ones_(made.second.norm.weight)
    expected = F.relu(made.second.norm(made.second.conv(made.first(x))) + x)
    torch.testing.assert_close(made(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("channels", "pools", "padding", "pooled"),
    [
        (4, (1, 2), 1, lambda x: F.avg_pool2d(x, 2)),
        (3, (1, 1), 1, lambda x: x),
        (3, (2, 3), 1, lambda x: F.avg_pool2d(x, 6)),
        (3, (1, 2), 0, lambda x: F.avg_pool2d(x[:, :, 1:-1, 1:-1], 2)),
        (4, (1, 1), 0, lambda x: x[:, :, 1:-1, 1:-1]),
    ],
    ids=["map", "width", "both", "image", "border"],
)
def test_a_pair_that_changes_width_or_map_skips_by_a_projection(
    channels: int, pools: tuple[int, int], padding: int, pooled: Any
) -> None:
    made, x = pair(channels, pools=pools, padding=padding), images(2, 14, channels)
    *_, conv, norm = made.skip
    assert isinstance(conv, nn.Conv2d)
    projected = norm(torch.einsum("oi,nihw->nohw", conv.weight[:, :, 0, 0], pooled(x)))
    assert torch.allclose(made(x), F.relu(projected), atol=1e-5)


def test_a_pairs_dropout_stands_behind_the_sum() -> None:
    made, x = pair(4), images(2, 8, channels=4).relu() + 1
    made.second.dropout = 0.5
    dropped = made(x)
    assert torch.all((dropped == 0) | (dropped == 2 * x))
    assert (dropped == 0).double().mean().item() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("name", SHAPED)
def test_blocks_that_do_not_fit_the_image_are_an_error(name: str) -> None:
    with pytest.raises(ConfigError, match="block 8 pools 4x4, but its map is 3x3"):
        build(name, 224, pool={8: 4})


# The report's first network


def test_cifar10_reads_4096_values_at_224_pixels() -> None:
    network = build("cifar10", 224)
    assert network.hidden.in_features == 4096 + K
    sizes, x = [], images(1, 224)
    for layer in network.blocks.eval():
        x = layer(x)
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            sizes.append(x.shape[-1])
    assert sizes == [112, 56, 28, 14, 14, 7, 7, 4]
    assert x.shape == (1, 256, 4, 4)


def test_cifar10_counts() -> None:
    convolutions = (3 * 64 + 64 * 128 + 128 * 256 + 256 * 256) * 9 + (64 + 128 + 256 + 256)
    norms = 2 * (64 + 128 + 256 + 256 + 2048)
    head = (4096 + K) * 2048 + 2048 + 2048 * OUTPUTS + OUTPUTS
    assert parameters("cifar10") == convolutions + norms + head == 9_387_781


@pytest.mark.parametrize(
    ("image_size", "side"), [(28, 1), (64, 1), (65, 2), (128, 2), (129, 3), (192, 3), (193, 4), (256, 4)]
)
def test_cifar10s_last_map(image_size: int, side: int) -> None:
    network = build("cifar10", image_size).eval()
    assert network.blocks(images(1, image_size)).shape == (1, 256, side, side)


# torchvision's


@pytest.mark.parametrize("name", PUBLISHED)
def test_reference_counts_are_the_published_ones_but_for_the_last_layer(name: str) -> None:
    published, features = PUBLISHED[name]
    expected = published - (features * 1000 + 1000) + ((features + K) * OUTPUTS + OUTPUTS)
    assert parameters(name) == expected


def test_a_reference_is_torchvisions_network() -> None:
    from torchvision.models import resnet18

    torch.manual_seed(0)
    original = resnet18(num_classes=OUTPUTS).eval()
    network = build("resnet18").eval()
    with torch.no_grad():
        network.output.weight[:, :512], network.output.bias[:] = original.fc.weight, original.fc.bias
        x = images(2, 64)
        assert torch.allclose(network(x, torch.zeros(2, K)), original(x), atol=1e-5)
        shifted = network(x, metadata(3, 3))
        assert torch.allclose(shifted - original(x), network.output.weight[:, 512 + 3].expand(2, -1), atol=1e-5)


@pytest.mark.parametrize(("size", "seen"), [(28, 64), (63, 64), (64, 64), (65, 65)])
def test_images_below_64_pixels_are_enlarged(size: int, seen: int) -> None:
    network = build("mobilenet_v3_small", size).eval()
    x, none = images(1, size), torch.zeros(1, K)
    enlarged = F.interpolate(x, size=(seen, seen), mode="bilinear") if seen > size else x
    with torch.no_grad():
        assert torch.equal(network(x, none), network(enlarged, none))


@pytest.mark.parametrize(
    ("name", "layers"),
    [("alexnet", 2), ("resnet50", 1), ("efficientnet_b0", 1), ("mobilenet_v3_small", 1)],
)
def test_a_reference_drops_where_the_original_does_or_ahead_of_the_last_layer(name: str, layers: int) -> None:
    with torch.device("meta"):
        network = build(name, head_dropout=0.3)
    assert [layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)] == [0.3] * layers
