"""What may be added to the plain training run: warmup, moving average, mixing, targets, experts, views, a refit."""

import copy
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_pre_hook

from tests.trainable.tiny import CLASSES, FLOAT32, columns, config, examples, outcome
from trainable.augment import Augmenter, Mixed
from trainable.checkpoint import Best, load_best, load_latest, save_best, save_latest
from trainable.config import Augmentation, TrialConfig
from trainable.ema import MovingAverage
from trainable.evaluate import build, normalised, outputs_of, predict
from trainable.examples import UNKNOWN, Examples
from trainable.fit import Epoch, NonFiniteLossError, fit, merit, objective_value
from trainable.images import Images
from trainable.loss import LOSSES, criterion
from trainable.model import ConvNet
from trainable.network import build_network
from trainable.optim import OPTIMIZERS, SCHEDULES

DATA = examples()
GENDER = DATA.metadata.argmax(1)


def last(settings: TrialConfig, data: Examples = DATA) -> tuple[Epoch, Best]:
    """The last epoch and the network after it."""
    *_, epoch = fit(settings, data, FLOAT32)
    return epoch, epoch.networks()[0]


def resumed(settings: TrialConfig, after: int, path: Path, data: Examples = DATA) -> list[Any]:
    """The outcome of a run that is stopped after some epochs and goes on from its file."""
    first = []
    for epoch in islice(fit(settings, data, FLOAT32), after):
        first += outcome([epoch])
        save_latest(path, epoch.latest())
    return first + outcome(fit(settings, data, FLOAT32, load_latest(path)))


def predicted(best: Best, rows: np.ndarray, data: Examples = DATA) -> np.ndarray:
    return predict(best, data.pixels[rows], columns(data, rows), "cpu")


# Everything at once


@pytest.mark.parametrize(
    "changes",
    [
        {"warmup": 3, "schedule": "cosine"},
        {"ema": 0.9},
        {"ema": 0.5, "experts": "Gender", "optimizer": "sgd", "schedule": "one_cycle"},
        {"augment": Augmentation(mixup=0.4, cutmix=1.0, alternating_flip=True, holes=2, randaugment=1)},
        {"target": "Age", "loss": "coral", "ema": 0.9, "experts": "Gender", "warmup": 2, "views": "flip"},
        {"target": "Age", "loss": "soft_ordinal", "class_weights": True},
        {"optimizer": "muon", "warmup": 2, "t_max": None, "start_scale": 0.5, "init": "identity", "ema": 0.9},
        {"optimizer": "muon", "schedule": "one_cycle", "experts": "Gender", "architecture": "residual"},
    ],
    ids=str,
)
@pytest.mark.parametrize("after", [1, 3])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(changes: dict[str, Any], after: int, tmp_path: Path) -> None:
    settings = config(epochs=4, lr=0.01, **changes)
    data = aged() if "target" in changes else DATA
    assert resumed(settings, after, tmp_path / "latest.pt", data) == outcome(fit(settings, data, FLOAT32))


def test_validation_never_augments_and_a_checkpoint_predicts_what_validation_did(tmp_path: Path) -> None:
    augment = Augmentation(1.0, rotation=90, shift=0.3, brightness=0.5, grayscale=1, holes=8, mixup=1, cutmix=1)
    settings = config(augment=augment, views="flip_shift", target="Age", loss="coral", ema=0.9, experts="Gender")
    data = aged()
    epoch, best = last(settings, data)
    save_best(tmp_path / "best.safetensors", best)
    again = load_best(tmp_path / "best.safetensors")
    assert (again.config, again.preprocessing) == (settings, data.preprocessing)
    assert np.array_equal(predicted(again, data.valid, data), epoch.valid_logits.numpy())
    one = replace(best, config=replace(settings, views="one"))  # the control: these views are others
    assert not np.allclose(predicted(one, data.valid, data), epoch.valid_logits.numpy(), atol=1e-4)


# Growing images


def test_training_images_grow_and_what_is_evaluated_is_of_full_size() -> None:
    sides: dict[bool, list[int]] = {True: [], False: []}

    def look(network: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(network, ConvNet):
            sides[network.training].append(inputs[0].shape[3])

    handle = register_module_forward_pre_hook(look)
    try:
        _ = list(fit(config(start_scale=0.5, epochs=4), DATA, FLOAT32))
    finally:
        handle.remove()
    assert sides[True] == 3 * [20] + 3 * [20] + 3 * [28] + 3 * [28]  # three batches an epoch
    assert set(sides[False]) == {28}


def test_where_images_do_not_grow_how_long_they_would_changes_nothing() -> None:
    assert outcome(fit(config(growing=0.3), DATA, FLOAT32)) == outcome(fit(config(), DATA, FLOAT32))


# Warmup


def learning_rates(settings: TrialConfig, monkeypatch: pytest.MonkeyPatch) -> list[list[float]]:
    """The learning rate of each of SGD's steps, an epoch a list."""
    rates: list[float] = []
    real = OPTIMIZERS["sgd"].build

    def spied(parameters: Any, config: TrialConfig) -> Any:
        optimizer = real(parameters, config)
        optimizer.register_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
        return optimizer

    monkeypatch.setitem(OPTIMIZERS, "sgd", replace(OPTIMIZERS["sgd"], build=spied))
    epochs = []
    for _ in fit(replace(settings, optimizer="sgd"), DATA, FLOAT32):
        epochs.append(rates.copy())
        rates.clear()
    monkeypatch.undo()
    return epochs


def test_the_rate_rises_step_by_step_to_the_schedules(monkeypatch: pytest.MonkeyPatch) -> None:
    # 20 images in batches of 8: three steps an epoch, six of warmup, under a schedule that halves 0.6 each epoch.
    settings = config(warmup=2, schedule="step", step_size=1, gamma=0.5, lr=0.6, epochs=4)
    assert learning_rates(settings, monkeypatch) == [
        pytest.approx([0.6 / 6, 0.6 * 2 / 6, 0.6 * 3 / 6]),
        pytest.approx([0.3 * 4 / 6, 0.3 * 5 / 6, 0.3]),
        pytest.approx([0.15] * 3),
        pytest.approx([0.075] * 3),
    ]


def test_a_row_has_the_rate_of_its_epochs_last_step() -> None:
    rows = [epoch.row for epoch in fit(config(warmup=2, schedule="step", step_size=1, gamma=0.5), DATA, FLOAT32)]
    assert [row["lr"] for row in rows] == [5e-4, 5e-4, 2.5e-4]  # half of 1e-3 while it warms up


def test_a_row_has_the_rate_of_its_epochs_last_step_where_each_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(schedule="one_cycle", optimizer="sgd")
    rates = learning_rates(settings, monkeypatch)
    assert len({rate for epoch in rates for rate in epoch}) == 9
    assert [epoch.row["lr"] for epoch in fit(settings, DATA, FLOAT32)] == [epoch[-1] for epoch in rates]


@pytest.mark.parametrize("schedule", [name for name, row in SCHEDULES.items() if not row.every_step])
def test_warmup_leaves_the_later_epochs_rates_as_they_are(schedule: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(schedule=schedule, t_max=4, step_size=2, epochs=6, lr=1e-3)
    plain = learning_rates(settings, monkeypatch)
    warm = learning_rates(replace(settings, warmup=2), monkeypatch)
    assert warm[2:] == plain[2:]
    assert warm[1][-1] == plain[1][-1]
    assert warm[0] != plain[0]


def test_the_rise_may_last_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = learning_rates(config(warmup=5, schedule="constant", epochs=5, lr=1.5e-3), monkeypatch)
    assert sum(rates, []) == pytest.approx([1e-4 * step for step in range(1, 16)])


# Moving average


def test_the_average_is_what_is_evaluated_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    weights: list[dict[str, Tensor]] = []

    class Spy(MovingAverage):
        def __init__(self, model: nn.Module, decay: float) -> None:
            weights.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
            super().__init__(model, decay)

        def update(self, model: nn.Module) -> None:
            super().update(model)
            weights.append({name: tensor.clone() for name, tensor in model.state_dict().items()})

    monkeypatch.setattr("trainable.fit.MovingAverage", Spy)
    epoch, best = last(config(ema=0.3, lr=0.03))
    assert len(weights) == 1 + 3 * 3  # each of three steps in three epochs
    for name, kept in best.state.items():
        if name.endswith("num_batches_tracked"):
            assert kept == 0
            continue
        average = weights[0][name].double()
        for step, state in enumerate(weights[1:], start=1):
            decay = min(0.3, (1 + step) / (10 + step))
            average = decay * average + (1 - decay) * state[name].double()
        assert kept.numpy() == pytest.approx(average.numpy(), abs=1e-5)
        assert not torch.equal(kept, weights[-1][name])
    assert np.array_equal(predicted(best, DATA.valid), epoch.valid_logits.numpy())


def test_the_average_does_not_change_what_is_learnt() -> None:
    plain, averaged = (list(fit(config(ema=ema, lr=0.03), DATA, FLOAT32)) for ema in (0.0, 0.9))
    for name in ("train_loss", "train_accuracy"):
        assert [epoch.row[name] for epoch in plain] == [epoch.row[name] for epoch in averaged]
    assert [epoch.row["valid_loss"] for epoch in plain] != [epoch.row["valid_loss"] for epoch in averaged]


# Mixing


def test_own_and_partners_losses_and_hits_enter_by_their_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Tensor, list[int]]] = []

    def built(settings: TrialConfig) -> Any:
        def loss(outputs: Tensor, levels: Tensor) -> Tensor:
            calls.append((outputs, levels.tolist()))
            return 0 * outputs.sum(1) + 10.0**levels

        return loss

    def mix(self: Augmenter, images: Tensor) -> Mixed:
        return Mixed(torch.zeros_like(images), torch.zeros(len(images), dtype=torch.int64), share=0.25)

    monkeypatch.setitem(LOSSES, "cross_entropy", replace(LOSSES["cross_entropy"], build=built))
    monkeypatch.setattr(Augmenter, "mix", mix)
    bare = replace(DATA, metadata=np.zeros_like(DATA.metadata))
    (epoch,) = fit(config(epochs=1, dropout=None, head_dropout=0.0), bare, FLOAT32)
    total, hits, pairs = 0.0, 0.0, list(zip(calls[::2], calls[1::2], strict=True))
    assert len(pairs) == 3
    for (outputs, own), (same, partners) in pairs:
        assert outputs is same
        assert outputs.std(dim=0).max() < 1e-3  # the images are the mixed ones: all alike here
        assert partners == [own[0]] * len(own)
        total += sum(0.25 * 10**a + 0.75 * 10**b for a, b in zip(own, partners, strict=True))
        said = outputs.argmax(1).tolist()
        hits += sum(0.25 * (c == a) + 0.75 * (c == b) for a, b, c in zip(own, partners, said, strict=True))
    assert epoch.row["train_loss"] == pytest.approx(total / 20)
    assert epoch.row["train_accuracy"] == pytest.approx(hits / 20)


def test_gradients_are_of_the_mixed_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    # Where all of the share is the partner's, training is on the partner's labels.
    partner = torch.tensor([1, 0, 3, 2, 5, 4, 7, 6])
    data, settings = replace(DATA, train=DATA.train[:8]), config(epochs=2)
    real = LOSSES["cross_entropy"].build(settings)

    def crossed(settings: TrialConfig) -> Any:
        return lambda outputs, levels: real(outputs, levels[partner])

    with monkeypatch.context() as patch:
        patch.setitem(LOSSES, "cross_entropy", replace(LOSSES["cross_entropy"], build=crossed))
        expected = last(settings, data)[1].state
    with monkeypatch.context() as patch:
        patch.setattr(Augmenter, "mix", lambda self, images: Mixed(images, partner, share=0.0))
        assert same(last(settings, data)[1].state, expected)
    assert not same(last(settings, data)[1].state, expected)


# Targets


def aged(unknown: int = 3) -> Examples:
    """Two ages for each class, and some validation rows with an age that training never saw."""
    levels = 2 * DATA.labels + np.random.default_rng(1).integers(2, size=len(DATA.labels))
    levels[DATA.valid[:unknown]] = UNKNOWN
    ages = {"10": 0, "15": 0, "20": 1, "25": 1, "30": 2, "35": 2}
    return replace(DATA, levels=levels, preprocessing=replace(DATA.preprocessing, levels=ages))


@pytest.mark.parametrize("loss", LOSSES)
def test_a_target_is_learnt_and_its_levels_summed_into_classes(loss: Any) -> None:
    data, settings = aged(), config(target="Age", loss=loss, epochs=2)
    epoch, best = last(settings, data)
    outputs = outputs_of(
        build(best, FLOAT32),
        Images(data.pixels, FLOAT32),
        torch.from_numpy(data.metadata),
        data.valid,
        data.preprocessing,
    )
    assert outputs.shape == (12, 5 if loss == "coral" else 6)
    assert epoch.valid_logits.shape == (12, CLASSES)
    if loss == "coral":
        above = torch.cat([torch.ones(12, 1), outputs.sigmoid(), torch.zeros(12, 1)], dim=1)
        levels = above[:, :-1] - above[:, 1:]
    else:
        levels = outputs.softmax(1)
    classes = levels.view(12, 3, 2).sum(2)
    assert epoch.valid_logits.softmax(1).numpy() == pytest.approx(classes.numpy(), abs=1e-4)
    labels = torch.from_numpy(data.labels[data.valid])
    # The rows of an unseen age count here ...
    assert epoch.row["valid_loss"] == pytest.approx(F.nll_loss(classes.log(), labels).item(), rel=1e-3)
    assert epoch.row["valid_accuracy"] == (classes.argmax(1) == labels).double().mean().item()
    # ... and not here, where they have no level.
    known = torch.from_numpy(data.levels[data.valid[3:]])
    expected = criterion(settings, torch.ones(6))(outputs[3:], known).mean().item()
    assert epoch.row["valid_objective_loss"] == pytest.approx(expected, rel=1e-5)


def test_accuracy_in_training_is_of_classes_and_not_of_levels() -> None:
    # The output's bias decides: level 3 of class 1 for every image.
    data, settings = aged(), config(target="Age", epochs=1, optimizer="sgd", lr=1e-30)
    run = fit(settings, data, FLOAT32)
    latest = next(run).latest()
    latest["model"]["output.weight"].zero_()
    latest["model"]["output.bias"].copy_(torch.tensor([0.0, 0, 0, 9, 0, 0]))
    (epoch,) = fit(replace(settings, epochs=2), data, FLOAT32, latest)
    assert epoch.row["train_accuracy"] == np.mean(data.labels[data.train] == 1)
    assert epoch.row["valid_accuracy"] == np.mean(data.labels[data.valid] == 1)


def test_the_loss_trained_on_has_a_column_where_there_is_a_target_or_a_weight() -> None:
    for settings, data in ((config(target="Age", epochs=1), aged()), (config(class_weights=True, epochs=1), DATA)):
        (epoch,) = fit(settings, data, FLOAT32)
        assert "valid_objective_loss" in epoch.row


def test_a_loss_of_the_kind_trained_on_that_is_infinite_in_validation_alone_fails_the_trial() -> None:
    settings = config(target="Age", loss="coral", epochs=2, optimizer="sgd", lr=1e-30)
    data = replace(aged(), metadata=DATA.metadata.copy())
    data.metadata[data.train] = 0  # so that its weights count in validation alone
    latest = next(fit(settings, data, FLOAT32)).latest()
    latest["model"]["network.hidden.weight"][:, -2:] = 1.5e38  # five of CORAL's terms are more than a float holds
    latest["model"]["network.output.weight"].fill_(1 / 8)
    with pytest.raises(NonFiniteLossError, match=r"^the validation loss of the kind trained on is inf in epoch 2$"):
        list(fit(settings, data, FLOAT32, latest))


def test_without_a_validation_row_of_a_known_level_the_validation_loss_stands_in() -> None:
    data, settings = aged(unknown=12), config(target="Age", objective="valid_objective_loss", lr=0.03)
    epochs = list(fit(settings, data, FLOAT32))
    assert all("valid_objective_loss" not in epoch.row for epoch in epochs)
    assert [objective_value(epoch.row, "valid_objective_loss") for epoch in epochs] == [
        epoch.row["valid_loss"] for epoch in epochs
    ]
    best = max(epochs, key=lambda epoch: merit(epoch.row, "valid_objective_loss"))
    assert [epoch for epoch in epochs if epoch.improved][-1] is best


def test_weights_are_of_the_training_rows_and_hold_in_validation_too() -> None:
    settings = config(class_weights=True, epochs=1)
    epoch, _ = last(settings)
    counts = np.bincount(DATA.labels[DATA.train], minlength=3)
    labels = torch.from_numpy(DATA.labels[DATA.valid])
    losses = F.cross_entropy(epoch.valid_logits, labels, reduction="none")
    weights = torch.from_numpy(20 / (3 * counts))[labels]
    assert len(set(counts.tolist())) > 1
    assert epoch.row["valid_objective_loss"] == pytest.approx((weights * losses.double()).mean().item(), rel=1e-5)
    assert epoch.row["valid_loss"] == pytest.approx(losses.mean().item(), rel=1e-5)


# Experts

EXPERTS = config(experts="Gender", lr=0.03)


def own(state: dict[str, Tensor], expert: int) -> dict[str, Tensor]:
    """One expert's part of a state."""
    prefix = f"networks.{expert}."
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def experts_trained(settings: TrialConfig, monkeypatch: pytest.MonkeyPatch) -> list[list[list[int]]]:
    """Whose weights each step of each epoch changes, momentum and decay included."""
    seen: list[list[int]] = []
    real = OPTIMIZERS[settings.optimizer].build

    def spied(parameters: Iterable[nn.Parameter], config: TrialConfig) -> Any:
        named = list(parameters)
        halves = (named[: len(named) // 2], named[len(named) // 2 :])
        before = [[p.detach().clone() for p in half] for half in halves]

        def note(*_: Any) -> None:
            seen.append([e for e in (0, 1) if not all(map(torch.equal, halves[e], before[e]))])
            before[:] = [[p.detach().clone() for p in half] for half in halves]

        optimizer = real(named, config)
        optimizer.register_step_post_hook(note)
        return optimizer

    monkeypatch.setitem(OPTIMIZERS, settings.optimizer, replace(OPTIMIZERS[settings.optimizer], build=spied))
    epochs = []
    for _ in fit(settings, DATA, FLOAT32):
        epochs.append(seen.copy())
        seen.clear()
    monkeypatch.undo()
    return epochs


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_batch_trains_one_expert_alone(optimizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(EXPERTS, optimizer=optimizer, weight_decay=0.1, epochs=6)
    women = int((GENDER[DATA.train] == 0).sum())
    assert (women, 20 - women) == (12, 8)  # in batches of 8: two and one
    epochs = experts_trained(settings, monkeypatch)
    assert all(sorted(epoch) == [[0], [0], [1]] for epoch in epochs)
    assert len({str(epoch) for epoch in epochs}) > 1  # in random order


@pytest.mark.parametrize("changes", [{}, {"ema": 0.9}, {"class_weights": True}, {"loss": "coral"}], ids=str)
def test_no_row_of_another_group_reaches_an_expert(changes: dict[str, Any]) -> None:
    settings = replace(EXPERTS, **changes)
    pixels, labels = DATA.pixels.copy(), DATA.labels.copy()
    men = np.flatnonzero(GENDER == 1)
    pixels[men] ^= 255
    labels[men] = (labels[men] + 1) % 3
    changed = replace(DATA, pixels=pixels, labels=labels, levels=labels)
    before, after = (last(settings, data)[1].state for data in (DATA, changed))
    assert same(own(before, 0), own(after, 0))
    assert not same(own(before, 1), own(after, 1))


def test_an_expert_learns_as_a_network_of_its_own_does(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[nn.Module] = []

    def spy(*arguments: Any) -> nn.Module:
        begun.append(copy.deepcopy(network := build_network(*arguments)))
        return network

    monkeypatch.setattr("trainable.fit.build_network", spy)
    # No draws, and one batch for each.
    bare = config(experts="Gender", augment=Augmentation(flip=0.0), dropout=None, head_dropout=0.0, batch_size=64)
    settings = replace(bare, optimizer="sgd", lr=0.05, schedule="constant")
    together = last(settings)[1].state
    for expert, network in enumerate(begun[0].get_submodule("networks").train().children()):
        rows = DATA.train[GENDER[DATA.train] == expert]
        images = normalised(Images(DATA.pixels, FLOAT32)(rows), DATA.preprocessing)
        optimizer = OPTIMIZERS["sgd"].build(network.parameters(), settings)
        for _ in range(3):
            optimizer.zero_grad()
            outputs = network(images, torch.from_numpy(DATA.metadata[rows]))
            F.cross_entropy(outputs, torch.from_numpy(DATA.labels[rows])).backward()
            optimizer.step()
        for name, tensor in network.state_dict().items():
            assert own(together, expert)[name].numpy() == pytest.approx(tensor.numpy(), abs=1e-5)


def test_metrics_of_experts_are_means_over_all_images() -> None:
    for epoch in fit(EXPERTS, DATA, FLOAT32):
        assert epoch.row["train_accuracy"] * 20 == pytest.approx(round(epoch.row["train_accuracy"] * 20))
        labels = torch.from_numpy(DATA.labels[DATA.valid])
        assert epoch.row["valid_loss"] == pytest.approx(F.cross_entropy(epoch.valid_logits, labels).item(), rel=1e-5)


def test_training_metrics_are_means_over_the_images_of_the_experts() -> None:
    """A row without a value that makes an expert is learnt by none."""
    metadata = DATA.metadata.copy()
    metadata[DATA.train[:3]] = 0
    for epoch in fit(EXPERTS, replace(DATA, metadata=metadata), FLOAT32):
        assert epoch.row["train_accuracy"] * 17 == pytest.approx(round(epoch.row["train_accuracy"] * 17))


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle"])  # one_cycle is told the number of steps, and counts
@pytest.mark.parametrize("batch_size", [2, 3, 5, 64])
def test_a_groups_last_image_joins_the_batch_before(batch_size: int, schedule: Any) -> None:
    settings = replace(EXPERTS, batch_size=batch_size, schedule=schedule, epochs=2)
    assert len(list(fit(settings, replace(DATA, train=DATA.train[:19]), FLOAT32))) == 2


# Without validation


@pytest.fixture(scope="module")
def everything() -> Examples:
    return replace(DATA, train=np.arange(len(DATA.labels)), valid=np.zeros(0, np.int64))


@pytest.mark.parametrize("changes", [{}, {"loss": "focal", "objective": "valid_objective_loss"}], ids=str)
def test_without_validation_rows_are_of_training_and_the_last_epoch_is_kept(
    changes: dict[str, Any], everything: Examples
) -> None:
    epochs = list(fit(config(**changes), everything, FLOAT32))
    assert [set(epoch.row) for epoch in epochs] == [{"epoch", "train_loss", "train_accuracy", "lr", "seconds"}] * 3
    assert [epoch.improved for epoch in epochs] == [False, False, True]
    assert epochs[-1].valid_logits.shape == (0, CLASSES)
    assert epochs[-1].networks()[0].epoch == 3


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_fewer_epochs_are_the_first_of_the_schedule(schedule: Any, everything: Examples) -> None:
    settings = config(schedule=schedule, epochs=5, t_max=None, step_size=2, lr=0.01)
    whole = list(islice(fit(settings, everything, FLOAT32), 3))
    state = whole[-1].networks()[0].state  # after three epochs of five
    short = list(fit(settings, everything, FLOAT32, epochs=3))
    assert outcome(short) == outcome(whole)
    assert [epoch.improved for epoch in short] == [False, False, True]
    assert same(short[-1].networks()[0].state, state)
    assert short[-1].networks()[0].config == settings


def test_a_refit_that_is_stopped_goes_on_to_its_own_last_epoch(everything: Examples, tmp_path: Path) -> None:
    settings = config(epochs=6, ema=0.9)
    unbroken = list(fit(settings, everything, FLOAT32, epochs=4))
    for epoch in islice(fit(settings, everything, FLOAT32, epochs=4), 2):
        save_latest(tmp_path / "latest.pt", epoch.latest())
    rest = list(fit(settings, everything, FLOAT32, load_latest(tmp_path / "latest.pt"), epochs=4))
    assert outcome(rest) == outcome(unbroken[2:])
    assert [epoch.improved for epoch in rest] == [False, True]


def test_validation_changes_nothing_of_what_is_learnt() -> None:
    blind = replace(DATA, valid=np.zeros(0, np.int64))
    (*_, with_validation), (*_, without) = (list(fit(config(), data, FLOAT32)) for data in (DATA, blind))
    assert same(with_validation.networks()[0].state, without.networks()[0].state)
