"""Upstreams that fail in the ways that real ones do, on bare sockets."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import httpx

Answer = Callable[[socket.socket, bytes], None]


@contextmanager
def upstream(answer: Answer, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Yields a URL at which `answer` is called with each connection and its request's head.

    When it returns, the connection is cut.
    """
    with socket.create_server((host, port)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=_answer, args=(connection, answer), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://{host}:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def _answer(connection: socket.socket, answer: Answer) -> None:
    with connection, suppress(OSError):
        head = b""
        while b"\r\n\r\n" not in head:
            received = connection.recv(65536)
            if not received:
                return
            head += received
        answer(connection, head)


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def closed_port() -> str:
    """A URL at which nobody listens."""
    return f"http://127.0.0.1:{free_port()}"


def error_of(answer: httpx.Response) -> tuple[int, str]:
    """The status and the code of an error."""
    return answer.status_code, answer.json()["error"]["code"]


def hang(connection: socket.socket, head: bytes) -> None:
    """Take the request and say nothing."""
    while connection.recv(65536):
        pass


def respond(status: str, body: bytes, *headers: str) -> Answer:
    def answer(connection: socket.socket, head: bytes) -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close"]
        connection.sendall("\r\n".join([*lines, *headers, "", ""]).encode() + body)

    return answer


def ready_but(answer: Answer) -> Answer:
    """Answer probes with `ready`, and anything else with `answer`."""
    ready = respond("200 OK", b'{"status":"ready"}')

    def choose(connection: socket.socket, head: bytes) -> None:
        (ready if head.startswith(b"GET /readyz ") else answer)(connection, head)

    return choose


def stream_then(ending: Callable[[socket.socket], None], *headers: str) -> Answer:
    """Begin a chunked body of 4 bytes, then do `ending`."""

    def answer(connection: socket.socket, head: bytes) -> None:
        lines = ["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "Content-Type: audio/pcm"]
        connection.sendall("\r\n".join([*lines, *headers, "", ""]).encode() + b"4\r\nsome\r\n")
        ending(connection)

    return answer


SOME_AUDIO = b"\x82\x04some"
"""A WebSocket's frame of 4 bytes."""


def text_frame(text: str) -> bytes:
    """A WebSocket's frame of at most 64 KiB."""
    content = text.encode()
    return b"\x81\x7e" + len(content).to_bytes(2, "big") + content


def closing_frame(code: int) -> bytes:
    """A WebSocket's close frame without a reason."""
    return b"\x88\x02" + code.to_bytes(2, "big")


def websocket_then(ending: Callable[[socket.socket], None], *, says: bytes = SOME_AUDIO) -> Answer:
    """Accept a WebSocket, answer the first frame by what it `says`, then do `ending`."""

    def answer(connection: socket.socket, head: bytes) -> None:
        key = re.search(rb"(?i)\r\nsec-websocket-key: *(\S+)", head)
        if key is None:
            return  # a probe, not an upgrade
        magic = key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(magic, usedforsecurity=False).digest()).decode()
        handshake = [
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {accept}",
            "",
            "",
        ]
        connection.sendall("\r\n".join(handshake).encode())
        connection.recv(65536)
        connection.sendall(says)
        ending(connection)

    return answer


def cut(connection: socket.socket) -> None:
    """Nothing more: the connection ends here."""


def stall(connection: socket.socket) -> None:
    """Keep the connection and send nothing more, not even a pong."""
    while connection.recv(65536):
        pass
