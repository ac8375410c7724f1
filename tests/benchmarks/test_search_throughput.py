from pathlib import Path

import pytest

from benchmarks.pictures import write_images
from benchmarks.search_throughput import figures_of, measured


def test_a_search_and_its_peer_train_the_same(tmp_path: Path) -> None:
    row = measured(write_images(tmp_path, 60), 28, epochs=1, pairs=1, precision="float32", cache=tmp_path / "cache")
    assert (row["images"], row["epochs"], row["format"]) == ({"train": 42, "valid": 9, "holdout": 9}, 1, "float32")
    (mine,), (theirs,), (ratio,) = row["ours_images_per_second"], row["peer_images_per_second"], row["ratios"]
    assert ratio == pytest.approx(mine / theirs) and ratio > 0
    assert 0 < row["share_of_peak"] <= row["share_of_forward_and_backward"]
    assert 0 <= row["ours_alone_seconds"][0] and 0 < row["ours_files_seconds"][0] < row["ours_seconds"][0]


@pytest.mark.parametrize(
    ("size", "precision", "goals"),
    [
        (64, "bfloat16", ["ratio >= 4", "ours >= 0.65", "None"]),
        (128, "bfloat16", ["ratio >= 6", "None", "None"]),
        (64, "float32", ["ratio >= 2.2", "None", "None"]),
    ],
)
def test_the_goals_are_the_issues(size: int, precision: str, goals: list[str]) -> None:
    row = {"image_size": size, "format": precision, "share_of_peak": 0.5, "share_of_forward_and_backward": 0.6}
    row |= {"ours_images_per_second": [4.0, 9.0], "peer_images_per_second": [1.0, 2.0], "ratios": [4.0, 4.5]}
    assert [str(figure.goal) for figure in figures_of(row)] == goals
