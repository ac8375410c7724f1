"""The head of a cluster that was joined, on which everything there depends."""

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from search.cli import FAILED

CHECK_SECONDS = 2.0
PATIENCE_SECONDS = 30.0  # a cut network may heal; Ray ends its processes after 60


@contextmanager
def head_watched(address: str | None, remedy: str, console: Console) -> Iterator[None]:
    """Ends this process, with a sentence and code 1, where the head cannot be reached for too long inside.

    Ray's calls wait for it and hear no signal, and after a minute Ray ends the process with a paragraph about itself.
    All that a run needs to go on is on disk at any time.

    Args:
        address: its host and port; None: Ray is this machine's own.
        remedy: how to go on when it is there again.
    """
    if address is None:
        yield
        return
    ended = threading.Event()

    def watch() -> None:
        heard = time.monotonic()
        while not ended.wait(CHECK_SECONDS):
            if _answers(address):
                heard = time.monotonic()
            elif time.monotonic() - heard > PATIENCE_SECONDS:
                console.print(
                    f"Stopped: the head of the cluster, {address}, does not answer any more. {remedy}", soft_wrap=True
                )
                console.show_cursor()  # which a live view hides
                sys.stdout.flush()
                os._exit(FAILED)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CHECK_SECONDS).close()
    except OSError:
        return False
    return True
