"""A client to which several tasks send: a frame at a time, and not for ever if it takes none."""

from __future__ import annotations

import asyncio
import time

from starlette.websockets import WebSocket

from common.errors import SpeechError
from common.logger import get_logger
from common.protocol.session import Failure, Frame
from common.server.request_id import current_request_id

log = get_logger(__name__)


class WebSocketSender:
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

    async def send_message(self, message: Frame) -> None:
        await self.send(message.frame())

    async def send_error(self, error: SpeechError, *, of: str | None = None) -> None:
        """Tell an error that does not end the session; `of` is the utterance that it is about."""
        log.info("session.complaint", code=error.code)
        await self.send_message(Failure.of(error, current_request_id(), of=of))

    async def watch(self) -> None:
        """Returns when it has not taken a frame for the idle time.

        One task a session, for a timer a frame would cost as much as the frame.
        """
        idle_s = self._idle_timeout_s
        while True:
            await asyncio.sleep(idle_s / 4)
            since = self._sending_since
            if since is not None and time.monotonic() - since > idle_s:
                log.info("session.reads_nothing", idle_s=idle_s)
                return
