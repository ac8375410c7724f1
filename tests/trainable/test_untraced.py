"""The same numbers as torch's, bit for bit, and the tracer is not imported."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn, optim

from trainable import untraced

ROOT = Path(__file__).parents[2]
KINDS: dict[str, dict[str, Any]] = {
    "Adam": {"weight_decay": 0.1},
    "AdamW": {"weight_decay": 0.1},
    "Adamax": {"weight_decay": 0.1},
    "SGD": {"weight_decay": 0.1, "momentum": 0.9, "nesterov": True},
    "Muon": {"weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"},
}
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


def weights(kind: type[optim.Optimizer], settings: dict[str, Any]) -> list[torch.Tensor]:
    """Of a layer after three steps, between two of which the optimiser is another one with the state of the first."""
    torch.manual_seed(0)
    layer = nn.Linear(5, 4, bias=False)
    optimizer: Any = kind(layer.parameters(), lr=0.1, **settings)  # type: ignore[call-arg]  # all of them have one
    seen = []
    for step in range(3):
        if step == 2:
            state = optimizer.state_dict()
            optimizer = kind(layer.parameters(), lr=0.5, **settings)  # type: ignore[call-arg]
            optimizer.load_state_dict(state)
        optimizer.zero_grad()
        layer(torch.randn(8, 5)).square().sum().backward()
        optimizer.step()
        seen.append(layer.weight.detach().clone())
    return seen


@pytest.mark.parametrize("name", KINDS)
def test_the_numbers_are_torchs(name: str) -> None:
    ours, theirs = (weights(getattr(module, name), KINDS[name]) for module in (untraced, optim))
    assert all(torch.equal(*pair) for pair in zip(ours, theirs, strict=True))
    assert not torch.equal(ours[0], ours[2])


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
