"""A core's convolution peak: the fastest pass of PyTorch's convolution in the network's own largest layers, alone, on
every core at once.

    python -m benchmarks.conv_peak --image-size 64

Each of those with a tenth of the network's operations or more runs in the format of products that training takes, in
channels last, on one thread; forward alone, then forward and backward. A rate is the median over rounds, a peak the
best of the layers' rates, and a core's is the mean over processes that run at the same moment.
"""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from benchmarks.figures import Figure, Machine, finish, parser
from benchmarks.flops import Convolution, convolutions
from benchmarks.together import ready, together
from trainable.config import TrialConfig
from trainable.device import Device, Precision, choose

ROUNDS, ROUND_SECONDS = 5, 0.2


def core_peak(config: TrialConfig, precision: Precision, processes: int) -> dict[str, float]:
    """FLOP/s of a core by pass, best of the layers: `forward`, `both`."""
    found = together(layer_rates, [(config, precision)] * processes)
    return {
        name: statistics.mean(max(rates[name] for rates in process) for process in found)
        for name in ("forward", "both")
    }


def layer_rates(config: TrialConfig, precision: Precision) -> list[dict[str, float]]:
    """FLOP/s of each of the largest convolutions in this process, when the others of `together` are ready."""
    device = choose("cpu", precision, threads=1)
    layers = convolutions(config)[1:]  # the first has the image for input, and so another backward pass
    least = sum(layer.flops for layer in layers) / 10
    ready()
    return [rates(layer, config.batch_size, device) for layer in layers if layer.flops >= least]


def rates(layer: Convolution, batch: int, device: Device) -> dict[str, float]:
    """FLOP/s of a convolution on random maps."""
    side = layer.size + 2 - 2 * layer.padding
    conv = nn.Conv2d(layer.inputs, layer.outputs, 3, padding=layer.padding, bias=False)
    conv = device.place(conv).to(device.compute)
    maps = torch.randn(batch, layer.inputs, side, side, dtype=device.compute)
    maps = maps.to(memory_format=device.memory_format).requires_grad_()
    with torch.no_grad():
        gradient = torch.randn_like(conv(maps))

    def forward() -> None:
        with torch.no_grad():
            conv(maps)

    def both() -> None:
        conv.weight.grad = maps.grad = None
        conv(maps).backward(gradient)

    operations = batch * layer.flops
    return {"forward": operations / seconds(forward), "both": 3 * operations / seconds(both)}


def seconds(work: Callable[[], None]) -> float:
    """Of one call, the median over rounds of many."""
    work()
    found = []
    for _ in range(ROUNDS):
        calls, started = 0, time.perf_counter()
        while (passed := time.perf_counter() - started) < ROUND_SECONDS or not calls:
            work()
            calls += 1
        found.append(passed / calls)
    return statistics.median(found)


def main() -> None:
    machine = Machine.now()
    command = parser(__doc__)
    command.add_argument("--image-size", type=int, default=64)
    command.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    command.add_argument("--processes", type=int, default=os.cpu_count())
    arguments = command.parse_args()
    config = replace(TrialConfig(), image_size=arguments.image_size)
    found = core_peak(config, arguments.precision, arguments.processes)
    names = {"forward": "forward", "both": "forward and backward"}
    figures = [
        Figure(f"convolution {names[name]} at {arguments.image_size} px, GFLOP/s a core", rate / 1e9, ROUNDS)
        for name, rate in found.items()
    ]
    details = {"processes": arguments.processes, "format": choose("cpu", arguments.precision, threads=1).precision}
    finish("conv_peak", machine, figures, details, arguments.out)


if __name__ == "__main__":
    main()
