"""Runs that somebody else may have made: each file is read as data, or refused in a sentence that names it."""

import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from search import confirm, ensemble, report, run

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


def test_python_that_comes_with_a_run_is_not_run(
    crafted: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads((crafted / "run.json").read_text())
    record["arguments"]["space"] = "run/trials/0000/space.py"
    (crafted / "run.json").write_text(json.dumps(record))
    (crafted / "trials" / "0000" / "space.py").write_text("import os\nos.mkdir('harm')")
    for main, options in ((run.main, ["--resume", "run", "--cache", str(cache)]), (confirm.main, ["run"])):
        assert main([*options, "--out", "."]) == 2
        said = "Error: --space: run/trials/0000/space.py lies in the folder of a run, which somebody else may have made"
        assert capsys.readouterr().err.startswith(said)
    assert not Path("harm").exists()


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
