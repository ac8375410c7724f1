from pathlib import Path

import pytest

from benchmarks import two_nodes
from benchmarks.chaos_nodes import able
from benchmarks.pictures import write_images

IMAGES = 1000


@pytest.mark.skipif("root" not in able(), reason="may make no network namespace")
def test_a_search_on_two_nodes_ends_though_one_is_killed(tmp_path: Path) -> None:
    options = "--image-size 28 --trials 4 --epochs 2 --scheduler none --ensemble --max-concurrent 2 --gpus-per-trial 0"
    data = write_images(tmp_path, IMAGES)
    searched = two_nodes.on_two(data, options.split(), 4, "node")
    assert (searched.complete, searched.ensemble) == (4, True)
    assert searched.received > IMAGES * 28 * 28 * 3 / two_nodes.MB > 2.0  # the pixels; without them it is 1
    assert searched.sent > 0
