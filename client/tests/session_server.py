"""The server's side of a session of `/ws/tts` or `/ws/stt`, as a test has it speak."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from websockets.sync.server import ServerConnection

CHUNK = b"\x01\x00" * 640
LIMITS = {
    "max_text_chars": 5000,
    "max_message_bytes": 65536,
    "max_queued_utterances": 4,
    "idle_timeout_s": 60,
    "max_session_s": 3600,
    "max_buffer_delay_ms": 300,
}


@dataclass
class Side:
    """One connection."""

    connection: ServerConnection
    number: int
    """Of the connection, from 1."""
    received: list[dict[str, Any]]
    """By any of the server's connections, without the starts."""

    def read(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.connection.recv())
        self.received.append(message)
        return message

    def read_until(self, kind: str) -> dict[str, Any]:
        while (message := self.read())["type"] != kind:
            pass
        return message

    def send(self, kind: str, **fields: Any) -> None:
        self.connection.send(json.dumps({"type": kind, **fields}))

    def audio(self, frame: bytes = CHUNK) -> None:
        self.connection.send(frame)

    def begin(self, id_: str) -> None:
        self.send("begin", id=id_, queue_ms=0)

    def end(self, id_: str, reason: str = "done") -> None:
        self.send("end", id=id_, reason=reason, audio_ms=40, first_audio_ms=1, rtf=0.1)

    def speak(self, id_: str, frames: int = 1) -> None:
        self.begin(id_)
        for _ in range(frames):
            self.audio()
        self.end(id_)

    def error(self, code: str, **fields: Any) -> None:
        self.send("error", **{"error": "No.", "code": code, "fatal": False, **fields})

    def lose(self) -> None:
        """End the connection without a word."""
        self.connection.socket.shutdown(2)


@dataclass
class SessionServer:
    """A handler of connections: each is answered by `ready`, then left to `answer`."""

    answer: Callable[[Side], None]
    limits: dict[str, Any] = field(default_factory=lambda: dict(LIMITS))
    ignored: list[str] = field(default_factory=list)
    starts: list[dict[str, Any]] = field(default_factory=list)
    received: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, connection: ServerConnection) -> None:
        self.starts.append(json.loads(connection.recv()))
        side = Side(connection, len(self.starts), self.received)
        start = self.starts[-1]
        side.send(
            "ready",
            protocol=1,
            session_id="s1",
            request_id="r1",
            model="fake",
            audio={
                "encoding": start["encoding"],
                "sample_rate": start.get("sample_rate", 16000),
                "channels": 1,
                "chunk_ms": 40,
            },
            limits=self.limits,
            ignored=self.ignored,
        )
        self.answer(side)


def speaks_whatever_comes(side: Side) -> None:
    """Each whole utterance is one frame of audio."""
    for raw in side.connection:
        message = json.loads(raw)
        side.received.append(message)
        if message["type"] in ("speak", "finish"):
            side.speak(message["id"])
