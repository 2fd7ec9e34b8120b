"""`/ws/stt`: one accepted WebSocket, from its `start` to its `end`.

Three tasks a session. One reads: it keeps what comes in the inbox, and stops reading when that holds
`MAX_BACKLOG_MS` of audio, which is the client's back-pressure. One hears: it alone changes the
listener and sends, so what is sent is in the order of the stream. One watches for a client that
takes nothing, and for the server's leaving. Recognition runs beside hearing, one at a time.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import anyio
from fastapi import WebSocket
from pydantic import BaseModel
from starlette.websockets import WebSocketDisconnect

from asr_service.app.engine import RecognitionOptions
from asr_service.app.live.inbox import Inbox, Item
from asr_service.app.live.intake import Frame, Intake
from asr_service.app.live.listener import Listener
from asr_service.app.live.recognizing import Recognizing
from asr_service.app.live.service import LiveService
from common.boundary import FAULT
from common.errors import BadRequest, Internal, SpeechError
from common.logger import get_logger, text_field
from common.protocol import parse_json_object, validate
from common.protocol_stt import (
    Command,
    Event,
    Final,
    GoAway,
    ListenAudio,
    ListenLimits,
    ListenReady,
    ListenStart,
    error_frame,
)
from common.request_id import current_request_id
from common.websocket import GOING_AWAY, NORMAL, break_off, close

log = get_logger(__name__)

MAX_BACKLOG_MS = 2000
"""Audio that was read and not yet heard."""


class _Over(Exception):
    """The session ends from our side; the message says why."""


class ListenSession:
    """Run it once."""

    def __init__(self, websocket: WebSocket, service: LiveService) -> None:
        self._websocket = websocket
        self._service = service
        self._settings = service.settings
        self._inbox = Inbox()
        self._sending_since: float | None = None
        self._until = time.monotonic() + self._settings.max_session_s

    async def run(self) -> None:
        """Serve until the stream is finished, the client leaves, or an error ends the session."""
        async with anyio.create_task_group() as tasks:

            async def read() -> None:
                await self._read()
                tasks.cancel_scope.cancel()

            async def watch() -> None:
                await self._watch()
                tasks.cancel_scope.cancel()

            tasks.start_soon(read)
            tasks.start_soon(watch)
            await self._answer()
            tasks.cancel_scope.cancel()

    async def _read(self) -> None:
        """Put what comes into the inbox; return when the client has gone."""
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                log.debug("session.left", close_code=message.get("code"))
                return
            data, text = message.get("bytes"), message.get("text")
            await self._inbox.put(data if data is not None else text)

    async def _answer(self) -> None:
        try:
            with self._service.lifecycle.work():
                stream = await self._start()
                try:
                    await stream.run()
                finally:
                    await stream.stop()
        except _Over as over:
            await close(self._websocket, GOING_AWAY, str(over))
        except WebSocketDisconnect:
            log.debug("session.left")
        except SpeechError as error:
            log.info("session.error", code=error.code)
            await break_off(self._websocket, error)
        except Exception as error:
            log.error("session.failed", exc_info=error)
            await break_off(self._websocket, Internal(FAULT))
