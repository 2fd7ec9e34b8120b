"""A session of `/ws/tts` as a test sees it: every frame is held against the contract's rules."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from websockets.sync.client import ClientConnection

from tests.support.wire import open_ws

Frame = dict[str, Any] | bytes


@dataclass
class Rules:
    """Sees all that a session sends, and fails at the first frame that breaks a rule."""

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
    """An open session; every frame that is read is checked."""

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
        """The next message of this type (of this utterance); what comes before is passed over."""
        while True:
            frame = self.read()
            if isinstance(frame, bytes) or frame["type"] != kind:
                continue
            if id_ in (None, frame.get("id")):
                return frame

    def read_utterance(self, id_: str) -> tuple[bytes, list[dict[str, Any]]]:
        """Its audio and messages, `begin` first and `end` last."""
        messages: list[dict[str, Any]] = []
        while not messages or messages[-1]["type"] != "end":
            frame = self.read()
            if not isinstance(frame, bytes) and frame.get("id") == id_:
                messages.append(frame)
        return bytes(self.rules.audio.get(id_, b"")), messages


@contextmanager
def open_session(url: str, **start: Any) -> Iterator[Session]:
    """A session on `url`, started."""
    with open_ws(f"{url}/ws/tts") as ws:
        session = Session(ws)
        session.send("start", **start)
        ready = session.read()
        assert isinstance(ready, dict)
        session.ready = ready
        yield session
