"""What the CPU and a card would get is decided from what torch says of them, so most of it is tested without a card."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from trainable import block_tail, convolution, stem
from trainable.device import choose, out_of_memory
from trainable.errors import UserError

# Torch's switches are descriptors that monkeypatch cannot put back.
SWITCHES = (
    (torch.backends.cudnn, "benchmark"),
    (torch.backends.cudnn, "deterministic"),
    (torch.backends.cudnn, "allow_tf32"),
    (torch.backends.cuda.matmul, "allow_tf32"),
)


@pytest.fixture(autouse=True)
def process_as_it_was() -> Iterator[None]:
    threads, switches = torch.get_num_threads(), [getattr(backend, name) for backend, name in SWITCHES]
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    for (backend, name), value in zip(SWITCHES, switches, strict=True):
        setattr(backend, name, value)


@pytest.fixture
def no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def pretend_card(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"card {device}")


@pytest.mark.parametrize(
    ("capabilities", "precision", "compute", "reason"),
    [
        ({"avx512_bf16": True}, "auto", torch.bfloat16, "bfloat16 (the hardware has it)"),
        ({"avx512_bf16": False, "amx_bf16": True}, "auto", torch.bfloat16, "bfloat16 (the hardware has it)"),
        ({"avx512_bf16": False, "amx_bf16": False}, "auto", torch.float32, "float32 (no fast bfloat16 here)"),
        ({}, "auto", torch.float32, "float32 (no fast bfloat16 here)"),
        ({"avx512_bf16": True}, "float32", torch.float32, "float32 (asked for)"),
        ({}, "bfloat16", torch.bfloat16, "bfloat16 (asked for)"),
    ],
)
def test_a_cpu_multiplies_in_bfloat16_where_it_has_the_instructions(
    monkeypatch: pytest.MonkeyPatch,
    capabilities: dict[str, bool],
    precision: str,
    compute: torch.dtype,
    reason: str,
) -> None:
    first_block = "; the first block as one operator" if stem.ours("cpu", compute) else ""
    convolutions = "; convolutions in compiled C++" if convolution.ours("cpu", compute) else ""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    chosen = choose("cpu", precision)  # type: ignore[arg-type]
    assert chosen.device == torch.device("cpu")
    assert (chosen.compute, chosen.precision) == (compute, reason.split()[0])
    assert chosen.memory_format == torch.channels_last
    said = f"cpu, 1 thread(s); {reason}; channels last; {block_tail.reason('cpu')}"
    assert chosen.reason == f"{said}{first_block}{convolutions}"


@pytest.mark.parametrize(
    ("capability", "compute", "reason"),
    [
        ((7, 5), torch.float32, "float32 (no fast bfloat16 here)"),
        ((8, 0), torch.bfloat16, "bfloat16 (the hardware has it)"),
        ((9, 0), torch.bfloat16, "bfloat16 (the hardware has it)"),
    ],
)
def test_a_card_multiplies_in_bfloat16_from_capability_8_on(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], compute: torch.dtype, reason: str
) -> None:
    pretend_card(monkeypatch, capability)
    chosen = choose("auto")
    assert chosen.device == torch.device("cuda")
    assert chosen.compute == compute
    assert chosen.reason == f"card cuda; {reason}; channels last; {block_tail.reason('cuda')}"


def test_a_card_runs_no_kernel_that_was_timed_or_varies(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_card(monkeypatch, (9, 0))
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = True, False
    choose("cuda:1")
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic) == (False, True)


def test_the_cpu_may_be_asked_for_beside_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_card(monkeypatch, (9, 0))
    assert choose("cpu").device == torch.device("cpu")
    assert choose("cuda:1").device == torch.device("cuda:1")


def test_without_a_card_auto_is_the_cpu(no_card: None) -> None:
    assert choose().device == torch.device("cpu")


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_those_asked_for(no_card: None, threads: int) -> None:
    assert choose(threads=threads).reason.startswith(f"cpu, {threads} thread(s); ")
    assert torch.get_num_threads() == threads
    choose(threads=None)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("name", ["gpu", "", "CPU", "cuda:", "cuda:x", "cudafoo", "cuda:-1", "mps"])
def test_an_unknown_device_is_a_sentence_with_the_choices(name: str) -> None:
    with pytest.raises(UserError) as error:
        choose(name)
    assert str(error.value) == f"--device: '{name}' is not known; choose auto, cpu, cuda or cuda:INDEX."


@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_a_card_that_is_not_there_is_a_sentence(no_card: None, name: str) -> None:
    with pytest.raises(UserError) as error:
        choose(name)
    expected = f"--device: {name} was asked for, but torch finds no CUDA device; choose cpu or auto."
    assert str(error.value) == expected


def test_a_card_beyond_the_last_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_card(monkeypatch, (9, 0))
    with pytest.raises(UserError) as error:
        choose("cuda:2")
    expected = "--device: cuda:2 was asked for, but torch finds 2 CUDA device(s), numbered from 0."
    assert str(error.value) == expected


@pytest.mark.parametrize(("precision", "expected"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_products_are_in_the_chosen_format_and_weights_in_float32(precision: str, expected: torch.dtype) -> None:
    chosen = choose("cpu", precision)  # type: ignore[arg-type]
    model = chosen.place(nn.Conv2d(3, 4, 3))
    with chosen.autocast():
        assert model(torch.zeros(1, 3, 5, 5)).dtype == expected
    assert model.weight.dtype == torch.float32
    assert model.weight.is_contiguous(memory_format=torch.channels_last)


def test_a_tensor_that_memory_cannot_hold_is_told_from_other_errors() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**55)
    assert out_of_memory(error.value)
    assert out_of_memory(MemoryError())
    for status in ("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"):
        assert out_of_memory(RuntimeError(f"CUDA error: {status} when calling something"))
    with pytest.raises(RuntimeError) as error:
        torch.ones(2) @ torch.ones(3)
    assert not out_of_memory(error.value)
