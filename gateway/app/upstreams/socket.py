"""The WebSocket of an upstream: whether it lives while a frame is awaited, and how it ended.

It is probed only then: while a frame is on its way to a client that reads slowly, nothing is read
from the upstream either, and its pongs are not seen.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, TypeVar

import anyio
from pydantic import BaseModel, ValidationError
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from common.errors import SpeechError, UpstreamFailed, UpstreamTimeout
from common.protocol.messages import parse_json_object
from common.server.request_log import HEADER
from common.server.websocket import GOING_AWAY, NO_STATUS, NORMAL, SERVICE_RESTART
from gateway.app.upstreams.answers import protocol_error

M = TypeVar("M", bound=BaseModel)


class SessionClosed(Exception):
    """A session ended in order; the client's socket is closed with the same code and reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason


class UpstreamSocket:
    """An open WebSocket to an upstream. `watch` runs beside the task that calls `receive`.

    After `stall_timeout_s` without a frame the upstream is sent a ping, which it has
    `pong_timeout_s` to answer.
    """

    def __init__(
        self,
        connection: ClientConnection,
        name: str,
        *,
        stall_timeout_s: float,
        pong_timeout_s: float,
    ) -> None:
        self._connection = connection
        self.name = name
        self._stall_timeout_s = stall_timeout_s
        self._pong_timeout_s = pong_timeout_s
        self._receiving_since: float | None = None

    @property
    def is_receiving(self) -> bool:
        """Whether a frame is awaited now."""
        return self._receiving_since is not None

    @property
    def handshake_headers(self) -> list[tuple[bytes, bytes]]:
        """What the upstream said of its audio when it accepted, for our own acceptance."""
        assert self._connection.response is not None
        return [
            (name.lower().encode(), value.encode())
            for name, value in self._connection.response.headers.raw_items()
            if name.lower().startswith("x-") and name.lower() != HEADER.lower()
        ]

    async def send(self, frame: str | bytes) -> None:
        """Send a frame. Once the connection has ended, this waits to be cancelled.

        The task that receives learns how it ended.
        """
        try:
            await self._connection.send(frame)
        except ConnectionClosed:
            await anyio.sleep_forever()

    async def receive(self) -> str | bytes:
        """Return the next frame. Raises `ConnectionClosed`."""
        self._receiving_since = time.monotonic()
        try:
            return await self._connection.recv()
        finally:
            self._receiving_since = None

    def parse(self, frame: str | bytes) -> dict[str, Any]:
        """Read a frame as a message. Raises `UpstreamFailed` if it is none."""
        try:
            return parse_json_object(frame)
        except SpeechError:
            raise protocol_error(self.name) from None

    def parse_as(self, kind: type[M], message: dict[str, Any]) -> M:
        """Read a message as a `kind`. Raises `UpstreamFailed` if it does not fit."""
        try:
            return kind.model_validate(message)
        except ValidationError:
            raise protocol_error(self.name) from None

    def ending(
        self, closed: ConnectionClosed, *, in_flight: bool
    ) -> SessionClosed | UpstreamFailed:
        """Say what the end of the connection means; `in_flight`: work was left unfinished."""
        rcvd = closed.rcvd
        if rcvd is None or (in_flight and rcvd.code in (NORMAL, GOING_AWAY, SERVICE_RESTART)):
            return UpstreamFailed(f"The {self.name} service closed the connection too early.")
        return SessionClosed(NORMAL if rcvd.code == NO_STATUS else rcvd.code, rcvd.reason)

    async def watch(self) -> None:
        """Raise `UpstreamTimeout` when the upstream hangs."""
        stall_s = self._stall_timeout_s
        while True:
            await anyio.sleep(stall_s / 2)
            since = self._receiving_since
            if since is None or time.monotonic() - since <= stall_s:
                continue
            if not await self._lives(since):
                raise UpstreamTimeout(f"The {self.name} service does not answer any more.")

    async def close(self) -> None:
        """Close the connection, also while the surrounding scope is being cancelled."""
        with anyio.CancelScope(shield=True):
            await self._connection.close()

    async def _lives(self, since: float) -> bool:
        """Send a ping; a frame that came meanwhile is as good as its pong."""
        try:
            pong = await self._connection.ping()
            with anyio.fail_after(self._pong_timeout_s):
                # The library may still set the result of a pong that is late.
                await asyncio.shield(pong)
        except TimeoutError:
            return self._receiving_since != since
        except ConnectionClosed:
            return True  # the task that receives knows how it ended
        return True
