from pathlib import Path

import pytest

from benchmarks import two_nodes
from benchmarks.chaos_nodes import able
from benchmarks.pictures import write_images


@pytest.mark.skipif("root" not in able(), reason="may make no network namespace")
def test_a_search_on_two_nodes_ends_though_one_is_killed(tmp_path: Path) -> None:
    options = f"--data {write_images(tmp_path, 60)} --image-size 28 --trials 4 --epochs 2 --scheduler none --ensemble"
    searched = two_nodes.on_two([*options.split(), "--max-concurrent", "2", "--gpus-per-trial", "0"], 4, "node")
    assert (searched.complete, searched.ensemble) == (4, True)
    assert searched.received > 60 * 28 * 28 * 3 / two_nodes.MB  # the pixels
    assert searched.sent > 0
