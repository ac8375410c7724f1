import pytest

from results.settings import settings_text


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"lr": 1e-3, "optimizer": "adam"}, "lr=0.001 optimizer=adam"),
        ({"dropout_1": 0.0, "dropout_2": 0.25, "dropout_3": 0.5}, "dropout_1-3=0,0.25,0.5"),
        ({"dropout_6": 0.5, "head_dropout": 0.123456, "pool_6": 2}, "dropout_6=0.5 head_dropout=0.123 pool_6=2"),
        ({"ema": 0.995, "batch_size": 256.0, "head_width": 1024.0}, "ema=0.995 batch_size=256 head_width=1024"),
        ({"dropout_2": 0.1, "dropout_5": 0.3}, "dropout_2,5=0.1,0.3"),
        ({}, ""),
    ],
)
def test_numbered_settings_become_one_list(settings: dict[str, object], text: str) -> None:
    assert settings_text(settings) == text
