"""The page of a search that goes on, served to this machine alone."""

import errno
import hashlib
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from results.page import Watching, page
from search.findings import following, read_all
from trainable.errors import UserError

HOST = "127.0.0.1"
# What a page is made of, and what tells that its run is being confirmed. An epoch of a trial that is audited is in its
# own files alone, and the study has an epoch before Tune's log of it. Members of an ensemble have ended, and those of
# other runs are in its manifest.
WATCHED = (
    "run.json splits.csv study.journal leaderboard.csv ensemble.json confirm.json "
    "trials/*/metrics.csv trials/*/logits.npz tune/*/result.json "
    "confirm/*/run.json confirm/*/study.journal confirm/*/leaderboard.csv".split()
)
REST = 20  # times what making a page took, until the next: at most a twentieth of a core is taken from the training
SILENCE = 10  # seconds after which a connection that says nothing, or takes nothing, is closed


@dataclass(frozen=True)
class _Made:
    state: str
    html: str
    kept_until: float  # by the monotonic clock


class Pages:
    """The page, made again when somebody asks for it and a run has moved on, but not all the time.

    Args:
        runs: their folders.
        refresh: seconds after which an open page asks whether there is another.
        data: as for `page`.
    """

    def __init__(self, runs: Sequence[Path], refresh: int, data: str | None = None) -> None:
        self._runs = runs
        self._data = data
        self._refresh = refresh
        self._lock = threading.Lock()
        self._made: _Made | None = None

    def state(self) -> str:
        """Another text whenever there is another page to be had."""
        made = self._made
        return made.state if made is not None and time.monotonic() < made.kept_until else self._files()

    def html(self) -> str:
        """The page as the runs are, or were a moment ago. Raises UserError where one cannot be read."""
        with self._lock:
            state = self.state()
            if self._made is None or self._made.state != state:
                first, began = self._made is None, time.thread_time()
                runs = read_all(self._runs)
                watching = Watching(state, self._refresh)
                html = page(runs, [following(facts) for facts in runs], watching, self._data)
                # The first has loaded the libraries too, so that it does not tell how long the next takes.
                rest = 0.0 if first else REST * (time.thread_time() - began)
                self._made = _Made(state, html, time.monotonic() + rest)
            return self._made.html

    def _files(self) -> str:
        """Another text whenever a file of the runs has changed."""
        found = hashlib.sha256()
        for path in (path for run in self._runs for pattern in WATCHED for path in sorted(run.glob(pattern))):
            with suppress(FileNotFoundError):  # it has just been removed
                status = path.stat()
                found.update(f"{status.st_size} {status.st_mtime_ns}\n".encode())
        return found.hexdigest()[:16]


def serve(runs: Sequence[Path], port: int, refresh: int, data: str | None) -> int:
    """Serves the page until Ctrl-C. Returns 0.

    Args:
        port: 0 takes any that is free.
        runs, refresh, data: as for `Pages`.

    Raises:
        UserError: where a run cannot be read, or the port is taken or none.
    """
    pages = Pages(runs, refresh, data)
    pages.html()  # what is wrong with a run is said here
    with _server(pages, port) as server:
        print(f"http://{HOST}:{server.server_port}/ shows it, on this machine alone; Ctrl-C ends it.", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
    return 0


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader who has gone, as with a reload, is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _server(pages: Pages, port: int) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        timeout = SILENCE

        def do_GET(self) -> None:
            self._answer(*self._found())

        do_HEAD = do_GET

        def _found(self) -> tuple[int, str, str]:
            """Code, kind and text of the answer."""
            # A name that somebody has pointed at this machine is not ours: a stranger's page could read this one by it.
            # The port is whatever ssh -L has made of it.
            if self.headers.get("Host", "").lower().partition(":")[0] not in (HOST, "localhost"):
                return 403, "text/plain", "This page is for this machine alone.\n"
            try:
                match self.path.partition("?")[0]:
                    case "/":
                        return 200, "text/html", pages.html()
                    case "/state":
                        return 200, "text/plain", pages.state()
            except UserError as error:
                return 503, "text/plain", f"{error}\n"
            except Exception as error:  # whatever it is, the next page may be whole
                return 500, "text/plain", f"{error!r} (where: python -m search.report, without --serve)\n"
            return 404, "text/plain", "There is nothing here but the page: /\n"

        def _answer(self, code: int, kind: str, text: str) -> None:
            content = text.encode()
            self.send_response(code)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            if code >= 500:  # what could not be read may be whole in a moment
                self.send_header("Refresh", "10")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: an open page asks every few seconds."""

    try:
        return _Server((HOST, port), Handler)
    except OverflowError:
        raise UserError(f"--port: {port} is no port; choose one from 1 to 65535, or 0 for any that is free.") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"--port: {port} is taken; choose another, or 0 for any that is free.") from None
        raise UserError(f"--port: {port} cannot be had ({error.strerror}); choose another, or 0 for any.") from None
