"""`/ws/tts` in its simple mode: texts in, PCM and `{"type":"end"}` out, in order.

Three tasks a session. One listens, so that the client's going away is noticed while audio is being
made; it stops reading when enough texts are waiting, which is the client's back-pressure. One
speaks one text after another. One watches for a client that takes no audio.
"""

from __future__ import annotations

import asyncio
import time

import anyio
from fastapi import WebSocket
from starlette.types import Message
from starlette.websockets import WebSocketDisconnect

from common.boundary import FAULT
from common.errors import BadRequest, Internal, SpeechError
from common.logger import get_logger, text_field
from common.pcm import Chunker
from common.protocol import END, parse_speak_request
from common.websocket import GOING_AWAY, break_off, close
from tts_service.app.service import SpeechService
from tts_service.app.utterance import SpeechOptions

log = get_logger(__name__)


class _Idle(Exception):
    """The session has nothing more to wait for; the message says why."""


class SimpleSession:
    """One accepted WebSocket, from its first message to its close."""

    def __init__(self, websocket: WebSocket, service: SpeechService, began: float) -> None:
        self._websocket = websocket
        self._service = service
        self._settings = service.settings
        self._options = SpeechOptions(sample_rate_hz=self._settings.tts_sr)
        self._inbox: asyncio.Queue[str | SpeechError] = asyncio.Queue(
            self._settings.tts_max_queued_texts
        )
        self._sending_since: float | None = None
        self._until = began + self._settings.max_session_s

    async def run(self, first: Message) -> None:
        """Serve until the client leaves, an error ends the session, or it was idle too long.

        `first` is the client's first message.
        """
        async with anyio.create_task_group() as tasks:

            async def listen() -> None:
                await self._listen(first)
                tasks.cancel_scope.cancel()

            async def watch() -> None:
                await self._watch()
                tasks.cancel_scope.cancel()

            tasks.start_soon(listen)
            tasks.start_soon(watch)
            await self._answer()
            tasks.cancel_scope.cancel()

    async def _listen(self, message: Message) -> None:
        """Put what comes into the inbox; return when the client has gone."""
        while True:
            if message["type"] == "websocket.disconnect":
                log.debug("session.left", close_code=message.get("code"))
                return
            try:
                await self._inbox.put(self._parse(message.get("text")))
            except SpeechError as error:
                # In its turn: the texts before it are spoken first.
                await self._inbox.put(error)
            message = await self._websocket.receive()

    def _parse(self, frame: str | None) -> str:
        if frame is None:
            raise BadRequest("This socket takes JSON text frames, not binary ones.")
        text = parse_speak_request(frame).spoken
        self._service.check_text(text)
        return text

    async def _answer(self) -> None:
        try:
            while True:
                request = await self._next()
                if isinstance(request, SpeechError):
                    raise request
                await self._speak(request)
        except _Idle as idle:
            await close(self._websocket, GOING_AWAY, str(idle))
        except WebSocketDisconnect:
            log.debug("session.left")
        except SpeechError as error:
            log.info("session.error", code=error.code)
            await break_off(self._websocket, error)
        except Exception as error:
            log.error("session.failed", exc_info=error)
            await break_off(self._websocket, Internal(FAULT))

    async def _next(self) -> str | SpeechError:
        idle_s = self._settings.idle_timeout_s
        left_s = self._until - time.monotonic()
        try:
            return await asyncio.wait_for(self._inbox.get(), max(0.0, min(idle_s, left_s)))
        except asyncio.TimeoutError:
            reason = f"idle for {idle_s:g} s" if idle_s < left_s else "session length limit"
            raise _Idle(reason) from None

    async def _speak(self, text: str) -> None:
        started = time.perf_counter()
        first_audio_ms: float | None = None
        sent_bytes = 0
        chunker = Chunker(self._settings.tts_chunk_samples)
        async with self._service.speak(text, self._options) as stream:
            async for pcm in stream:
                for frame in chunker.push(pcm):
                    await self._send(frame)
                    if first_audio_ms is None:
                        first_audio_ms = (time.perf_counter() - started) * 1000
                sent_bytes += len(pcm)
            if rest := chunker.flush():
                await self._send(rest)
            await self._websocket.send_text(END)
        log.info(
            "utterance.done",
            audio_ms=round(sent_bytes / 2 / self._options.sample_rate_hz * 1000),
            first_audio_ms=None if first_audio_ms is None else round(first_audio_ms, 1),
            total_ms=round((time.perf_counter() - started) * 1000, 1),
            **text_field(self._settings, text),
        )

    async def _send(self, frame: bytes) -> None:
        self._sending_since = time.monotonic()
        await self._websocket.send_bytes(frame)
        self._sending_since = None

    async def _watch(self) -> None:
        """Return when the client has taken no frame for the idle time.

        One task a session, for a timer a frame would cost as much as the frame.
        """
        idle_s = self._settings.idle_timeout_s
        while True:
            await asyncio.sleep(idle_s / 4)
            since = self._sending_since
            if since is not None and time.monotonic() - since > idle_s:
                log.info("session.reads_nothing", idle_s=idle_s)
                return
