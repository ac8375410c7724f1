"""Items that are made while their user is busy with the ones before: epochs that train while files are written."""

from collections.abc import Iterator
from concurrent.futures import Executor, Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """An iterator whose items are made by an executor, one at a time: when they are asked for, or from `begin` on.

    Args:
        items: what makes them.
        executor: of one thread.
    """

    def __init__(self, items: Iterator[T], executor: Executor) -> None:
        self._items, self._executor = items, executor
        self._begun: Future[T] | None = None

    def begin(self) -> None:
        """Has the next item made, and returns meanwhile."""
        if self._begun is None:
            self._begun = self._executor.submit(next, self._items)

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        self.begin()
        assert self._begun is not None
        begun, self._begun = self._begun, None
        # result() would raise it from one of two lines, as it was done or waited for, and error.txt tells of lines.
        if (error := begun.exception()) is None:
            return begun.result()
        try:
            raise error
        finally:  # its traceback has this frame, which must not have it: what a trial had on a card would stay there
            del begun, error
