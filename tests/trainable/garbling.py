"""A Keeper whose answers are not what it has, in a module that Ray's workers can import."""

from trainable.keeper import Keeper


class Garbling(Keeper):
    """As on a line that changes bytes."""

    def part(self, name: str, start: int, size: int) -> bytes:
        return bytes(len(super().part(name, start, size)))
