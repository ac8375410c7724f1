import pytest

from benchmarks.flops import forward_flops, training_flops
from trainable.config import TrialConfig

# Maps of 26, 26, 13 and 4 pixels before pools of 1, 2, 3 and 3; a map of 1 after them.
TINY = TrialConfig(depth=4, widths=(4, 4, 4, 4), image_size=28, head_width=8)
FIRST = 2 * 9 * 3 * 4 * 26 * 26


def test_a_networks_operations_by_hand() -> None:
    others = 2 * 9 * 4 * 4 * (26 * 26 + 13 * 13 + 4 * 4)
    head = 2 * ((4 + 2) * 8 + 8 * 3)
    assert forward_flops(TINY, metadata_width=2, classes=3) == FIRST + others + head == 394_128


def test_training_costs_three_passes_but_for_the_images_gradient() -> None:
    assert training_flops(TINY, 2, 3) == 3 * 394_128 - FIRST


def test_the_reports_network() -> None:
    # 224 pixels: maps of 222, 111, 55, 27, 13, 6, 3 and 1, halved after each convolution but the first.
    channels, maps = (3, 32, 32, 64, 64, 128, 128, 256, 256), (222, 222, 111, 55, 27, 13, 6, 3)
    pairs = zip(channels, channels[1:], maps, strict=False)
    convolutions = sum(18 * inputs * outputs * side**2 for inputs, outputs, side in pairs)
    assert forward_flops(TrialConfig(), 10, 5) == convolutions + 2 * 32 * (256 + 10 + 5)
    assert convolutions / 1e6 == pytest.approx(1860, rel=1e-3)
