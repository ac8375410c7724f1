"""The same numbers as torch's, bit for bit, and the tracer is not imported."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn, optim
from torch.profiler import ProfilerActivity, profile

from trainable import untraced

ROOT = Path(__file__).parents[2]
NESTEROV = {"momentum": 0.9, "nesterov": True}
KINDS: list[tuple[str, dict[str, Any]]] = [
    *((name, {"fused": fused}) for name in ("Adam", "AdamW") for fused in (None, True)),
    *(("Adam", {"amsgrad": True, "fused": fused}) for fused in (None, True)),
    *(("SGD", {**NESTEROV, "fused": fused}) for fused in (None, True)),
    ("Adamax", {}),
    ("Muon", {"adjust_lr_fn": "match_rms_adamw"}),
]
TRAINED = """
import sys
from pathlib import Path
from typing import get_args

from tests.trainable.tiny import FLOAT32, config, examples
from trainable.checkpoint import load_latest, save_latest
from trainable.config import Optimizer
from trainable.fit import fit

for optimizer in get_args(Optimizer):
    settings, path = config(optimizer=optimizer, ema=0.9), Path(sys.argv[1]) / optimizer
    save_latest(path, next(fit(settings, examples(), FLOAT32)).latest())
    next(fit(settings, examples(), FLOAT32, load_latest(path)))
print("torch._dynamo" in sys.modules)
"""


def weights(
    module: Any, name: str, settings: dict[str, Any], later: dict[str, Any] | None = None
) -> list[torch.Tensor]:
    """A layer's after each of three steps. The third is another optimiser's, with the state of the first.

    Args:
        module: of the optimisers.
        later: the second one's settings, where they are not the first one's.
    """
    torch.manual_seed(0)
    layer: Any = nn.Conv2d(3, 4, 3, bias=False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.randn(3, 8, 3, 5, 5)
    if name == "Muon":  # takes matrices alone
        layer, images = nn.Linear(5, 4, bias=False), images[..., 0]
    optimizer = getattr(module, name)(layer.parameters(), lr=0.1, weight_decay=0.1, **settings)
    seen = []
    for step in range(3):
        if step == 2:
            state = optimizer.state_dict()
            given = settings if later is None else later
            optimizer = getattr(module, name)(layer.parameters(), lr=0.5, weight_decay=0.5, **given)
            optimizer.load_state_dict(state)
        optimizer.zero_grad()
        layer(images[step]).square().sum().backward()
        optimizer.step()
        seen.append(layer.weight.detach().clone())
    return seen


@pytest.mark.parametrize(("name", "settings"), KINDS, ids=str)
def test_the_numbers_are_torchs(name: str, settings: dict[str, Any]) -> None:
    ours, theirs = (weights(module, name, settings) for module in (untraced, optim))
    assert all(torch.equal(*pair) for pair in zip(ours, theirs, strict=True))
    assert not torch.equal(ours[0], ours[2])


@pytest.mark.parametrize(("name", "settings"), [("Adam", {}), ("AdamW", {}), ("SGD", NESTEROV)], ids=str)
def test_a_state_from_before_optimisers_were_fused_goes_on_as_it_was(name: str, settings: dict[str, Any]) -> None:
    went_on = weights(untraced, name, settings, later={**settings, "fused": True})
    assert all(torch.equal(*pair) for pair in zip(went_on, weights(untraced, name, settings), strict=True))


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_a_fused_step_takes_gradients_however_they_lie_and_copies_none_that_lies_well(name: str) -> None:
    start, gradient = torch.randn(2, 8, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    stepped, copies = [], []
    for layout in (torch.channels_last, torch.contiguous_format):
        weight = nn.Parameter(start.contiguous(memory_format=torch.channels_last))
        weight.grad = gradient.contiguous(memory_format=layout)
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            getattr(untraced, name)([weight], lr=0.1, fused=True).step()
        stepped.append(weight.detach())
        copies.append(sum(event.name == "aten::clone" for event in seen.events() or ()))
    plain = nn.Parameter(start.clone())
    plain.grad = gradient
    getattr(optim, name)([plain], lr=0.1, foreach=False).step()
    assert all(torch.allclose(one, plain.detach(), atol=1e-6) for one in stepped)
    assert copies == [0, 1]


def test_a_group_added_later_is_stepped() -> None:
    first, second = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    optimizer = untraced.Adam([first], lr=0.1)
    optimizer.add_param_group({"params": [second], "lr": 0.2})
    for one in (first, second):
        one.grad = torch.ones(1)
    optimizer.step()
    assert torch.allclose(torch.cat([first, second]), torch.tensor([0.9, 0.8]))


def test_no_optimizer_imports_the_tracer_to_train_or_to_go_on(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TRAINED, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, check=True, timeout=240, capture_output=True, text=True)
    assert done.stdout == "False\n"
