"""What needs a card. `make test-cuda` runs these alone."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.trainable.tiny import FLOAT32, columns, config, examples, outcome
from trainable import block_tail, images
from trainable.checkpoint import load_latest, save_latest
from trainable.config import Augmentation, TrialConfig
from trainable.device import Precision, choose, out_of_memory
from trainable.evaluate import predict
from trainable.fit import Epoch, fit
from trainable.images import Images

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
]

DATA = examples()


def trained(config: TrialConfig, precision: Precision = "auto") -> list[Epoch]:
    return list(fit(config, DATA, choose("cuda", precision)))


def report(**changes: Any) -> TrialConfig:
    """The report's network at full width, on small images."""
    return TrialConfig(image_size=28, inputs=("Gender",), batch_size=8, epochs=2, dropout=(0.1,) * 8, **changes)


def test_products_are_in_bfloat16_from_capability_8_on() -> None:
    chosen = choose("cuda")
    fast = torch.cuda.get_device_capability() >= (8, 0)
    assert chosen.compute == (torch.bfloat16 if fast else torch.float32)
    assert chosen.reason.startswith(torch.cuda.get_device_name())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("settings", [config(), report()], ids=["tiny", "report"])
def test_a_configuration_gives_the_same_numbers_each_time(settings: TrialConfig, precision: Precision) -> None:
    first = outcome(trained(settings, precision))
    torch.randn(7, device="cuda")
    assert outcome(trained(settings, precision)) == first


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "adamax", "sgd"])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(optimizer: Any, tmp_path: Path) -> None:
    settings, device = config(optimizer=optimizer), choose("cuda")
    run = fit(settings, DATA, device)
    epoch = next(run)
    first = outcome([epoch])
    save_latest(tmp_path / "latest.pt", epoch.latest())
    rest = outcome(fit(settings, DATA, device, load_latest(tmp_path / "latest.pt")))
    assert first + rest == outcome(trained(settings))


def test_two_runs_at_once_give_the_numbers_of_each_alone() -> None:
    one, other = config(), config(seed=1, optimizer="adamw")
    expected = [outcome(trained(one)), outcome(trained(other))]
    device = choose("cuda")
    pairs = list(zip(fit(one, DATA, device), fit(other, DATA, device), strict=True))
    assert [outcome(run) for run in zip(*pairs, strict=True)] == expected


def test_the_cards_random_state_is_left_alone() -> None:
    before = torch.cuda.get_rng_state()
    trained(config())
    assert torch.equal(torch.cuda.get_rng_state(), before)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 0.02), ("bfloat16", 0.1)])
def test_card_and_cpu_agree_on_the_logits_of_a_checkpoint(precision: Precision, tolerance: float) -> None:
    # The card's float32 is TF32, whose products have 10 bits.
    best = [epoch.networks()[0] for epoch in fit(report(), DATA, FLOAT32) if epoch.improved][-1]
    rows = np.arange(len(DATA.labels))
    cpu = predict(best, DATA.pixels, columns(DATA, rows), "cpu")
    card = predict(replace(best, precision=precision), DATA.pixels, columns(DATA, rows), "cuda")
    assert card == pytest.approx(cpu, abs=tolerance)


def test_a_checkpoint_of_the_card_is_on_the_cpu() -> None:
    (best,) = trained(config(epochs=1))[0].networks()
    assert all(tensor.device.type == "cpu" and tensor.is_contiguous() for tensor in best.state.values())


def test_pixels_stay_on_the_card_where_they_fit() -> None:
    device = choose("cuda")
    one, other = Images(DATA.pixels, device), Images(DATA.pixels, device)
    assert one.resident is not None and one.resident.dtype == torch.uint8
    assert one.resident is other.resident
    assert one.where == other.where == f"{DATA.pixels.nbytes / 1e6:.1f} MB of pixels on the card"
    assert Images(DATA.pixels, device, once=True).resident is None


def test_pixels_give_the_same_numbers_wherever_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = outcome(trained(config()))
    monkeypatch.setattr(images, "SHARE", 2**60)
    streamed = Images(DATA.pixels, choose("cuda"))
    assert streamed.resident is None
    assert "MB of pixels through pinned memory: more than 1/" in streamed.where
    assert outcome(trained(config())) == expected


def test_pixels_are_streamed_where_another_process_takes_the_memory_that_was_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = outcome(trained(config()))
    images._resident.clear()
    monkeypatch.setattr(images, "CHUNK", 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**60, 2**60))
    most = torch.cuda.get_device_properties(0).total_memory
    many = np.broadcast_to(DATA.pixels[:1], (most // DATA.pixels[:1].nbytes + 1, *DATA.pixels.shape[1:]))
    streamed = Images(many, choose("cuda"))
    assert streamed.resident is None and streamed.where.endswith(": the card's was taken meanwhile")
    assert outcome(trained(config())) == expected


def test_a_full_card_is_told_from_other_errors() -> None:
    with pytest.raises(torch.OutOfMemoryError) as error:
        torch.empty(2**50, dtype=torch.uint8, device="cuda")
    assert out_of_memory(error.value)


@pytest.mark.parametrize("share", [images.SHARE, 2**60], ids=["resident", "streamed"])
@pytest.mark.parametrize(
    "changes",
    [{}, {"augment": Augmentation(rotation=5.0, randaugment=2, holes=2, brightness=0.2, mixup=0.5)}],
    ids=["flip", "augmented"],
)
def test_no_step_waits_for_the_card(share: int, changes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "SHARE", share)

    def waits(batch_size: int) -> int:
        """How often an epoch after the first waits."""
        run = fit(config(batch_size=batch_size, epochs=2, **changes), DATA, choose("cuda"))
        next(run)
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                next(run)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return sum("synchroniz" in str(warning.message) for warning in caught)

    assert waits(4) == waits(10)  # five steps and two


@pytest.mark.parametrize("shape", [(4, 32, 15, 13), (3, 20, 7, 9), (2, 5, 31, 31), (2, 200, 6, 6)])
@pytest.mark.parametrize("pool", [1, 2, 3])
@pytest.mark.parametrize(("relu", "dropout"), [(True, 0.0), (True, 0.3), (False, 0.0)])
def test_triton_gives_pytorchs_numbers(
    shape: tuple[int, ...], pool: int, relu: bool, dropout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step() -> list[torch.Tensor]:
        torch.manual_seed(5)
        x = torch.randn(shape, device="cuda").contiguous(memory_format=torch.channels_last).requires_grad_()
        norm, bias = torch.nn.BatchNorm2d(shape[1]).cuda(), torch.linspace(-1, 1, shape[1], device="cuda")
        torch.nn.init.normal_(norm.weight)
        y = block_tail.block_tail(x, norm, bias, pool, relu, dropout)
        y.backward(torch.randn_like(y))
        found = (y.detach(), x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var)
        return [tensor for tensor in found if tensor is not None]

    assert block_tail.kernels("cuda") is not None, block_tail.reason("cuda")
    ours = step()
    monkeypatch.setattr(block_tail, "kernels", lambda device_type: None)
    for one, other in zip(ours, step(), strict=True):
        assert (one - other).abs().max() <= 1e-4 * other.abs().max() + 1e-6


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-3), ("auto", 5e-2)])
def test_a_compiled_network_learns_as_another(
    precision: Precision,
    tolerance: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")  # so that it is put back
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    settings, device = replace(report(), dropout=(0.0,) * 8, head_dropout=0.0), choose("cuda", precision)
    plain = list(fit(settings, DATA, device))
    compiled = list(fit(settings, DATA, replace(device, compile="on")))
    assert capsys.readouterr().out == ""  # it could be compiled
    for one, other in zip(plain, compiled, strict=True):
        assert one.row["train_loss"] == pytest.approx(other.row["train_loss"], rel=tolerance)
