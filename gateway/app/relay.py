"""The relay of a WebSocket: frames both ways, byte for byte, and no failure hidden.

The one message of its own, in a session, is the `goaway` of a gateway that is itself draining.

Back-pressure is the sockets' own: a frame is read from one side only after the other side has taken
the one before it, so no more than a few frames are ever held here. What the text frames say of work
in flight is read on the way, since draining waits for it.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

import anyio
from fastapi import WebSocket

from common.errors import SpeechError
from common.protocol.messages import GOING_AWAY, parse_json_object
from common.protocol.session import GoAway, is_start
from common.server.error_boundary import error_boundary
from common.server.lifecycle import Lifecycle
from common.server.tasks import until_first
from common.server.websocket import close
from common.wire.errors import ConnectionEnded
from common.wire.messages import is_fatal
from gateway.app.settings import GatewaySettings
from gateway.app.upstreams.socket import SessionClosed, UpstreamSocket


class InFlightTracker:
    """Knows from the frames that pass whether one socket has work in flight.

    Work is in flight from a message of the client to the `end` of the service. It is shown each
    frame, in order. What a client sends after the last frame of the service starts no work.
    """

    def __init__(self) -> None:
        self.in_session = False
        """Whether the client's first message was a `start`: then it understands `goaway`."""
        self._has_begun = False
        self._busy = False
        self._has_ended = False

    def __bool__(self) -> bool:
        return self._busy

    def client_sent(self, text: str) -> dict[str, Any]:
        """Take note of a text frame on its way to the service; return it as a message."""
        message = _message(text)
        if not self._has_begun:
            self.in_session = is_start(message)
        self._has_begun = True
        self._busy = not self._has_ended
        return message

    def service_sent(self, text: str) -> dict[str, Any]:
        """Take note of a text frame that was sent to the client; return it as a message."""
        message = _message(text)
        self._has_ended = self._has_ended or self._is_last(message)
        if self._has_ended or message.get("type") == "end":
            self._busy = False
        return message

    def service_sent_audio(self) -> None:
        """Take note of a frame of audio that was sent to the client."""
        self._busy = True

    def _is_last(self, message: dict[str, Any]) -> bool:
        """Tell whether the service sends nothing after this message."""
        return message.get("type") == "end" or _is_last_error(message)


class SpeechInFlightTracker(InFlightTracker):
    """The tracker of `/ws/tts`, whose sessions may wait with nothing in flight.

    In a session an utterance is in flight from its first `text` or `speak` to its `end`, unless it
    is refused (by an `error` with its id before its `begin`).
    """

    def __init__(self) -> None:
        super().__init__()
        self._requested: set[object] = set()
        self._begun: set[object] = set()

    def __bool__(self) -> bool:
        return bool(self._requested) if self.in_session else self._busy

    def client_sent(self, text: str) -> dict[str, Any]:
        message = super().client_sent(text)
        if message.get("type") in ("text", "speak") and isinstance(message.get("id"), str):
            self._requested.add(message["id"])
        return message

    def service_sent(self, text: str) -> dict[str, Any]:
        message = super().service_sent(text)
        kind, id_ = message.get("type"), message.get("id")
        if kind == "begin":
            self._requested.add(id_)
            self._begun.add(id_)
        elif kind == "end" or (kind == "error" and id_ not in self._begun):
            self._requested.discard(id_)
            self._begun.discard(id_)
        return message

    def _is_last(self, message: dict[str, Any]) -> bool:
        return _is_last_error(message)


class Relay:
    """One client's socket and the upstream's that answers it."""

    def __init__(
        self,
        client: WebSocket,
        upstream: UpstreamSocket,
        *,
        lifecycle: Lifecycle,
        settings: GatewaySettings,
        in_flight: InFlightTracker,
    ) -> None:
        self._client = client
        self._upstream = upstream
        self._lifecycle = lifecycle
        self._settings = settings
        self._work = ExitStack()
        self._in_flight = in_flight
        self._idle = anyio.Event()
        self._idle.set()
        self._sending_since = 0.0

    async def run(self) -> None:
        """Relay until one side ends, and close the client's socket accordingly."""
        with self._work:
            async with error_boundary(self._client, session=lambda: self._in_flight.in_session):
                try:
                    await until_first(
                        self._to_client(),
                        self._to_upstream(),
                        self._upstream.watch(),
                        self._watch_slow_reader(),
                        self._drain(),
                    )
                except SessionClosed as closed:
                    await close(self._client, closed.code, closed.reason)

    async def _to_upstream(self) -> None:
        """Pass on what the client sends; returns when it has disconnected."""
        while True:
            message = await self._client.receive()
            if message["type"] == "websocket.disconnect":
                return
            text: str | None = message.get("text")
            if text is not None:
                self._in_flight.client_sent(text)
                self._update_work()
            await self._upstream.send_while_open(message["bytes"] if text is None else text)

    async def _to_client(self) -> None:
        send, receive = self._client.send, self._upstream.receive
        while True:
            try:
                frame = await receive()
            except ConnectionEnded as ended:
                in_flight = bool(self._in_flight)
                raise self._upstream.ending(ended, in_flight=in_flight) from None
            self._sending_since = time.monotonic()
            if isinstance(frame, bytes):
                await send({"type": "websocket.send", "bytes": frame})
                if not self._in_flight:
                    self._in_flight.service_sent_audio()
                    self._update_work()
            else:
                await send({"type": "websocket.send", "text": frame})
                self._in_flight.service_sent(frame)
                self._update_work()

    async def _watch_slow_reader(self) -> None:
        """Drop a client that reads nothing for the idle time."""
        idle_s = self._settings.idle_timeout_s
        while True:
            await anyio.sleep(idle_s / 2)
            if not self._upstream.is_receiving and time.monotonic() - self._sending_since > idle_s:
                raise SessionClosed(GOING_AWAY, f"took no audio for {idle_s:g} s")

    async def _drain(self) -> None:
        """Announce to a session that the gateway drains; end it when nothing is in flight."""
        await self._lifecycle.draining.wait()
        if not self._in_flight.in_session:
            await anyio.sleep_forever()  # the simple mode has no message for it
        goaway = GoAway(deadline_ms=round(self._lifecycle.drain_remaining_s * 1000))
        await self._client.send_text(goaway.frame())
        await self._idle.wait()
        raise SessionClosed(GOING_AWAY, "shutting down")

    def _update_work(self) -> None:
        """Count what is in flight as work that draining waits for.

        Raises `Draining` for what begins while the gateway drains.
        """
        if self._in_flight and self._idle.is_set():
            self._work.enter_context(self._lifecycle.work())
            self._idle = anyio.Event()
        elif not self._in_flight:
            self._work.close()
            self._idle.set()


def _is_last_error(message: dict[str, Any]) -> bool:
    return message.get("type") == "error" and is_fatal(message)


def _message(text: str) -> dict[str, Any]:
    try:
        return parse_json_object(text)
    except SpeechError:
        return {}
