"""The trainable as Ray uses it, but without Ray's cluster: an actor is an object here, and a death is forgetting it."""

import csv
import errno
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.results.tiny_run import Data, data
from tests.trainable.tiny import config
from trainable import block_tail, convolution, files, resume, stem, tune
from trainable.checkpoint import file_hash, load_best, load_latest, save_best, save_latest
from trainable.config import TrialConfig
from trainable.dataset import HOLDOUT, TRAIN, VALID, LabelledData, decode
from trainable.device import choose
from trainable.evaluate import predict
from trainable.examples import examples_of
from trainable.folds import fold_config
from trainable.logits import has_holdout
from trainable.metrics import METRICS
from trainable.paths import trial_folder
from trainable.splits import Parts, Split
from trainable.tune import ConvNetTrial, Shared

__all__ = ["data"]  # a fixture

ROOT = Path(__file__).parents[2]
Result = dict[str, Any]


@pytest.fixture
def shared(data: Data, tmp_path: Path) -> Shared:
    """Of a search that may stop a trial after each epoch, so that none trains ahead: a death here is forgetting an
    actor, which would train on beside the next, with the process's one generator of random numbers."""
    judged = frozenset(range(1, 50))
    return Shared(tmp_path / "runs" / "tiny", "tiny", {28: data.labelled}, "cpu", "float32", threads=1, judged=judged)


def asked(trial: str, config: TrialConfig) -> dict[str, Any]:
    return {"trial": trial, "config": config.to_dict()}


def actor(shared: Shared, trial: str, config: TrialConfig) -> ConvNetTrial:
    made = ConvNetTrial.__new__(ConvNetTrial)  # Ray's constructor would make folders in the user's home
    made.setup(asked(trial, config), shared)
    made.slower = None  # a machine without a compiler says so, once
    return made


def trained(worker: ConvNetTrial, limit: int = 50) -> list[Result]:
    """The results up to the one that says that the trial is over."""
    results = []
    for _ in range(limit):
        results.append(worker.step())
        if results[-1]["done"] or "halt" in results[-1]:
            return results
    raise AssertionError("the trial does not end")


def table(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


SPENT = ("kept_seconds", "beside_seconds", "lost_seconds")  # in the result of an epoch that was trained just now


def numbers(folder: Path) -> tuple[Any, ...]:
    """All that a trial's files say, but for the seconds."""
    best = load_best(folder / "best.safetensors")
    with np.load(folder / "logits.npz") as logits:
        assert logits["checkpoints"].tolist() == [file_hash(folder / "best.safetensors")]
        arrays = {name: logits[name].tolist() for name in logits.files}
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in table(folder)]
    state = {name: tensor.tolist() for name, tensor in best.state.items()}
    return rows, best.config, best.preprocessing, best.epoch, best.precision, state, arrays


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def fails_with(error: Exception) -> Callable[..., Any]:
    def fail(*arguments: Any, **named: Any) -> Any:
        raise error

    return fail


# The data as a trial sees it


def test_a_trial_sees_the_parts_and_the_inputs_it_asks_for(data: Data) -> None:
    (parts,) = data.labelled.split.parts
    both, none = (examples_of(data.labelled, config(inputs=inputs), parts) for inputs in (("Gender",), ()))
    for part, side in ((both.train, TRAIN), (both.valid, VALID), (parts.holdout, HOLDOUT)):
        assert (data.labelled.split.sides[part] == side).all()
    assert sorted([*both.train, *both.valid, *parts.holdout]) == list(range(60))
    assert both.metadata.tolist() == [[1 - index % 2, index % 2] for index in range(60)]
    assert both.preprocessing.vocabulary == {"Gender": ("0", "1")}
    assert (none.metadata.shape, none.preprocessing.vocabulary) == ((60, 0), {})
    assert (both.preprocessing.mean, both.preprocessing.std) == data.labelled.statistics(both.train)
    assert both.preprocessing.image_size == 28


# What a trial leaves


def test_a_trial_leaves_its_record(shared: Shared) -> None:
    results = trained(actor(shared, "0000", config()))
    folder = trial_folder(shared.run, "0000")
    assert folder == shared.run / "trials" / "0000"
    assert names(folder) == {"metrics.csv", "best.safetensors", "logits.npz", "latest.pt"}
    header = (folder / "metrics.csv").read_text().splitlines()[0]
    assert header == "epoch,train_loss,train_accuracy,valid_loss,valid_accuracy,lr,seconds"
    assert [row["epoch"] for row in table(folder)] == ["1", "2", "3"]
    for result, row in zip(results, table(folder), strict=True):
        assert {name: str(result[name]) for name in row} == row


def test_a_result_is_a_row_with_the_trial_and_its_epoch(shared: Shared) -> None:
    results = trained(actor(shared, "0000", config()))
    assert [(r["trial"], r["training_iteration"], r["epoch"], r["done"]) for r in results] == [
        ("0000", 1, 1, False),
        ("0000", 2, 2, False),
        ("0000", 3, 3, True),
    ]
    assert set(results[0]) == {*METRICS, "trial", "training_iteration", "done", *SPENT}
    assert all(result[name] >= 0 for result in results for name in SPENT)


def test_the_objectives_own_loss_has_the_last_column(shared: Shared) -> None:
    trained(actor(shared, "0000", config(loss="focal", epochs=1)))
    header = (trial_folder(shared.run, "0000") / "metrics.csv").read_text().splitlines()[0]
    assert header == "epoch,train_loss,train_accuracy,valid_loss,valid_accuracy,lr,seconds,valid_objective_loss"


def test_the_logits_are_those_of_the_best_epoch_in_the_order_of_the_ids(shared: Shared) -> None:
    trained(actor(shared, "0000", config(epochs=5, lr=0.03)))
    folder = trial_folder(shared.run, "0000")
    best = load_best(folder / "best.safetensors")
    by_accuracy = [(-float(row["valid_accuracy"]), float(row["valid_loss"])) for row in table(folder)]
    assert best.epoch == 1 + by_accuracy.index(min(by_accuracy))
    data = shared.data[28]
    images = {image: index for index, image in enumerate(data.table.images)}
    with np.load(folder / "logits.npz") as logits:
        assert set(logits.files) == {"valid", "holdout", "valid_ids", "holdout_ids", "checkpoints"}
        for name, side in (("valid", VALID), ("holdout", HOLDOUT)):
            rows = np.array([images[image] for image in logits[f"{name}_ids"]])
            assert rows.tolist() == np.flatnonzero(data.split.sides == side).tolist()
            cells = {"Gender": [data.table.columns["Gender"][row] for row in rows]}
            expected = predict(best, data.pixels.open()[rows], cells, "cpu")
            assert logits[name].dtype == np.float32
            assert np.array_equal(logits[name], expected)


def test_the_holdout_is_seen_at_the_trials_end_alone(shared: Shared) -> None:
    worker, logits = actor(shared, "0000", config()), trial_folder(shared.run, "0000") / "logits.npz"
    seen = [has_holdout(logits) for _ in range(3) if worker.step()]
    assert seen == [False, False, True]


def test_the_files_are_written_before_the_result_is_known(shared: Shared) -> None:
    worker = actor(shared, "0000", config())
    folder = trial_folder(shared.run, "0000")
    for epoch in (1, 2, 3):
        worker.step()
        assert len(table(folder)) == epoch


# Folds


@pytest.fixture
def folded(shared: Shared) -> Shared:
    """The same images in three folds of 20."""
    split = Split((np.arange(60) * 7 % 60 // 20).astype(np.uint8), folds=3)
    return replace(shared, data={28: replace(shared.data[28], split=split, split_fingerprint="folds")})


def test_a_trial_over_folds_leaves_a_network_a_fold_and_logits_of_every_row(folded: Shared) -> None:
    results = trained(actor(folded, "0000", config(epochs=4, lr=0.03)))
    assert [(result["epoch"], result["done"]) for result in results] == [(1, 0), (2, 0), (3, 0), (4, 1)]
    folder, data = trial_folder(folded.run, "0000"), folded.data[28]
    checkpoints = [f"fold{fold}.safetensors" for fold in (1, 2, 3)]
    assert names(folder) == {"metrics.csv", *checkpoints, "logits.npz", "latest.pt"}
    bests = [load_best(folder / name) for name in checkpoints]
    by_accuracy = [(-float(row["valid_accuracy"]), float(row["valid_loss"])) for row in table(folder)]
    assert {best.epoch for best in bests} == {1 + by_accuracy.index(min(by_accuracy))}
    assert [best.config for best in bests] == [fold_config(config(epochs=4, lr=0.03), fold) for fold in range(3)]
    with np.load(folder / "logits.npz") as logits:
        assert logits["checkpoints"].tolist() == [file_hash(folder / name) for name in checkpoints]
        assert logits["valid_ids"].tolist() == logits["holdout_ids"].tolist() == list(data.table.images)
        assert np.array_equal(logits["valid"], logits["holdout"])
        for best, parts in zip(bests, data.split.parts, strict=True):
            cells = {"Gender": [data.table.columns["Gender"][row] for row in parts.valid]}
            assert np.array_equal(
                logits["valid"][parts.valid], predict(best, data.pixels.open()[parts.valid], cells, "cpu")
            )


def test_a_trial_over_folds_that_is_resumed_gives_the_same_numbers(folded: Shared, tmp_path: Path) -> None:
    settings, whole = config(epochs=4, lr=0.03), replace(folded, run=tmp_path / "whole")
    trained(actor(whole, "0000", settings))
    first = actor(folded, "0000", settings)
    before = [first.step() for _ in range(2)]
    results = trained(actor(folded, "0000", settings))
    assert [row["epoch"] for row in results[0].pop("earlier")] == [1]
    assert results[0] == {name: value for name, value in before[-1].items() if name not in SPENT}
    assert [result["epoch"] for result in results] == [2, 3, 4]
    one, other = (trial_folder(run, "0000") for run in (folded.run, whole.run))
    assert [{**row, "seconds": ""} for row in table(one)] == [{**row, "seconds": ""} for row in table(other)]
    for name in ("fold1.safetensors", "fold2.safetensors", "fold3.safetensors"):
        states = [load_best(folder / name).state for folder in (one, other)]
        assert all(np.array_equal(states[0][key], states[1][key]) for key in states[1])
    with np.load(one / "logits.npz") as a, np.load(other / "logits.npz") as b:
        assert np.array_equal(a["valid"], b["valid"])


def test_a_value_that_one_training_image_of_a_fold_has_makes_no_expert_there(folded: Shared) -> None:
    data = folded.data[28]
    genders = tuple("2" if row in data.split.parts[1].valid[:2] or row == 0 else "0" for row in range(60))
    table = replace(data.table, columns={**data.table.columns, "Gender": genders})
    lacking = replace(folded, data={28: replace(data, table=table, fingerprint="lacking")})
    results = trained(actor(lacking, "0000", config(experts="Gender", epochs=1)))
    assert results[-1]["done"] and "failed" not in results[-1]
    networks = [load_best(trial_folder(lacking.run, "0000") / f"fold{fold}.safetensors") for fold in (1, 2, 3)]
    assert [network.preprocessing.vocabulary["Gender"] for network in networks].count(("0",)) == 1


# Image sizes


def test_a_trial_takes_the_images_of_its_size(shared: Shared, data: Data) -> None:
    pixels = decode(data.labelled.table, 32, data.cache, progress=False)
    both = replace(shared, data={**shared.data, 32: replace(data.labelled, pixels=pixels)})
    worker = actor(both, "0000", config(epochs=1))
    trained(worker)
    worker.reset_config(asked("0001", config(epochs=1, image_size=32)))
    trained(worker)
    bests = [load_best(trial_folder(both.run, trial) / "best.safetensors") for trial in ("0000", "0001")]
    assert [best.preprocessing.image_size for best in bests] == [28, 32]


# One process, many trials


def test_a_trial_gives_the_numbers_of_a_fresh_process(shared: Shared, tmp_path: Path) -> None:
    settings = config(optimizer="adamax", schedule="one_cycle")
    worker = actor(shared, "0000", config(seed=1, inputs=(), loss="focal"))
    worker.step()  # stopped early, as a scheduler would
    assert worker.reset_config(asked("0001", settings))
    trained(worker)

    fresh = replace(shared, run=tmp_path / "fresh")
    (tmp_path / "asked.pickle").write_bytes(pickle.dumps((fresh, asked("0001", settings))))
    script = (
        "import pickle, sys\n"
        "from trainable.tune import ConvNetTrial\n"
        "shared, asked = pickle.load(open(sys.argv[1], 'rb'))\n"
        "worker = ConvNetTrial.__new__(ConvNetTrial)\n"
        "worker.setup(asked, shared)\n"
        "while not worker.step()['done']: pass\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "asked.pickle")], cwd=ROOT, check=True, timeout=120)
    assert numbers(trial_folder(shared.run, "0001")) == numbers(trial_folder(fresh.run, "0001"))


def test_a_trial_that_is_reset_is_left_as_it_was(shared: Shared) -> None:
    worker = actor(shared, "0000", config())
    worker.step()
    before = {path: path.read_bytes() for path in trial_folder(shared.run, "0000").iterdir()}
    worker.reset_config(asked("0001", config(seed=1)))
    trained(worker)
    assert {path: path.read_bytes() for path in trial_folder(shared.run, "0000").iterdir()} == before
    assert numbers(trial_folder(shared.run, "0001"))[1] == config(seed=1)


def test_pixels_are_opened_once_for_all_trials_of_an_actor(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[TrialConfig] = []
    real = tune.examples_of

    def spy(data: LabelledData, config: TrialConfig, parts: Parts) -> Any:
        opened.append(config)
        return real(data, config, parts)

    monkeypatch.setattr(tune, "examples_of", spy)
    worker = actor(shared, "0000", config(epochs=1))
    asked_for: tuple[dict[str, Any], ...] = (
        {},
        {"seed": 1},
        {"inputs": ()},
        {"inputs": (), "lr": 0.1},
        {"inputs": (), "target": "Gender"},
        {"inputs": (), "target": "Gender", "loss": "coral"},
    )
    for number, changes in enumerate(asked_for):
        worker.reset_config(asked(f"{number:04}", config(epochs=1, **changes)))
        trained(worker)
    assert [(each.inputs, each.target) for each in opened] == [(("Gender",), None), ((), None), ((), "Gender")]


def test_a_trial_after_one_of_experts_reads_every_value_again(shared: Shared) -> None:
    data = shared.data[28]
    rare = int(data.split.parts[0].train[0])
    genders = tuple("2" if row == rare else cell for row, cell in enumerate(data.table.columns["Gender"]))
    table = replace(data.table, columns={**data.table.columns, "Gender": genders})
    rarer = replace(shared, data={28: replace(data, table=table, fingerprint="rare")})
    worker = actor(rarer, "0000", config(experts="Gender", epochs=1))
    trained(worker)
    worker.reset_config(asked("0001", config(epochs=1)))
    trained(worker)
    read = [load_best(trial_folder(rarer.run, trial) / "best.safetensors") for trial in ("0000", "0001")]
    assert [best.preprocessing.vocabulary["Gender"] for best in read] == [("0", "1"), ("0", "1", "2")]


# Death and resumption


@pytest.mark.parametrize("after", [1, 2, 4])
def test_a_resumed_trial_repeats_its_last_row_and_goes_on_with_the_same_numbers(
    shared: Shared, tmp_path: Path, after: int
) -> None:
    settings = config(epochs=4, loss="label_smoothing", lr=0.03)
    whole = replace(shared, run=tmp_path / "whole")
    trained(actor(whole, "0000", settings))

    first = actor(shared, "0000", settings)
    before = [first.step() for _ in range(after)]
    results = trained(actor(shared, "0000", settings))
    earlier = results[0].pop("earlier", [])
    assert [row["epoch"] for row in earlier] == list(range(1, after))
    assert all(row.items() <= result.items() for row, result in zip(earlier, before[:-1], strict=True))
    assert results[0] == {name: value for name, value in before[-1].items() if name not in SPENT}
    assert [result["epoch"] for result in results] == list(range(after, 5))
    assert results[-1]["done"]
    assert numbers(trial_folder(shared.run, "0000")) == numbers(trial_folder(whole.run, "0000"))


def test_nothing_to_train_on_from_is_kept_of_a_trial_that_has_run_its_course(shared: Shared) -> None:
    worker, path = actor(shared, "0000", config(epochs=2)), trial_folder(shared.run, "0000") / "latest.pt"
    worker.step()
    assert {"model", "rows"} < set(load_latest(path) or ())
    worker.step()
    assert set(load_latest(path) or ()) == {"config", "preprocessing", "rows"}


@pytest.mark.parametrize("damage", [b"", b"hello", None])
def test_a_trial_without_a_state_to_resume_from_starts_again(shared: Shared, damage: bytes | None) -> None:
    folder = trial_folder(shared.run, "0000")
    trained(actor(shared, "0000", config()))
    expected = numbers(folder)
    if damage is None:
        (folder / "latest.pt").unlink()
    else:
        (folder / "latest.pt").write_bytes(damage)
    assert [result["epoch"] for result in trained(actor(shared, "0000", config()))] == [1, 2, 3]
    assert numbers(folder) == expected


def cut_short(content: bytes) -> bytes:
    return content[: len(content) // 2]


def garbled(content: bytes) -> bytes:
    """A byte in its middle is another."""
    at = len(content) // 2
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize("damage", [cut_short, garbled, None], ids=["cut short", "garbled", "gone"])
@pytest.mark.parametrize("name", ["best.safetensors", "logits.npz", "latest.pt"])
@pytest.mark.parametrize("after", [2, 3])
def test_a_trial_with_a_damaged_file_begins_anew_and_says_so(
    shared: Shared, tmp_path: Path, after: int, name: str, damage: Callable[[bytes], bytes] | None
) -> None:
    whole = replace(shared, run=tmp_path / "whole")
    trained(actor(whole, "0000", config()))
    worker, path = actor(shared, "0000", config()), trial_folder(shared.run, "0000") / name
    for _ in range(after):
        worker.step()
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    results = trained(actor(shared, "0000", config()))
    assert [result["epoch"] for result in results] == [1, 2, 3]
    nothing_to_say = name == "latest.pt" and damage is None  # as of a trial that has not begun
    why = None if nothing_to_say else f"its {name} is damaged"
    assert [result.get("anew") for result in results] == [why, None, None]
    assert numbers(path.parent) == numbers(trial_folder(whole.run, "0000"))


def test_a_network_that_cannot_be_read_costs_no_epoch(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = actor(shared, "0000", config())
    worker.step()
    worker.step()
    with monkeypatch.context() as patch:
        stale = OSError(errno.ESTALE, "Stale file handle", "best.safetensors")
        patch.setattr(resume, "open", fails_with(stale), raising=False)  # as of a network folder
        (result,) = trained(actor(shared, "0000", config()))
    assert result == {"trial": "0000", "halt": "Stale file handle: best.safetensors", "done": False}
    results = trained(actor(shared, "0000", config()))
    assert [(result["epoch"], result.get("anew")) for result in results] == [(2, None), (3, None)]


@pytest.mark.parametrize("after", [2, 3])
def test_damaged_metrics_are_written_again_and_cost_nothing(shared: Shared, tmp_path: Path, after: int) -> None:
    whole = replace(shared, run=tmp_path / "whole")
    trained(actor(whole, "0000", config()))
    worker, path = actor(shared, "0000", config()), trial_folder(shared.run, "0000") / "metrics.csv"
    for _ in range(after):
        worker.step()
    path.write_bytes(cut_short(path.read_bytes()))
    assert [result["epoch"] for result in trained(actor(shared, "0000", config()))] == list(range(after, 4))
    assert numbers(path.parent) == numbers(trial_folder(whole.run, "0000"))


@pytest.mark.parametrize("name", ["fold2.safetensors", "logits.npz"])
def test_a_trial_over_folds_with_a_damaged_file_begins_anew(folded: Shared, name: str) -> None:
    worker, path = actor(folded, "0000", config(epochs=2)), trial_folder(folded.run, "0000") / name
    worker.step()
    path.write_bytes(garbled(path.read_bytes()))
    results = trained(actor(folded, "0000", config(epochs=2)))
    assert [(result["epoch"], result.get("anew")) for result in results] == [(1, f"its {name} is damaged"), (2, None)]


def test_a_state_of_another_configuration_is_not_resumed_from(shared: Shared) -> None:
    trained(actor(shared, "0000", config(lr=0.1)))
    assert [result["epoch"] for result in trained(actor(shared, "0000", config()))] == [1, 2, 3]
    assert numbers(trial_folder(shared.run, "0000"))[1] == config()


def test_a_death_while_an_epoch_is_written_costs_that_epoch_and_no_more(
    shared: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = replace(shared, run=tmp_path / "whole")
    trained(actor(whole, "0000", config()))
    worker = actor(shared, "0000", config())
    worker.step()
    with monkeypatch.context() as patch:
        patch.setattr(tune, "save_latest", fails_with(KeyboardInterrupt()))  # type: ignore[arg-type]
        with pytest.raises(KeyboardInterrupt):
            worker.step()
    assert [result["epoch"] for result in trained(actor(shared, "0000", config()))] == [1, 2, 3]
    assert numbers(trial_folder(shared.run, "0000")) == numbers(trial_folder(whole.run, "0000"))


def test_an_epoch_that_is_the_best_on_another_machine_alone_costs_the_trial_and_no_wrong_network(
    shared: Shared, tmp_path: Path
) -> None:
    whole = replace(shared, run=tmp_path / "whole")
    trained(actor(whole, "0000", config()))
    worker, folder = actor(shared, "0000", config()), trial_folder(shared.run, "0000")
    worker.step()
    latest = load_latest(folder / "latest.pt")
    assert latest is not None
    worker.step()
    # The second epoch was the best where the worker died. Here none is better than the first.
    save_best(folder / "best.safetensors", replace(load_best(folder / "best.safetensors"), epoch=2))
    latest["rows"][0] |= {"valid_accuracy": 1.0, "valid_loss": 0.0}
    save_latest(folder / "latest.pt", latest)
    results = trained(actor(shared, "0000", config()))
    assert [(result["epoch"], result.get("anew")) for result in results] == [
        (1, None),
        (1, "trained again, its last epoch is no longer the best, and the best network is gone"),
        (2, None),
        (3, None),
    ]
    assert numbers(folder) == numbers(trial_folder(whole.run, "0000"))


# Failure


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"depth": 99}, "ConfigError: depth is 99; it must be an integer in 4..12"),
        ({"droput": None}, "ConfigError: no setting is called 'droput'; did you mean 'dropout'?"),
        (
            {"pool": {"2": 8, "3": 8}},
            "ConfigError: block 3 pools 8x8, but its map is 3x3 (image_size 28, depth 4, pool {2: 8, 3: 8})",
        ),
        ({"inputs": ["Race"]}, "KeyError: 'Race'"),
        ({"optimizer": "sgd", "lr": 1e38}, "NonFiniteLossError: the training loss is nan in epoch 1"),
    ],
)
def test_a_trial_that_cannot_be_trained_has_failed_with_its_reason(
    shared: Shared, changes: dict[str, Any], reason: str
) -> None:
    worker = actor(shared, "0000", config())
    worker.reset_config({"trial": "0007", "config": config().to_dict() | changes})
    assert worker.step() == {"trial": "0007", "failed": reason, "done": True}
    folder = trial_folder(shared.run, "0007")
    assert names(folder) == {"error.txt"}
    text = (folder / "error.txt").read_text()
    assert text.startswith("Traceback (most recent call last):\n")
    assert text.endswith(reason.partition(": ")[2] + "\n")


def test_after_a_failure_the_actor_trains_the_next_trial(shared: Shared) -> None:
    worker = actor(shared, "0000", config(optimizer="sgd", lr=1e38))
    assert "failed" in worker.step()
    worker.reset_config(asked("0001", config()))
    assert [result["epoch"] for result in trained(worker)] == [1, 2, 3]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.ESTALE])
def test_a_full_disk_halts_the_search_and_the_trial_goes_on_later(
    shared: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    whole = replace(shared, run=tmp_path / "whole")
    trained(actor(whole, "0000", config()))
    worker = actor(shared, "0000", config())
    worker.step()
    folder = trial_folder(shared.run, "0000")
    before = names(folder)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails_with(OSError(number, os.strerror(number))))
        assert worker.step() == {"trial": "0000", "halt": os.strerror(number), "done": False}
    assert names(folder) == before
    assert [result["epoch"] for result in trained(worker)] == [1, 2, 3]
    assert numbers(folder) == numbers(trial_folder(whole.run, "0000"))


def test_a_disk_that_is_full_in_the_middle_of_a_file_halts_the_search(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = actor(shared, "0000", config())
    real = files.write_with

    def full(path: Path, writer: Callable[[Any], object]) -> None:
        def limited(file: Any) -> None:
            class Limited:
                def __getattr__(self, name: str) -> Any:
                    return getattr(file, name)

                def write(self, content: Any) -> int:
                    if file.tell() + len(content) > 600:
                        raise OSError(errno.ENOSPC, "No space left on device", str(path))
                    return int(file.write(content))

            writer(Limited())

        real(path, limited)

    for name in ("best.safetensors", "logits.npz", "latest.pt"):
        monkeypatch.setattr(
            files, "write_with", lambda path, writer, name=name: (full if path.name == name else real)(path, writer)
        )
        path = trial_folder(shared.run, "0000") / name
        assert worker.step() == {"trial": "0000", "halt": f"No space left on device: {path}", "done": False}


def test_a_folder_that_may_not_be_written_halts_the_search(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = PermissionError(errno.EACCES, "Permission denied", str(shared.run))
    monkeypatch.setattr(Path, "mkdir", fails_with(refusal))  # root, as whom tests may run, is refused nothing
    result = actor(shared, "0000", config()).step()
    assert result == {"trial": "0000", "halt": f"Permission denied: {shared.run}", "done": False}


def test_a_run_that_is_no_folder_halts_the_search(shared: Shared) -> None:
    shared.run.parent.mkdir(parents=True)
    shared.run.touch()
    result = actor(shared, "0000", config()).step()
    assert (result["trial"], result["done"]) == ("0000", False)
    assert "Not a directory" in result["halt"]


def test_pixels_that_are_gone_halt_the_search(shared: Shared, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gone = replace(shared.data[28].pixels, path=tmp_path / "gone.npy")
    lost = replace(shared, data={28: replace(shared.data[28], pixels=gone)})
    result = actor(lost, "0000", config()).step()
    assert (result["trial"], result["done"]) == ("0000", False)
    assert result["halt"].startswith(f"{gone.path} cannot be read (")
    assert not (trial_folder(lost.run, "0000") / "error.txt").exists()


def test_a_trial_that_memory_cannot_hold_fails_with_what_to_do_and_the_next_goes_on(shared: Shared) -> None:
    worker = actor(shared, "0000", config(widths=(10**13, 8, 8, 8), batch_size=32))  # a petabyte of filters
    (result,) = trained(worker)
    assert result["failed"] == (
        "out of memory: batch_size 32 of 28 x 28 pixels through this network does not fit in what cpu has free; search "
        "smaller ones, or have fewer trials at once (--max-concurrent, --gpus-per-trial)"
    )
    worker.reset_config(asked("0001", config()))
    results = trained(worker)
    assert results[-1]["done"] and not any("failed" in row for row in results)


def test_an_actor_says_where_it_computes(shared: Shared, capsys: pytest.CaptureFixture[str]) -> None:
    trained(actor(shared, "0000", config(epochs=1)))
    first, second, third = capsys.readouterr().out.splitlines()
    said = "convsearch tiny on cpu, 1 thread(s); float32 (asked for); channels last"
    first_block = "; the first block as one operator" if stem.ours("cpu", torch.float32) else ""
    convolutions = "; convolutions in compiled C++" if convolution.ours("cpu", torch.float32) else ""
    assert first == f"{said}; {block_tail.reason('cpu')}{first_block}{convolutions}"
    assert re.fullmatch(r"trial 0000 with \d+\.\d MB of pixels in memory, shared by the trials of this machine", second)
    assert " trial 0000 epoch  1/1  train loss " in third


def test_an_actor_says_once_why_it_is_slower(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    slower = replace(choose("cpu", "float32", 1), slower="there is no C++ compiler")
    monkeypatch.setattr("trainable.tune.choose", lambda *asked: slower)
    worker = ConvNetTrial.__new__(ConvNetTrial)
    worker.setup(asked("0000", config(epochs=2)), shared)
    results = trained(worker)
    worker.reset_config(asked("0001", config(epochs=1)))
    results += trained(worker)
    assert [result.get("slower") for result in results] == ["there is no C++ compiler", None, None]


def test_the_configuration_travels_as_json(shared: Shared) -> None:
    settings = config(pool={2: 3}, epochs=1)
    worker = actor(shared, "0000", settings)
    worker.reset_config(json.loads(json.dumps(asked("0001", settings))))
    trained(worker)
    assert numbers(trial_folder(shared.run, "0001"))[1] == settings
