"""Device, number format, memory layout and allocator: decided here and nowhere else, with the reason in words."""

import ctypes
import os
import re
import sys
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import nn

from trainable import block_tail, convolution, stem
from trainable.compiled import SWITCH, missing
from trainable.errors import UserError

Precision = Literal["auto", "float32", "bfloat16"]
Compile = Literal["auto", "on", "off"]
ModelT = TypeVar("ModelT", bound=nn.Module)


@dataclass(frozen=True)
class Device:
    """Where and how a trial computes. Weights are float32 always; `compute` is the format of products."""

    device: torch.device
    compute: torch.dtype  # float32 or bfloat16
    memory_format: torch.memory_format  # of images and feature maps
    reason: str  # why, for the log
    slower: str | None = None  # why some of what would be compiled ahead is not, though nobody said so
    compile: Compile = "auto"  # whether torch.compile makes a trial's kernels: see `trainable.torch_compile`

    @property
    def precision(self) -> str:
        """float32 or bfloat16."""
        return str(self.compute).removeprefix("torch.")

    def autocast(self) -> torch.autocast:
        """The context in which a network's forward pass belongs."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.compute == torch.bfloat16)

    def send(self, values: torch.Tensor) -> torch.Tensor:
        """Small or batched values from the CPU, on the device. Neither side waits: a card copies from pinned memory,
        in the order of its work."""
        if self.device.type != "cuda":
            return values.to(self.device)
        return values.pin_memory().to(self.device, non_blocking=True)

    def release(self) -> None:
        """Gives memory that is kept for the next trial back to the card, where others may need it."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def place(self, model: ModelT) -> ModelT:
        """The model, moved to the device in its memory format."""
        return model.to(self.device).to(memory_format=self.memory_format)


def choose(
    name: str = "auto", precision: Precision = "auto", threads: int | None = None, compile: Compile = "auto"
) -> Device:
    """The device for this process: a GPU if there is one, else the CPU; bfloat16 where the hardware multiplies in it.

    Args:
        name: auto, cpu, cuda or cuda:INDEX.
        precision: auto, or the format of products.
        threads: CPU threads for this process; None leaves torch's own choice.
        compile: as in Device.
    Raises:
        UserError: where `name` is not to be had.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise UserError(f"--device: {name!r} is not known; choose auto, cpu, cuda or cuda:INDEX.")
    available = torch.cuda.is_available()
    if name.startswith("cuda") and not available:
        raise UserError(f"--device: {name} was asked for, but torch finds no CUDA device; choose cpu or auto.")
    _, _, index = name.partition(":")
    if index and int(index) >= (found := torch.cuda.device_count()):
        raise UserError(f"--device: {name} was asked for, but torch finds {found} CUDA device(s), numbered from 0.")
    if name == "cpu" or not available:
        device = torch.device("cpu")
        # Emulated bfloat16 is far slower than float32, so it needs the instructions.
        capabilities = torch.cpu.get_capabilities()
        fast = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
        where = f"cpu, {torch.get_num_threads()} thread(s)"
        _keep_freed_pages()
    else:
        device = torch.device("cuda" if name == "auto" else name)
        fast = torch.cuda.get_device_capability(device) >= (8, 0)
        where = torch.cuda.get_device_name(device)
        # The same numbers on each run of the same kind of card: no autotuned and no non-deterministic kernels.
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        # TF32 keeps float32's range with ten bits: fine by default, but not what somebody means who asks for float32.
        products = "ieee" if precision == "float32" else "tf32"
        torch.backends.cudnn.conv.fp32_precision = products  # type: ignore[attr-defined]  # made at run time
        torch.backends.cuda.matmul.fp32_precision = products
    compute = {"float32": torch.float32, "bfloat16": torch.bfloat16}.get(
        precision, torch.bfloat16 if fast else torch.float32
    )
    why = "asked for" if precision != "auto" else "the hardware has it" if fast else "no fast bfloat16 here"
    # Channels last is the layout that oneDNN and cuDNN convolve in without reordering.
    said = f"{where}; {str(compute).removeprefix('torch.')} ({why}); channels last; {block_tail.reason(device.type)}"
    slower = _slower(device.type)
    if slower is not None and slower not in said:
        said += f"; some of it in PyTorch's operators, slower ({slower})"
    if stem.ours(device.type, compute):
        said += "; the first block as one operator"
    if convolution.ours(device.type, compute):
        said += "; convolutions in compiled C++"
    return Device(device, compute, torch.channels_last, said, slower, compile)


def _slower(device_type: str) -> str | None:
    """`Device.slower`."""
    if os.environ.get(SWITCH) == "0":
        return None
    sources = (stem.SOURCE, convolution.SOURCE) if device_type == "cpu" else ()
    return block_tail.missing(device_type) or missing(*sources)


def out_of_memory(error: BaseException) -> bool:
    """Whether there was no memory left for a tensor, on a card or beside the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # The last two are cuBLAS's and cuDNN's.
    return any(words in str(error) for words in ("can't allocate memory", "_ALLOC_FAILED", "_ALLOCATION_FAILED"))


def _keep_freed_pages() -> None:
    """Tells glibc to keep freed activations instead of handing them back to the system and faulting them in again
    at each step (1.2x to 1.5x on a whole CPU epoch). Elsewhere than on Linux with glibc nothing happens.

    It does so in its first arena, which is what all threads have where MALLOC_ARENA_MAX is 1 from the process's start.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        m_trim_threshold, m_mmap_threshold, limit = -1, -3, 2**31 - 1
        mallopt(m_trim_threshold, limit)
        if not mallopt(m_mmap_threshold, limit):  # before 2.35 no more than this is taken
            mallopt(m_mmap_threshold, 2**25)
