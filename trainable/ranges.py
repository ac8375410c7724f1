"""What a field of a configuration may be, said once and checked with one sentence."""

import dataclasses
import math
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from trainable.errors import nearest


class ConfigError(ValueError):
    """A configuration that cannot be trained: one sentence with the field and its value."""


@dataclass(frozen=True)
class Integers:
    """The integers from `low` on, up to and with `high` where it is given."""

    low: int
    high: int | None = None

    def check(self, name: str, value: Any) -> None:
        """Raises ConfigError unless `value` is one of them."""
        integer = isinstance(value, int) and not isinstance(value, bool)
        if not integer or value < self.low or (self.high is not None and value > self.high):
            wanted = f"in {self.low}..{self.high}" if self.high is not None else f"of at least {self.low}"
            raise ConfigError(f"{name} is {value!r}; it must be an integer {wanted}")


@dataclass(frozen=True)
class Numbers:
    """The finite numbers between `low` and `high`, with the bounds unless they are open."""

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def check(self, name: str, value: Any) -> None:
        """Raises ConfigError unless `value` is one of them."""
        number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
        outside = not number or value < self.low or value > self.high
        if outside or (self.open_low and value == self.low) or (self.open_high and value == self.high):
            start = f"above {self.low:g}" if self.open_low else f"at least {self.low:g}"
            bound = f" and below {self.high:g}" if self.open_high else f" and at most {self.high:g}"
            raise ConfigError(f"{name} is {value!r}; it must be {start}{'' if self.high == math.inf else bound}")


@dataclass(frozen=True)
class Choices:
    """The given names."""

    names: Collection[str]

    def check(self, name: str, value: Any) -> None:
        """Raises ConfigError, with the nearest name, unless `value` is one of them."""
        if value not in self.names:
            hint = nearest(str(value), self.names)
            raise ConfigError(f"{name} is {value!r}; it must be one of {', '.join(self.names)}{hint}")


@dataclass(frozen=True)
class Flag:
    """True or False."""

    def check(self, name: str, value: Any) -> None:
        """Raises ConfigError unless `value` is one of the two."""
        if not isinstance(value, bool):
            raise ConfigError(f"{name} is {value!r}; it must be True or False")


Range = Integers | Numbers | Choices | Flag


def make_plain(config: Any) -> None:
    """Makes Python's own numbers and tuples of what a dataclass has in numpy's arrays or in lists, as a space's author
    may write them: then equal configurations are equal, and can be written as JSON."""
    for field in dataclasses.fields(config):
        object.__setattr__(config, field.name, _plain(getattr(config, field.name)))


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value))
    if isinstance(value, Mapping):
        return {_plain(key): _plain(part) for key, part in value.items()}
    return value
