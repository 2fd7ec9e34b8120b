"""A live session of recognition: audio goes out while what is heard comes back.

    with listen("ws://localhost:8000/ws/stt", sample_rate_hz=16000) as session:
        sender = threading.Thread(target=session.send_all, args=(pieces_of_audio,))
        sender.start()
        for event in session:
            ...

One thread sends, another iterates. Iteration ends with `End`, after which the transcript is whole.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from client.errors import BrokenOff, ClientError, Refused
from client.sockets import open_socket

DEFAULT_URI = "ws://localhost:8000/ws/stt"
SEND_BYTES = 32_000
"""Of a frame of audio at most: well within any server's limit."""


@dataclass(frozen=True)
class LiveSegment:
    """A stretch of speech; times in ms from the first sample."""

    start_ms: int
    end_ms: int
    text: str


@dataclass(frozen=True)
class SpeechStarted:
    at_ms: int


@dataclass(frozen=True)
class SpeechEnded:
    at_ms: int


@dataclass(frozen=True)
class Partial:
    """What an utterance is heard as so far; the first `stable_chars` of it never change."""

    id: str
    rev: int
    text: str
    stable_chars: int
    start_ms: int
    end_ms: int
    lag_ms: int

    @property
    def stable(self) -> str:
        return self.text[: self.stable_chars]


@dataclass(frozen=True)
class Final:
    """What an utterance is; `reason` is endpoint, finalize, finish or max_length."""

    id: str
    text: str
    segments: tuple[LiveSegment, ...]
    reason: str


@dataclass(frozen=True)
class Complaint:
    """The server did not do something that was asked of it; the session goes on."""

    message: str
    code: str


@dataclass(frozen=True)
class Leaving:
    """The server is about to leave: finish within `deadline_ms`."""

    deadline_ms: int


@dataclass(frozen=True)
class End:
    """All that was said."""

    audio_ms: int
    text: str
    segments: tuple[LiveSegment, ...]


Event = SpeechStarted | SpeechEnded | Partial | Final | Complaint | Leaving | End


class Session:
    """An open session: `send` audio from one thread, iterate over what is heard in another.

    Iterating raises `Refused` if the server refuses the session, `BrokenOff` if it does not end in
    order or no message comes for the timeout.
    """

    def __init__(self, connection: ClientConnection, ready: dict[str, Any], timeout_s: float):
        self._connection = connection
        self._timeout_s = timeout_s
        self._finished = threading.Event()
        self.ready = ready
        """The server's first message: its limits, and the fields that it ignored."""

    def send(self, audio: bytes) -> None:
        """Send more audio, cut anywhere. Blocks while the server hears what it has."""
        for i in range(0, len(audio), SEND_BYTES):
            self._send(audio[i : i + SEND_BYTES])

    def finalize(self) -> None:
        """Have what was said so far made final, and go on."""
        self._send('{"type":"finalize"}')

    def finish(self) -> None:
        """There is no more audio."""
        if not self._finished.is_set():
            self._finished.set()
            self._send('{"type":"finish"}')

    def send_all(self, pieces: Iterable[bytes]) -> None:
        """Send pieces of audio as they come, and finish; ends early when the session has ended."""
        for piece in pieces:
            if self._finished.is_set():
                return
            self.send(piece)
        self.finish()

    def __iter__(self) -> Iterator[Event]:
        while True:
            event = event_of(_received(self._connection, self._timeout_s))
            yield event
            if isinstance(event, End):
                if not self._finished.is_set():
                    raise BrokenOff(self._why_it_ended())
                return

    def _send(self, frame: str | bytes) -> None:
        try:
            self._connection.send(frame)
        except ConnectionClosed:
            # Who iterates knows how it ended.
            self._finished.set()

    def _why_it_ended(self) -> str:
        try:
            self._connection.recv(self._timeout_s)
        except ConnectionClosed as closed:
            reason = closed.rcvd.reason if closed.rcvd else ""
            return f"The server ended the session before the audio did ({reason or 'no reason'})."
        except TimeoutError:
            pass
        return "The server ended the session before the audio did."


@contextmanager
def listen(
    uri: str = DEFAULT_URI,
    *,
    sample_rate_hz: int = 16000,
    channels: int = 1,
    encoding: str = "pcm_s16le",
    language: str = "en",
    partials: bool = True,
    endpoint_ms: int | None = None,
    timeout_s: float = 60.0,
) -> Iterator[Session]:
    """A live session. `timeout_s` is for each wait for a message: longer than any silence.

    Raises `BadInput`, `ServerAway`, `Refused` or `BrokenOff`.
    """
    start: dict[str, Any] = {
        "type": "start",
        "sample_rate": sample_rate_hz,
        "channels": channels,
        "encoding": encoding,
        "language": language,
        "partials": partials,
    }
    if endpoint_ms is not None:
        start["endpoint_ms"] = endpoint_ms
    with ExitStack() as stack:
        connection = open_socket(uri, stack, like=DEFAULT_URI, pong_timeout_s=None)
        connection.send(json.dumps(start))
        ready = _received(connection, timeout_s)
        if ready.get("type") == "error":
            raise Refused(str(ready.get("error")), code=str(ready.get("code", "")))
        if ready.get("type") != "ready":
            raise BrokenOff("The server does not speak this protocol.")
        yield Session(connection, ready, timeout_s)


def event_of(message: dict[str, Any]) -> Event:
    """What a message of the server says; an error that ends the session is raised (`BrokenOff`)."""
    kind = message.get("type")
    try:
        if kind == "speech_start":
            return SpeechStarted(message["at_ms"])
        if kind == "speech_end":
            return SpeechEnded(message["at_ms"])
        if kind == "partial":
            fields = ("id", "rev", "text", "stable_chars", "start_ms", "end_ms")
            return Partial(**{f: message[f] for f in fields}, lag_ms=message.get("lag_ms", 0))
        if kind == "final":
            segments = _segments(message)
            return Final(message["id"], message["text"], segments, message["reason"])
        if kind == "end":
            return End(message["audio_ms"], message["text"], _segments(message))
        if kind == "goaway":
            return Leaving(message["deadline_ms"])
        if kind == "error" and message.get("fatal") is False:
            return Complaint(str(message["error"]), str(message["code"]))
    except (KeyError, TypeError):
        kind = None
    if kind == "error":
        raise BrokenOff(f"The server broke off: {message.get('error')} [{message.get('code')}]")
    raise BrokenOff(f"The server sent something that is not of the protocol: {str(message)[:80]}.")


def _segments(message: dict[str, Any]) -> tuple[LiveSegment, ...]:
    return tuple(LiveSegment(s["start_ms"], s["end_ms"], s["text"]) for s in message["segments"])


def _received(connection: ClientConnection, timeout_s: float) -> dict[str, Any]:
    try:
        frame = connection.recv(timeout_s)
        message: Any = json.loads(frame)
    except TimeoutError:
        raise BrokenOff(f"The server sent nothing for {timeout_s:g} s.") from None
    except ConnectionClosed as closed:
        raise _how_it_closed(closed) from None
    except ValueError:
        message = None
    if not isinstance(message, dict):
        raise BrokenOff("The server sent something that is not of the protocol.")
    return message


def _how_it_closed(closed: ConnectionClosed) -> ClientError:
    if closed.rcvd is None:
        return BrokenOff("The connection was lost before the transcript was whole.")
    reason = f", {closed.rcvd.reason}" if closed.rcvd.reason else ""
    return BrokenOff(
        f"The server closed the connection before the transcript was whole ({closed.rcvd.code}"
        f"{reason})."
    )
