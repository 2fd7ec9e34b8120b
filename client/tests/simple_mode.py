"""A server of the simple mode of `/ws/tts`, and what `stream_tts` writes of it."""

from __future__ import annotations

import json
import wave
from pathlib import Path

from websockets.sync.server import ServerConnection

from client.tests.conftest import Handler

CHUNK = b"\x01\x00" * 640
END = '{"type":"end"}'


def says(*frames: str | bytes) -> Handler:
    """A handler that sends `frames` after the first message and then closes."""

    def handler(connection: ServerConnection) -> None:
        connection.recv()
        for frame in frames:
            connection.send(frame)

    return handler


def error_frame(sentence: str, code: str) -> str:
    return json.dumps({"type": "error", "error": sentence, "code": code})


def frames_of(path: Path) -> bytes:
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        return bytes(file.readframes(file.getnframes()))


def part_of(path: Path) -> Path:
    return path.with_name(path.name + ".part")
