"""The same work in processes that run at the same moment, so that each core has a busy neighbour."""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
WAIT_SECONDS = 600.0  # for the others to be ready
_barrier: Any = None


def together(function: Callable[..., T], arguments: Sequence[tuple[Any, ...]]) -> list[T]:
    """`function` of each of the arguments, in a fresh process each; it calls `ready` before what is to be at once."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(len(arguments))
    with ProcessPoolExecutor(len(arguments), context, initializer=_take, initargs=(barrier,)) as pool:
        return [future.result() for future in [pool.submit(function, *given) for given in arguments]]


def ready() -> None:
    """Waits until all others of `together` are ready too."""
    _barrier.wait(WAIT_SECONDS)


def _take(barrier: Any) -> None:
    global _barrier
    _barrier = barrier
