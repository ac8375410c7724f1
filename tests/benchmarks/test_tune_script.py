from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from benchmarks.tune_script import SPACE, Photos, accuracy, decoded, network
from spaces import dropout
from spaces.space import probe
from trainable.config import TrialConfig
from trainable.model import ConvNet, parameter_count


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A CSV of three gray images."""
    for number in range(3):
        Image.new("RGB", (40, 40), (100 * number,) * 3).save(tmp_path / f"{number}.png")
    path = tmp_path / "data.csv"
    path.write_text("Image,Label,Age\n0.png,0,3\n1.png,1,30\n2.png,0,3\n")
    return path


def test_images_are_read_once_and_normalised_as_they_are_asked_for(photos: Path) -> None:
    images, labels = decoded(photos, 28)
    assert (images.shape, images.dtype, labels.tolist()) == ((3, 28, 28, 3), np.uint8, [0, 1, 0])
    dataset = Photos(images, labels, np.array([2, 1]), flip=True)
    image, label = dataset[1]
    assert len(dataset) == 2 and label == 1
    torch.testing.assert_close(image, torch.full((3, 28, 28), (100 / 255 - 0.5) / 0.25))


def test_it_searches_our_space() -> None:
    assert SPACE.keys() == probe(dropout.SPACE)[0].keys()


def test_a_point_is_the_network_that_ours_would_be() -> None:
    start = dict(dropout.SPACE.starts[8])
    config = TrialConfig(pool={6: 3}, image_size=64)
    assert parameter_count(network(start, 64, 5)) == parameter_count(ConvNet(config, 0, 5))


def test_accuracy_is_over_all_images(photos: Path) -> None:
    images, labels = decoded(photos, 28)
    model = network(dict(dropout.SPACE.starts[7]), 28, 2)
    with torch.no_grad():
        model.head[4].weight.zero_()
        model.head[4].bias.copy_(torch.tensor([1.0, 0.0]))
    loader = DataLoader(Photos(images, labels, np.arange(3), flip=False), batch_size=2)
    assert accuracy(model, loader, torch.device("cpu")) == pytest.approx(2 / 3)
