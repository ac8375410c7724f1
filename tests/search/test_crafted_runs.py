"""Runs that somebody else may have made: each file is read as data, or refused in a sentence that names it."""

import io
import json
import math
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search import confirm, ensemble, report, run
from search.record import lock

FINISHED = Path(__file__).parents[1] / "assets" / "formats" / "2-3"
DEEP = b'{"a":' * 100_000
TORN = "it is nested too deeply"


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("harm",)


PICKLE = pickle.dumps(Harmful())


@pytest.fixture
def crafted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run to be tampered with."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(FINISHED, tmp_path / "run"))


def resume(crafted: Path, cache: Path) -> int:
    where = ["--out", str(crafted.parent), "--space", str(FINISHED.parent / "tiny.py"), "--cache", str(cache)]
    return run.main(["--resume", crafted.name, *where])


def combine(crafted: Path, cache: Path) -> int:
    return ensemble.main([str(crafted), "--cache", str(cache)])


def again(crafted: Path, cache: Path) -> int:
    return confirm.main([str(crafted), "--cache", str(cache)])


def verify(crafted: Path, cache: Path) -> int:
    return ensemble.main(["--verify", str(crafted / "ensemble.json"), "--cache", str(cache)])


def tell(crafted: Path, cache: Path) -> int:
    return report.main([str(crafted)])


LOGITS, CHECKPOINT = "trials/0001/logits.npz", "trials/0001/best.safetensors"
IMPOSTOR = "Error: {run}, trial 0001: its logits are not its checkpoint's; resume the run."
RECORD = "Error: {path} is not the record of a run, or is damaged (" + TORN + ")"
BYTE = "Error: {path} is damaged ('utf-8' codec can't decode byte 0x80 in position 0: invalid start byte); "


@pytest.mark.parametrize(
    ("name", "content", "command", "said"),
    [
        ("run.json", DEEP, tell, RECORD),
        ("run.json", DEEP, combine, RECORD),
        ("run.json", DEEP, resume, RECORD),
        ("run.json", PICKLE, resume, "Error: {path} is not the record of a run, or is damaged ("),
        ("ensemble.json", DEEP, verify, "Error: {path} is not an ensemble's manifest, or is damaged (" + TORN + ")."),
        ("study.journal", DEEP + b"\n", resume, "Error: the study is damaged at byte 0, so the run cannot go on."),
        (LOGITS, PICKLE, combine, "Error: {path} is missing or damaged (it is no archive of arrays, or is cut short)."),
        (CHECKPOINT, PICKLE, combine, IMPOSTOR),
        (
            "leaderboard.csv",
            PICKLE,
            combine,
            BYTE + "restore it from a copy, or resume the run, ",
        ),
        ("splits.csv", PICKLE, combine, BYTE + "restore it from a copy."),
        ("trials/0001/metrics.csv", PICKLE, tell, "Error: {path} is damaged; restore it from a copy, or delete it "),
        (
            "trials/0001/metrics.csv",
            b"epoch,valid_loss,valid_accuracy,seconds\n1e999,0,0,0\n",
            tell,
            "Error: {path} is damaged; restore it from a copy, or delete it ",
        ),
    ],
)
def test_a_file_that_is_crafted_is_refused(
    name: str,
    content: bytes,
    command: Callable[[Path, Path], int],
    said: str,
    crafted: Path,
    cache: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = crafted / name
    path.write_bytes(content)
    assert command(crafted, cache) == 2
    assert capsys.readouterr().err.startswith(said.format(path=path, run=crafted))
    assert not Path("harm").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda made: made["data"]["classes"].pop(), "{0}/ensemble.json is of other images or classes than {0}."),
        (
            lambda made: made["scores"]["single"]["accuracy"].update(low=math.nan),
            "{0}/ensemble.json is not an ensemble&#39;s manifest, or is damaged (NaN is no number).",
        ),
        (
            lambda made: made["members"][0].update(valid_accuracy=math.inf),
            "{0}/ensemble.json is not an ensemble&#39;s manifest, or is damaged (Infinity is no number).",
        ),
    ],
)
def test_an_ensemble_that_no_command_writes_is_a_note(
    change: Callable[[dict[str, Any]], object], said: str, crafted: Path, cache: Path
) -> None:
    manifest = json.loads((crafted / "ensemble.json").read_text())
    change(manifest)
    (crafted / "ensemble.json").write_text(json.dumps(manifest))
    assert tell(crafted, cache) == 0
    assert said.format(crafted.resolve()) in (crafted / "report.html").read_text()


def test_an_infinite_choice_of_a_space_is_null_for_programs(crafted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(crafted, "space", starts=[{"lr": 1e-3}, {"lr": math.inf}])
    assert report.main([str(crafted), "--format", "json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["runs"]
    assert found["space"]["starts"] == [{"lr": 1e-3}, {"lr": None}]


@pytest.mark.parametrize("name", ["confirm.json", "ensemble.json", "tune/one/result.json", LOGITS])
def test_what_a_report_can_do_without_is_left_out(
    name: str, crafted: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for content in (DEEP, PICKLE):
        (crafted / name).parent.mkdir(parents=True, exist_ok=True)
        (crafted / name).write_bytes(content)
        assert tell(crafted, cache) == 0
    assert not Path("harm").exists()


def test_what_ray_pickled_beside_a_run_is_never_read(
    crafted: Path, cache: Path, cluster: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (crafted / "tune").mkdir()
    for name in ("tuner.pkl", "trainable.pkl", "search_gen_state-1.json", "searcher-state-1.pkl"):
        (crafted / "tune" / name).write_bytes(PICKLE)
    where = ["--out", str(crafted.parent), "--space", str(FINISHED.parent / "tiny.py"), "--cache", str(cache)]
    assert run.main(["--resume", crafted.name, *where, "--trials", "3", "--address", cluster]) == 0
    assert len((crafted / "leaderboard.csv").read_text().splitlines()) == 4
    assert not Path("harm").exists()


def edit(crafted: Path, part: str, **changes: object) -> None:
    """Has run.json say something else."""
    record = json.loads((crafted / "run.json").read_text())
    record[part] |= changes
    (crafted / "run.json").write_text(json.dumps(record))


def test_python_that_comes_with_a_run_is_not_run(
    crafted: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("run/trials/0000/space.py", "beside.py"):
        edit(crafted, "arguments", space=name)
        Path(name).write_text("import os\nos.mkdir('harm')")
        for main, options, shown in ((run.main, ["--resume", "run"], "run"), (confirm.main, ["run"], crafted)):
            assert main([*options, "--cache", str(cache), "--out", "."]) == 2
            assert capsys.readouterr().err == (
                f"Error: {shown}/run.json has --space {Path(name).absolute()}, which no command of yours on this "
                "machine has named yet. A run may come from anybody, so what it runs, what it shows and where it "
                "writes is yours to say: give --space FILE.\n"
            )
    assert not Path("harm").exists()


def test_a_run_does_not_say_where_to_write(crafted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(crafted, "arguments", storage=f"{crafted.parent}/site-packages")
    edit(crafted, "data", cache=f"{crafted.parent}/bin")
    before = sorted(crafted.parent.rglob("*"))
    space = ["--space", str(FINISHED.parent / "tiny.py")]
    both, cache = ("has --storage {0}/site-packages and --cache {0}/bin, which", "has --cache {0}/bin, which")
    for main, options, said in (
        (run.main, ["--resume", "run", *space], both),
        (run.main, ["--resume", "run", *space, "--storage", "none"], cache),
        (confirm.main, ["run"], both),
        (ensemble.main, ["run"], cache),
        (ensemble.main, ["--verify", "run/ensemble.json"], cache),
    ):
        assert main([*options, *([] if "--verify" in options else ["--out", "."])]) == 2
        assert said.format(crafted.parent) in capsys.readouterr().err
    edit(crafted, "data", cache="~/.cache/convsearch")
    assert run.main(["--name", "run", *space, "--out", "."]) == 2
    assert f"has --storage {crafted.parent}/site-packages, which" in capsys.readouterr().err
    assert sorted(crafted.parent.rglob("*")) == before


def test_what_this_user_has_named_once_is_remembered(
    finished: Path, cache: Path, cluster: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    resumed = ["--resume", "run", "--out", ".", "--address", cluster]
    assert run.main(resumed) == 0
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another user's"))
    assert run.main(resumed) == 2
    own = json.loads((finished / "run.json").read_text())["arguments"]["space"]
    assert run.main([*resumed, "--space", own, "--cache", str(cache)]) == 0
    assert run.main(resumed) == 0


@pytest.mark.parametrize(("place", "content"), [(".lock", "mine"), ("trials/0002", ""), ("tune/one/result.json", "{}")])
def test_no_link_in_a_run_leads_what_is_written_elsewhere(
    place: str, content: str, crafted: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    victim = tmp_path / "victim"
    if content:
        victim.write_text(content)
    else:
        victim.mkdir()
    (crafted / place).parent.mkdir(parents=True, exist_ok=True)
    (crafted / place).unlink(missing_ok=True)
    (crafted / place).symlink_to(victim)
    for command in (resume, combine, again):
        assert command(crafted, cache) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith("Error: ") and said.endswith(
            f"{place} is a symbolic link, and a run has none: what is read or written there is wherever it leads. "
            "Put that in its place, or move the link away."
        )
    assert victim.read_text() == content if content else not any(victim.iterdir())


FILES = (
    *("run.json", "study.journal", "splits.csv", "leaderboard.csv", "trials/0000/metrics.csv", ".lock"),
    *("ensemble.json", "submission.csv", "confirm.json"),
)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("put", "said"),
    [
        (os.mkdir, "{} is a folder, where a run has a file: put that in its place, or move it away."),
        (os.mkfifo, "{} is neither a file nor a folder, and a run has nothing else: move it away."),
        (
            lambda path: os.symlink("/dev/zero", path),
            "{} is a symbolic link, and a run has none: what is read or written there is wherever it leads. Put that "
            "in its place, or move the link away.",
        ),
    ],
    ids=["folder", "pipe", "endless"],
)
def test_what_is_in_a_files_place_is_named_before_it_is_read(
    put: Callable[[Path], None],
    said: str,
    name: str,
    crafted: Path,
    cache: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = crafted / name
    path.unlink(missing_ok=True)
    put(path)
    before = sorted(crafted.rglob("*"))
    for command in (tell, combine, resume, again):
        assert command(crafted, cache) == 2
        assert capsys.readouterr().err.splitlines()[-1] == f"Error: {said.format(path)}"
    assert verify(crafted, cache) == (2 if name == "ensemble.json" else 1)
    output = capsys.readouterr()
    if path.is_symlink() and name == "ensemble.json":  # a user may have a link to one
        said, path = "{} is neither a file nor a folder, and a run has nothing else: move it away.", Path("/dev/zero")
    assert f"{'Error' if name == 'ensemble.json' else 'Changed'}: {said.format(path)}\n" in output.err + output.out
    assert sorted(crafted.rglob("*")) == before


def test_nothing_is_written_where_an_ensemble_cannot_end(
    crafted: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "elsewhere" / "submission.csv"
    path.mkdir(parents=True)
    assert ensemble.main([str(crafted), "--cache", str(cache), "--output", str(path.parent)]) == 2
    assert capsys.readouterr().err == (
        f"Error: {path} is a folder, where a run has a file: put that in its place, or move it away.\n"
    )
    assert list(path.parent.iterdir()) == [path]


def test_the_lock_is_never_a_link(tmp_path: Path) -> None:
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "debug.log").symlink_to(tmp_path)  # which wandb makes itself
    with lock(tmp_path):
        assert (tmp_path / ".lock").is_file()


@pytest.mark.parametrize("after", [False, True])
def test_a_journal_that_is_nested_deeply_is_damaged(
    after: bool, crafted: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = crafted / "study.journal"
    path.write_bytes((path.read_bytes() if after else b"") + DEEP + b"\n{}\n")
    assert tell(crafted, cache) == 2
    assert capsys.readouterr().err.startswith(f"Error: {path} is damaged (maximum recursion depth exceeded")


@pytest.mark.parametrize("trial", ["../../victim", "/victim", "", "12", "000١"])
def test_a_trial_is_no_path(trial: str, crafted: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = crafted / "leaderboard.csv"
    path.write_text(path.read_text().replace("0001", trial))
    assert combine(crafted, cache) == 2
    assert capsys.readouterr().err == f"Error: {path} has a trial called {trial!r}, which no search makes.\n"


def test_logits_that_are_objects_are_refused(crafted: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = crafted / LOGITS
    with np.load(path) as arrays:
        entries = {name: arrays[name] for name in arrays.files}
    entries["holdout"] = np.array([Harmful()], dtype=object)
    with zipfile.ZipFile(path, "w") as made:
        for name, array in entries.items():
            content = io.BytesIO()
            np.save(content, array, allow_pickle=True)
            made.writestr(f"{name}.npy", content.getvalue())
    assert combine(crafted, cache) == 2
    why = "Object arrays cannot be loaded when allow_pickle=False"
    assert capsys.readouterr().err == f"Error: {path} is missing or damaged ({why}).\n"
    assert not Path("harm").exists()


def test_no_order_to_the_terminal_gets_there(crafted: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    splits = crafted / "splits.csv"
    splits.write_text(splits.read_text().replace(",9,", ",\x1b[31m,"))
    assert combine(crafted, cache) == 2
    assert capsys.readouterr().err == (
        f"Error: {splits} has the label '\\x1b[31m', which {crafted / 'run.json'} does not list as a class.\n"
    )
