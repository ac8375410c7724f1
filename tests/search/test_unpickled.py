"""What is pickled of that which Ray is handed."""

import pickle
import threading

from ray.tune import Callback

from search.unpickled import Unpickled


class Holding(Unpickled, Callback):  # type: ignore[misc]  # Ray's class is untyped
    """Something that cannot be pickled."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


def test_nothing_is_pickled_of_it() -> None:
    assert vars(pickle.loads(pickle.dumps(Holding()))) == {}
