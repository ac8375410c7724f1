from pathlib import Path

import pytest

from benchmarks import two_nodes
from benchmarks.chaos_nodes import able
from benchmarks.pictures import write_images

IMAGES, SIZE = 1000, 64  # an epoch takes a second or two: the second node begins while the first trains, however slow


@pytest.mark.skipif("root" not in able(), reason="may make no network namespace")
def test_a_search_on_two_nodes_ends_though_one_is_killed(tmp_path: Path) -> None:
    options = f"--image-size {SIZE} --trials 6 --epochs 2 --scheduler none --ensemble"
    options += " --max-concurrent 2 --gpus-per-trial 0"
    data = write_images(tmp_path, IMAGES)
    searched = two_nodes.on_two(data, options.split(), 6, "node")
    assert (searched.complete, searched.ensemble) == (6, True)
    assert searched.received > IMAGES * SIZE * SIZE * 3 / two_nodes.MB > 12.0  # the pixels; without them it is 1
    assert searched.sent > 0
