import hashlib
import io
import json
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch

from tests.trainable.tiny import PREPROCESSING, config
from trainable import checkpoint, files
from trainable.checkpoint import Best, file_hash, load_best, load_latest, save_best, save_latest
from trainable.errors import UserError
from trainable.model import ConvNet

RESUME: dict[str, Any] = {
    "config": {"depth": 4, "pool": {"2": 3}, "t_max": None},
    "model": {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3)},
    "rows": [{"epoch": 1, "lr": 1e-3}],
}


def best() -> Best:
    return Best(config(), PREPROCESSING, ConvNet(config(), 2, 3).state_dict(), epoch=2, precision="bfloat16")


def with_header(**changes: Any) -> bytes:
    header = {"config": config().to_dict(), "preprocessing": PREPROCESSING.to_json(), "epoch": 1}
    header |= {"precision": "float32", "format": "3"}
    return with_metadata({name: value for name, value in (header | changes).items() if value is not None})


def with_metadata(header: Any) -> bytes:
    content: bytes = safetensors.torch.save({"w": torch.zeros(1)}, {"checkpoint": json.dumps(header)})
    return content


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


# Where each entry was a key of its own.
FORMAT_2: bytes = safetensors.torch.save({"w": torch.zeros(1)}, {"format": "2", "config": "{}", "epoch": "1"})


@pytest.mark.parametrize(("content", "found"), [(with_header(format="4"), 4), (FORMAT_2, 2)])
def test_a_checkpoint_of_another_format_says_which(tmp_path: Path, content: bytes, found: int) -> None:
    path = tmp_path / "best.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        load_best(path)
    assert str(error.value) == f"{path} has format {found}, not 3: read it with the version that wrote it."


def test_the_best_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    saved = best()
    save_best(tmp_path / "best.safetensors", saved)
    loaded = load_best(tmp_path / "best.safetensors")
    assert (loaded.config, loaded.preprocessing, loaded.epoch) == (saved.config, saved.preprocessing, 2)
    assert loaded.precision == "bfloat16"
    assert list(loaded.state) == sorted(saved.state)
    for name, tensor in saved.state.items():
        assert loaded.state[name].dtype == tensor.dtype
        assert torch.equal(loaded.state[name], tensor)
    assert [path.name for path in tmp_path.iterdir()] == ["best.safetensors"]


def test_the_header_says_what_the_network_is_and_what_it_wants(tmp_path: Path) -> None:
    save_best(tmp_path / "best.safetensors", best())
    with safetensors.safe_open(tmp_path / "best.safetensors", framework="np") as file:
        metadata = file.metadata()
    assert list(metadata) == ["checkpoint"]
    header = json.loads(metadata["checkpoint"])
    assert list(header) == ["config", "epoch", "format", "precision", "preprocessing"]
    assert (header["format"], header["epoch"], header["precision"]) == ("3", 2, "bfloat16")
    assert header["config"] == config().to_dict()
    assert json.loads(header["preprocessing"]) == {
        "image_size": 28,
        "mean": [0.5, 0.4, 0.3],
        "std": [0.25, 0.2, 0.15],
        "classes": ["a", "b", "c"],
        "vocabulary": {"Gender": ["0", "1"]},
        "levels": {},
    }


def test_the_same_network_is_always_the_same_bytes(tmp_path: Path) -> None:
    settings = config(inputs=("Race", "Gender"), pool={4: 2, 2: 3})
    with torch.random.fork_rng():
        torch.manual_seed(1)
        state = ConvNet(settings, 2, 3).state_dict()
    hashes = set()
    for turn in range(20):
        order = list(state)[turn:] + list(state)[:turn]
        saved = Best(settings, PREPROCESSING, {name: state[name] for name in order}, epoch=2)
        save_best(tmp_path / "best.safetensors", saved)
        hashes.add(file_hash(tmp_path / "best.safetensors"))
    assert len(hashes) == 1


def test_the_order_of_the_one_hots_is_kept(tmp_path: Path) -> None:
    vocabulary = {"Race": ("0", "1"), "Gender": ("0", "1")}
    saved = replace(best(), preprocessing=replace(PREPROCESSING, vocabulary=vocabulary))
    save_best(tmp_path / "best.safetensors", saved)
    assert list(load_best(tmp_path / "best.safetensors").preprocessing.vocabulary) == ["Race", "Gender"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Error while deserializing header: header too small"),
        (b"PK\x03\x04 not a checkpoint", "Error while deserializing header: header too large"),
        (with_header()[:-1], "Error while deserializing header: incomplete metadata, file not fully covered"),
        (safetensors.torch.save({"w": torch.zeros(1)}), "'format'"),
        (with_header(preprocessing=None), "'preprocessing'"),
        (with_header(epoch=None), "'epoch'"),
        (with_header(precision=None), "'precision'"),
        (with_header(epoch="two"), "invalid literal for int() with base 10: 'two'"),
        (with_header(preprocessing="{"), "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (with_header(config={"depth": 99}), "depth is 99; it must be an integer in 4..12"),
        (with_header(config={"hidden": 1}), "no setting is called 'hidden'"),
        (with_header(config={"pool": []}), "pool is (); it must be a mapping from blocks to sizes, as in {6: 3}"),
        (with_header(config=3), "'int' object is not iterable"),
        (with_metadata(3), "'int' object is not subscriptable"),
        (with_header(preprocessing="{}"), "'image_size'"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_a_sentence_that_names_it(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "best.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        load_best(path)
    assert str(error.value) == f"{path} is not a checkpoint of this program, or is damaged ({reason})."


def test_a_checkpoint_that_is_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    save_best(path, best())
    content = path.read_bytes()
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match="is not a checkpoint of this program, or is damaged"):
            load_best(path)


def test_a_checkpoint_that_is_missing_or_a_folder_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        load_best(tmp_path / "best.safetensors")
    assert str(error.value) == f"{tmp_path / 'best.safetensors'} does not exist."
    with pytest.raises(UserError) as error:
        load_best(tmp_path)
    assert str(error.value).startswith(f"{tmp_path} cannot be read (")


def test_the_resume_state_comes_back_as_it_was(tmp_path: Path) -> None:
    save_latest(tmp_path / "latest.pt", RESUME)
    loaded = load_latest(tmp_path / "latest.pt")
    assert loaded is not None
    assert (loaded["config"], loaded["rows"]) == (RESUME["config"], RESUME["rows"])
    assert torch.equal(loaded["model"]["w"], RESUME["model"]["w"])
    assert [path.name for path in tmp_path.iterdir()] == ["latest.pt"]


def test_there_is_no_resume_state_where_there_is_no_file(tmp_path: Path) -> None:
    assert load_latest(tmp_path / "latest.pt") is None
    assert load_latest(tmp_path / "missing" / "latest.pt") is None


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")  # torch's remark about one of the foreign files
@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\x80", b"\0" * 5000, pickle.dumps([1]), with_header(), b"PK\x03\x04" + b"\xff" * 100]
)
def test_a_foreign_file_is_no_resume_state(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "latest.pt").write_bytes(content)
    assert load_latest(tmp_path / "latest.pt") is None


def test_a_list_is_no_resume_state(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "latest.pt")
    assert load_latest(tmp_path / "latest.pt") is None


def test_a_resume_state_that_is_cut_short_anywhere_is_none(tmp_path: Path) -> None:
    path = tmp_path / "latest.pt"
    save_latest(path, RESUME)
    content = path.read_bytes()
    for length in range(0, len(content), 13):
        path.write_bytes(content[:length])
        assert load_latest(path) is None


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_damaged_resume_state_never_raises(tmp_path: Path) -> None:
    path = tmp_path / "latest.pt"
    save_latest(path, RESUME)
    content = path.read_bytes()
    for position in range(0, len(content), 5):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0x81]) + content[position + 1 :])
        load_latest(path)  # None, or a state: torch checks no sums


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_a_resume_state_cannot_run_code(tmp_path: Path, form: str) -> None:
    made = tmp_path / "made"
    content = io.BytesIO()
    save: Any = torch.save if form == "torch" else pickle.dump
    save({"model": Malicious(made)}, content)
    (tmp_path / "latest.pt").write_bytes(content.getvalue())
    assert load_latest(tmp_path / "latest.pt") is None
    assert not made.exists()
    pickle.loads(pickle.dumps(Malicious(made)))  # the control: it would have
    assert made.exists()


def test_a_resume_state_holds_no_more_than_its_file(tmp_path: Path) -> None:
    path = tmp_path / "latest.pt"
    save_latest(path, {"w": torch.zeros(10_000)})
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    for method, whole in ((zipfile.ZIP_STORED, True), (zipfile.ZIP_DEFLATED, False)):
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, content in entries.items():
                archive.writestr(name, content)
        assert (load_latest(path) is not None) == whole
        assert len(torch.load(path, weights_only=True)["w"]) == 10_000  # the control: torch would unpack it


def test_a_resume_state_of_very_many_entries_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "latest.pt"
    save_latest(path, RESUME)
    with zipfile.ZipFile(path) as archive:
        number = len(archive.infolist())
    monkeypatch.setattr(checkpoint, "ENTRIES", number)
    assert load_latest(path) is not None
    monkeypatch.setattr(checkpoint, "ENTRIES", number - 1)
    assert load_latest(path) is None


def test_a_resume_state_that_is_there_but_cannot_be_read_is_not_taken_for_none(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        load_latest(tmp_path)


def test_a_full_disk_is_called_that_and_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "latest.pt"
    save_latest(path, RESUME)

    class FullFile(io.FileIO):
        def write(self, content: Any) -> int:
            if self.tell() + len(content) > 1000:
                raise OSError(28, "No space left on device")
            return super().write(content)

    monkeypatch.setattr(files, "open", FullFile, raising=False)
    with pytest.raises(OSError, match="No space left on device"):
        save_latest(path, {"w": torch.zeros(1000)})
    assert load_latest(path) is not None
    assert [path.name for path in tmp_path.iterdir()] == ["latest.pt"]


def test_the_hash_is_sha256_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_hash(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
