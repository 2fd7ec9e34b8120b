"""The AsyncAPI document of the WebSockets, made from the classes that validate their messages.

    python -m tools.asyncapi          # renews docs/asyncapi.json

https://www.asyncapi.com/docs/reference/specification/v3.0.0. `receive` is what the server takes,
`send` what it answers. Each message has an example, and a test holds all of them against both.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from common import __version__
from common.protocol import echo, live, session
from common.protocol.speech import END, SpeakRequest
from deploy.local import ROOT

DOCUMENT = ROOT / "docs" / "asyncapi.json"

Json = dict[str, Any]
Action = Literal["receive", "send"]
MODES: dict[Action, JsonSchemaMode] = {"receive": "validation", "send": "serialization"}

_SEGMENT = {"start_ms": 320, "end_ms": 1480, "text": "Hello world."}
_LISTENS = {"encoding": "pcm_s16le", "sample_rate": 16000, "channels": 1}
_SPEAKS = {**_LISTENS, "chunk_ms": 40}
_HEARD = {"audio_ms": 8200, "text": "Hello world.", "segments": [_SEGMENT]}
_OPEN = {"protocol": 1, "session_id": "5f0e", "request_id": "r1", "ignored": []}
_LISTEN_READY = {
    "type": "ready",
    **_OPEN,
    "model": "tiny.en",
    "audio": _LISTENS,
    "limits": {
        "max_message_bytes": 65536,
        "max_utterance_ms": 30000,
        "max_backlog_ms": 2000,
        "max_session_s": 3600,
        "idle_timeout_s": 60,
    },
}

EXAMPLES: dict[type[BaseModel], Json] = {
    SpeakRequest: {"text": "Hello world"},
    session.Start: {"type": "start", "sample_rate": 16000, "timestamps": "sentence"},
    session.SendText: {"type": "text", "id": "u1", "text": "The quick brown "},
    session.Flush: {"type": "flush", "id": "u1"},
    session.Finish: {"type": "finish", "id": "u1"},
    session.Speak: {"type": "speak", "id": "u2", "text": "A whole utterance."},
    session.Cancel: {"type": "cancel", "id": "u1"},
    session.Ping: {"type": "ping", "nonce": "a1"},
    session.Close: {"type": "close"},
    session.Ready: {
        "type": "ready",
        **_OPEN,
        "model": "hibari/heart",
        "audio": _SPEAKS,
        "limits": {
            "max_text_chars": 5000,
            "max_message_bytes": 65536,
            "max_queued_utterances": 4,
            "idle_timeout_s": 60,
            "max_session_s": 3600,
            "max_buffer_delay_ms": 500,
        },
    },
    session.Begin: {"type": "begin", "id": "u1", "queue_ms": 12},
    session.Mark: {
        "type": "mark",
        "id": "u1",
        "index": 0,
        "text": "The quick brown fox jumps.",
        "char_start": 0,
        "char_end": 26,
        "start_ms": 0,
        "end_ms": 1480,
    },
    session.Flushed: {"type": "flushed", "id": "u1", "audio_ms": 1480},
    session.WarningMessage: {
        "type": "warning",
        "id": "u1",
        "code": "stalled",
        "message": "The voice lost its place.",
        "at_ms": 900,
    },
    session.End: {
        "type": "end",
        "id": "u1",
        "reason": "done",
        "audio_ms": 2960,
        "first_audio_ms": 42,
        "rtf": 0.05,
    },
    session.ErrorMessage: {
        "type": "error",
        "error": "4 utterances wait already; send more when one has ended.",
        "code": "queue_full",
        "id": "u6",
        "fatal": False,
        "request_id": "r1",
    },
    session.GoAway: {"type": "goaway", "deadline_ms": 25000},
    session.Pong: {"type": "pong", "nonce": "a1"},
    live.ListenStart: {"type": "start", "sample_rate": 16000, "endpoint_ms": 600},
    live.ListenCommand: {"type": "finish"},
    live.ListenReady: _LISTEN_READY,
    live.SpeechStart: {"type": "speech_start", "at_ms": 320},
    live.Partial: {
        "type": "partial",
        "id": "t1",
        "rev": 3,
        "text": "hello wor",
        "stable_chars": 6,
        "start_ms": 320,
        "end_ms": 1100,
        "lag_ms": 180,
    },
    live.Final: {
        "type": "final",
        "id": "t1",
        "text": "Hello world.",
        "segments": [_SEGMENT],
        "reason": "endpoint",
    },
    live.SpeechEnd: {"type": "speech_end", "at_ms": 1500},
    live.ListenEnd: {"type": "end", **_HEARD},
    echo.EchoStart: {"type": "start", "sample_rate": 16000, "timestamps": "sentence"},
    echo.EchoCommand: {"type": "cancel"},
    echo.EchoReady: {
        **_LISTEN_READY,
        "voice": {"model": "hibari/heart", "audio": _SPEAKS},
    },
    echo.EchoTranscript: {"type": "transcript", **_HEARD},
}

BARE: dict[str, Json] = {
    "SimpleEnd": {
        "summary": "The utterance is whole.",
        "payload": {"type": "object", "const": json.loads(END)},
        "examples": [{"payload": json.loads(END)}],
    },
    "SimpleError": {
        "summary": "The request failed; the connection is closed after this.",
        "payload": {
            "type": "object",
            "properties": {
                "type": {"const": "error"},
                "error": {"type": "string", "description": "A sentence"},
                "code": {"type": "string"},
                "request_id": {"type": "string"},
            },
            "required": ["type", "error", "code", "request_id"],
        },
        "examples": [
            {
                "payload": {
                    "type": "error",
                    "error": "There is nothing in the text that can be spoken.",
                    "code": "empty_text",
                    "request_id": "r1",
                }
            }
        ],
    },
    "AudioFrame": {
        "summary": "Samples, as `start` or `ready` describe them.",
        "contentType": "application/octet-stream",
        "payload": {"type": "string", "format": "binary"},
    },
}
"""Messages without a class: those of the simple mode that are written as they are, and audio."""


@dataclass(frozen=True)
class Channel:
    """A WebSocket; its messages by their classes or their names in `BARE`."""

    address: str
    description: str
    receive: tuple[type[BaseModel] | str, ...]
    send: tuple[type[BaseModel] | str, ...]


def _members(union: Any) -> tuple[type[BaseModel], ...]:
    return tuple(union.__args__)


_SESSION_SENDS = _members(session.SessionEvent)
CHANNELS = {
    "tts": Channel(
        "/ws/tts",
        "Text to speech. A first message of the type start opens a session; without one, the "
        "simple mode holds: each text is answered by its audio and an end without an id.",
        (SpeakRequest, session.Start, *_members(session.SessionCommand)),
        ("AudioFrame", "SimpleEnd", "SimpleError", *_SESSION_SENDS),
    ),
    "stt": Channel(
        "/ws/stt",
        "Recognition while the speaker still speaks.",
        (live.ListenStart, "AudioFrame", live.ListenCommand),
        (
            live.ListenReady,
            *_members(live.ListenEvent),
            live.ListenEnd,
            session.ErrorMessage,
            session.GoAway,
        ),
    ),
    "echo": Channel(
        "/ws/echo",
        "A voice loop: what is said comes back in the server's voice, which falls silent when "
        "somebody speaks.",
        (echo.EchoStart, "AudioFrame", echo.EchoCommand),
        ("AudioFrame", *_members(echo.EchoMessage)),
    ),
}


def document() -> Json:
    """The document as JSON."""
    modes: dict[type[BaseModel], JsonSchemaMode] = {}
    messages = dict(BARE)
    for channel in CHANNELS.values():
        for action, mode in MODES.items():
            for kind in getattr(channel, action):
                if not isinstance(kind, str):
                    modes[kind] = mode
                    messages[kind.__name__] = _message(kind)
    _, definitions = models_json_schema(
        list(modes.items()), ref_template="#/components/schemas/{model}"
    )
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "speech-fleet",
            "version": __version__,
            "description": "The WebSockets of a self-hosted speech server. Audio is mono s16le "
            "unless a message says otherwise; times are in ms from the first sample.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"gateway": {"host": "localhost:8000", "protocol": "ws"}},
        "channels": {name: _channel(channel) for name, channel in CHANNELS.items()},
        "operations": {
            f"{name}_{action}": {
                "action": action,
                "channel": {"$ref": f"#/channels/{name}"},
                "messages": [
                    {"$ref": f"#/channels/{name}/messages/{_name(kind)}"}
                    for kind in getattr(channel, action)
                ],
            }
            for name, channel in CHANNELS.items()
            for action in MODES
        },
        "components": {"messages": messages, "schemas": definitions["$defs"]},
    }


def _channel(channel: Channel) -> Json:
    names = [_name(kind) for kind in (*channel.receive, *channel.send)]
    return {
        "address": channel.address,
        "description": channel.description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "bindings": {"ws": {"method": "GET"}},
    }


def _message(kind: type[BaseModel]) -> Json:
    first_paragraph = (kind.__doc__ or "").split("\n\n")[0]
    return {
        "name": kind.__name__,
        "summary": " ".join(first_paragraph.split()) or kind.__name__,
        "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
        "examples": [{"payload": EXAMPLES[kind]}],
    }


def _name(kind: type[BaseModel] | str) -> str:
    return kind if isinstance(kind, str) else kind.__name__


def text() -> str:
    """The document as it is in the file."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    DOCUMENT.write_text(text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
