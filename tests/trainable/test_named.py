"""What a run's record is believed about where to write, whose images to show and whose code to run."""

from pathlib import Path
from typing import Any

import pytest

from trainable import named
from trainable.errors import UserError

ALL = ("space", "data", "storage", "cache")


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a user who has named nothing yet has what was named."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "state"


def record(
    space: str = "dropout", storage: str = "", cache: str = "~/.cache/convsearch", data: str = "digits"
) -> dict[str, Any]:
    return {"arguments": {"space": space, "storage": storage, "data": data}, "data": {"cache": cache}}


def refusal(said: dict[str, Any], **given: str) -> str:
    with pytest.raises(UserError) as error:
        named.chosen(Path("runs/photos"), said, given, *ALL)
    return str(error.value)


def test_what_is_the_programs_own_needs_no_naming(state: Path) -> None:
    own = named.chosen(Path("run"), record(), {}, *ALL)
    cache = str(Path.home() / ".cache" / "convsearch")
    assert own == {"space": "dropout", "data": "digits", "storage": "", "cache": cache}
    named.note({**own, "out": Path("runs"), "time_budget": None})
    assert not state.exists()


@pytest.mark.parametrize(
    ("option", "value", "how"),
    [
        ("space", "/home/ann/mine.py", "--space FILE"),
        ("data", "/home/ann/photos", "--data CSV|FOLDER"),
        ("storage", "s3://bucket/runs", "--storage FOLDER|URI (or none)"),
        ("cache", "/home/ann/cache", "--cache DIR"),
        ("cache", "/home/ann/\ud800", "--cache DIR"),
    ],
)
def test_what_nobody_has_named_is_refused_until_it_is(option: str, value: str, how: str) -> None:
    said = record(**{option: value})
    assert refusal(said) == (
        f"runs/photos/run.json has --{option} {value}, which no command of yours on this machine has named yet. A run "
        f"may come from anybody, so what it runs, what it shows and where it writes is yours to say: give {how}."
    )
    for other in ALL:
        if other != option:
            named.note({other: value})  # as something else
    assert f"--{option} {value}, which" in refusal(said)
    assert named.chosen(Path("run"), said, {option: "/mine"}, option) == {option: "/mine"}
    assert f"--{option} {value}, which" in refusal(said)
    named.note({option: value})
    assert named.chosen(Path("run"), said, {}, *ALL)[option] == value


def test_all_that_is_missing_is_said_at_once() -> None:
    said = record("a.py", "s3://b", "/c")
    assert f"has --space {Path.cwd()}/a.py and --storage s3://b and --cache /c, which" in refusal(said)
    assert refusal(said, cache="/c").endswith(" give --space FILE and --storage FOLDER|URI (or none).")


def test_what_was_named_holds_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = record(str(tmp_path / "mine.py"), "", str(tmp_path / "cache"), str(tmp_path / "photos"))
    named.note({"space": "mine.py", "cache": Path("cache"), "data": "photos/"})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert named.chosen(Path("run"), said, {}, *ALL)["space"] == str(tmp_path / "mine.py")
    assert "elsewhere/mine.py, which" in refusal(record("mine.py"))


def test_what_is_chosen_is_the_same_in_any_folder_whoever_said_it(tmp_path: Path) -> None:
    given = {"cache": Path("~/cache"), "space": "mine.py", "data": "./digits"}
    assert named.chosen(Path("run"), record(), given, *ALL) == {
        "cache": str(Path.home() / "cache"),
        "space": str(tmp_path / "mine.py"),
        "data": str(tmp_path / "digits"),
        "storage": "",
    }
    named.note({"cache": "cache"})
    assert named.chosen(Path("run"), record(cache="cache"), {}, "cache") == {"cache": str(tmp_path / "cache")}


def test_a_home_that_nobody_knows_is_said() -> None:
    for said, given in ((record(cache="~no one/c"), {}), (record(), {"cache": "~no one/c"})):
        with pytest.raises(UserError) as error:
            named.chosen(Path("run"), said, given, "cache")
        assert str(error.value) == (
            "--cache: ~no one/c is in a home folder that this machine does not know; give --cache DIR in full."
        )


def test_where_nothing_can_be_noted_the_next_command_has_to_name_it(state: Path) -> None:
    state.touch()  # no folder
    named.note({"storage": "s3://bucket"})
    assert "--storage s3://bucket, which" in refusal(record(storage="s3://bucket"))
