import pytest
import torch
from torch import nn

from benchmarks.plain_network import PlainNet
from trainable.config import TrialConfig
from trainable.model import ConvNet, parameter_count

STOCK = (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.ReLU, nn.Dropout, nn.Flatten, nn.Linear, nn.BatchNorm1d)


def test_the_peer_has_the_reports_parameters() -> None:
    assert parameter_count(PlainNet(TrialConfig(), metadata_width=10, classes=5)) == 1_182_949


def test_the_peer_is_made_of_pytorchs_own_modules_alone() -> None:
    network = PlainNet(TrialConfig(dropout=(0.0,) * 6 + (0.5, 0.0)), metadata_width=0, classes=5)
    leaves = [module for module in network.modules() if not list(module.children())]
    assert all(isinstance(leaf, STOCK) for leaf in leaves)
    convolutions = [leaf for leaf in leaves if isinstance(leaf, nn.Conv2d)]
    assert len(convolutions) == 8 and all(convolution.bias is not None for convolution in convolutions)
    assert [leaf.p for leaf in leaves if isinstance(leaf, nn.Dropout)] == [0.5, 0.5]  # block 7, head


@pytest.mark.parametrize("training", [False, True])
def test_the_peer_computes_what_ours_does(training: bool) -> None:
    config = TrialConfig(depth=5, widths=(4, 4, 6, 6, 8), image_size=32, head_dropout=0.0)
    torch.manual_seed(3)
    ours, peer = ConvNet(config, 2, 3), PlainNet(config, 2, 3)
    # Both hold their blocks first and the head last, each as weights, then statistics.
    peer.load_state_dict(dict(zip(peer.state_dict(), ours.state_dict().values(), strict=True)))
    images, metadata = torch.randn(6, 3, 32, 32), torch.eye(2)[[0, 1, 1, 0, 0, 1]]
    with torch.no_grad():
        torch.testing.assert_close(
            peer.train(training)(images, metadata), ours.train(training)(images, metadata), rtol=1e-4, atol=1e-4
        )
