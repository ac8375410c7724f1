"""On a CPU, where Inductor makes C++; on a card it is in test_cuda.py."""

import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters
from torch._inductor import config as inductor

from tests.trainable.tiny import FLOAT32, config, examples
from trainable import torch_compile
from trainable.device import Device
from trainable.fit import Epoch, fit
from trainable.network import build_network
from trainable.torch_compile import PAYING_STEPS, compiles, forget

DATA = examples()
COMPILED = replace(FLOAT32, compile="on")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where nothing is compiled yet."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")  # so that it is put back
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    forget()
    counters.clear()
    yield tmp_path
    forget()


def trained(device: Device, **changes: object) -> list[Epoch]:
    return list(fit(config(epochs=2, dropout=(0.0,) * 4, head_dropout=0.0, **changes), DATA, device))


@pytest.mark.parametrize(
    ("device", "compile", "steps", "expected"),
    [
        ("cuda", "auto", PAYING_STEPS, True),
        ("cuda", "auto", PAYING_STEPS - 1, False),
        ("cuda", "on", 1, True),
        ("cuda", "off", PAYING_STEPS, False),
        ("cpu", "auto", PAYING_STEPS, False),
        ("cpu", "on", 1, True),
    ],
)
def test_a_network_is_compiled_where_it_pays_or_as_is_asked_for(
    device: str, compile: str, steps: int, expected: bool
) -> None:
    chosen = replace(FLOAT32, device=torch.device(device), compile=compile)  # type: ignore[arg-type]
    assert compiles(chosen, steps) is expected


def test_a_compiled_network_learns_as_another_and_its_code_is_found_again(home: Path) -> None:
    plain = trained(FLOAT32)
    assert not counters["inductor"]
    first = trained(COMPILED)
    assert counters["stats"]["unique_graphs"] == 1  # nothing in the network breaks it into several
    assert counters["inductor"]["fxgraph_cache_miss"] > 0
    for one, other in zip(plain, first, strict=True):
        assert one.row["train_loss"] == pytest.approx(other.row["train_loss"], rel=1e-4)
        assert one.row["valid_loss"] == pytest.approx(other.row["valid_loss"], rel=1e-3)
    folder = home / ".cache" / "convsearch" / "inductor"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700 and any(folder.iterdir())

    forget()  # as another trial in another process
    counters.clear()
    again = trained(COMPILED)
    assert (counters["inductor"]["fxgraph_cache_miss"], counters["inductor"]["fxgraph_cache_hit"] > 0) == (0, True)
    assert [epoch.row["train_loss"] for epoch in again] == [epoch.row["train_loss"] for epoch in first]


def test_dropout_is_drawn_anew_in_each_step_of_a_compiled_network() -> None:
    network = build_network(config(dropout=(0.0, 0.5, 0.0, 0.5)), DATA.preprocessing).train()
    images, metadata = torch.randn(8, 3, 28, 28), torch.zeros(8, 2)
    images = images.contiguous(memory_format=torch.channels_last)
    run = torch_compile.compiled(network, images, metadata, COMPILED)
    assert run is not network
    assert not torch.equal(run(images, metadata), run(images, metadata))


def test_compiling_leaves_weights_statistics_and_random_numbers_as_they_were() -> None:
    network = build_network(config(), DATA.preprocessing).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    torch.manual_seed(1)
    torch_compile.compiled(network, torch.randn(8, 3, 28, 28), torch.zeros(8, 2), COMPILED)
    drawn = torch.rand(3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    torch.manual_seed(1)
    torch.randn(8, 3, 28, 28)
    assert torch.equal(torch.rand(3), drawn)


def test_what_cannot_be_compiled_is_said_and_trained_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(inductor.cpp, "cxx", ("/no/such/compiler",))
    rows = [epoch.row for epoch in trained(COMPILED)]
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and said.startswith("the network is not compiled (")
    assert [row["train_loss"] for row in rows] == [epoch.row["train_loss"] for epoch in trained(FLOAT32)]
