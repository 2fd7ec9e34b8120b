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

from common.boundary import FAULT
from common.errors import Internal, SpeechError, UpstreamFailed, UpstreamTimeout
from common.lifecycle import Lifecycle
from common.logger import get_logger
from common.protocol_session import GoAway
from common.websocket import (
    GOING_AWAY,
    NO_STATUS,
    NORMAL,
    SERVICE_RESTART,
    break_off,
    close,
)
from gateway.app.settings import GatewaySettings
from gateway.app.under_way import UnderWay

log = get_logger(__name__)


class _Closed(Exception):
    """The upstream ended the session in order; the client is told with the same code."""

    def __init__(self, code: int, reason: str) -> None:
        self.code, self.reason = code, reason


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
        under_way: UnderWay,
    ) -> None:
        self._client = client
        self._upstream = upstream
        self._name = name
        self._lifecycle = lifecycle
        self._settings = settings
        self._pong_timeout_s = pong_timeout_s
        self._work = ExitStack()
        self._under_way = under_way
        self._idle = asyncio.Event()
        self._idle.set()
        self._waiting_since: float | None = None
        """Since when we wait for the upstream; None while a frame is on its way to the client."""
        self._sending_since = 0.0

    async def run(self) -> None:
        """Relay until one side ends, and end the client's accordingly."""
        with self._work:
            try:
                await self._both_ways()
            except _Closed as closed:
                await close(self._client, closed.code, closed.reason)
            except WebSocketDisconnect:
                log.debug("relay.client_left")
            except SpeechError as error:
                log.warning("relay.broken_off", code=error.code)
                await break_off(self._client, error, session=self._under_way.in_session)
            except Exception as error:
                log.error("relay.failed", exc_info=error)
                fault = Internal(FAULT)
                await break_off(self._client, fault, session=self._under_way.in_session)

    async def _both_ways(self) -> None:
        directions = [
            asyncio.ensure_future(self._to_upstream()),
            asyncio.ensure_future(self._to_client()),
            asyncio.ensure_future(self._watch()),
            asyncio.ensure_future(self._leave()),
        ]
        try:
            done, _ = await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            for direction in done:
                direction.result()
        finally:
            for direction in directions:
                direction.cancel()
            await asyncio.wait(directions)
            for direction in directions:
                if not direction.cancelled():
                    direction.exception()

    async def _to_upstream(self) -> None:
        """Returns when the client has gone."""
        while True:
            message = await self._client.receive()
            if message["type"] == "websocket.disconnect":
                return
            text: str | None = message.get("text")
            if text is not None:
                self._under_way.client_sent(text)
                self._note_work()
            try:
                await self._upstream.send(message["bytes"] if text is None else text)
            except ConnectionClosed:
                # The other direction knows how it ended.
                await asyncio.Event().wait()

    async def _to_client(self) -> None:
        send, recv = self._client.send, self._upstream.recv
        while True:
            self._waiting_since = time.monotonic()
            try:
                frame = await recv()
            except ConnectionClosed as closed:
                raise self._how_it_ended(closed) from None
            self._sending_since, self._waiting_since = time.monotonic(), None
            if isinstance(frame, bytes):
                await send({"type": "websocket.send", "bytes": frame})
                if not self._under_way:
                    self._under_way.service_sounded()
                    self._note_work()
            else:
                await send({"type": "websocket.send", "text": frame})
                self._under_way.service_sent(frame)
                self._note_work()

    def _how_it_ended(self, closed: ConnectionClosed) -> Exception:
        rcvd = closed.rcvd
        if rcvd is None or (self._under_way and rcvd.code in (NORMAL, GOING_AWAY, SERVICE_RESTART)):
            return UpstreamFailed(f"The {self._name} service went away before it was done.")
        return _Closed(NORMAL if rcvd.code == NO_STATUS else rcvd.code, rcvd.reason)

    async def _watch(self) -> None:
        """Notice an upstream that hangs, and a client that takes nothing."""
        stall_s, idle_s = self._settings.gateway_stall_timeout_s, self._settings.idle_timeout_s
        while True:
            await asyncio.sleep(min(stall_s, idle_s) / 2)
            since = self._waiting_since
            if since is None:
                if time.monotonic() - self._sending_since > idle_s:
                    raise _Closed(GOING_AWAY, f"took no audio for {idle_s:g} s")
            elif time.monotonic() - since > stall_s and not await self._upstream_lives(since):
                raise UpstreamTimeout(f"The {self._name} service does not answer any more.")

    async def _upstream_lives(self, since: float) -> bool:
        """Ask it, unless a frame has come meanwhile."""
        try:
            pong = await self._upstream.ping()
            await asyncio.wait_for(asyncio.shield(pong), self._pong_timeout_s)
        except asyncio.TimeoutError:
            return self._waiting_since != since
        except ConnectionClosed:
            return True  # the direction that reads knows how it ended
        return True

    async def _leave(self) -> None:
        """A session is told when the gateway leaves, and ends when nothing is under way in it."""
        await self._lifecycle.draining.wait()
        if not self._under_way.in_session:
            await asyncio.Event().wait()  # the simple mode has no words for it
        goaway = GoAway(deadline_ms=round(self._lifecycle.left_s * 1000))
        await self._client.send_text(goaway.frame())
        await self._idle.wait()
        raise _Closed(GOING_AWAY, "shutting down")

    def _note_work(self) -> None:
        """What is under way is worth waiting for when leaving, and refused while leaving.

        Raises `Draining`.
        """
        if self._under_way and self._idle.is_set():
            self._work.enter_context(self._lifecycle.work())
            self._idle.clear()
        elif not self._under_way:
            self._work.close()
            self._idle.set()
