import os

from benchmarks.conv_peak import core_peak
from benchmarks.flops import convolutions
from benchmarks.together import ready, together
from trainable.config import TrialConfig

TINY = TrialConfig(depth=4, widths=(4, 4, 4, 4), image_size=28, head_width=8, batch_size=4)


def process_when_ready(add: int) -> int:
    ready()
    return os.getpid() + add


def test_work_together_is_a_process_each() -> None:
    one, other = together(process_when_ready, [(0,), (0,)])
    assert len({one, other, os.getpid()}) == 3


def test_the_convolutions_are_the_networks() -> None:
    assert [(one.inputs, one.outputs, one.padding, one.size) for one in convolutions(TINY)] == [
        (3, 4, 0, 26),
        (4, 4, 1, 26),
        (4, 4, 1, 13),
        (4, 4, 1, 4),
    ]


def test_a_core_has_a_rate_forward_and_with_backward() -> None:
    found = core_peak(TINY, "float32", processes=2)
    assert found.keys() == {"forward", "both"} and min(found.values()) > 0
