from pathlib import Path

from benchmarks.pictures import part_of, read_rows, write_images


def test_a_part_has_its_own_copies_of_the_images(tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    (tmp_path / "some").mkdir()
    data = write_images(tmp_path / "all", 20)
    part = part_of(data, 8, tmp_path / "some")
    rows = read_rows(part)
    assert len(rows) == 8 and rows[0].keys() == {"Image", "Label"}
    assert {row["Image"] for row in rows} == {path.name for path in (tmp_path / "some").glob("*.png")}
    for row in rows:
        assert row in read_rows(data)


def test_a_part_is_the_same_each_time(tmp_path: Path) -> None:
    data = write_images(tmp_path, 20)
    assert (
        read_rows(data)[:5]
        == read_rows(data)[:5]
        != [{"Image": f"{number}.png", "Label": str(number % 5)} for number in range(5)]
    )
