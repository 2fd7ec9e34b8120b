"""Talking to a server as a client does, without our own client."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect


@dataclass
class Utterance:
    """What came back for one text: the sizes of the binary frames, their bytes, the text frame."""

    pcm: bytes = b""
    frame_bytes: list[int] = field(default_factory=list)
    closing: str = ""

    @property
    def message(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.closing)
        return value


def open_ws(url: str, **options: Any) -> ClientConnection:
    """A socket as a careful client opens it: uncompressed, and not waiting long to close."""
    defaults = {"compression": None, "proxy": None, "max_size": None, "close_timeout": 1}
    connection: ClientConnection = connect(url, **{**defaults, **options})
    return connection


def read_utterance(ws: ClientConnection, timeout_s: float = 60.0) -> Utterance:
    """Read up to the text frame that ends an utterance."""
    utterance = Utterance()
    parts: list[bytes] = []
    while True:
        frame = ws.recv(timeout_s)
        if isinstance(frame, str):
            utterance.closing = frame
            utterance.pcm = b"".join(parts)
            return utterance
        parts.append(frame)
        utterance.frame_bytes.append(len(frame))


def speak(ws: ClientConnection, text: str, timeout_s: float = 60.0) -> Utterance:
    ws.send(json.dumps({"text": text}))
    return read_utterance(ws, timeout_s)


def closing_of(ws: ClientConnection) -> tuple[dict[str, Any], int]:
    """The error frame and the close code with which the server ends a session.

    Audio that comes before them is passed over.
    """
    utterance = read_utterance(ws)
    return utterance.message, close_of(ws)[0]


def close_of(ws: ClientConnection) -> tuple[int, str]:
    """The close code and reason that the server sends next, with no frame before them."""
    with pytest.raises(ConnectionClosed) as closed:
        ws.recv(30)
    rcvd = closed.value.rcvd
    assert rcvd is not None, "the connection was cut without a close frame"
    return rcvd.code, rcvd.reason


def wait_for(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Ask until it is so, or fail."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.005)
