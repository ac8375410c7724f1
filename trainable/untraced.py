"""torch's optimisers without the tracer of torch.compile.

torch.optim tells the tracer at each call what it is not to trace, and imports it at the first to do so: seconds of each
worker's start (4.4 on a slow core), for nothing where no step is compiled. Here is what it wraps so, unwrapped: the
numbers are its own.
"""

import inspect
from typing import Any

import torch
from torch import Tensor, optim


class Untraced(optim.Optimizer):
    """torch's Optimizer, unwrapped. Among the bases of a class it comes before an optimiser of torch, or alone."""

    add_param_group = inspect.unwrap(optim.Optimizer.add_param_group)
    load_state_dict = inspect.unwrap(optim.Optimizer.load_state_dict)
    state_dict = inspect.unwrap(optim.Optimizer.state_dict)
    zero_grad = inspect.unwrap(optim.Optimizer.zero_grad)


def _step(kind: type[optim.Optimizer]) -> Any:
    return torch.no_grad()(inspect.unwrap(kind.step))


class _InMemoryOrder:
    """An Adam that on a CPU sees filters which are channels last as they lie in memory, as (O, H, W, I).

    There torch's fused step (2.14) copies a gradient that is not contiguous, leaves the copy unused, and takes the
    gradient's numbers in their order in memory, wherever the parameter's lie.
    """

    def _init_group(self, group: dict[str, Any], *lists: list[Tensor]) -> Any:
        found = super()._init_group(group, *lists)  # type: ignore[misc]
        parameters, gradients = lists[:2]
        for i, parameter in enumerate(parameters):
            last = parameter.dim() == 4 and parameter.is_contiguous(memory_format=torch.channels_last)
            if last and parameter.device.type == "cpu":
                for tensors in filter(None, lists[:5]):  # the averages, too; the largest ones are seldom kept
                    tensors[i] = tensors[i].permute(0, 2, 3, 1)
                gradients[i] = gradients[i].contiguous()  # a copy where it lies otherwise
        return found


class Adam(_InMemoryOrder, Untraced, optim.Adam):
    step = _step(optim.Adam)


class AdamW(_InMemoryOrder, Untraced, optim.AdamW):
    step = _step(optim.AdamW)


class Adamax(Untraced, optim.Adamax):
    step = _step(optim.Adamax)


class SGD(Untraced, optim.SGD):
    step = _step(optim.SGD)


class Muon(Untraced, optim.Muon):
    step = _step(optim.Muon)
