"""Every test trains; none trains anything worth having. Equality is of all numbers, bit for bit."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.trainable.tiny import BFLOAT16, CLASSES, FLOAT32, PREPROCESSING, SIZE, columns, config, examples, outcome
from trainable.checkpoint import Best, load_latest, save_latest
from trainable.config import Augmentation, ConfigError, Objective, TrialConfig
from trainable.device import Device
from trainable.evaluate import predict
from trainable.examples import Examples
from trainable.fit import Epoch, NonFiniteLossError, fit, merit, objective_value
from trainable.loss import LOSSES
from trainable.model import ConvNet
from trainable.optim import OPTIMIZERS, SCHEDULES

DATA = examples()
COLUMNS = {"epoch", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "lr", "seconds"}


@dataclass(frozen=True)
class Seen:
    """An epoch, with what it would hand out as the best while it lasts."""

    row: dict[str, float]
    valid_logits: torch.Tensor
    best: Best | None
    latest: Callable[[], dict[str, Any]]


def seen(epoch: Epoch) -> Seen:
    best = epoch.networks()[0] if epoch.improved else None
    return Seen(epoch.row, epoch.valid_logits, best, epoch.latest)


def trained(config: TrialConfig, data: Examples = DATA, device: Device = FLOAT32) -> list[Seen]:
    return [seen(epoch) for epoch in fit(config, data, device)]


def rows(epochs: Iterable[Any]) -> list[dict[str, float]]:
    return [row for row, _ in outcome(epochs)]


def last_best(epochs: Iterable[Seen]) -> Seen:
    return [epoch for epoch in epochs if epoch.best is not None][-1]


def resumed(config: TrialConfig, after: int, path: Path, device: Device = FLOAT32) -> list[Any]:
    """The outcome of a run that is stopped after some epochs and goes on from its file."""
    run = fit(config, DATA, device)
    first = []
    for epoch in islice(run, after):
        first += outcome([epoch])
        save_latest(path, epoch.latest())
    latest = load_latest(path)
    assert latest is not None
    return first + outcome(fit(config, DATA, device, latest))


# The same numbers, whatever happened before and beside


@pytest.mark.parametrize("device", [FLOAT32, BFLOAT16], ids=["float32", "bfloat16"])
def test_a_configuration_gives_the_same_numbers_each_time(device: Device) -> None:
    first, second = trained(config(), device=device), trained(config(), device=device)
    assert outcome(first) == outcome(second)
    kept, again = last_best(first), last_best(second)
    assert kept.best is not None and again.best is not None
    assert torch.equal(kept.valid_logits, again.valid_logits)
    assert all(torch.equal(kept.best.state[name], again.best.state[name]) for name in kept.best.state)


def test_two_threads_give_the_same_numbers_each_time() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert outcome(fit(config(), DATA, FLOAT32)) == outcome(fit(config(), DATA, FLOAT32))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_stopped_run_goes_on_as_if_it_had_not_been(optimizer: Any, schedule: Any, tmp_path: Path) -> None:
    settings = config(optimizer=optimizer, schedule=schedule, epochs=4, t_max=3, step_size=1, lr=0.01)
    unbroken = outcome(fit(settings, DATA, FLOAT32))
    assert len(unbroken) == 4
    assert resumed(settings, 2, tmp_path / "latest.pt") == unbroken


@pytest.mark.parametrize("after", [1, 2, 3])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_run_may_be_stopped_after_any_epoch(loss: Any, after: int, tmp_path: Path) -> None:
    settings = config(loss=loss)
    assert resumed(settings, after, tmp_path / "latest.pt") == outcome(fit(settings, DATA, FLOAT32))


def test_a_stopped_run_in_bfloat16_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    assert resumed(config(), 1, tmp_path / "latest.pt", BFLOAT16) == outcome(fit(config(), DATA, BFLOAT16))


def test_a_resumed_run_knows_the_best_epoch_from_before(tmp_path: Path) -> None:
    settings = config(epochs=6, lr=0.03)
    unbroken = trained(settings)
    bests = [epoch.best.epoch for epoch in unbroken if epoch.best is not None]
    assert bests[-1] < 6  # else this test would show nothing
    for after in range(1, 6):
        run = fit(settings, DATA, FLOAT32)
        epoch = list(islice(run, after))[-1]
        save_latest(tmp_path / "latest.pt", epoch.latest())
        later = fit(settings, DATA, FLOAT32, load_latest(tmp_path / "latest.pt"))
        assert [e.row["epoch"] for e in later if e.improved] == [epoch for epoch in bests if epoch > after]


def test_what_an_epoch_has_given_stays_as_it_is_while_the_run_goes_on() -> None:
    unbroken = outcome(fit(config(), DATA, FLOAT32))
    run = fit(config(), DATA, FLOAT32)
    latest = next(run).latest()
    list(run)
    assert unbroken[:1] + outcome(fit(config(), DATA, FLOAT32, latest)) == unbroken


def test_a_finished_run_has_nothing_left_to_do(tmp_path: Path) -> None:
    save_latest(tmp_path / "latest.pt", trained(config())[-1].latest())
    assert list(fit(config(), DATA, FLOAT32, load_latest(tmp_path / "latest.pt"))) == []


def test_another_run_before_changes_nothing() -> None:
    expected = outcome(fit(config(), DATA, FLOAT32))
    trained(config(seed=5, optimizer="sgd", lr=0.1, depth=5, widths=None, dropout=None, epochs=1))
    torch.randn(17)
    assert outcome(fit(config(), DATA, FLOAT32)) == expected


def test_another_run_beside_changes_nothing() -> None:
    one, other = config(), config(optimizer="adamw", schedule="one_cycle", head_width=6)
    expected = [outcome(fit(settings, DATA, FLOAT32)) for settings in (one, other)]
    pairs = list(zip(fit(one, DATA, FLOAT32), fit(other, DATA, FLOAT32), strict=True))
    assert [outcome(run) for run in zip(*pairs, strict=True)] == expected


def test_the_processs_own_random_state_is_left_alone() -> None:
    before = (torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate())  # type: ignore[index]
    for _ in fit(config(), DATA, FLOAT32):
        assert torch.equal(torch.get_rng_state(), before[0])
        assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index]
        assert random.getstate() == before[2]


def test_a_failed_run_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="Expected more than 1 value"):
        trained(config(batch_size=2), replace(DATA, train=DATA.train[:1]))  # batch norm wants two images
    assert torch.equal(torch.get_rng_state(), before)


def test_every_run_begins_with_weights_of_its_own() -> None:
    # The report's grid search went on training one model (its mistake 1): the first epoch gave it away.
    first = [trained(config(epochs=1, lr=lr))[0] for lr in (1e-30, 0.1, 1e-30)]
    assert outcome(first[:1]) == outcome(first[2:])
    assert first[0].best is not None and first[2].best is not None
    with torch.random.fork_rng():
        torch.manual_seed(0)
        stranger = ConvNet(config(), 2, CLASSES).state_dict()
    weights = "blocks.0.conv.weight"
    assert torch.equal(first[0].best.state[weights], first[2].best.state[weights])
    assert not torch.equal(first[0].best.state[weights], stranger[weights])


def test_seeds_give_different_weights_and_orders() -> None:
    runs = [trained(config(seed=seed, epochs=1, optimizer="sgd", lr=1e-30)) for seed in (0, 1, 2)]
    weights = [run[0].best.state["hidden.weight"] for run in runs if run[0].best is not None]
    assert len(weights) == 3
    assert not any(torch.equal(weights[a], weights[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    assert len({run[0].row["train_loss"] for run in runs}) == 3


def test_every_epoch_has_draws_of_its_own() -> None:
    # Nothing is learnt, so the losses in training differ by order, flips and dropout alone.
    losses = [row["train_loss"] for row in rows(trained(config(optimizer="sgd", lr=1e-30, schedule="constant")))]
    assert len(set(losses)) == 3


# What an epoch says


def test_a_row_has_the_columns_of_the_record() -> None:
    epochs = trained(config())
    assert all(set(epoch.row) == COLUMNS for epoch in epochs)
    assert [epoch.row["epoch"] for epoch in epochs] == [1, 2, 3]
    assert all(epoch.row["seconds"] > 0 for epoch in epochs)
    assert [epoch.row["lr"] for epoch in trained(config(schedule="step", step_size=1, gamma=0.5, lr=0.25))] == [
        0.25,
        0.125,
        0.0625,
    ]


@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_trained_on_has_a_column_where_it_is_not_cross_entropy(loss: Any) -> None:
    settings = config(loss=loss, label_smoothing=0.3, focal_gamma=1.5)
    labels = torch.from_numpy(DATA.labels[DATA.valid])
    for epoch in trained(settings):
        assert epoch.row["valid_loss"] == pytest.approx(F.cross_entropy(epoch.valid_logits, labels).item())
        assert ("valid_objective_loss" in epoch.row) is (loss != "cross_entropy")
        outputs = epoch.valid_logits
        if loss == "coral":  # whose outputs are the logits of "above a" and "above b"; (N, 3) to (N, 2)
            p = outputs.double().softmax(1)
            outputs = torch.stack([1 - p[:, 0], p[:, 2]], dim=1).logit()
        expected = LOSSES[loss].build(settings)(outputs, labels).mean().item()
        assert objective_value(epoch.row, "valid_objective_loss") == pytest.approx(expected)
        assert epoch.row.get("valid_objective_loss", expected) == pytest.approx(expected)


def test_training_metrics_are_means_over_images_and_not_over_batches() -> None:
    # Equal images leave a batch norm nothing, so the logits are the last layer's bias for each. Labels of 8 times 0
    # and 2 times 1 in batches of 8 and 2: no mean over the batches is the mean over the images.
    same = Examples(
        pixels=np.full((14, SIZE, SIZE, 3), 99, np.uint8),
        metadata=np.zeros((14, 2), np.float32),
        labels=(labels := np.array([0] * 8 + [1] * 2 + [0, 1, 2, 2])),
        levels=labels,
        train=np.arange(10),
        valid=np.arange(10, 12),
        preprocessing=PREPROCESSING,
    )
    settings = config(optimizer="sgd", lr=1e-30, dropout=None, head_dropout=0.0, epochs=1)
    (epoch,) = trained(settings, same)
    assert epoch.best is not None
    log_p = epoch.best.state["output.bias"].double().log_softmax(0)
    assert epoch.row["train_loss"] == pytest.approx(-(8 * log_p[0] + 2 * log_p[1]).item() / 10, rel=1e-5)
    assert epoch.row["train_accuracy"] == [0.8, 0.2, 0.0][int(log_p.argmax())]


def test_validation_metrics_are_means_over_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainable.evaluate.BATCH", 5)  # 12 images: 5, 5 and 2
    labels = DATA.labels[DATA.valid]
    for epoch in trained(config()):
        logits = epoch.valid_logits.double().numpy()
        losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(12), labels]
        assert epoch.row["valid_loss"] == pytest.approx(losses.sum() / 12, rel=1e-5)
        assert epoch.row["valid_accuracy"] == (logits.argmax(axis=1) == labels).sum() / 12


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle"])  # one_cycle is told the number of steps, and counts
@pytest.mark.parametrize("batch_size", [2, 3, 4, 64])
@pytest.mark.parametrize("images", [2, 3, 4, 5, 7, 9])
def test_a_last_batch_of_one_image_joins_the_one_before(images: int, batch_size: int, schedule: Any) -> None:
    settings = config(batch_size=batch_size, schedule=schedule, epochs=2)
    for row in rows(trained(settings, replace(DATA, train=DATA.train[:images]))):
        assert row["train_accuracy"] * images == pytest.approx(round(row["train_accuracy"] * images))


def test_every_image_is_trained_on_once_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[list[int]] = []
    real = LOSSES["cross_entropy"].build(config())

    def build(settings: TrialConfig) -> Any:
        def spy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            batches.append(labels.tolist())
            return real(logits, labels)

        return spy

    monkeypatch.setitem(LOSSES, "cross_entropy", replace(LOSSES["cross_entropy"], build=build))
    numbered = replace(DATA, train=DATA.train[:17])
    trained(config(epochs=2), numbered)
    assert [len(batch) for batch in batches] == [8, 9, 8, 9]
    expected = sorted(DATA.labels[DATA.train[:17]].tolist())
    assert sorted(sum(batches[:2], [])) == sorted(sum(batches[2:], [])) == expected
    assert batches[:2] != batches[2:]


# Flips


def mirrored(data: Examples, part: np.ndarray) -> Examples:
    pixels = data.pixels.copy()
    pixels[part] = pixels[part][:, :, ::-1]
    return replace(data, pixels=pixels)


def test_a_flip_of_1_mirrors_every_training_image_and_no_other() -> None:
    flipped = outcome(fit(config(augment=Augmentation(flip=1.0)), DATA, FLOAT32))
    assert flipped == outcome(fit(config(augment=Augmentation(flip=0.0)), mirrored(DATA, DATA.train), FLOAT32))
    assert flipped != outcome(fit(config(augment=Augmentation(flip=0.0)), DATA, FLOAT32))


def test_a_flip_of_a_half_mirrors_some() -> None:
    runs = [trained(config(augment=Augmentation(flip=flip), epochs=1)) for flip in (0.0, 0.5, 1.0)]
    assert len({run[0].row["train_loss"] for run in runs}) == 3


# The best epoch


@pytest.mark.parametrize("objective", ["valid_accuracy", "valid_loss", "valid_objective_loss"])
@pytest.mark.parametrize("device", [FLOAT32, BFLOAT16], ids=["float32", "bfloat16"])
def test_the_best_epoch_is_kept_and_predicts_what_it_did(objective: Objective, device: Device) -> None:
    settings = config(objective=objective, loss="focal", epochs=6, lr=0.03)
    epochs = trained(settings, device=device)
    kept = last_best(epochs)
    assert kept.best is not None

    def key(row: dict[str, float]) -> tuple[float, float]:
        return (-row[objective] if objective == "valid_accuracy" else row[objective], row["valid_loss"])

    assert kept.best.epoch == kept.row["epoch"] == min((epoch.row for epoch in epochs), key=key)["epoch"]
    assert (kept.best.config, kept.best.preprocessing) == (settings, PREPROCESSING)
    assert kept.best.precision == device.precision
    predicted = predict(kept.best, DATA.pixels[DATA.valid], columns(DATA, DATA.valid), "cpu")
    if device is FLOAT32:
        assert np.array_equal(predicted, kept.valid_logits.numpy())
    else:  # this machine may lack bfloat16
        assert predicted == pytest.approx(kept.valid_logits.numpy(), abs=0.05)


def test_each_better_epoch_is_handed_out_and_no_other() -> None:
    epochs = trained(config(epochs=6, lr=0.03))
    best = (-1.0, 0.0)
    for epoch in epochs:
        better = merit(epoch.row, "valid_accuracy") > best
        assert (epoch.best is not None) is better
        best = max(best, merit(epoch.row, "valid_accuracy"))


def test_the_best_state_does_not_change_when_training_goes_on() -> None:
    run = fit(config(epochs=2, lr=0.1), DATA, FLOAT32)
    kept = seen(next(run)).best
    assert isinstance(kept, Best)
    before = {name: tensor.clone() for name, tensor in kept.state.items()}
    next(run)
    assert all(torch.equal(tensor, before[name]) for name, tensor in kept.state.items())
    assert all(tensor.device.type == "cpu" and tensor.is_contiguous() for tensor in kept.state.values())


@pytest.mark.parametrize(
    ("objective", "better", "worse"),
    [
        ("valid_accuracy", {"valid_accuracy": 0.7, "valid_loss": 9.0}, {"valid_accuracy": 0.6, "valid_loss": 1.0}),
        ("valid_accuracy", {"valid_accuracy": 0.7, "valid_loss": 1.0}, {"valid_accuracy": 0.7, "valid_loss": 1.1}),
        ("valid_loss", {"valid_accuracy": 0.1, "valid_loss": 1.0}, {"valid_accuracy": 0.9, "valid_loss": 1.1}),
        (
            "valid_objective_loss",
            {"valid_loss": 2.0, "valid_objective_loss": 0.1},
            {"valid_loss": 1.0, "valid_objective_loss": 0.2},
        ),
        ("valid_objective_loss", {"valid_loss": 1.0}, {"valid_loss": 1.1}),
    ],
)
def test_merit_is_the_objective_and_between_equals_the_loss(
    objective: Objective, better: dict[str, float], worse: dict[str, float]
) -> None:
    assert merit(better, objective) > merit(worse, objective)


# What fails


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_row_of_the_tables_trains(optimizer: Any, schedule: Any, loss: Any) -> None:
    before = trained(config(optimizer=optimizer, schedule=schedule, loss=loss, epochs=1, lr=1e-30))[0].best
    after = trained(config(optimizer=optimizer, schedule=schedule, loss=loss, epochs=1, lr=0.1))[0].best
    assert before is not None and after is not None
    prefix = "network." if loss == "coral" else ""
    for name in ("blocks.0.conv.weight", "blocks.3.norm.bias", "output.weight"):
        assert not torch.equal(before.state[prefix + name], after.state[prefix + name])


def test_a_loss_that_is_not_a_number_fails_the_trial_in_its_epoch() -> None:
    with pytest.raises(NonFiniteLossError) as error:
        trained(config(optimizer="sgd", lr=1e38, schedule="constant"))
    assert str(error.value) == "the training loss is nan in epoch 1"


def test_a_loss_that_explodes_later_names_that_epoch() -> None:
    run = fit(config(optimizer="sgd", lr=1e-30, schedule="constant"), DATA, FLOAT32)
    latest = next(run).latest()
    latest["optimizer"]["param_groups"][0]["lr"] = 1e38
    with pytest.raises(NonFiniteLossError, match=r"^the training loss is nan in epoch 2$"):
        list(fit(config(optimizer="sgd", lr=1e-30, schedule="constant"), DATA, FLOAT32, latest))


def test_a_loss_that_is_not_a_number_in_validation_alone_fails_too() -> None:
    one_batch = config(batch_size=64, optimizer="sgd", lr=1e38)  # the weights explode after the only training loss
    with pytest.raises(NonFiniteLossError) as error:
        trained(one_batch)
    assert str(error.value) == "the validation loss is nan in epoch 1"


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(ConfigError) as error:
        next(fit(config(image_size=32), DATA, FLOAT32))
    assert str(error.value) == "image_size is 32, but the images are 28 pixels"


def test_a_network_that_does_not_fit_fails_before_it_trains() -> None:
    with pytest.raises(ConfigError, match=r"^block 3 pools 8x8, but its map is 3x3 "):
        next(fit(config(pool={2: 8, 3: 8}), DATA, FLOAT32))
