"""Networks that torch.compile makes kernels for: on a card, where a trial takes enough steps to pay for that.

Inductor fuses a block's operators by itself, so that a compiled network is made of PyTorch's own (`model.Block`). What
it has compiled is kept on the disk, where a node's trials of the same network, dropout and batch size find it: repeats,
folds, confirmations, trials that go on. They trace the network, but compile nothing.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from trainable.device import Device
from trainable.files import make_folder

# Of a whole course. A scheduler may stop a trial after a quarter of it: a minute of compiling pays even then where it
# saves six milliseconds of each step. None of that was measured on a card: benchmarks/gpu.py does, and --compile
# overrides it.
PAYING_STEPS = 40_000


def compiles(device: Device, steps: int) -> bool:
    """Whether a network is compiled that takes so many steps on a device: on a CPU not of itself, where epochs were
    slower than by the blocks' own kernels."""
    pays = device.device.type == "cuda" and steps >= PAYING_STEPS
    return pays if device.compile == "auto" else device.compile == "on"


def compiled(
    network: nn.Module, images: Tensor, metadata: Tensor, device: Device
) -> Callable[[Tensor, Tensor], Tensor]:
    """The network, compiled for training on batches like this one; as it is, and said, where that cannot be done.

    Args:
        network: on the device, in training mode. Its weights and buffers stay as they are.
        images: (B, 3, S, S) of any values.
        metadata: (B, K).
    """
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    try:
        folder = Path.home() / ".cache" / "convsearch" / "inductor"  # not in /tmp, where a stranger may have made it
        make_folder(folder)
        folder.chmod(0o700)
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
        # Else it chooses among kernels by the clock, and the same seed gives other numbers.
        run: Callable[[Tensor, Tensor], Tensor] = torch.compile(network, dynamic=False, options={"deterministic": True})
        # All of it is compiled by a first step, whose faults are not the trial's.
        with torch.random.fork_rng([device.device] if device.device.type == "cuda" else []), device.autocast():
            outputs = run(images, metadata)
        outputs.float().sum().backward()
        return run
    except Exception as error:  # whatever a compiler or a driver raises, the other way is there
        print(f"the network is not compiled ({type(error).__name__}: {str(error).partition(chr(10))[0]})", flush=True)
        return network
    finally:
        network.zero_grad()
        with torch.no_grad():
            for name, buffer in network.named_buffers():
                buffer.copy_(buffers[name])


def forget() -> None:
    """Forgets the networks that were compiled in this process: after a few, no more are. The disk keeps their code."""
    if "torch._dynamo" in sys.modules:  # which takes a second to import
        torch.compiler.reset()
