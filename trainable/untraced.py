"""torch's optimisers without the tracer of torch.compile.

torch.optim tells the tracer at each call what it is not to trace, and imports it at the first to do so: seconds of each
worker's start (4.4 on a slow core), for nothing where no step is compiled. Here is what it wraps so, unwrapped: the
numbers are its own.
"""

import inspect
from typing import Any

import torch
from torch import optim


class Untraced(optim.Optimizer):
    """torch's Optimizer, unwrapped. Among the bases of a class it comes before an optimiser of torch, or alone."""

    add_param_group = inspect.unwrap(optim.Optimizer.add_param_group)
    load_state_dict = inspect.unwrap(optim.Optimizer.load_state_dict)
    state_dict = inspect.unwrap(optim.Optimizer.state_dict)
    zero_grad = inspect.unwrap(optim.Optimizer.zero_grad)


def _step(kind: type[optim.Optimizer]) -> Any:
    return torch.no_grad()(inspect.unwrap(kind.step))


class Adam(Untraced, optim.Adam):
    step = _step(optim.Adam)


class AdamW(Untraced, optim.AdamW):
    step = _step(optim.AdamW)


class Adamax(Untraced, optim.Adamax):
    step = _step(optim.Adamax)


class SGD(Untraced, optim.SGD):
    step = _step(optim.SGD)


class Muon(Untraced, optim.Muon):
    step = _step(optim.Muon)
