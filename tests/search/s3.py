"""An object store that speaks as much of S3 as Arrow asks of it, on the loopback."""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import IO
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET, LOCKED = "runs", "locked"  # the second takes nothing


class Store(ThreadingHTTPServer):
    """Its objects, by bucket and key together."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}

    def uri(self, bucket: str = BUCKET) -> str:
        """Of a folder in a bucket."""
        return f"s3://{bucket}/some/folder?region=here&scheme=http&endpoint_override=127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Store
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = _chunks(self.rfile)
        if "aws-chunked" in self.headers.get("Content-Encoding", ""):
            body = _chunks(io.BytesIO(body))
        if self._refused():
            return
        self.server.objects[self._path()] = body
        self._answer(200)

    def do_GET(self) -> None:
        if self._refused():
            return
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        if "list-type" in query:
            self._answer(200, self._listing(query.get("prefix", ""), query.get("delimiter", "")))
            return
        content = self.server.objects.get(self._path())
        if content is None:
            self._answer(404, self._error("NoSuchKey"))
            return
        first, last = 0, len(content) - 1
        if asked := self.headers.get("Range"):
            start, _, end = asked.removeprefix("bytes=").partition("-")
            first, last = int(start), min(last, int(end or last))
        self._answer(206 if asked else 200, content[first : last + 1])

    def do_HEAD(self) -> None:
        if not self._refused():
            content = self.server.objects.get(self._path())
            self._answer(404 if content is None and "/" in self._path() else 200, content or b"")

    def do_DELETE(self) -> None:
        if not self._refused():
            self.server.objects.pop(self._path(), None)
            self._answer(204)

    def _path(self) -> str:
        return unquote(urlsplit(self.path).path).strip("/")

    def _refused(self) -> bool:
        bucket = self._path().partition("/")[0]
        if bucket == BUCKET:
            return False
        locked = bucket == LOCKED
        self._answer(403 if locked else 404, self._error("AccessDenied" if locked else "NoSuchBucket"))
        return True

    def _listing(self, prefix: str, delimiter: str) -> bytes:
        keys = (path.partition("/")[2] for path in sorted(self.server.objects))
        found = [key for key in keys if key.startswith(prefix)]
        inside = [key for key in found if not (delimiter and delimiter in key[len(prefix) :])]
        below = {prefix + key[len(prefix) :].partition(delimiter)[0] + delimiter for key in found if key not in inside}
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.server.objects[f'{BUCKET}/{key}'])}</Size></Contents>"
            for key in inside
        )
        prefixes = "".join(f"<CommonPrefixes><Prefix>{escape(one)}</Prefix></CommonPrefixes>" for one in sorted(below))
        count = f"<KeyCount>{len(inside) + len(below)}</KeyCount><IsTruncated>false</IsTruncated>"
        return f"<ListBucketResult>{count}{contents}{prefixes}</ListBucketResult>".encode()

    def _error(self, code: str) -> bytes:
        return f"<Error><Code>{code}</Code><Message>{code}, said the store.</Message></Error>".encode()

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _chunks(file: IO[bytes]) -> bytes:
    """What comes in chunks, each after its size in hex."""
    body = b""
    while size := int(file.readline().partition(b";")[0], 16):
        body += file.read(size)
        file.readline()
    file.readline()
    return body


@contextmanager
def serving() -> Iterator[Store]:
    """A store that answers inside."""
    with Store() as store:
        thread = threading.Thread(target=store.serve_forever)
        thread.start()
        try:
            yield store
        finally:
            store.shutdown()
            thread.join()
