"""What happens to an image and its metadata before the network; saved in every checkpoint and read from there alone."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from trainable.csv_table import INTEGER
from trainable.untrusted import parse_json


@dataclass(frozen=True)
class Preprocessing:
    """Evaluation's preprocessing: resize, scale to [0, 1], normalise, one-hot the metadata. No augmentation."""

    image_size: int  # pixels
    mean: tuple[float, float, float]  # RGB, of pixels in [0, 1], over the training part
    std: tuple[float, float, float]
    classes: tuple[str, ...]  # names, C
    vocabulary: Mapping[str, tuple[str, ...]]  # input column -> the values of the training part, in one-hot order
    levels: Mapping[str, int] = field(default_factory=dict)  # the target column's values in order -> class; or none

    @property
    def metadata_width(self) -> int:
        """K, the summed width of the one-hots."""
        return sum(len(values) for values in self.vocabulary.values())

    def metadata(self, columns: Mapping[str, Sequence[str]], rows: int) -> NDArray[np.float32]:
        """(N, K) one-hots of the input columns, N = `rows`; a value outside the vocabulary is all zeros."""
        blocks = [np.zeros((rows, 0), np.float32)]
        for name, values in self.vocabulary.items():
            known = np.array(values)
            blocks.append((np.array(columns[name])[:, None] == known[None, :]).astype(np.float32))
        return np.concatenate(blocks, axis=1)

    def group(self, column: str) -> slice:
        """The one-hot columns of an input column."""
        names = list(self.vocabulary)
        start = sum(len(self.vocabulary[name]) for name in names[: names.index(column)])
        return slice(start, start + len(self.vocabulary[column]))

    def to_json(self) -> str:
        """The preprocessing as a line of JSON."""
        return json.dumps(asdict(self), sort_keys=False)

    @classmethod
    def from_json(cls, text: str) -> "Preprocessing":
        """The inverse of `to_json`."""
        values = parse_json(text)
        return cls(
            image_size=values["image_size"],
            mean=tuple(values["mean"]),
            std=tuple(values["std"]),
            classes=tuple(values["classes"]),
            vocabulary={name: tuple(known) for name, known in values["vocabulary"].items()},
            levels=dict(values["levels"]),
        )


def vocabulary(
    columns: Mapping[str, Sequence[str]], inputs: Sequence[str], rows: NDArray[np.bool_] | None = None
) -> dict[str, tuple[str, ...]]:
    """The distinct values of each input column, integers (of up to 18 digits) in numeric order before text.

    Args:
        columns: (N,) cells each.
        rows: (N,) the rows that count; all if it is None.
    """

    def order(value: str) -> tuple[bool, int, str]:
        integer = INTEGER.fullmatch(value) is not None
        return (not integer, int(value) if integer else 0, value)

    seen = {name: columns[name] if rows is None else compress(columns[name], rows) for name in inputs}
    return {name: tuple(sorted(set(cells), key=order)) for name, cells in seen.items()}
