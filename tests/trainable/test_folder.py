from collections.abc import Sequence
from pathlib import Path

import pytest

from trainable.errors import UserError
from trainable.folder import read_folder, read_test_folder
from trainable.table import Listing

AGE_GROUPS = (10, 20, 30, 40, 50, 61)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def read(folder: Path, *names: str, inputs: Sequence[str] = ()) -> Listing:
    touch(folder, *names)
    return read_folder(folder, "pets", inputs, AGE_GROUPS)


def labels(listing: Listing) -> dict[str, str]:
    table = listing.table
    assert table.labels is not None
    return {image: table.classes[label] for image, label in zip(table.images, table.labels, strict=True)}


def test_a_subfolder_is_a_class(tmp_path: Path) -> None:
    listing = read(tmp_path, "dog/1.JPG", "cat/2.png", "cat/old/3.webp", "cat/.hidden.jpg", ".git/x/1.jpg", "a.txt")
    assert listing.table.classes == ("cat", "dog")
    assert labels(listing) == {"cat/2.png": "cat", "cat/old/3.webp": "cat", "dog/1.JPG": "dog"}
    assert (listing.table.rows, listing.table.columns, listing.warnings, listing.test) == (None, {}, [], None)


def test_classes_that_are_numbers_stand_in_numeric_order_before_names(tmp_path: Path) -> None:
    assert read(tmp_path, "10/a.jpg", "2/a.jpg", "b/a.jpg").table.classes == ("2", "10", "b")


def test_train_and_test_above_the_classes(tmp_path: Path) -> None:
    listing = read(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg", "test/9.jpg", "test/cat/8.jpg", "val/cat/7.jpg")
    assert labels(listing) == {"train/cat/1.jpg": "cat", "train/dog/1.jpg": "dog"}
    assert listing.test is not None
    assert (listing.test.images, listing.test.labels) == (("test/9.jpg", "test/cat/8.jpg"), None)
    assert listing.warnings == [
        "pets: 1 image of val/ left out: what validates is split off train/; move them there to use them, too"
    ]


def test_a_subfolder_without_images_is_a_problem(tmp_path: Path) -> None:
    for name in ("bird", ".hidden", "dog/old"):
        (tmp_path / name).mkdir(parents=True)
    listing = read(tmp_path, "cat/1.jpg", "dog/1.jpg", "fish/1.heic", "fish/.2.jpg")
    assert [problem.text for problem in listing.problems] == [
        "bird holds no images",
        "fish holds no images, only 1 file of unknown extension, such as fish/1.heic",
    ]


def test_a_class_without_images_below_train(tmp_path: Path) -> None:
    (tmp_path / "train" / "bird").mkdir(parents=True)
    (tmp_path / "val").mkdir()
    listing = read(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg", "test/1.jpg")
    assert [problem.text for problem in listing.problems] == ["train/bird holds no images"]


def test_files_of_unknown_extensions_are_one_warning(tmp_path: Path) -> None:
    names = ["cat/1.jpg", "dog/1.jpg", "cat/1.heic", "cat/old/2.HEIC", "dog/a.txt", "dog/.DS_Store", "README.md"]
    assert read(tmp_path / "a", *names).warnings == [
        "pets: 3 files of unknown extension left out, such as cat/1.heic, cat/old/2.HEIC, dog/a.txt"
    ]
    names = ["train/cat/1.jpg", "train/dog/1.jpg", "train/dog/2.heic", "train/a.txt", "test/1.jpg", "test/9.heic"]
    assert read(tmp_path / "b", *names).warnings == [
        "pets: 2 files of unknown extension left out, such as test/9.heic, train/dog/2.heic"
    ]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    listing = read(tmp_path, "train/1.jpg", "bus/1.jpg", "test/1.jpg")
    assert labels(listing) == {"bus/1.jpg": "bus", "test/1.jpg": "test", "train/1.jpg": "train"}
    assert (listing.problems, listing.warnings, listing.test) == ([], [], None)


def test_train_with_subfolders_beside_a_class_is_a_class_and_warned_of(tmp_path: Path) -> None:
    listing = read(tmp_path, "train/old/1.jpg", "train/2.jpg", "bus/1.jpg")
    assert listing.table.classes == ("bus", "train")
    assert listing.warnings == ["pets: train/ is a class like bus/ beside it, and not above its subfolders"]


def test_folders_without_images_beside_train_make_it_no_class(tmp_path: Path) -> None:
    listing = read(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg", "labels/notes.txt", "valid/cat/1.jpg", "a.jpg")
    assert listing.table.classes == ("cat", "dog")
    assert (listing.problems, listing.warnings) == (
        [],
        [
            "pets: 1 image of valid/ left out: what validates is split off train/; move them there to use them, too",
            "pets: 1 image outside the classes left out, such as a.jpg",
        ],
    )


def test_train_without_images_is_a_problem_beside_classes(tmp_path: Path) -> None:
    listing = read(tmp_path, "train/a.txt", "cat/1.jpg")
    assert listing.table.classes == ("cat",)
    assert [problem.text for problem in listing.problems] == [
        "train holds no images, only 1 file of unknown extension, such as train/a.txt"
    ]


def test_images_beside_the_classes_are_left_out_with_a_warning(tmp_path: Path) -> None:
    listing = read(tmp_path, "cat/1.jpg", "dog/1.jpg", "a.jpg", "b.jpg")
    assert listing.warnings == ["pets: 2 images outside the classes left out, such as a.jpg, b.jpg"]


def test_utkface_names(tmp_path: Path) -> None:
    listing = read(
        tmp_path,
        "10_1_4_1.jpg",
        "19_0_0_2.jpg",
        "26_0_2_20170104021543750.jpg.chip.jpg",
        "60_1_01_3.jpg",
        inputs=["Age"],
    )
    assert listing.table.classes == ("10-19", "20-29", "30-39", "40-49", "50-60")
    assert list(labels(listing).values()) == ["10-19", "10-19", "20-29", "50-60"]
    assert listing.table.columns == {
        "Age": ("10", "19", "26", "60"),
        "Gender": ("1", "0", "0", "1"),
        "Race": ("4", "0", "2", "1"),
    }
    assert listing.problems == [] and listing.warnings == []


def test_utkface_ages_outside_the_groups_are_left_out_with_a_warning(tmp_path: Path) -> None:
    listing = read(tmp_path, "9_0_0_1.jpg", "10_0_0_1.jpg", "61_0_0_1.jpg", "116_0_0_1.jpg")
    assert list(labels(listing)) == ["10_0_0_1.jpg"]
    assert listing.warnings == [
        "pets: 3 images of ages outside 10-60 left out, such as 116_0_0_1.jpg, 61_0_0_1.jpg, 9_0_0_1.jpg"
    ]


def test_a_name_that_is_not_utkfaces_is_a_problem(tmp_path: Path) -> None:
    listing = read(tmp_path, "10_0_0_1.jpg", "39_1_20170116174525125.jpg.chip.jpg", "x.jpg")
    assert [problem.text for problem in listing.problems] == [
        "39_1_20170116174525125.jpg.chip.jpg is not named age_gender_race_date.jpg",
        "x.jpg is not named age_gender_race_date.jpg",
    ]


@pytest.mark.parametrize("base", ["", "train/"])
def test_a_stray_subfolder_beside_utkface_names_does_not_make_classes(tmp_path: Path, base: str) -> None:
    names = [f"{base}{age}_0_0_1.jpg" for age in range(10, 50)]
    with pytest.raises(UserError) as error:
        read(tmp_path, *names, f"{base}stray/x.jpg", inputs=["Gender"])
    assert str(error.value) == (
        "pets has 40 images named age_gender_race_date.jpg beside its subfolders, and only 1 image in them, such as "
        f"{base}stray/x.jpg: move those out of the subfolders, to read all by their names, or the others into a "
        "subfolder for each class"
    )


def test_classes_that_outnumber_the_utkface_names_beside_them_are_classes(tmp_path: Path) -> None:
    listing = read(tmp_path, "cat/1.jpg", "dog/1.jpg", "10_0_0_1.jpg", "11_0_0_1.jpg")
    assert listing.table.classes == ("cat", "dog")
    assert listing.warnings == ["pets: 2 images outside the classes left out, such as 10_0_0_1.jpg, 11_0_0_1.jpg"]


@pytest.mark.parametrize(
    ("names", "name", "hint"),
    [(["cat/1.jpg", "dog/1.jpg"], "Gender", ""), (["10_0_0_1.jpg"], "Gendre", "; did you mean 'Gender'?")],
)
def test_an_input_that_the_folder_lacks(tmp_path: Path, names: list[str], name: str, hint: str) -> None:
    with pytest.raises(UserError) as error:
        read(tmp_path, *names, inputs=[name])
    assert str(error.value) == f"--inputs: pets has no metadata column '{name}'{hint}"


@pytest.mark.parametrize(("names", "where"), [(["notes.txt"], ""), (["train/a.txt", "test/1.jpg"], " in train/")])
def test_a_folder_without_images(tmp_path: Path, names: list[str], where: str) -> None:
    with pytest.raises(UserError) as error:
        read(tmp_path, *names)
    assert str(error.value) == (
        f"pets has no images{where}: put them into a subfolder for each class, or name them age_gender_race_date.jpg"
    )


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/1.jpg", "pets/cat/1.jpg")
    (tmp_path / "pets" / "dog").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "pets" / "cat" / "up").symlink_to(tmp_path / "pets")
    assert list(labels(read(tmp_path / "pets"))) == ["cat/1.jpg", "dog/1.jpg"]


def test_a_test_folder_is_flat_or_nested_and_sorted(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a/2.jpg", "a/10.jpg", "a/3.heic")
    listing = read_test_folder(tmp_path, "test", [])
    table = listing.table
    assert listing.warnings == ["test: 1 file of unknown extension left out, such as a/3.heic"]
    assert (table.images, table.labels, table.columns) == (("a/10.jpg", "a/2.jpg", "b.jpg"), None, {})


def test_a_test_folder_gives_inputs_by_utkface_names_alone(tmp_path: Path) -> None:
    touch(tmp_path, "99_1_4_1.jpg", "b.jpg")
    listing = read_test_folder(tmp_path, "test", ["Race"])
    assert (listing.table.images, listing.table.columns) == (("99_1_4_1.jpg",), {"Race": ("4",)})
    assert [problem.text for problem in listing.problems] == ["b.jpg is not named age_gender_race_date.jpg"]
    with pytest.raises(
        UserError, match="^test is a folder and has no metadata column 'Camera'; name a CSV that has it$"
    ):
        read_test_folder(tmp_path, "test", ["Camera"])


def test_an_empty_test_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="^test has no images$"):
        read_test_folder(tmp_path, "test", [])
