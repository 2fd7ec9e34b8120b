"""A client to which several tasks send: a frame at a time, and not for ever if it takes none."""

from __future__ import annotations

import asyncio
import time

from fastapi import WebSocket

from common.errors import SpeechError
from common.protocol_session import Failure, Frame
from common.request_id import current_request_id
from common.websocket import GOING_AWAY, break_off
from gateway.app.watched import Closed


class ToldClient:
    """`watch` runs beside those who send."""

    def __init__(self, websocket: WebSocket, idle_timeout_s: float) -> None:
        self._websocket = websocket
        self._idle_timeout_s = idle_timeout_s
        self._writing = asyncio.Lock()
        self._sending_since: float | None = None

    async def send(self, frame: str | bytes) -> None:
        """Whoever comes meanwhile waits: that is the back-pressure."""
        kind = "bytes" if isinstance(frame, bytes) else "text"
        async with self._writing:
            self._sending_since = time.monotonic()
            await self._websocket.send({"type": "websocket.send", kind: frame})
            self._sending_since = None

    async def tell(self, message: Frame) -> None:
        await self.send(message.frame())

    async def complain(self, error: SpeechError, *, of: str | None = None) -> None:
        """Tell an error that does not end the session; `of` is the utterance that it is about."""
        await self.tell(Failure.of(error, current_request_id(), of=of))

    async def break_off(self, error: SpeechError) -> None:
        """Tell an error that does, and close with its code."""
        await break_off(self._websocket, error, session=True)

    async def watch(self) -> None:
        """Raises `Closed` when it takes nothing."""
        idle_s = self._idle_timeout_s
        while True:
            await asyncio.sleep(idle_s / 4)
            since = self._sending_since
            if since is not None and time.monotonic() - since > idle_s:
                raise Closed(GOING_AWAY, f"took nothing for {idle_s:g} s")
