"""The page of a search that goes on, served to this machine alone."""

import errno
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from results.page import Watching, page
from search.report import following, read
from trainable.errors import UserError

HOST = "127.0.0.1"
WATCHED = ("run.json", "study.journal", "leaderboard.csv", "ensemble.json", "confirm.json")


class Pages:
    """The page, made again when somebody asks for it and a run has moved on.

    Args:
        runs: their folders.
        refresh: seconds after which an open page asks whether it has.
    """

    def __init__(self, runs: Sequence[Path], refresh: int) -> None:
        self._runs = runs
        self._refresh = refresh
        self._lock = threading.Lock()
        self._made: tuple[str, str] | None = None  # state, page

    def state(self) -> str:
        """Another text whenever a run has moved on."""
        files = [run / name for run in self._runs for name in WATCHED]
        return "-".join(f"{path.stat().st_size}.{path.stat().st_mtime_ns}" for path in files if path.exists())

    def html(self) -> str:
        """The page as the runs are now. Raises UserError where one cannot be read."""
        with self._lock:
            state = self.state()
            if self._made is None or self._made[0] != state:
                runs = [read(run) for run in self._runs]
                self._made = state, page(runs, [following(facts) for facts in runs], Watching(state, self._refresh))
            return self._made[1]


def serve(runs: Sequence[Path], port: int, refresh: int) -> int:
    """Serves the page until Ctrl-C. Returns 0.

    Raises:
        UserError: where a run cannot be read, or the port is taken or none.
    """
    pages = Pages(runs, refresh)
    pages.html()  # what is wrong with a run is said here
    with _server(pages, port) as server:
        print(f"http://{HOST}:{server.server_port}/ shows it, on this machine alone; Ctrl-C ends it.", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
    return 0


def _server(pages: Pages, port: int) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # A name that somebody has pointed at this machine is not ours: a stranger's page could read this one by it.
            names = {f"{name}:{server.server_port}" for name in (HOST, "localhost")}
            if self.headers.get("Host") not in names:
                return self._answer(403, "text/plain", "This page is for this machine alone.\n")
            try:
                if self.path == "/":
                    return self._answer(200, "text/html", pages.html())
                if self.path == "/state":
                    return self._answer(200, "text/plain", pages.state())
            except UserError as error:
                return self._answer(503, "text/plain", f"{error}\n")
            self._answer(404, "text/plain", "There is nothing here but the page: /\n")

        def _answer(self, code: int, kind: str, text: str) -> None:
            content = text.encode()
            self.send_response(code)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: an open page asks every few seconds."""

    try:
        server = ThreadingHTTPServer((HOST, port), Handler)
        return server
    except OverflowError:
        raise UserError(f"--port: {port} is no port; choose one from 1 to 65535, or 0 for any that is free.") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"--port: {port} is taken; choose another, or 0 for any that is free.") from None
        raise UserError(f"--port: {port} cannot be had ({error.strerror}); choose another, or 0 for any.") from None
