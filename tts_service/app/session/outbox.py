"""What a session has decided to send, on its way to the client in the order of the decisions."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from fastapi import WebSocket

from common.logger import get_logger
from common.protocol.session import End
from common.server.websocket import WebSocketSender, close
from tts_service.app.session.effects import Audio, Hangup, Send

log = get_logger(__name__)


class Outbox:
    """Any task may put and write; `watch` runs beside them."""

    def __init__(self, websocket: WebSocket, idle_timeout_s: float) -> None:
        self._websocket = websocket
        self._client = WebSocketSender(websocket, idle_timeout_s)
        self._waiting: deque[Send | Audio | Hangup] = deque()
        self._writing = asyncio.Lock()
        self.hung_up = asyncio.Event()
        self.taken_at = time.monotonic()
        """When the client last took something."""

    @property
    def is_writing(self) -> bool:
        return self._writing.locked()

    def put(self, effect: Send | Audio | Hangup) -> None:
        self._waiting.append(effect)

    async def write(self) -> None:
        """Send all that waits. Whoever comes meanwhile waits: that is the back-pressure."""
        async with self._writing:
            while self._waiting:
                effect = self._waiting.popleft()
                match effect:
                    case Audio():
                        await self._client.send(effect.frame)
                    case Send():
                        await self._client.send_message(effect.message)
                        if isinstance(effect.message, End):
                            fields = effect.message.model_dump(exclude={"type", "id"})
                            log.info("utterance.done", **fields)
                    case Hangup():
                        await close(self._websocket, effect.code, effect.reason)
                        self.hung_up.set()
                self.taken_at = time.monotonic()

    async def watch(self) -> None:
        """Returns when the client has taken nothing for the idle time."""
        await self._client.watch()
