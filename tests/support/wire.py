"""These helpers talk to a server as a client does, without our own client.

`speak` uses the simple mode of `/ws/tts`, `open_session` the session mode; the frames of a session
are checked against the rules of the contract.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect


@dataclass
class Utterance:
    """An utterance is the answer to one text: binary frames, their sizes, and the text frame."""

    pcm: bytes = b""
    frame_bytes: list[int] = field(default_factory=list)
    closing: str = ""

    @property
    def message(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.closing)
        return value


def open_ws(url: str, **options: Any) -> ClientConnection:
    """Open a WebSocket without compression and with a short timeout for closing."""
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
    """Return the error frame and the close code with which the server ends a session.

    Audio before them is skipped.
    """
    utterance = read_utterance(ws)
    return utterance.message, close_of(ws)[0]


def close_of(ws: ClientConnection) -> tuple[int, str]:
    """Return the close code and reason, which must come without a frame before them."""
    with pytest.raises(ConnectionClosed) as closed:
        ws.recv(30)
    rcvd = closed.value.rcvd
    assert rcvd is not None, "the connection was cut without a close frame"
    return rcvd.code, rcvd.reason


Frame = dict[str, Any] | bytes


@dataclass
class Rules:
    """Rules check every frame of a session and fail at the first that breaks one."""

    begun: str | None = None
    ended: dict[str, str] = field(default_factory=dict)
    audio: dict[str, bytearray] = field(default_factory=dict)
    closed: bool = False

    def see(self, frame: Frame) -> None:
        assert not self.closed, f"{frame!r} after the end"
        if isinstance(frame, bytes):
            assert frame, "an empty frame"
            assert self.begun is not None, "audio outside of an utterance"
            self.audio[self.begun] += frame
            return
        kind: str = frame["type"]
        id_: str = frame.get("id", "")
        if kind == "begin":
            assert self.begun is None, f"{id_} began while {self.begun} is active"
            assert id_ not in self.audio, f"{id_} began twice"
            assert id_ not in self.ended, f"{id_} began after its end"
            self.begun, self.audio[id_] = id_, bytearray()
        elif kind in ("mark", "flushed", "warning"):
            assert id_ == self.begun, f"{kind} of {id_} while {self.begun} is active"
        elif kind == "end":
            assert id_ not in self.ended, f"{id_} ended twice"
            assert self.begun in (None, id_) or id_ not in self.audio
            self.ended[id_] = frame["reason"]
            if self.begun == id_:
                self.begun = None
        elif kind == "error":
            self.closed = frame["fatal"]
        else:
            assert kind in ("ready", "pong", "goaway"), frame


@dataclass
class Session:
    """A session is open; every frame that is read is checked."""

    ws: ClientConnection
    ready: dict[str, Any] = field(default_factory=dict)
    rules: Rules = field(default_factory=Rules)

    def send(self, kind: str, id_: str | None = None, **fields: Any) -> None:
        named = {} if id_ is None else {"id": id_}
        self.ws.send(json.dumps({"type": kind, **named, **fields}))

    def read(self, timeout_s: float = 20.0) -> Frame:
        raw = self.ws.recv(timeout_s)
        frame: Frame = json.loads(raw) if isinstance(raw, str) else raw
        self.rules.see(frame)
        return frame

    def read_until(self, kind: str, id_: str | None = None) -> dict[str, Any]:
        """Return the next message of this type (of this utterance); others are skipped."""
        while True:
            frame = self.read()
            if isinstance(frame, bytes) or frame["type"] != kind:
                continue
            if id_ in (None, frame.get("id")):
                return frame

    def read_utterance(self, id_: str) -> tuple[bytes, list[dict[str, Any]]]:
        """Return an utterance's audio and its messages, from `begin` to `end`."""
        messages: list[dict[str, Any]] = []
        while not messages or messages[-1]["type"] != "end":
            frame = self.read()
            if not isinstance(frame, bytes) and frame.get("id") == id_:
                messages.append(frame)
        return bytes(self.rules.audio.get(id_, b"")), messages


@contextmanager
def open_session(url: str, **start: Any) -> Iterator[Session]:
    """Open and start a session at `url`."""
    with open_ws(f"{url}/ws/tts") as ws:
        session = Session(ws)
        session.send("start", **start)
        ready = session.read()
        assert isinstance(ready, dict)
        session.ready = ready
        yield session


def wait_for(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Wait until `condition` holds; fails after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.005)
