"""The head of a cluster that was joined, on which everything there depends."""

import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import grpc
from ray._private.grpc_utils import init_grpc_channel
from ray._private.ray_constants import GLOBAL_GRPC_OPTIONS
from rich.console import Console

from search.cli import FAILED

QUESTION = "/ray.rpc.NodeInfoGcsService/GetClusterId"  # what each of Ray's processes asks first; it takes no arguments
ANSWER_SECONDS = 10.0
# A head takes seconds to start again, so that none does so unseen: Ray's next call would end the process with a stack
# trace of its own.
CHECK_SECONDS = 0.5
PATIENCE_SECONDS = 30.0  # a cut network may heal; Ray ends its processes after 60
LAST_SECONDS = 10.0  # for what is still done

_last: list[Callable[[float], None]] = []


@dataclass(frozen=True)
class Head:
    """A cluster's head: its host and port, and the id of the cluster that was joined there."""

    address: str
    cluster: bytes


def cluster_id(address: str) -> bytes | None:
    """The id of the cluster whose head answers, as Ray encodes it, another each time that one starts; None where the
    cluster does not let this process in as it is.

    Args:
        address: the head's host and port.
    Raises:
        ConnectionError: where no head answers; ConnectionRefusedError where nobody listens.
    """
    with init_grpc_channel(address, options=GLOBAL_GRPC_OPTIONS) as channel:
        try:
            # A timeout of the call's own is a moment on the clock: with one that jumps it may have passed already.
            return bytes(channel.unary_unary(QUESTION).future(b"").result(timeout=ANSWER_SECONDS))
        except grpc.FutureTimeoutError:
            raise ConnectionError("nobody answers") from None
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAUTHENTICATED:
                return None
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise ConnectionError("what answers is no head of Ray") from error
            refused = os.strerror(errno.ECONNREFUSED) in error.details()
            if refused:
                raise ConnectionRefusedError("nobody answers") from error
            raise ConnectionError("no head of Ray answers") from error  # but perhaps somebody else


@contextmanager
def head_watched(head: Head | None, remedy: str, console: Console) -> Iterator[None]:
    """Ends this process, with a sentence and code 1, where the head is lost inside: it has ended, or another cluster's
    has come in its place, or it cannot be reached for too long.

    Ray's calls wait for it and hear no signal, and then Ray ends the process with a paragraph about itself, or a stack
    trace. All that a run needs to go on is on disk at any time.

    Args:
        head: None: Ray is this machine's own.
        remedy: how to go on when it is there again.
    """
    if head is None:
        yield
        return
    over, ending = threading.Event(), threading.Lock()

    def watch() -> None:
        why = _lost(head, over)
        with ending:
            if not over.is_set():
                _end(f"Stopped: the head of the cluster, {head.address}, {why}. {remedy}", console)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        with ending:  # once the process ends, nothing more is done here
            over.set()


@contextmanager
def last_of_all(act: Callable[[float], None]) -> Iterator[None]:
    """Where a lost head ends the process inside, `act` is still done: it is given the moment of time.monotonic() at
    which it is to be through, and needs no Ray."""
    _last.append(act)
    try:
        yield
    finally:
        _last.remove(act)


def _lost(head: Head, over: threading.Event) -> str:
    """Waits until the head is lost, and says how; or until it is all over."""
    heard = time.monotonic()
    while not over.wait(CHECK_SECONDS):
        try:
            if cluster_id(head.address) != head.cluster:
                return "has ended, and another cluster has started there"
            heard = time.monotonic()
        except ConnectionRefusedError:  # one that starts again is another cluster's
            return "has ended"
        except ConnectionError:
            if time.monotonic() - heard > PATIENCE_SECONDS:
                return "does not answer any more"
    return ""


def _end(sentence: str, console: Console) -> None:
    try:
        with suppress(OSError, SystemExit):  # who reads it may have gone, which ends a console
            console.print(sentence, soft_wrap=True)
            console.show_cursor()  # which a live view hides
            sys.stdout.flush()
        for act in _last:
            act(time.monotonic() + LAST_SECONDS)
    finally:
        os._exit(FAILED)
