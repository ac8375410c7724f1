"""An exponential moving average of a network's weights, which often does better than the last step's weights."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class MovingAverage:
    """The average after t steps moves to the new weights by 1 - min(decay, (1 + t) / (10 + t)).

    The rising decay lets the average forget the first, random weights, which torch.optim.swa_utils.AveragedModel, with
    its one decay, would carry through a short training. Batch norm's statistics are averaged like the weights.
    Source: Polyak and Juditsky 1992; the rising decay is TensorFlow's ExponentialMovingAverage with num_updates.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model)
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Takes in the weights after a step."""
        self.steps += 1
        weight = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(_numbers(self.model), _numbers(model), weight)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes."""
        return {"steps": self.steps, "model": self.model.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from an earlier `state_dict`."""
        self.steps = state["steps"]
        self.model.load_state_dict(state["model"])


def _numbers(model: nn.Module) -> list[Tensor]:
    """Parameters and buffers, but for the counts of batches."""
    return [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]
