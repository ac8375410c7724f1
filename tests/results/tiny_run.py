"""A run as the search leaves it, of tiny networks with real checkpoints, made once and copied for each test."""

import csv
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trainable.checkpoint import Best, file_hash, save_best
from trainable.config import TrialConfig
from trainable.dataset import HOLDOUT, VALID, LabelledData, decode, load_labelled, save_split
from trainable.evaluate import predict
from trainable.model import ConvNet
from trainable.preprocess import Preprocessing, vocabulary

SIZE, CLASSES, IMAGES, TESTS = 28, 3, 60, 7
CONFIG = TrialConfig(depth=4, widths=(2, 2, 2, 2), head_width=4, image_size=SIZE, inputs=("Gender",))


@dataclass(frozen=True)
class Data:
    """Images on disk with their table, its test table, and what loading gives."""

    folder: Path  # data.csv, testdata.csv, sample.csv
    cache: Path
    labelled: LabelledData

    def best(self, seed: int, config: TrialConfig = CONFIG) -> Best:
        """A checkpoint with random weights and this data's preprocessing."""
        table, labelled = self.labelled.table, self.labelled
        known = vocabulary(table.columns, config.inputs)
        preprocessing = Preprocessing(config.image_size, labelled.mean, labelled.std, table.classes, known)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            state = ConvNet(config, preprocessing.metadata_width, CLASSES).state_dict()
        return Best(config, preprocessing, state, epoch=3)

    def write_trial(self, folder: Path, best: Best) -> None:
        """A trial's checkpoint and logits."""
        folder.mkdir(parents=True, exist_ok=True)
        table = self.labelled.table
        pixels = decode(table, best.preprocessing.image_size, self.cache, progress=False).open()
        logits = predict(best, pixels, table.columns)
        valid, holdout = (self.labelled.split == part for part in (VALID, HOLDOUT))
        ids = np.array(table.images)
        arrays = {"valid": logits[valid], "holdout": logits[holdout]}
        save_best(folder / "best.safetensors", best)
        np.savez(
            folder / "logits.npz",
            **arrays,
            valid_ids=ids[valid],
            holdout_ids=ids[holdout],
            checkpoint=np.array(file_hash(folder / "best.safetensors")),
        )

    def write_run(self, folder: Path, bests: Sequence[Best], states: Sequence[str], values: Sequence[float]) -> None:
        """A run with a trial for each checkpoint, ranked in this order."""
        folder.mkdir(parents=True)
        record = {
            "format": 1,
            "name": folder.name,
            "sessions": [{"code": "0123"}],
            "objective": "valid_accuracy",
            "data": {
                "source": str(self.folder / "data.csv"),
                "test": None,
                "cache": str(self.cache),
                "classes": list(self.labelled.table.classes),
                "inputs": ["Gender"],
                "image_size": SIZE,
                "fingerprint": self.labelled.fingerprint,
                "split_fingerprint": self.labelled.split_fingerprint,
            },
        }
        (folder / "run.json").write_text(json.dumps(record))
        save_split(folder / "splits.csv", self.labelled.table, self.labelled.split)
        rows = []
        for rank, (best, state, value) in enumerate(zip(bests, states, values, strict=True), start=1):
            trial = f"{rank * 2:04}"
            self.write_trial(folder / "trials" / trial, best)
            rows.append({"rank": rank, "trial": trial, "state": state, "valid_accuracy": value, "valid_loss": 1.0})
        write_csv(folder / "leaderboard.csv", rows)


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """A CSV of rows with the same keys."""
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    rows = []
    for index in range(IMAGES + TESTS):
        pixels = rng.integers(256, size=(32, 32, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        rows.append({"Image": f"{index}.png", "Label": index % CLASSES, "Gender": index % 2})
    write_csv(folder / "data.csv", rows[:IMAGES])
    tests = [{"Image": row["Image"], "Gender": row["Gender"]} for row in reversed(rows[IMAGES:])]
    write_csv(folder / "testdata.csv", tests)
    write_csv(folder / "sample.csv", [{"Id": row["Image"], "Category": 0} for row in tests])
    labelled = load_labelled(
        str(folder / "data.csv"),
        inputs=["Gender"],
        image_size=SIZE,
        fractions=(0.4, 0.2, 0.4),
        seed=0,
        cache=folder / "cache",
        progress=False,
    )
    return Data(folder, folder / "cache", labelled)


@pytest.fixture(scope="session")
def template(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template") / "run"
    other_size = replace(CONFIG, image_size=32, inputs=(), flip=1.0)
    bests = [data.best(1), data.best(2), data.best(3, other_size), data.best(4), data.best(5)]
    states = ["COMPLETE", "COMPLETE", "COMPLETE", "PRUNED", "FAIL"]
    data.write_run(folder, bests, states, [0.7, 0.6, 0.5, 0.4, 0.3])
    return folder


@pytest.fixture
def run(template: Path, tmp_path: Path) -> Path:
    """runs/faces with trials 0002, 0004 and 0006 (image size 32, no inputs) COMPLETE, 0008 PRUNED, 0010 FAIL."""
    folder = tmp_path / "runs" / "faces"
    shutil.copytree(template, folder)
    return folder
