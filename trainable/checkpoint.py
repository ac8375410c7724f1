"""The two checkpoints of a trial: the best epoch, which stays, and the latest, from which a trial resumes.

Neither is a pickle that could run code: the best is a safetensors file, the latest is loaded with weights_only.
"""

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from trainable import files
from trainable.config import TrialConfig
from trainable.errors import UserError, other_format
from trainable.preprocess import Preprocessing
from trainable.untrusted import parse_json

FORMAT = "3"
HEADER = "checkpoint"
ENTRY, ENTRIES = b"PK\1\2", 2**16  # what begins each entry in an archive's list, and more than any network has


@dataclass(frozen=True)
class Best:
    """A trained network with all that evaluation needs."""

    config: TrialConfig
    preprocessing: Preprocessing
    state: dict[str, Tensor]  # the network's parameters and buffers, on the CPU
    epoch: int  # 1 is the first
    precision: str = "float32"  # float32 or bfloat16: the format of products that it was trained and validated in


def checkpoint_names(networks: int) -> list[str]:
    """The names of a trial's checkpoints: one, or one a fold."""
    return ["best.safetensors"] if networks == 1 else [f"fold{fold}.safetensors" for fold in range(1, networks + 1)]


def save_best(path: Path, best: Best) -> None:
    """Writes `best` atomically as one safetensors file, its configuration and preprocessing in the header.

    The same network is always the same bytes: files are known by their hashes.
    """
    header = {
        "format": FORMAT,
        "config": best.config.to_dict(),
        "preprocessing": best.preprocessing.to_json(),  # as text, which keeps the order of the one-hots
        "epoch": best.epoch,
        "precision": best.precision,
    }
    # Under one key: safetensors sorts the tensors, and writes several keys in another order each time.
    metadata = {HEADER: json.dumps(header, sort_keys=True)}
    files.write_bytes(path, safetensors.torch.save(best.state, metadata))


def load_best(path: Path) -> Best:
    """Reads what `save_best` wrote. Raises UserError, naming the file, for anything else."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # Before format 3 each entry was a key of its own.
            header = parse_json(metadata[HEADER]) if HEADER in metadata else metadata
            if header["format"] != FORMAT:
                raise UserError(other_format(path, header["format"], FORMAT))
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        return Best(
            TrialConfig.from_dict(header["config"]),
            Preprocessing.from_json(header["preprocessing"]),
            state,
            int(header["epoch"]),
            header["precision"],
        )
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error}).") from None
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a checkpoint of this program, or is damaged ({error}).") from None


def save_latest(path: Path, state: dict[str, Any]) -> None:
    """Writes a resume state (tensors, numbers, text, and lists and dicts of them) atomically."""
    # By way of memory: writing to a full disk, torch.save raises a RuntimeError that no longer says what is wrong.
    content = io.BytesIO()
    torch.save(state, content)
    files.write_bytes(path, content.getvalue())


def load_latest(path: Path) -> dict[str, Any] | None:
    """The resume state, or None where there is none or it is damaged: then the trial starts again.

    Raises:
        OSError: where there is a file that cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        if content.count(ENTRY) > ENTRIES:
            return None
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            # torch compresses nothing, so what holds more than the file itself is a bomb; and it looks at no sums.
            if sum(entry.file_size for entry in archive.infolist()) > len(content) or archive.testzip() is not None:
                return None
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception:  # of damaged bytes torch makes anything: KeyError, IndexError, UnicodeDecodeError
        return None
    return state if isinstance(state, dict) else None


def file_hash(path: Path) -> str:
    """SHA-256 of the file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
