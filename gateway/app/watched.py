"""The WebSocket of an upstream: asked whether it lives while it is waited for, and how it ended.

It is asked only then: while a frame is on its way to a client that reads slowly, nothing is read
from the upstream either, and its answers are not seen.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from common.errors import SpeechError, UpstreamFailed, UpstreamTimeout
from common.protocol.messages import parse_json_object
from common.server.websocket import GOING_AWAY, NO_STATUS, NORMAL, SERVICE_RESTART

M = TypeVar("M", bound=BaseModel)


class Closed(Exception):
    """A session ended in order; the client is told with the same code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason


class UpstreamSocket:
    """`watch` runs beside whoever calls `receive`.

    It is asked after a silence of `stall_timeout_s`, and has `pong_timeout_s` to answer.
    """

    def __init__(
        self,
        connection: ClientConnection,
        name: str,
        stall_timeout_s: float,
        pong_timeout_s: float,
    ) -> None:
        self._connection = connection
        self.name = name
        self._stall_timeout_s = stall_timeout_s
        self._pong_timeout_s = pong_timeout_s
        self._waiting_since: float | None = None

    @property
    def waited_for(self) -> bool:
        return self._waiting_since is not None

    async def send(self, frame: str | bytes) -> None:
        try:
            await self._connection.send(frame)
        except ConnectionClosed:
            # Who receives knows how it ended, and ends whoever waits here.
            await asyncio.Event().wait()

    async def receive(self) -> str | bytes:
        """The next frame. Raises `ConnectionClosed`."""
        self._waiting_since = time.monotonic()
        try:
            return await self._connection.recv()
        finally:
            self._waiting_since = None

    def parse(self, frame: str | bytes) -> dict[str, Any]:
        """A frame as a message. Raises `UpstreamFailed` if it is none."""
        try:
            return parse_json_object(frame)
        except SpeechError:
            raise self.protocol_error() from None

    def parse_as(self, kind: type[M], message: dict[str, Any]) -> M:
        """A message as a `kind`. Raises `UpstreamFailed` if it does not fit."""
        try:
            return kind.model_validate(message)
        except ValidationError:
            raise self.protocol_error() from None

    def protocol_error(self) -> UpstreamFailed:
        return UpstreamFailed(f"The {self.name} service gave an answer that makes no sense.")

    def ending(self, closed: ConnectionClosed, *, in_flight: bool) -> Closed | UpstreamFailed:
        """What the end of the connection means; `in_flight`: whether it was done by then."""
        rcvd = closed.rcvd
        if rcvd is None or (in_flight and rcvd.code in (NORMAL, GOING_AWAY, SERVICE_RESTART)):
            return UpstreamFailed(f"The {self.name} service went away before it was done.")
        return Closed(NORMAL if rcvd.code == NO_STATUS else rcvd.code, rcvd.reason)

    async def watch(self) -> None:
        """Raises `UpstreamTimeout` when it hangs."""
        stall_s = self._stall_timeout_s
        while True:
            await asyncio.sleep(stall_s / 2)
            since = self._waiting_since
            if since is None or time.monotonic() - since <= stall_s:
                continue
            if not await self._lives(since):
                raise UpstreamTimeout(f"The {self.name} service does not answer any more.")

    async def _lives(self, since: float) -> bool:
        """Ask it, unless a frame has come meanwhile."""
        try:
            pong = await self._connection.ping()
            await asyncio.wait_for(asyncio.shield(pong), self._pong_timeout_s)
        except asyncio.TimeoutError:
            return self._waiting_since != since
        except ConnectionClosed:
            return True  # who receives knows how it ended
        return True
