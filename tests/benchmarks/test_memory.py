import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.memory import SIZE, measure, sizes_of, write_cache
from trainable.pixels import Pixels

SMAPS = """\
55d0c8a00000-55d0c8a21000 rw-p 00000000 00:00 0                          [heap]
Size:                132 kB
Rss:                 100 kB
Pss:                 100 kB
Pss_Dirty:           100 kB
Anonymous:           100 kB
7f1c00000000-7f1c3b9aca00 r--s 00000000 08:01 1234                       /tmp/a folder/pixels.npy
Size:             976563 kB
Rss:              976560 kB
Pss:              244140 kB
Pss_Dirty:             0 kB
Anonymous:             0 kB
7f1c40000000-7f1c40001000 r--s 3b9ac000 08:01 1234                       /tmp/a folder/pixels.npy
Pss:                   1 kB
Anonymous:             0 kB
7f1c50000000-7f1c50001000 r--p 00000000 08:01 99                         /tmp/a folder/pixels.npy.old
Pss:                   4 kB
Anonymous:             4 kB
7f1c60000000-7f1c60001000 rw-p 00000000 00:00 0
Pss:                   8 kB
Anonymous:             8 kB
"""


def test_the_files_mappings_are_told_from_all_others() -> None:
    assert sizes_of(SMAPS, "/tmp/a folder/pixels.npy") == (244_141 * 1024, 112 * 1024)


def test_the_cache_is_one_that_trials_open(tmp_path: Path) -> None:
    path = tmp_path / "pixels.npy"
    write_cache(path, 300 * SIZE * SIZE * 3)
    pixels = Pixels(path, SIZE, "random").open()
    assert pixels.shape == (300, SIZE, SIZE, 3) and np.unique(pixels).size == 256


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/PID/smaps")
def test_two_processes_share_one_copy(tmp_path: Path) -> None:
    path = tmp_path.resolve() / "pixels.npy"
    write_cache(path, 8_000_000)
    mapped, _ = measure(Pixels(path, SIZE, "random"), processes=2)
    assert len(mapped) == 2 and sum(mapped) == pytest.approx(8_000_000, rel=0.05)
