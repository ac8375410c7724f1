"""A trial's searched settings in one short line, for tables and views."""

import re
from collections.abc import Mapping
from typing import Any


def settings_text(settings: Mapping[str, Any]) -> str:
    """'lr=0.001 dropout_1-8=0,0,0,0,0,0.5,0.5,0': numbered settings, as of each convolution, become one list."""
    lists: dict[str, list[tuple[int, str]]] = {}  # by the name without its number
    for name, value in settings.items():
        stem, number = numbered(name)
        lists.setdefault(stem, []).append((number or 0, _text(value)))
    parts = []
    for stem, values in lists.items():
        numbers = [number for number, _ in values]
        name = stem if numbers == [0] else f"{stem}_{numbers[0]}"
        if len(numbers) > 1:
            consecutive = numbers == list(range(numbers[0], numbers[0] + len(numbers)))
            name += f"-{numbers[-1]}" if consecutive else "," + ",".join(map(str, numbers[1:]))
        parts.append(f"{name}={','.join(value for _, value in values)}")
    return " ".join(parts)


def _text(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    # Of a column of integers that some trials lack, pandas makes floats.
    return f"{value:.0f}" if value.is_integer() else f"{value:.3g}"


def numbered(name: str) -> tuple[str, int | None]:
    """A name without the number at its end, as of a convolution, and that number: 'dropout_3' is 'dropout', 3."""
    found = re.fullmatch(r"(.+)_(\d+)", name)
    return (found[1], int(found[2])) if found else (name, None)
