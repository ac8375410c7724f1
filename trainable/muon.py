"""Muon for a network's filters and AdamW for the rest, as one optimiser with one learning rate."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, optim
from torch.nn import Parameter

from trainable import untraced

IMAGE_CHANNELS = 3


class Muon(untraced.Untraced):
    """torch.optim.Muon, which takes matrices alone, on filters as matrices: (O, I, H, W) as O rows of I H W values.

    Muon makes each matrix's momentum orthogonal before the step, by five Newton-Schulz rounds in bfloat16. Of the
    network's parameters it gets the filters but the first layer's, which read the image, and depthwise ones, whose rows
    have nothing to do with each other. (Filters in groups, as ResNeXt's, are taken as one matrix all the same.) Those,
    linear layers, batch norms and biases get AdamW.

    Muon's step is scaled to the size of AdamW's (0.2 sqrt(max(O, I H W)), Liu et al. 2025, Muon is Scalable for LLM
    Training, eq. 4), so that both go by one learning rate and one weight decay, which is decoupled.

    Args:
        parameters: of a network that is where it will be trained, in its memory format; views of them are kept.
        lr: the learning rate of both.
        weight_decay: of both.
        momentum: Muon's, in [0, 1); of Nesterov's kind.
    Source: Jordan et al. 2024, Muon: An optimizer for hidden layers in neural networks; which parameters are whose, and
        filters flattened to matrices, are its section on what Muon is for.
    """

    def __init__(self, parameters: Iterable[Parameter], lr: float, weight_decay: float, momentum: float) -> None:
        super().__init__(parameters, {"lr": lr})
        everything: list[Parameter] = self.param_groups[0]["params"]
        self.filters = [one for one in everything if one.ndim == 4 and one.shape[1] > IMAGE_CHANNELS]
        self.matrices = [Parameter(_matrix(one.detach(), one)) for one in self.filters]
        assert all(own.data_ptr() == one.data_ptr() for own, one in zip(self.matrices, self.filters, strict=True))
        rest = [one for one in everything if all(one is not other for other in self.filters)]
        self.parts: list[optim.Optimizer] = []
        if self.matrices:
            self.parts.append(
                untraced.Muon(
                    self.matrices,
                    lr=lr,
                    weight_decay=weight_decay,
                    momentum=momentum,
                    adjust_lr_fn="match_rms_adamw",
                )
            )
        if rest:
            self.parts.append(untraced.AdamW(rest, lr=lr, weight_decay=weight_decay, fused=True))

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure is taken
        """A step of both parts, at the learning rate that a schedule has set."""
        for filters, matrix in zip(self.filters, self.matrices, strict=True):
            matrix.grad = None if filters.grad is None else _matrix(filters.grad, filters)
        for part in self.parts:
            part.param_groups[0]["lr"] = self.param_groups[0]["lr"]
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes."""
        return {**super().state_dict(), "parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from an earlier `state_dict`."""
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "parts"})
        for part, saved in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(saved)


def _matrix(values: Tensor, filters: Parameter) -> Tensor:
    """(O, I, H, W) to (O, I H W), or (O, H W I) where the filters lie in memory so: of the filters themselves a view.
    The order of a matrix's columns changes nothing but rounding."""
    if filters.is_contiguous(memory_format=torch.channels_last):
        values = values.permute(0, 2, 3, 1)
    return values.flatten(1)
