"""A file server on a free port of this machine that can be told to misbehave."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """What it serves, how it fails, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    url: str = ""
    cut_at: list[int] = field(default_factory=list)
    """One entry a request: the connection ends after so many bytes."""
    status: list[int] = field(default_factory=list)
    """One entry a request: answered with this error."""
    ranges: list[str | None] = field(default_factory=list)
    """The Range header of each request."""
    tag: str = '"one"'


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[FileServer]:
    server = FileServer(files)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.ranges.append(self.headers.get("Range"))
            if server.status:
                self.send_error(server.status.pop(0))
                return
            body = server.files.get(self.path)
            if body is None:
                self.send_error(404)
                return
            start = 0
            asked = self.headers.get("Range")
            if asked and self.headers.get("If-Range") == server.tag:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206 if start else 200)
            self.send_header("ETag", server.tag)
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            end = server.cut_at.pop(0) if server.cut_at else len(body)
            self.wfile.write(body[start:end])

        def log_message(self, *arguments: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
