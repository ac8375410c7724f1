import numpy as np
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
    drop = Dropout(1 - 1e-12, 8, CPU)
    assert (drop.threshold, drop.kept) == (2**31 - 1, 2.0**32)  # one number of all is kept
    assert Dropout(0.0, 8, CPU)(torch.ones(1, 1, 2, 4)).tolist() == [[[[1.0] * 4] * 2]]


def test_an_outputs_number_by_hand() -> None:
    drop = Dropout(0.5, 3, CPU)
    drop.seed = 5 << 32 | 2  # the third output's counter is 2 * (2 | 1) + 5 = 11
    x = 11
    x = (x ^ x >> 16) * 0x7FEB352D % 2**32
    x = (x ^ x >> 15) * 0x846CA68B % 2**32
    x ^= x >> 16
    assert int(drop.noise[2]) == x - 2**32 * (x >= 2**31)


def test_numbers_are_spread_evenly_and_neighbours_say_nothing_of_each_other() -> None:
    torch.manual_seed(1)
    for _ in range(3):
        noise = Dropout(0.5, 2**16, CPU).noise.numpy()
        counts = np.bincount((noise >> 24) + 128, minlength=256)
        assert ((counts - 2**8) ** 2 / 2**8).sum() < 350  # chi squared of 255 degrees: above once in 14,000
        bits = (noise[:, None] >> np.arange(32) & 1).astype(np.float32)
        for apart in (1, 2, 32, 64, 1000):
            both = np.corrcoef(bits[apart:].T, bits[:-apart].T)[:32, 32:]
            assert np.abs(both).max() < 6 / 2**8  # six standard errors


def test_dropout_follows_torchs_seed() -> None:
    def drawn(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return Dropout(0.5, 2 * 3 * 4 * 4, CPU)(torch.ones(2, 3, 4, 4))

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
