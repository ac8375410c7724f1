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

from trainable import named
from trainable.checkpoint import Best, checkpoint_names, file_hash, save_best
from trainable.config import Augmentation, TrialConfig
from trainable.dataset import LabelledData, decode, load_labelled, save_split
from trainable.evaluate import predict
from trainable.folds import fold_config
from trainable.network import build_network
from trainable.preprocess import Preprocessing

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
        known = labelled.vocabulary(config.inputs, labelled.split.trained)
        mean, std = labelled.statistics(labelled.split.trained)
        preprocessing = Preprocessing(config.image_size, mean, std, table.classes, known)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            state = build_network(config, preprocessing).state_dict()
        return Best(config, preprocessing, state, epoch=3)

    def write_trial(self, folder: Path, *bests: Best) -> None:
        """A trial's checkpoints, one or one a fold, and logits."""
        folder.mkdir(parents=True, exist_ok=True)
        table, split = self.labelled.table, self.labelled.split
        paths = [folder / name for name in checkpoint_names(len(bests))]
        logits = np.zeros((len(table.images), CLASSES), np.float32)
        for path, best, part in zip(paths, bests, split.parts, strict=True):
            save_best(path, best)
            pixels = decode(table, best.preprocessing.image_size, self.cache, progress=False).open()
            rows = part.valid if split.folds else split.everything.train
            logits[rows] = predict(best, pixels, table.columns)[rows]
        ids = np.array(table.images)
        np.savez(
            folder / "logits.npz",
            valid=logits[split.judged],
            holdout=logits[split.weighed],
            valid_ids=ids[split.judged],
            holdout_ids=ids[split.weighed],
            checkpoints=np.array([file_hash(path) for path in paths]),
        )

    def write_run(
        self, folder: Path, bests: Sequence[Best | Sequence[Best]], states: Sequence[str], values: Sequence[float]
    ) -> None:
        """A run with a trial for each checkpoint, or each folds' checkpoints, ranked in this order."""
        folder.mkdir(parents=True)
        record = {
            "format": 2,
            "name": folder.name,
            "sessions": [{"code": "0123"}],
            "arguments": {
                "data": str(self.folder / "data.csv"),
                "inputs": ["Gender"],
                "target": None,
                "age_groups": "10,20,30,40,50,61",
                "split": "40/20/40",
                "folds": self.labelled.split.folds,
                "seed": 0,
                "precision": "auto",
                "max_concurrent": None,
                "cpus_per_trial": 1.0,
                "gpus_per_trial": 0.0,
            },
            "objective": "valid_accuracy",
            "data": {
                "source": str(self.folder / "data.csv"),
                "test": None,
                "cache": str(self.cache),
                "classes": list(self.labelled.table.classes),
                "inputs": ["Gender"],
                "image_size": SIZE,
                "counts": self.labelled.split.counts(),
                "fingerprint": self.labelled.fingerprint,
                "split_fingerprint": self.labelled.split_fingerprint,
            },
        }
        (folder / "run.json").write_text(json.dumps(record))
        save_split(folder / "splits.csv", self.labelled.table, self.labelled.split)
        rows = []
        for rank, (best, state, value) in enumerate(zip(bests, states, values, strict=True), start=1):
            trial = f"{rank * 2:04}"
            self.write_trial(folder / "trials" / trial, *([best] if isinstance(best, Best) else best))
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
    named.note({"cache": folder / "cache"})  # as a command that trains with these data would
    return Data(folder, folder / "cache", load(folder))


def load(folder: Path, folds: int = 0) -> LabelledData:
    """The labelled images of a data folder."""
    return load_labelled(
        str(folder / "data.csv"),
        inputs=["Gender"],
        image_size=SIZE,
        fractions=(0.4, 0.2, 0.4),
        folds=folds,
        seed=0,
        cache=folder / "cache",
        progress=False,
    )


@pytest.fixture
def folds_run(data: Data, tmp_path: Path) -> Path:
    """runs/folds with trials 0002 and 0004, of three folds each."""
    folded = replace(data, labelled=load(data.folder, folds=3))
    bests = [[folded.best(seed + fold, fold_config(CONFIG, fold)) for fold in range(3)] for seed in (20, 30)]
    folded.write_run(tmp_path / "runs" / "folds", bests, ["COMPLETE"] * 2, [0.7, 0.6])
    return tmp_path / "runs" / "folds"


@pytest.fixture(scope="session")
def template(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template") / "run"
    other_size = replace(CONFIG, image_size=32, inputs=(), augment=Augmentation(flip=1.0))
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
