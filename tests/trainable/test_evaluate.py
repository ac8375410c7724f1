from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.trainable.tiny import BFLOAT16, CLASSES, FLOAT32, PREPROCESSING, SIZE, columns, config, examples
from trainable import evaluate
from trainable.checkpoint import Best
from trainable.config import Augmentation
from trainable.device import Device
from trainable.errors import UserError
from trainable.evaluate import build, normalised, outputs_of, predict, view_list
from trainable.images import Images
from trainable.model import ConvNet

DATA = examples()
ROWS = np.arange(len(DATA.labels))


def to_network(pixels: np.ndarray) -> torch.Tensor:
    return normalised(Images(pixels, FLOAT32)(np.arange(len(pixels))), PREPROCESSING)


def best(**changes: Any) -> Best:
    """A network whose batch norms have seen the images, as after training."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ConvNet(config(**changes), 2, CLASSES)
        with torch.no_grad():
            model(to_network(DATA.pixels), torch.from_numpy(DATA.metadata))
    return Best(config(**changes), PREPROCESSING, model.state_dict(), epoch=1)


def test_pixels_are_scaled_and_normalised_by_channel() -> None:
    pixels = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    pixels[0, 2, 5] = (255, 51, 0)
    images = to_network(pixels)  # means 0.5, 0.4, 0.3; deviations 0.25, 0.2, 0.15
    assert (images.shape, images.dtype) == ((1, 3, SIZE, SIZE), torch.float32)
    assert images[0, :, 2, 5].tolist() == pytest.approx([2.0, -1.0, -2.0])
    assert images[0, :, 5, 2].tolist() == pytest.approx([-2.0, -2.0, -2.0])
    assert images.is_contiguous(memory_format=torch.channels_last)


class Demanding(nn.Module):
    """Wants memory that no machine has for more than so many images at a time, and tells of how many there are."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.batches = most, []  # type: ignore[var-annotated]

    def forward(self, images: torch.Tensor, metadata: torch.Tensor) -> torch.Tensor:
        if len(images) > self.most:
            torch.empty(2**55)
        self.batches.append(len(images))
        return images.mean((2, 3))


def test_where_memory_is_short_fewer_images_are_looked_at_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "BATCH", 32)
    model, metadata = Demanding(10), torch.from_numpy(DATA.metadata)
    found = outputs_of(model, Images(DATA.pixels, FLOAT32), metadata, ROWS, PREPROCESSING)
    assert model.batches == [8] * (len(ROWS) // 8) + [len(ROWS) % 8] * (len(ROWS) % 8 > 0)
    assert torch.allclose(found, to_network(DATA.pixels).mean((2, 3)))
    with pytest.raises(RuntimeError, match="allocate memory"):
        outputs_of(Demanding(0), Images(DATA.pixels, FLOAT32), metadata, ROWS, PREPROCESSING)


def test_logits_are_those_of_evaluation_mode_and_training_mode_comes_back() -> None:
    model = build(best(), FLOAT32)
    metadata = torch.from_numpy(DATA.metadata)
    with torch.no_grad():
        expected = model(to_network(DATA.pixels), metadata)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for training in (False, True):
        model.train(training)
        logits = outputs_of(model, Images(DATA.pixels, FLOAT32), metadata, ROWS, PREPROCESSING)
        assert torch.equal(logits, expected)
        assert model.training is training
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_each_row_has_its_own_image_and_metadata() -> None:
    model, metadata = build(best(), FLOAT32), torch.from_numpy(DATA.metadata)
    everything = outputs_of(model, Images(DATA.pixels, FLOAT32), metadata, ROWS, PREPROCESSING)
    rows = np.array([30, 2, 2, 17])
    some = outputs_of(model, Images(DATA.pixels, FLOAT32), metadata, rows, PREPROCESSING)
    assert some.numpy() == pytest.approx(everything[torch.from_numpy(rows)].numpy(), abs=1e-5)


def test_logits_do_not_depend_on_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    model, metadata = build(best(), FLOAT32), torch.from_numpy(DATA.metadata)
    expected = outputs_of(model, Images(DATA.pixels, FLOAT32), metadata, ROWS, PREPROCESSING)
    monkeypatch.setattr(evaluate, "BATCH", 5)  # 38 images: the last batch has 3
    logits = outputs_of(model, Images(DATA.pixels, FLOAT32), metadata, ROWS, PREPROCESSING)
    assert logits.numpy() == pytest.approx(expected.numpy(), abs=1e-5)


@pytest.mark.parametrize("device", [FLOAT32, BFLOAT16])
def test_logits_are_float32_in_either_format_of_products(device: Device) -> None:
    logits = outputs_of(
        build(best(), device), Images(DATA.pixels, device), torch.from_numpy(DATA.metadata), ROWS, PREPROCESSING
    )
    assert (logits.dtype, logits.shape) == (torch.float32, (len(ROWS), CLASSES))
    exact = predict(best(), DATA.pixels, columns(DATA, ROWS), "cpu")
    assert logits.numpy() == pytest.approx(exact, abs=1e-5 if device is FLOAT32 else 0.05)


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_evaluation_never_flips(flip: float) -> None:
    mirrored = np.ascontiguousarray(DATA.pixels[:, :, ::-1])
    plain = predict(best(augment=Augmentation(flip=0.0)), DATA.pixels, columns(DATA, ROWS), "cpu")
    assert np.array_equal(
        predict(best(augment=Augmentation(flip=flip)), DATA.pixels, columns(DATA, ROWS), "cpu"), plain
    )
    assert not np.allclose(predict(best(augment=Augmentation(flip=flip)), mirrored, columns(DATA, ROWS), "cpu"), plain)


def test_a_checkpoint_is_built_with_its_weights_in_evaluation_mode() -> None:
    saved = best()
    model = build(saved, FLOAT32)
    assert not model.training
    assert all(torch.equal(tensor, saved.state[name]) for name, tensor in model.state_dict().items())


def test_weights_of_another_network_are_refused_in_a_sentence() -> None:
    other = best()
    other.state["biases"] = other.state.pop("output.bias")
    with pytest.raises(UserError) as error:
        build(other, FLOAT32)
    assert str(error.value) == (
        "A checkpoint's weights do not fit its configuration's network: Missing key(s) in state_dict: \"output.bias\"."
    )


def test_prediction_reads_preprocessing_from_the_checkpoint_alone() -> None:
    saved = best()
    shifted = replace(saved, preprocessing=replace(PREPROCESSING, mean=(0.0, 0.0, 0.0)))
    swapped = replace(saved, preprocessing=replace(PREPROCESSING, vocabulary={"Gender": ("1", "0")}))
    cells = columns(DATA, ROWS)
    logits = predict(saved, DATA.pixels, cells, "cpu")
    for other in (shifted, swapped):
        assert not np.allclose(predict(other, DATA.pixels, cells, "cpu"), logits)
    crossed = {"Gender": [{"0": "1", "1": "0"}[cell] for cell in cells["Gender"]]}
    assert np.array_equal(predict(swapped, DATA.pixels, crossed, "cpu"), logits)


def test_prediction_ignores_columns_that_the_checkpoint_does_not_use() -> None:
    cells = columns(DATA, ROWS)
    logits = predict(best(), DATA.pixels, cells, "cpu")
    assert np.array_equal(predict(best(), DATA.pixels, cells | {"Race": ["9"] * len(ROWS)}, "cpu"), logits)


@pytest.mark.parametrize(
    ("trained", "fast", "expected"),
    [
        ("float32", True, torch.float32),
        ("float32", False, torch.float32),
        ("bfloat16", True, torch.bfloat16),
        ("bfloat16", False, torch.float32),
    ],
)
def test_prediction_multiplies_as_training_did_where_the_hardware_can(
    monkeypatch: pytest.MonkeyPatch, trained: str, fast: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": fast})
    used: list[torch.dtype] = []
    real = evaluate.build

    def spy(best: Best, device: Device) -> nn.Module:
        used.append(device.compute)
        return real(best, device)

    monkeypatch.setattr(evaluate, "build", spy)
    predict(replace(best(), precision=trained), DATA.pixels[:2], columns(DATA, ROWS[:2]), "cpu")
    assert used == [expected]


@pytest.mark.parametrize("shape", [(2, 32, 32, 3), (2, 28, 28, 1), (2, 28, 32, 3)])
def test_pixels_of_another_size_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError) as error:
        predict(best(), np.zeros(shape, np.uint8), {"Gender": ["0", "1"]}, "cpu")
    assert str(error.value) == f"pixels are {shape[1:]}; the checkpoint was trained on (28, 28, 3)"


# Views


def test_one_view_is_the_image_itself() -> None:
    images = to_network(DATA.pixels[:2])
    (view,) = view_list(images, "one")
    assert view is images


def test_flip_is_the_image_and_its_mirror_image() -> None:
    images = torch.arange(2 * 3 * 4 * 4.0).view(2, 3, 4, 4)
    image, mirror = view_list(images, "flip")
    assert torch.equal(image, images)
    assert mirror[1, 2, 0].tolist() == images[1, 2, 0].tolist()[::-1]
    assert torch.equal(mirror[..., 0], images[..., 3])


@pytest.mark.parametrize(("side", "by"), [(4, 1), (28, 1), (64, 2), (224, 7)])
def test_flip_shift_is_six_views_with_known_pixels(side: int, by: int) -> None:
    images = torch.arange(3.0 * side * side).view(1, 3, side, side)
    views = view_list(images, "flip_shift")
    assert len(views) == 6
    upper_left, lower_right = views[2], views[4]
    last = side - 1
    for row, column in ((0, 0), (0, last), (last, 0), (last, last), (2, 1)):
        # Moved to the upper left, a place shows what stood further right and down; edges are repeated.
        assert upper_left[0, 1, row, column] == images[0, 1, min(row + by, last), min(column + by, last)]
        assert lower_right[0, 1, row, column] == images[0, 1, max(row - by, 0), max(column - by, 0)]
    assert torch.equal(views[0], images)
    for view, mirror in zip(views[::2], views[1::2], strict=True):
        assert view.shape == images.shape
        assert torch.equal(mirror, view.flip(3))


def test_outputs_are_the_mean_over_the_views() -> None:
    model, metadata = build(best(), FLOAT32), torch.from_numpy(DATA.metadata)
    with torch.no_grad():
        each = [model(view, metadata) for view in view_list(to_network(DATA.pixels), "flip_shift")]
    for views, count in (("one", 1), ("flip", 2), ("flip_shift", 6)):
        outputs = outputs_of(model, Images(DATA.pixels, FLOAT32), metadata, ROWS, PREPROCESSING, views)  # type: ignore[arg-type]
        assert outputs.numpy() == pytest.approx(sum(each[:count]).div(count).numpy(), abs=1e-6)  # type: ignore[union-attr]


def test_flipped_views_do_not_tell_an_image_from_its_mirror_image() -> None:
    model, metadata = build(best(), FLOAT32), torch.from_numpy(DATA.metadata)
    mirrored = np.ascontiguousarray(DATA.pixels[:, :, ::-1])
    plain, flipped = (
        outputs_of(model, Images(pixels, FLOAT32), metadata, ROWS, PREPROCESSING, "flip")
        for pixels in (DATA.pixels, mirrored)
    )
    assert torch.equal(plain, flipped)


def test_a_checkpoint_predicts_with_its_own_views() -> None:
    cells = columns(DATA, ROWS)
    one, flip = (predict(best(views=views), DATA.pixels, cells, "cpu") for views in ("one", "flip"))
    mirrored = predict(best(), np.ascontiguousarray(DATA.pixels[:, :, ::-1]), cells, "cpu")
    assert not np.allclose(one, mirrored)
    assert flip == pytest.approx((one + mirrored) / 2, abs=1e-6)
