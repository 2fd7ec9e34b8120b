"""The relay of a WebSocket: frames both ways, byte for byte, and no failure hidden.

The one message of its own, in a session, is the `goaway` of a gateway that is itself leaving.

Back-pressure is the sockets' own: a frame is read from one side only after the one before it was
taken by the other, so no more than a few frames are ever held here.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from common.errors import Internal, SpeechError
from common.logger import get_logger
from common.protocol.session import GoAway
from common.server.error_boundary import FAULT
from common.server.lifecycle import Lifecycle
from common.server.tasks import until_first
from common.server.websocket import GOING_AWAY, close, close_with_error
from gateway.app.in_flight import InFlightTracker
from gateway.app.settings import GatewaySettings
from gateway.app.watched import Closed, UpstreamSocket

log = get_logger(__name__)


class Relay:
    """One client's socket and the upstream's that answers it."""

    def __init__(
        self,
        client: WebSocket,
        upstream: ClientConnection,
        *,
        name: str,
        lifecycle: Lifecycle,
        settings: GatewaySettings,
        pong_timeout_s: float,
        in_flight: InFlightTracker,
    ) -> None:
        self._client = client
        stall_s = settings.gateway_stall_timeout_s
        self._upstream = UpstreamSocket(upstream, name, stall_s, pong_timeout_s)
        self._lifecycle = lifecycle
        self._settings = settings
        self._work = ExitStack()
        self._in_flight = in_flight
        self._idle = asyncio.Event()
        self._idle.set()
        self._sending_since = 0.0

    async def run(self) -> None:
        """Relay until one side ends, and end the client's accordingly."""
        with self._work:
            try:
                await until_first(
                    self._to_client(),
                    self._to_upstream(),
                    self._upstream.watch(),
                    self._watch(),
                    self._leave(),
                )
            except Closed as closed:
                await close(self._client, closed.code, closed.reason)
            except WebSocketDisconnect:
                log.debug("relay.client_left")
            except SpeechError as error:
                log.warning("relay.broken_off", code=error.code)
                await close_with_error(self._client, error, session=self._in_flight.in_session)
            except Exception as error:
                log.error("relay.failed", exc_info=error)
                fault = Internal(FAULT)
                await close_with_error(self._client, fault, session=self._in_flight.in_session)

    async def _to_upstream(self) -> None:
        """Returns when the client has gone."""
        while True:
            message = await self._client.receive()
            if message["type"] == "websocket.disconnect":
                return
            text: str | None = message.get("text")
            if text is not None:
                self._in_flight.client_sent(text)
                self._note_work()
            await self._upstream.send(message["bytes"] if text is None else text)

    async def _to_client(self) -> None:
        send, receive = self._client.send, self._upstream.receive
        while True:
            try:
                frame = await receive()
            except ConnectionClosed as closed:
                in_flight = bool(self._in_flight)
                raise self._upstream.ending(closed, in_flight=in_flight) from None
            self._sending_since = time.monotonic()
            if isinstance(frame, bytes):
                await send({"type": "websocket.send", "bytes": frame})
                if not self._in_flight:
                    self._in_flight.service_sounded()
                    self._note_work()
            else:
                await send({"type": "websocket.send", "text": frame})
                self._in_flight.service_sent(frame)
                self._note_work()

    async def _watch(self) -> None:
        """Notice a client that takes nothing."""
        idle_s = self._settings.idle_timeout_s
        while True:
            await asyncio.sleep(idle_s / 2)
            if not self._upstream.waited_for and time.monotonic() - self._sending_since > idle_s:
                raise Closed(GOING_AWAY, f"took no audio for {idle_s:g} s")

    async def _leave(self) -> None:
        """A session is told when the gateway leaves, and ends when nothing is under way in it."""
        await self._lifecycle.draining.wait()
        if not self._in_flight.in_session:
            await asyncio.Event().wait()  # the simple mode has no words for it
        goaway = GoAway(deadline_ms=round(self._lifecycle.drain_remaining_s * 1000))
        await self._client.send_text(goaway.frame())
        await self._idle.wait()
        raise Closed(GOING_AWAY, "shutting down")

    def _note_work(self) -> None:
        """What is under way is worth waiting for when leaving, and refused while leaving.

        Raises `Draining`.
        """
        if self._in_flight and self._idle.is_set():
            self._work.enter_context(self._lifecycle.work())
            self._idle.clear()
        elif not self._in_flight:
            self._work.close()
            self._idle.set()
