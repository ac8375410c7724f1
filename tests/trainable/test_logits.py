"""A trial's logits.npz: the holdout is seen once, and late."""

from pathlib import Path

import numpy as np
import pytest

from tests.results.tiny_run import Data, data
from trainable.checkpoint import file_hash, save_best
from trainable.evaluate import predict
from trainable.logits import NAME, add_holdout, has_holdout, save_logits

__all__ = ["data"]  # a fixture


@pytest.fixture
def trial(data: Data, tmp_path: Path) -> Path:
    """A trial that is not at its end."""
    save_best(tmp_path / "best.safetensors", data.best(1))
    save_logits(tmp_path, data.labelled, np.ones((12, 3), np.float32))
    return tmp_path


def test_before_the_end_there_are_the_validation_images_alone(trial: Path, data: Data) -> None:
    images = data.labelled.table.images
    with np.load(trial / NAME) as arrays:
        assert set(arrays.files) == {"valid", "valid_ids", "holdout_ids", "checkpoints"}
        assert arrays["valid_ids"].tolist() == [images[row] for row in data.labelled.split.judged]
        assert arrays["checkpoints"].tolist() == [file_hash(trial / "best.safetensors")]
    assert not has_holdout(trial / NAME)


def test_the_holdouts_are_what_the_best_network_predicts(trial: Path, data: Data) -> None:
    add_holdout(trial, data.labelled, "cpu")
    assert has_holdout(trial / NAME)
    rows, table = data.labelled.split.weighed, data.labelled.table
    cells = {name: [column[row] for row in rows] for name, column in table.columns.items()}
    expected = predict(data.best(1), data.labelled.pixels.open()[rows], cells, "cpu")
    with np.load(trial / NAME) as arrays:
        assert np.array_equal(arrays["holdout"], expected)
        assert (arrays["valid"] == 1).all()
        assert arrays["holdout_ids"].tolist() == [table.images[row] for row in rows]


def test_at_a_trials_end_both_come_at_once(trial: Path, data: Data) -> None:
    add_holdout(trial, data.labelled, "cpu")
    one_by_one = (trial / NAME).read_bytes()
    (trial / NAME).unlink()
    save_logits(trial, data.labelled, np.ones((12, 3), np.float32), "cpu")
    assert (trial / NAME).read_bytes() == one_by_one


def test_validation_logits_of_an_earlier_epoch_than_the_network_are_made_again(trial: Path, data: Data) -> None:
    """As of a trial that was killed when it had written the one and not the other."""
    save_best(trial / "best.safetensors", data.best(2))
    add_holdout(trial, data.labelled, "cpu")
    with np.load(trial / NAME) as arrays:
        assert arrays["checkpoints"].tolist() == [file_hash(trial / "best.safetensors")]
        valid = arrays["valid"]
    rows, table = data.labelled.split.judged, data.labelled.table
    expected = predict(data.best(2), data.labelled.pixels.open(), table.columns, "cpu", rows)
    assert np.array_equal(valid, expected)


def test_what_is_there_stays(trial: Path, data: Data) -> None:
    add_holdout(trial, data.labelled, "cpu")
    before = (trial / NAME).read_bytes()
    save_best(trial / "best.safetensors", data.best(2))
    add_holdout(trial, data.labelled, "cpu")
    assert (trial / NAME).read_bytes() == before


def test_logits_that_are_missing_lack_the_holdouts_and_damaged_ones_are_their_readers_part(tmp_path: Path) -> None:
    assert not has_holdout(tmp_path / NAME)
    (tmp_path / NAME).write_bytes(b"PK\x03\x04 no more")
    assert has_holdout(tmp_path / NAME)
