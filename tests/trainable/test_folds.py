"""Folds trained in step are the networks that each would be alone. Equality is of all numbers, bit for bit."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.trainable.tiny import FLOAT32, columns, config, examples, outcome
from trainable.checkpoint import load_latest, save_latest
from trainable.config import Objective, TrialConfig
from trainable.evaluate import build, outputs_of, predict
from trainable.examples import UNKNOWN, Examples
from trainable.fit import Epoch, fit, merit
from trainable.folds import fit_parts, fold_config
from trainable.images import Images
from trainable.loss import criterion
from trainable.splits import Split

DATA = examples()
ROWS = len(DATA.labels)
# Folds of 16, 12 and 10 rows, mixed: no mean over the folds is the mean over the rows.
SIDES = np.random.default_rng(3).permutation(np.repeat([0, 1, 2], [16, 12, 10])).astype(np.uint8)


def folds_of(data: Examples = DATA, sides: np.ndarray = SIDES) -> list[Examples]:
    return [
        replace(data, train=parts.train, valid=parts.valid) for parts in Split(sides, folds=int(sides.max()) + 1).parts
    ]


PARTS = folds_of()


def run(settings: TrialConfig, parts: list[Examples] = PARTS, latest: Any = None) -> Iterable[Epoch]:
    return fit_parts(settings, parts, FLOAT32, latest)


def test_a_single_part_is_fit_itself() -> None:
    assert outcome(fit_parts(config(), [DATA], FLOAT32)) == outcome(fit(config(), DATA, FLOAT32))


def test_nothing_goes_from_one_fold_to_another() -> None:
    # The report's folds knew the lowest loss of the folds before (its mistake 4).
    settings = config(epochs=4, lr=0.03, augment=replace(config().augment, mixup=0.5))
    alone = [list(outcome(fit(fold_config(settings, k), part, FLOAT32))) for k, part in enumerate(PARTS)]
    together = list(run(settings))
    assert len(together) == 4
    for number, epoch in enumerate(together):
        for fold, part in enumerate(PARTS):
            logits = torch.tensor(alone[fold][number][1])
            assert torch.equal(epoch.valid_logits[torch.from_numpy(part.valid)], logits)
        for name in ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy"):
            images = [len(part.train if name.startswith("train") else part.valid) for part in PARTS]
            total = sum(n * alone[fold][number][0][name] for fold, n in enumerate(images))
            assert epoch.row[name] == pytest.approx(total / sum(images), rel=1e-12)


def test_a_fold_trains_the_same_whatever_the_others_hold() -> None:
    changed = DATA.pixels.copy()
    changed[PARTS[1].valid] ^= 255
    others = [PARTS[0], replace(PARTS[1], pixels=changed), replace(PARTS[2], pixels=changed)]
    before, after = (list(run(config(epochs=2), parts)) for parts in (PARTS, others))
    rows = torch.from_numpy(PARTS[0].valid)
    assert torch.equal(before[-1].valid_logits[rows], after[-1].valid_logits[rows])
    assert not torch.equal(before[-1].valid_logits, after[-1].valid_logits)


def test_folds_have_seeds_of_their_own_and_all_else_alike() -> None:
    settings = config(seed=5)
    configs = [fold_config(settings, fold) for fold in range(4)]
    assert len({each.seed for each in (settings, *configs)}) == 5
    assert all(replace(each, seed=5) == settings for each in configs)
    assert fold_config(config(seed=6), 1) != configs[1]
    assert fold_config(settings, 1) == configs[1]


def test_the_row_is_of_all_images_by_hand() -> None:
    labels = torch.from_numpy(DATA.labels)
    for epoch in run(config()):
        assert epoch.valid_logits.shape == (ROWS, 3)
        losses = F.cross_entropy(epoch.valid_logits.double(), labels)
        assert epoch.row["valid_loss"] == pytest.approx(losses.item(), rel=1e-5)
        right = (epoch.valid_logits.argmax(1) == labels).sum().item()
        assert epoch.row["valid_accuracy"] == pytest.approx(right / ROWS, rel=1e-12)
        assert epoch.row["train_accuracy"] * 2 * ROWS == pytest.approx(round(epoch.row["train_accuracy"] * 2 * ROWS))


def test_lr_and_epoch_are_the_folds_and_seconds_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    epochs = list(run(config(schedule="step", step_size=1, gamma=0.5, lr=0.25)))
    assert [(epoch.row["epoch"], epoch.row["lr"]) for epoch in epochs] == [(1, 0.25), (2, 0.125), (3, 0.0625)]
    clock = iter(range(1000))
    monkeypatch.setattr("trainable.fit.time.perf_counter", lambda: float(next(clock) * 3))
    assert [epoch.row["seconds"] for epoch in run(config(epochs=2))] == [9.0, 9.0]


@pytest.mark.parametrize("objective", ["valid_accuracy", "valid_loss", "valid_objective_loss"])
def test_one_epoch_is_kept_for_all_folds_by_the_pooled_metrics(objective: Objective) -> None:
    settings = config(objective=objective, loss="focal", epochs=6, lr=0.03)
    rows, kept = [], []
    for epoch in run(settings):
        rows.append(epoch.row)
        if epoch.improved:
            kept = [network.epoch for network in epoch.networks()]
    best = max(rows, key=lambda row: merit(row, objective))["epoch"]
    assert kept == [best] * 3
    # The control: each fold by itself would have kept another epoch, somewhere.
    alone = [list(outcome(fit(fold_config(settings, k), part, FLOAT32))) for k, part in enumerate(PARTS)]
    own = [max((row for row, _ in fold), key=lambda row: merit(row, objective))["epoch"] for fold in alone]
    assert own != kept


def test_each_better_epoch_is_improved_and_no_other() -> None:
    best = (-1.0, 0.0)
    for epoch in run(config(epochs=6, lr=0.03)):
        assert epoch.improved is (merit(epoch.row, "valid_accuracy") > best)
        best = max(best, merit(epoch.row, "valid_accuracy"))


def test_a_rows_logits_are_of_the_network_that_did_not_learn_from_it() -> None:
    epoch = list(run(config()))[-1]
    networks = epoch.networks()
    assert [network.config for network in networks] == [fold_config(config(), fold) for fold in range(3)]
    for network, part in zip(networks, PARTS, strict=True):
        predicted = predict(network, DATA.pixels[part.valid], columns(DATA, part.valid), "cpu")
        assert np.array_equal(predicted, epoch.valid_logits[torch.from_numpy(part.valid)].numpy())
        others = predict(network, DATA.pixels[part.train], columns(DATA, part.train), "cpu")
        assert not np.allclose(others, epoch.valid_logits[torch.from_numpy(part.train)].numpy(), atol=1e-3)


@pytest.mark.parametrize("changes", [{}, {"ema": 0.9, "warmup": 2, "loss": "coral", "experts": "Gender"}], ids=str)
@pytest.mark.parametrize("after", [1, 3])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(changes: dict[str, Any], after: int, tmp_path: Path) -> None:
    settings = config(epochs=4, lr=0.03, **changes)
    unbroken = list(run(settings))
    expected = outcome(unbroken)
    improved = [epoch.improved for epoch in unbroken]
    first = []
    for epoch in islice(run(settings), after):
        first.append(epoch)
        save_latest(tmp_path / "latest.pt", epoch.latest())
    rest = list(run(settings, latest=load_latest(tmp_path / "latest.pt")))
    assert outcome([*first, *rest]) == expected
    assert [epoch.improved for epoch in [*first, *rest]] == improved
    assert list(run(settings, latest=rest[-1].latest())) == []


def test_a_networks_state_does_not_change_when_training_goes_on() -> None:
    epochs = iter(run(config(epochs=2, lr=0.1)))
    kept = next(epochs).networks()
    before = [{name: tensor.clone() for name, tensor in network.state.items()} for network in kept]
    next(epochs)
    for network, state in zip(kept, before, strict=True):
        assert all(torch.equal(tensor, state[name]) for name, tensor in network.state.items())


# The loss trained on, where some rows have no level


def unknown(*rows: int) -> list[Examples]:
    """Three folds whose rows here have a value that training never saw: they stand alone in their fold's validation."""
    levels = DATA.labels.copy()
    levels[list(rows)] = UNKNOWN
    preprocessing = replace(DATA.preprocessing, levels={"10": 0, "20": 1, "30": 2})
    data = replace(DATA, levels=levels, preprocessing=preprocessing)
    return [
        replace(part, train=part.train[~np.isin(part.train, rows)]) for part in folds_of(data)
    ]  # no network learns from them


def test_the_loss_trained_on_is_the_mean_over_all_rows_with_a_level() -> None:
    lost = PARTS[0].valid[:9].tolist()  # more of one fold than of the others
    parts, settings = unknown(*lost), config(target="Age", loss="focal", epochs=1)
    (epoch,) = run(settings, parts)
    losses = []
    for network, part in zip(epoch.networks(), parts, strict=True):
        rows = part.valid[part.levels[part.valid] != UNKNOWN]
        metadata = torch.from_numpy(DATA.metadata)
        images = Images(DATA.pixels, FLOAT32)
        outputs = outputs_of(build(network, FLOAT32), images, metadata, rows, part.preprocessing)
        losses.append(criterion(settings, torch.ones(3))(outputs, torch.from_numpy(part.levels[rows])))
    expected = torch.cat(losses)
    assert len(expected) == ROWS - 9
    assert epoch.row["valid_objective_loss"] == pytest.approx(expected.mean().item(), rel=1e-5)


@pytest.mark.parametrize("fold", [0, 2])
def test_a_fold_that_knows_none_of_its_levels_has_no_say_in_that_loss(fold: int) -> None:
    parts = unknown(*PARTS[fold].valid.tolist())
    settings = config(target="Age", epochs=1)
    (epoch,) = run(settings, parts)
    alone = [next(fit(fold_config(settings, k), part, FLOAT32)).row for k, part in enumerate(parts)]
    assert "valid_objective_loss" not in alone[fold]
    others = [k for k in range(3) if k != fold]
    total = sum(len(parts[k].valid) * alone[k]["valid_objective_loss"] for k in others)
    assert epoch.row["valid_objective_loss"] == pytest.approx(total / sum(len(parts[k].valid) for k in others))
