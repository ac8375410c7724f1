import pytest
import torch
from torch import Tensor

from trainable.kernels import Dropout

CPU = torch.device("cpu")


def test_dropout_keeps_the_mean() -> None:
    torch.manual_seed(0)
    y = Dropout(0.25, 64 * 16 * 10 * 10, CPU)(torch.ones(64, 16, 10, 10))
    assert y.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    dropped = (y == 0).double().mean().item()
    assert abs(dropped - 0.25) < 5 * (0.25 * 0.75 / y.numel()) ** 0.5  # five standard errors


def test_what_is_almost_all_is_not_all() -> None:
    y = Dropout(1 - 1e-9, 2**20, CPU)(torch.ones(1, 1, 2**10, 2**10))
    assert set(y.unique().tolist()) == {0.0, 2.0**16}


def test_dropout_follows_torchs_seed() -> None:
    def drawn(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return Dropout(0.5, 2 * 3 * 4 * 4, CPU)(torch.ones(2, 3, 4, 4))

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
