from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from trainable.config import ConfigError, TrialConfig
from trainable.dataset import LabelledData, load_labelled
from trainable.examples import UNKNOWN, examples_of
from trainable.splits import Parts

# Row 5's age is nobody else's; so are those of rows 0 and 8.
AGES = ("7", "30", "9", "30", "9", "10", "41", "41", "50", "41")
LABELS = (0, 1, 0, 1, 0, 0, 2, 2, 2, 2)
NONE = np.zeros(0, np.int64)
PARTS = Parts(np.array([1, 2, 3, 4, 6, 7, 8]), np.array([5, 9]), np.array([0]))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> LabelledData:
    folder = tmp_path_factory.mktemp("aged")
    lines = ["Image,Label,Age,Gender"]
    for index, (age, label) in enumerate(zip(AGES, LABELS, strict=True)):
        Image.new("L", (28, 28), 10 * index).save(folder / f"{index}.png")
        lines.append(f"{index}.png,{label},{age},{index % 2}")
    (folder / "data.csv").write_text("\n".join(lines) + "\n")
    return load_labelled(
        str(folder / "data.csv"),
        inputs=["Gender"],
        target="Age",
        image_size=28,
        fractions=(0.4, 0.3, 0.3),
        folds=2,
        seed=0,
        cache=folder / "cache",
        progress=False,
    )


def settings(target: str | None = "Age", inputs: tuple[str, ...] = ("Gender",)) -> TrialConfig:
    return TrialConfig(image_size=28, target=target, inputs=inputs)


def test_levels_are_the_training_rows_values_in_numeric_order_with_their_classes(data: LabelledData) -> None:
    levels = examples_of(data, settings(), PARTS).preprocessing.levels
    assert list(levels.items()) == [("9", 0), ("30", 1), ("41", 2), ("50", 2)]


def test_a_rows_level_is_its_values_position_and_unknown_where_training_never_saw_it(data: LabelledData) -> None:
    seen = examples_of(data, settings(), PARTS)
    assert seen.levels.tolist() == [UNKNOWN, 1, 0, 1, 0, UNKNOWN, 2, 2, 3, 2]
    assert seen.labels.tolist() == list(LABELS)
    assert (seen.levels[seen.train] != UNKNOWN).all()


def test_without_a_target_the_levels_are_the_classes(data: LabelledData) -> None:
    seen = examples_of(data, settings(target=None), PARTS)
    assert seen.levels.tolist() == seen.labels.tolist() == list(LABELS)
    assert seen.preprocessing.levels == {}


def test_what_depends_on_the_data_follows_from_the_training_rows_alone(data: LabelledData) -> None:
    preprocessing = examples_of(data, settings(), PARTS).preprocessing
    grays = 10 * PARTS.train / 255
    assert preprocessing.mean == pytest.approx([grays.mean()] * 3)
    assert preprocessing.std == pytest.approx([grays.std()] * 3)
    one_gender = Parts(np.array([0, 2, 4, 6]), np.array([1, 3]), NONE)
    seen = examples_of(data, settings(), one_gender)
    assert seen.preprocessing.vocabulary == {"Gender": ("0",)}
    assert seen.metadata[:, 0].tolist() == [1, 0] * 5


def test_a_value_of_one_training_image_makes_no_expert(data: LabelledData) -> None:
    experts = replace(settings(target=None), experts="Gender")
    cells = data.table.columns["Gender"]
    rows = [cells.index("0"), *(row for row, cell in enumerate(cells) if cell == "1")]  # one 0
    seen = examples_of(data, experts, Parts(np.array(rows), NONE, NONE))
    assert seen.preprocessing.vocabulary == {"Gender": ("1",)}
    assert seen.metadata[:, 0].tolist() == [float(cell == "1") for cell in cells]
    with pytest.raises(ConfigError) as error:
        examples_of(data, experts, Parts(np.array([cells.index("0"), cells.index("1")]), NONE, NONE))
    assert str(error.value) == "experts is 'Gender', of whose values none has two training images"


def test_the_parts_are_those_that_are_given(data: LabelledData) -> None:
    seen = examples_of(data, settings(), PARTS)
    assert (seen.train, seen.valid) == (PARTS.train, PARTS.valid)
    assert seen.pixels[:, 0, 0, 0].tolist() == [10 * index for index in range(10)]


def test_a_network_that_learns_from_all_rows_knows_every_level(data: LabelledData) -> None:
    seen = examples_of(data, settings(), data.split.everything)
    assert list(seen.preprocessing.levels) == ["7", "9", "10", "30", "41", "50"]
    assert seen.levels.tolist() == [0, 3, 1, 3, 1, 2, 4, 4, 5, 4]
    assert (len(seen.train), len(seen.valid)) == (10, 0)


def test_inputs_do_not_change_the_levels(data: LabelledData) -> None:
    assert examples_of(data, settings(inputs=()), PARTS).metadata.shape == (10, 0)
    assert examples_of(data, settings(inputs=()), PARTS).levels[1] == 1
