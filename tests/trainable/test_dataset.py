import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trainable.config import TrialConfig
from trainable.dataset import (
    HOLDOUT,
    TRAIN,
    VALID,
    LabelledData,
    decode,
    load_labelled,
    load_test,
    parse_age_groups,
    save_split,
)
from trainable.errors import UserError
from trainable.examples import examples_of

AGE_GROUPS = (10, 20, 30, 40, 50, 61)


def solid(path: Path, color: int | tuple[int, int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L" if isinstance(color, int) else "RGB", (6, 5), color).save(path)


def table(folder: Path, classes: int = 2, images: int = 4) -> list[str]:
    """The lines of a valid data.csv, each image of its own gray; label 0 first."""
    lines = ["Image,Label"]
    for index in range(classes * images):
        solid(folder / f"{index}.png", index)
        lines.append(f"{index}.png,{index // images}")
    return lines


def load(folder: Path, lines: list[str] | None = None, data: str = "", **options: Any) -> LabelledData:
    if lines is not None:
        (folder / "data.csv").write_text("\n".join(lines) + "\n")
    settings: dict[str, Any] = {
        "inputs": (),
        "age_groups": AGE_GROUPS,
        "image_size": 4,
        "fractions": (0.7, 0.15, 0.15),
        "seed": 0,
        "cache": folder / ".cache",
        "progress": False,
    }
    return load_labelled(data or str(folder / "data.csv"), **settings | options)


def refusal(folder: Path, lines: list[str] | None = None, **options: Any) -> str:
    with pytest.raises(UserError) as error:
        load(folder, lines, **options)
    return str(error.value).replace(f"{folder}/", "")


def test_a_damaged_cache_is_told_of(tmp_path: Path) -> None:
    kept = load(tmp_path, table(tmp_path)).pixels.path
    kept.write_bytes(kept.read_bytes()[:-1])
    said = (f"the decoded images in {kept} are incomplete or damaged: they are decoded anew",)
    assert load(tmp_path).warnings == said
    kept.write_bytes(kept.read_bytes()[:-1])
    _, warnings = load_test(str(tmp_path / "data.csv"), {}, image_size=4, cache=tmp_path / ".cache", progress=False)
    assert warnings == said
    assert load(tmp_path).warnings == ()


def test_a_csv_is_loaded_decoded_and_split(tmp_path: Path) -> None:
    data = load(tmp_path, table(tmp_path, classes=2, images=20))
    assert data.table.classes == ("0", "1")
    assert [int((data.split.sides == side).sum()) for side in (TRAIN, VALID, HOLDOUT)] == [28, 6, 6]
    assert data.pixels.open()[:, 0, 0, 0].tolist() == list(range(40))
    assert (data.test, data.warnings) == (None, ())


def test_mean_and_deviation_come_from_the_training_part_alone(tmp_path: Path) -> None:
    data = load(tmp_path, table(tmp_path, classes=2, images=20))
    train = np.arange(40)[data.split.sides == TRAIN] / 255  # an image's gray is its index
    mean, std = data.statistics(data.split.parts[0].train)
    assert mean == pytest.approx([train.mean()] * 3, rel=1e-12)
    assert std == pytest.approx([train.std()] * 3, rel=1e-12)


def test_the_deviation_of_equal_images_is_one_gray_level(tmp_path: Path) -> None:
    lines = table(tmp_path)
    for index in range(8):
        solid(tmp_path / f"{index}.png", (index, 9, 9))
    data = load(tmp_path, lines)
    _, std = data.statistics(data.split.parts[0].train)
    assert std[1:] == (1 / 255, 1 / 255)


def test_everything_wrong_is_one_message(tmp_path: Path) -> None:
    lines = table(tmp_path)
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").touch()
    lines += ["gone.png,0", "0.png,1", "text.png,x", "empty.png,1", "../a.png,7", "/etc/passwd,0", "last.png,2"]
    assert refusal(tmp_path, lines) == "\n".join(
        [
            "data.csv has 10 problems; nothing was trained. Correct or remove them.",
            "  row 10, Image: gone.png does not exist",
            "  row 11, Label: 0.png has label 1 here and 0 in row 2",
            "  row 12, Label: 'x' is not an integer",
            "  row 12, Image: text.png is not an image",
            "  row 13, Image: empty.png is an empty file",
            "  row 14, Label: 7 is outside 0..2",
            "  row 14, Image: ../a.png leaves the data's folder",
            "  row 15, Image: /etc/passwd leaves the data's folder",
            "  row 16, Image: last.png does not exist",
            "  class 2 has 1 image; splitting needs at least 3",
        ]
    )


def test_bad_rows_alone_are_counted_as_rows(tmp_path: Path) -> None:
    lines = table(tmp_path)
    solid(tmp_path / "new.png", 99)
    assert refusal(tmp_path, [*lines, "a.jpg,1", "new.png,5", "b.jpg,5"]) == (
        "data.csv has 3 bad rows; nothing was trained. Correct or remove them.\n"
        "  row 10, Image: a.jpg does not exist\n"
        "  row 11, Label: 5 is outside 0..1\n"
        "  row 12, Label: 5 is outside 0..1\n"
        "  row 12, Image: b.jpg does not exist"
    )


def test_images_are_looked_at_although_a_column_is_missing(tmp_path: Path) -> None:
    assert refusal(tmp_path, ["Image,Class", "a.jpg,1"]) == (
        "data.csv has 2 bad rows; nothing was trained. Correct or remove them.\n"
        "  row 1, Label: there is no such column\n"
        "  row 2, Image: a.jpg does not exist"
    )


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["0.png,0", "1.png,0", "2.png,0"], "there is one class; training needs at least 2"),
        (
            ["0.png,0", "1.png,0", "2.png,0", "3.png,1", "4.png,1"],
            "class 1 has 2 images; splitting needs at least 3",
        ),
        (
            ["0.png,0", "1.png,0", "2.png,0", "3.png,1", "4.png,1", "copy of 4.png,1"],
            "class 1 has 2 different images; splitting needs at least 3",
        ),
    ],
)
def test_too_few_images_to_split(tmp_path: Path, lines: list[str], problem: str) -> None:
    table(tmp_path)
    solid(tmp_path / "copy of 4.png", 4)
    message = f"data.csv has 1 problem; nothing was trained. Correct or remove it.\n  {problem}"
    assert refusal(tmp_path, ["Image,Label", *lines]) == message


def test_a_folders_problems_name_the_file(tmp_path: Path) -> None:
    for index in range(6):
        solid(tmp_path / "pets" / ("cat" if index < 3 else "dog") / f"{index}.png", index)
    (tmp_path / "pets" / "dog" / "x.png").write_text("hello")
    assert refusal(tmp_path, data=str(tmp_path / "pets")) == (
        "pets has 1 problem; nothing was trained. Correct or remove it.\n  dog/x.png is not an image"
    )


def test_identical_pixels_stand_on_one_side_and_conflicting_labels_are_warned_of(tmp_path: Path) -> None:
    lines = table(tmp_path, classes=2, images=20)
    for index in range(40):  # a copy of each image, in another format
        Image.new("L", (6, 5), index).save(tmp_path / f"copy{index}.bmp")
        lines.append(f"copy{index}.bmp,{index // 20 if index > 1 else 1}")
    data = load(tmp_path, lines)
    assert np.array_equal(data.split.sides[:40], data.split.sides[40:])
    assert data.warnings == (
        f"{tmp_path}/data.csv: 2 images have the same pixels as another under a different label, "
        "such as copy0.bmp (1) and 0.png (0), copy1.bmp (1) and 1.png (0)",
    )


def test_an_input_that_tells_the_label_is_warned_of(tmp_path: Path) -> None:
    lines = table(tmp_path)
    rows = [f"{line},{age},{gender}" for line, age, gender in zip(lines[1:], "33344555", "01010101", strict=True)]
    loaded = load(tmp_path, [f"{lines[0]},Age,Gender", *rows], inputs=("Age", "Gender"))
    assert [warning for warning in loaded.warnings if "tells" in warning] == []
    rows = [f"{line},{age},{gender}" for line, age, gender in zip(lines[1:], "33445566", "01010101", strict=True)]
    loaded = load(tmp_path, [f"{lines[0]},Age,Gender", *rows], inputs=("Age", "Gender"))
    assert [warning for warning in loaded.warnings if "tells" in warning] == [
        "--inputs: Age tells the label by itself (each of its 4 values has one label only), "
        "so a network that reads it need not look at the images",
    ]


def test_the_vocabulary_is_of_the_training_part_alone(tmp_path: Path) -> None:
    lines = table(tmp_path, classes=2, images=20)
    split = load(tmp_path, lines).split.sides
    valid, holdout = np.flatnonzero(split == VALID)[0], np.flatnonzero(split == HOLDOUT)[0]
    races = [index % 2 for index in range(40)]
    races[valid], races[holdout] = 7, 8
    (tmp_path / "data.csv").write_text(
        "Image,Label,Race\n" + "".join(f"{a},{b}\n" for a, b in zip(lines[1:], races, strict=True))
    )
    data = load(tmp_path, inputs=("Race",))
    assert np.array_equal(data.split.sides, split)
    (parts,) = data.split.parts
    assert data.vocabulary(["Race"], parts.train) == {"Race": ("0", "1")}
    assert data.vocabulary([], parts.train) == {}
    places = ", ".join(f"'{races[row]}' in row {row + 2}" for row in sorted((valid, holdout)))
    assert data.warnings == (
        f"--inputs: 2 rows carry a Race that training never saw, encoded as all zeros, such as {places}",
    )

    seen = examples_of(data, TrialConfig(image_size=28, inputs=("Race",)), parts)
    assert seen.preprocessing.vocabulary == {"Race": ("0", "1")}
    assert np.flatnonzero(seen.metadata.sum(axis=1) == 0).tolist() == sorted((valid, holdout))


def test_a_value_of_the_validation_part_alone_is_new_in_the_test_part_too(tmp_path: Path) -> None:
    names = [f"train/{age}_{index}_0_1.png" for age in (15, 25) for index in range(4)]
    for index, name in enumerate([*names, "test/30_0_9_1.png"]):
        solid(tmp_path / "faces" / name, index)
    folder = str(tmp_path / "faces")
    first = load(tmp_path, data=folder, age_groups=(10, 20, 30))
    held = Path(first.table.images[int(np.flatnonzero(first.split.sides == HOLDOUT)[0])])
    (tmp_path / "faces" / held).rename(tmp_path / "faces" / str(held).replace("_0_1.png", "_9_1.png"))
    data = load(tmp_path, data=folder, age_groups=(10, 20, 30), inputs=("Race",))
    assert data.vocabulary(["Race"], data.split.parts[0].train) == {"Race": ("0",)}
    assert [warning.replace(f"{tmp_path}/", "").split(" that ")[0] for warning in data.warnings] == [
        "--inputs: 1 row carries a Race",
        "faces: 1 row carries a Race",
    ]


def test_fingerprints_change_with_what_they_stand_for(tmp_path: Path) -> None:
    lines = table(tmp_path)
    first = load(tmp_path, lines)
    assert len(first.fingerprint) == 32

    same = load(tmp_path, lines, image_size=8)
    assert (same.fingerprint, same.split_fingerprint) == (first.fingerprint, first.split_fingerprint)
    other_seed = load(tmp_path, lines, seed=1)
    assert other_seed.fingerprint == first.fingerprint
    assert other_seed.split_fingerprint != first.split_fingerprint
    swapped = load(tmp_path, [lines[0], "0.png,1", *lines[2:5], "4.png,0", *lines[6:]])
    assert swapped.fingerprint != first.fingerprint
    with_column = load(tmp_path, [f"{line},{'Race' if line == lines[0] else 0}" for line in lines])
    assert with_column.fingerprint != first.fingerprint
    solid(tmp_path / "0.png", 200)
    assert load(tmp_path, lines).fingerprint != first.fingerprint


def test_a_saved_split_is_used_again(tmp_path: Path) -> None:
    lines = table(tmp_path)
    file = tmp_path / "splits.csv"
    first = load(tmp_path, lines, split_file=file)  # not there yet
    save_split(file, first.table, first.split)
    again = load(tmp_path, lines, split_file=file, seed=5, fractions=(0.2, 0.4, 0.4))
    assert np.array_equal(again.split.sides, first.split.sides)
    assert again.split_fingerprint == first.split_fingerprint
    solid(tmp_path / "new.png", 99)
    assert refusal(tmp_path, [*lines, "new.png,0"], split_file=file) == (
        "splits.csv is not of data.csv: it lacks 1 image, such as new.png"
    )


def test_a_folder_with_its_own_test_part(tmp_path: Path) -> None:
    names = [f"train/{age}_{index}_0_1.png" for age in (15, 25) for index in range(4)]
    for index, name in enumerate([*names, "test/30_0_9_1.png"]):
        solid(tmp_path / "faces" / name, index)
    data = load(tmp_path, data=str(tmp_path / "faces"), inputs=("Race",), age_groups=(10, 20, 30))
    assert data.table.classes == ("10-19", "20-29")
    assert data.test is not None
    assert (data.test.images, data.test.columns) == (("test/30_0_9_1.png",), {"Race": ("9",)})
    assert data.warnings == (
        f"{tmp_path}/faces: 1 row carries a Race that training never saw, encoded as all zeros, "
        "such as '9' in test/30_0_9_1.png",
    )
    (tmp_path / "faces" / "test" / "30_0_9_1.png").write_bytes(b"")
    assert refusal(tmp_path, data=str(tmp_path / "faces"), age_groups=(10, 20, 30)) == (
        "faces has 1 problem; nothing was trained. Correct or remove it.\n  test/30_0_9_1.png is an empty file"
    )


def test_digits_need_nothing(tmp_path: Path) -> None:
    data = load(tmp_path, data="digits", image_size=8)
    assert data.table.source == "digits"
    assert data.table.classes == tuple("0123456789")
    assert [int((data.split.sides == side).sum()) for side in (TRAIN, VALID, HOLDOUT)] == [1050, 225, 225]
    assert data.test is not None and len(data.test.images) == 297 and data.test.labels is None
    mean, _ = data.statistics(data.split.parts[0].train)
    assert mean[0] == mean[1] == mean[2] == pytest.approx(0.306, abs=0.002)
    assert data.warnings == ()


def test_an_empty_value_is_not_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    solid(tmp_path / "a.png", 1)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="^--data: the value is empty; name a CSV, a folder, or digits$"):
        load_labelled(
            "",
            inputs=(),
            age_groups=AGE_GROUPS,
            image_size=4,
            fractions=(0.7, 0.15, 0.15),
            seed=0,
            cache=tmp_path / ".cache",
            progress=False,
        )
    with pytest.raises(UserError, match="^--test: the value is empty; name a CSV or a folder of images$"):
        load_test("", {}, image_size=4, cache=tmp_path / ".cache", progress=False)


def test_a_class_without_images_is_refused_with_the_other_problems(tmp_path: Path) -> None:
    for index in range(6):
        solid(tmp_path / "pets" / ("cat" if index < 3 else "dog") / f"{index}.png", index)
    (tmp_path / "pets" / "bird").mkdir()
    (tmp_path / "pets" / "dog" / "x.png").write_text("hello")
    assert refusal(tmp_path, data=str(tmp_path / "pets")) == (
        "pets has 2 problems; nothing was trained. Correct or remove them.\n"
        "  bird holds no images\n"
        "  dog/x.png is not an image"
    )


def test_a_gap_in_the_labels_is_the_only_problem(tmp_path: Path) -> None:
    lines = [line if line.endswith(",0") else line.replace(",", ",9") for line in table(tmp_path, classes=3)]
    lines[0] = "Image,Label"
    assert refusal(tmp_path, lines) == (
        "data.csv has 1 problem; nothing was trained. Correct or remove it.\n"
        "  Label: no row carries 1, 2, 3 and 87 more, and labels count from 0 without a gap"
    )


@pytest.mark.parametrize(("name", "hint"), [("digit", "; did you mean 'digits'?"), ("faces.csv", "")])
def test_data_that_is_not_there(tmp_path: Path, name: str, hint: str) -> None:
    assert refusal(tmp_path, data=name) == f"--data: no file or folder is called '{name}'{hint}"


def test_labelled_data_travels_to_another_process(tmp_path: Path) -> None:
    data = load(tmp_path, table(tmp_path))
    travelled = pickle.loads(pickle.dumps(data))
    assert travelled.pixels == data.pixels
    assert travelled.table.images == data.table.images


# The target and folds


def aged(folder: Path, ages: str) -> list[str]:
    """The lines of a table of two classes of four, with an age each."""
    lines = table(folder)
    return [f"{lines[0]},Age", *(f"{line},{age}" for line, age in zip(lines[1:], ages, strict=True))]


def test_a_target_value_under_two_labels_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, aged(tmp_path, "33445436"), target="Age") == (
        "data.csv has 2 problems; nothing was trained. Correct or remove them.\n"
        "  --target: Age 3 is under the labels 0, 1\n"
        "  --target: Age 4 is under the labels 0, 1"
    )
    assert load(tmp_path, aged(tmp_path, "33445436")).warnings == ()  # the control: no target, no matter


def test_a_target_value_under_a_label_that_cannot_be_read_is_that_problem_alone(tmp_path: Path) -> None:
    lines = aged(tmp_path, "33445566")
    assert refusal(tmp_path, [*lines[:2], lines[2].replace(",0,", ",x,"), *lines[3:]], target="Age") == (
        "data.csv has 1 bad row; nothing was trained. Correct or remove it.\n  row 3, Label: 'x' is not an integer"
    )


def test_a_target_that_is_misspelt_is_told_the_nearest(tmp_path: Path) -> None:
    assert refusal(tmp_path, aged(tmp_path, "33445566"), target="Agee") == (
        "--target: data.csv has no metadata column 'Agee'; did you mean 'Age'?"
    )
    data = load(tmp_path, aged(tmp_path, "33445566"), target="Age")
    assert data.table.columns["Age"] == ("3", "3", "4", "4", "5", "5", "6", "6")


def test_a_folder_of_utkface_names_has_the_age_as_target(tmp_path: Path) -> None:
    for index, age in enumerate((15, 16, 17, 15, 25, 26, 27, 25)):
        solid(tmp_path / "faces" / f"{age}_0_{index % 2}_{index}.png", index)
    data = load(tmp_path, data=str(tmp_path / "faces"), age_groups=(10, 20, 30), target="Age")
    assert sorted(data.table.columns["Age"]) == ["15", "15", "16", "17", "25", "25", "26", "27"]
    assert refusal(tmp_path, data=str(tmp_path / "faces"), age_groups=(10, 20, 30), target="Agee") == (
        "--target: faces has no metadata column 'Agee'; did you mean 'Age'?"
    )


def test_digits_have_no_target(tmp_path: Path) -> None:
    assert refusal(tmp_path, data="digits", target="Age") == "--target: digits has no metadata column 'Age'"


def test_data_are_split_into_folds(tmp_path: Path) -> None:
    lines = table(tmp_path, classes=2, images=6)
    data = load(tmp_path, lines, folds=3)
    assert (data.split.folds, len(data.split.parts)) == (3, 3)
    assert np.bincount(data.split.sides[:6]).tolist() == np.bincount(data.split.sides[6:]).tolist() == [2, 2, 2]
    assert np.array_equal(load(tmp_path, lines, folds=3, fractions=(0.2, 0.4, 0.4)).split.sides, data.split.sides)
    assert data.split_fingerprint != load(tmp_path, lines, folds=3, seed=1).split_fingerprint
    assert data.fingerprint == load(tmp_path, lines).fingerprint


def test_copies_of_an_image_are_in_one_fold(tmp_path: Path) -> None:
    lines = table(tmp_path, classes=2, images=6)
    for index in range(12):
        solid(tmp_path / f"copy{index}.bmp", index)
        lines.append(f"copy{index}.bmp,{index // 6}")
    sides = load(tmp_path, lines, folds=4).split.sides
    assert np.array_equal(sides[:12], sides[12:])


def test_a_class_with_fewer_images_than_folds_is_refused(tmp_path: Path) -> None:
    lines = table(tmp_path, classes=2, images=4)
    assert load(tmp_path, lines, folds=4).split.folds == 4
    assert refusal(tmp_path, lines, folds=5) == (
        "data.csv has 2 problems; nothing was trained. Correct or remove them.\n"
        "  class 0 has 4 images; --folds 5 needs at least 5\n"
        "  class 1 has 4 images; --folds 5 needs at least 5"
    )
    # Two images of a class are enough for two folds, where three sides need three.
    assert load(tmp_path, [*lines[:3], *lines[5:]], folds=2).split.folds == 2


def test_saved_folds_are_used_again(tmp_path: Path) -> None:
    lines, file = table(tmp_path), tmp_path / "splits.csv"
    first = load(tmp_path, lines, folds=2)
    save_split(file, first.table, first.split)
    again = load(tmp_path, lines, split_file=file, seed=5, folds=2)
    assert np.array_equal(again.split.sides, first.split.sides) and again.split.folds == 2
    assert refusal(tmp_path, lines, split_file=file) == (
        "splits.csv is not a saved split (Image,Label,Split with train, valid, holdout)"
    )


def test_with_folds_a_value_is_seen_wherever_it_is(tmp_path: Path) -> None:
    lines = table(tmp_path, classes=2, images=4)
    rows = [f"{line},{race}" for line, race in zip(lines[1:], "70010101", strict=True)]
    assert load(tmp_path, [f"{lines[0]},Race", *rows], folds=2, inputs=("Race",)).warnings == ()


# Test tables


def load_test_at(path: Path, **vocabulary: tuple[str, ...]) -> Any:
    return load_test(str(path), vocabulary, image_size=4, cache=path.parent / ".cache", progress=False)


def test_a_test_table_with_values_that_training_never_saw(tmp_path: Path) -> None:
    table(tmp_path)
    (tmp_path / "test.csv").write_text("Image,Label,Gender,Race\n3.png,9,0,7\n1.png,,1,0\n0.png,x,0,8\n")
    result, warnings = load_test_at(tmp_path / "test.csv", Gender=("0", "1"), Race=("0",))
    assert (result.images, result.labels) == (("3.png", "1.png", "0.png"), None)
    assert result.columns == {"Gender": ("0", "1", "0"), "Race": ("7", "0", "8")}
    assert warnings == (
        f"{tmp_path}/test.csv: 2 rows carry a Race that training never saw, encoded as all zeros, "
        "such as '7' in row 2, '8' in row 4",
    )


def test_everything_wrong_with_a_test_table_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("Image,Gender\na.png,x\n")
    with pytest.raises(UserError) as error:
        load_test_at(tmp_path / "test.csv", Gender=("0",), Race=("0",))
    assert str(error.value) == (
        f"{tmp_path}/test.csv has 2 bad rows; nothing was predicted. Correct or remove them.\n"
        "  row 1, Race: there is no such column\n"
        "  row 2, Gender: 'x' is not an integer\n"
        "  row 2, Image: a.png does not exist"
    )


def test_a_test_folder(tmp_path: Path) -> None:
    solid(tmp_path / "test" / "b.png", 1)
    solid(tmp_path / "test" / "a.png", 2)
    result, warnings = load_test_at(tmp_path / "test")
    assert (result.images, warnings) == (("a.png", "b.png"), ())
    assert decode(result, 4, tmp_path / ".cache", progress=False).open()[:, 0, 0, 0].tolist() == [2, 1]


def test_a_test_that_is_not_there() -> None:
    with pytest.raises(UserError, match="^--test: no file or folder is called 'nowhere'$"):
        load_test_at(Path("nowhere"))


def test_decode_refuses_what_it_cannot_use(tmp_path: Path) -> None:
    data = load(tmp_path, table(tmp_path))
    (tmp_path / "3.png").unlink()
    with pytest.raises(UserError) as error:
        decode(data.table, 4, tmp_path / ".cache", progress=False)
    assert str(error.value) == (
        f"{tmp_path}/data.csv has 1 bad row; nothing was decoded. Correct or remove it.\n"
        "  row 5, Image: 3.png does not exist"
    )


# Options


@pytest.mark.parametrize(("text", "expected"), [("10,20,30,40,50,61", AGE_GROUPS), ("0, 18, 120", (0, 18, 120))])
def test_age_groups(text: str, expected: tuple[int, ...]) -> None:
    assert parse_age_groups(text) == expected


@pytest.mark.parametrize("kind", ["digits", "data.csv", "classes"])
def test_age_groups_that_nothing_reads_are_refused(tmp_path: Path, kind: str) -> None:
    lines = table(tmp_path)
    (tmp_path / "data.csv").write_text("\n".join([f"{line},{'Age' if line == lines[0] else 9}" for line in lines]))
    for index in range(8):
        solid(tmp_path / "classes" / str(index // 4) / f"{index}.png", index)
    options = {"data": kind if kind == "digits" else str(tmp_path / kind), "image_size": 8}
    assert refusal(tmp_path, **options, age_groups=(10, 20, 30)) == (
        f"--age-groups: {kind} is no folder of UTKFace's file names, and nothing else has age classes; "
        "leave the option out"
    )
    # A run that was made with them goes on.
    data = load(tmp_path, **options)
    save_split(tmp_path / "splits.csv", data.table, data.split)
    again = load(tmp_path, **options, age_groups=(10, 20, 30), split_file=tmp_path / "splits.csv")
    assert again.split_fingerprint == data.split_fingerprint


@pytest.mark.parametrize("text", ["", "10", "10,20", "10,20,20", "30,20,10", "-1,5,9", "a,b,c", "1.5,2,3"])
def test_nonsense_for_age_groups(text: str) -> None:
    with pytest.raises(UserError) as error:
        parse_age_groups(text)
    assert str(error.value) == (f"--age-groups: '{text}' is not three or more increasing ages, as in 10,20,30,40,50,61")


def test_the_module_needs_neither_torch_nor_ray_nor_scikit_learn() -> None:
    script = "import sys, trainable.dataset; print({'torch', 'ray', 'sklearn', 'pandas'} & sys.modules.keys())"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"
