"""What a model said of images that it did not learn from."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from results.predictions import of_trial
from trainable.errors import UserError

CLASSES = ("cat", "dog", "eel")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Four validation images: a cat and a dog that are known, a dog surely said to be a cat, a cat perhaps an eel."""
    (tmp_path / "splits.csv").write_text(
        "Image,Label,Split\na.png,cat,valid\nb.png,dog,valid\nc.png,dog,valid\nd.png,cat,valid\ne.png,eel,train\n"
    )
    folder = tmp_path / "trials" / "0003"
    folder.mkdir(parents=True)
    logits = np.log(np.array([[8, 1, 1], [1, 8, 1], [98, 1, 1], [4, 1, 5]]) / [[10], [10], [100], [10]])
    np.savez(
        folder / "logits.npz", valid=logits.astype(np.float32), valid_ids=np.array(["a.png", "b.png", "c.png", "d.png"])
    )
    return tmp_path


def test_images_are_counted_by_what_they_are_and_what_was_said(run: Path) -> None:
    found = of_trial(run, "0003", CLASSES, 0)
    assert found is not None
    assert found.confusion == ((1, 0, 1), (1, 1, 0), (0, 0, 0))
    assert (found.images, found.accuracy.value, found.part) == (4, 0.5, "validation images")
    assert [recall and recall.value for recall in found.recalls] == [0.5, 0.5, None]


def test_the_most_confident_mistakes_come_first(run: Path) -> None:
    found = of_trial(run, "0003", CLASSES, 0)
    assert found is not None
    assert [(one.image, one.label, one.said) for one in found.mistakes] == [
        ("c.png", "dog", "cat"),
        ("d.png", "cat", "eel"),
    ]
    assert [one.confidence for one in found.mistakes] == pytest.approx([0.98, 0.5])


def test_calibration_is_by_confidence(run: Path) -> None:
    found = of_trial(run, "0003", CLASSES, 0)
    assert found is not None
    assert [(one.confidence, one.accuracy.value, one.images) for one in found.calibration] == [
        (pytest.approx(0.5), 0.0, 1),
        (pytest.approx(0.8), 1.0, 2),
        (pytest.approx(0.98), 0.0, 1),
    ]
    # A quarter of the images by 0.5, a half by 0.2, a quarter by 0.98.
    assert found.calibration_error.value == pytest.approx((0.5 + 2 * 0.2 + 0.98) / 4)


def test_a_trial_without_logits_has_said_nothing_yet(run: Path) -> None:
    assert of_trial(run, "0004", CLASSES, 0) is None


def test_damaged_logits_are_named(run: Path) -> None:
    path = run / "trials" / "0003" / "logits.npz"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UserError, match="logits.npz is damaged"):
        of_trial(run, "0003", CLASSES, 0)


def test_logits_of_other_images_are_refused(run: Path) -> None:
    (run / "splits.csv").write_text("Image,Label,Split\nz.png,cat,valid\n")
    with pytest.raises(UserError, match=r"logits.npz is of other images or classes than .*splits.csv\.$"):
        of_trial(run, "0003", CLASSES, 0)


def test_logits_that_are_not_finite_are_refused(run: Path) -> None:
    path = run / "trials" / "0003" / "logits.npz"
    arrays = dict(np.load(path))
    arrays["valid"][1, 2] = np.nan
    np.savez(path, **arrays)
    with pytest.raises(UserError, match=r"logits.npz has validation logits that are not finite\.$"):
        of_trial(run, "0003", CLASSES, 0)


@pytest.mark.parametrize("arrays", [{"valid": np.array("x")}, {"valid_ids": np.array(1)}])
def test_arrays_of_another_kind_are_damage(run: Path, arrays: dict[str, Any]) -> None:
    path = run / "trials" / "0003" / "logits.npz"
    np.savez(path, **{**np.load(path), **arrays})
    with pytest.raises(UserError, match="logits.npz is damaged"):
        of_trial(run, "0003", CLASSES, 0)
