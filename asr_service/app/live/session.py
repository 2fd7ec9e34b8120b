"""`/ws/stt`: one accepted WebSocket, from its `start` to its `end`.

One task reads: it puts what comes into the inbox, and stops when that holds `MAX_BACKLOG_MS`, which
is the client's back-pressure. One hears: it takes from the inbox, and what it sends is in the order
of the stream. Others watch for a client that takes nothing, for the session's last moment and for
the server's leaving. A session that ends from our side ends in order: as if the client had
finished, with its last final and `end`, and then with the close code 1001.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

import anyio
from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect

from asr_service.app.live.hearing import Hearing
from asr_service.app.live.inbox import Inbox
from asr_service.app.live.service import LiveService
from common.errors import BadRequest
from common.logger import get_logger, text_field
from common.protocol.live import (
    ListenAudio,
    ListenEnd,
    ListenLimits,
    ListenReady,
    ListenStart,
    parse_command,
    parse_start,
)
from common.protocol.messages import parse_json_object
from common.protocol.session import GoAway
from common.server.error_boundary import error_boundary
from common.server.request_id import adopt, current_request_id
from common.server.websocket import GOING_AWAY, NORMAL, close
from common.server.websocket_sender import WebSocketSender

log = get_logger(__name__)

MAX_BACKLOG_MS = 2000
"""Audio that was read and not yet heard."""
LEAVING_SHARE = 0.8
"""Of the time to leave in: what is left of it is for the last words."""


class ListenSession:
    """Run it once."""

    def __init__(self, websocket: WebSocket, service: LiveService) -> None:
        self._websocket = websocket
        self._service = service
        self._settings = service.settings
        self._client = WebSocketSender(websocket, service.settings.idle_timeout_s)
        self._inbox = Inbox()
        self._over = ""
        """Why the session ends from our side."""
        self._must_end = asyncio.Event()
        self._is_ready = False

    async def run(self) -> None:
        """Serve until the stream is finished, the client leaves, or an error ends the session."""
        async with anyio.create_task_group() as tasks:

            async def read() -> None:
                await self._read()
                tasks.cancel_scope.cancel()

            async def watch() -> None:
                await self._client.watch()
                tasks.cancel_scope.cancel()

            tasks.start_soon(read)
            tasks.start_soon(watch)
            tasks.start_soon(self._watch_time)
            tasks.start_soon(self._watch_leaving)
            await self._answer()
            tasks.cancel_scope.cancel()

    async def _read(self) -> None:
        """Put what comes into the inbox; return when the client has gone."""
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                log.debug("session.left", close_code=message.get("code"))
                return
            data = message.get("bytes")
            await self._inbox.put(message["text"] if data is None else data)

    async def _answer(self) -> None:
        async with error_boundary(self._websocket, session=True):
            start = await self._started()
            if start is not None:
                with self._service.lifecycle.work():
                    await self._serve(start)
            await close(self._websocket, GOING_AWAY if self._over else NORMAL, self._over)

    async def _started(self) -> ListenStart | None:
        """The first message, answered by `ready`; None if the session is over before."""
        item = await self._next(None)
        if item is None:
            return None
        if isinstance(item, bytes):
            raise BadRequest('A session begins with a message of the type "start", not with audio.')
        value = parse_json_object(item)
        start = parse_start(value)
        self._service.recognition.check_language(start.language)
        if start.request_id is not None:
            adopt(start.request_id)
        self._service.lifecycle.check()
        audio = audio_of(start)
        self._inbox.limit_bytes = MAX_BACKLOG_MS * audio.sample_rate // 1000 * audio.bytes_per_frame
        settings = self._settings
        await self._client.send_message(
            ListenReady(
                session_id=uuid.uuid4().hex,
                request_id=current_request_id(),
                model=settings.asr_model,
                audio=audio,
                limits=ListenLimits(
                    max_message_bytes=settings.max_message_bytes,
                    max_utterance_ms=round(settings.asr_live_max_utterance_s * 1000),
                    max_backlog_ms=MAX_BACKLOG_MS,
                    max_session_s=settings.max_session_s,
                    idle_timeout_s=settings.idle_timeout_s,
                ),
                ignored=ListenStart.unknown(value),
            )
        )
        self._is_ready = True
        return start

    async def _serve(self, start: ListenStart) -> None:
        hearing = Hearing(
            self._service, start, audio_of(start), self._inbox, self._client.send_message
        )
        try:
            while (item := await self._next(hearing)) is not None:
                if isinstance(item, bytes):
                    await hearing.take(item)
                elif await self._obey(item, hearing):
                    break
            end, left_bytes = await hearing.finish()
            if self._inbox.audio_bytes and not self._over:
                await self._client.send_error(BadRequest("Audio after finish was not listened to."))
            if left_bytes:
                said = (
                    f"The audio ended within a sample; its last {left_bytes} byte(s) were left out."
                )
                await self._client.send_error(BadRequest(said))
            await self._client.send_message(end)
        finally:
            await hearing.stop()
        self._log_end(end)

    async def _obey(self, text: str, hearing: Hearing) -> bool:
        """Do what a message says; whether it was the last one."""
        value = parse_json_object(text)
        try:
            command = parse_command(value)
        except BadRequest as error:
            await self._client.send_error(error)
            return False
        if command.type == "finalize":
            await hearing.finalize()
        return command.type == "finish"

    async def _next(self, hearing: Hearing | None) -> bytes | str | None:
        """What came next, while recognitions are told; None if the session is over."""
        getting = asyncio.ensure_future(self._inbox.get())
        ending = asyncio.ensure_future(self._must_end.wait())
        idle_until = time.monotonic() + self._settings.idle_timeout_s
        try:
            while not ending.done():
                if getting.done():
                    return getting.result()
                waiting: set[asyncio.Future[Any]] = {getting, ending}
                recognition = None if hearing is None else hearing.recognition
                if recognition is not None:
                    waiting.add(recognition)
                left_s = max(0, idle_until - time.monotonic())
                done, _ = await asyncio.wait(
                    waiting, timeout=left_s, return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    self._end(f"idle for {self._settings.idle_timeout_s:g} s")
                    return None
                if hearing is not None and recognition in done:
                    await hearing.update()
            return None
        finally:
            getting.cancel()
            ending.cancel()

    async def _watch_time(self) -> None:
        await asyncio.sleep(self._settings.max_session_s)
        self._end("session length limit")

    async def _watch_leaving(self) -> None:
        """Tell the client that the server is leaving; end the session if it has not by then."""
        await self._service.lifecycle.draining.wait()
        leave_s = self._service.lifecycle.drain_remaining_s * LEAVING_SHARE
        if self._is_ready:
            try:
                await self._client.send_message(GoAway(deadline_ms=round(leave_s * 1000)))
            except WebSocketDisconnect:
                return
            await asyncio.sleep(leave_s)
        self._end("the server is leaving")

    def _end(self, why: str) -> None:
        self._over = why
        self._must_end.set()

    def _log_end(self, end: ListenEnd) -> None:
        log.info(
            "listening.done",
            audio_ms=end.audio_ms,
            segments=len(end.segments),
            over=self._over,
            **text_field(self._settings, end.text),
        )


def audio_of(start: ListenStart) -> ListenAudio:
    """What the binary frames hold."""
    return ListenAudio(
        encoding=start.encoding, sample_rate=start.sample_rate, channels=start.channels
    )
