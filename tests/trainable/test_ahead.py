import gc
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress

import pytest

from trainable.ahead import Ahead

PATIENCE = 60  # seconds, by which what never comes is told from what is slow


@pytest.fixture
def executor() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as made:
        yield made


def numbers(count: int, made: list[int]) -> Iterator[int]:
    for number in range(count):
        made.append(number)
        yield number


def test_items_come_in_order_and_end(executor: Executor) -> None:
    assert list(Ahead(numbers(4, []), executor)) == [0, 1, 2, 3]


def test_nothing_is_made_unasked(executor: Executor) -> None:
    made: list[int] = []
    items = Ahead(numbers(4, made), executor)
    assert made == []
    assert next(items) == 0
    executor.submit(lambda: None).result()
    assert made == [0]


def test_the_next_item_is_made_while_its_user_does_something_else(executor: Executor) -> None:
    asked, made = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        yield 0
        assert asked.wait(PATIENCE)
        made.set()
        yield 1

    ahead = Ahead(items(), executor)
    assert next(ahead) == 0
    ahead.begin()
    ahead.begin()  # it has begun
    asked.set()
    assert made.wait(PATIENCE)  # though nobody asks for it
    assert list(ahead) == [1]


def test_what_goes_wrong_is_raised_where_the_item_is_asked_for(executor: Executor) -> None:
    def items() -> Iterator[int]:
        yield 0
        raise ValueError("no more")

    ahead = Ahead(items(), executor)
    assert next(ahead) == 0
    ahead.begin()
    with pytest.raises(ValueError, match="no more"):
        next(ahead)
    assert list(ahead) == []


def test_what_went_wrong_leaves_nothing_in_memory(executor: Executor) -> None:
    class Network:
        pass

    kept: list[weakref.ref[Network]] = []

    def items() -> Iterator[int]:
        network = Network()
        kept.append(weakref.ref(network))
        yield 0
        raise ValueError("no more")

    ahead = Ahead(items(), executor)
    assert next(ahead) == 0 and kept[0]() is not None
    gc.disable()  # which would find it some time
    try:
        with suppress(ValueError):
            next(ahead)
        executor.submit(lambda: None).result()  # the executor keeps the last thing it did until the next one
        assert kept[0]() is None
    finally:
        gc.enable()
