"""`/ws/tts` in its simple mode: texts in, PCM and `{"type":"end"}` out, in order.

Three tasks a session. One listens, so that the client's going away is noticed while audio is being
made; it stops reading when enough texts are waiting, which is the client's back-pressure. One
speaks one text after another. One watches for a client that takes no audio.
"""

from __future__ import annotations

import asyncio
import time

from fastapi import WebSocket
from starlette.types import Message

from common.audio.pcm import Chunker
from common.errors import BadRequest, SpeechError
from common.logger import get_logger, text_field
from common.protocol.speech import END, parse_speak_request
from common.server.error_boundary import error_boundary
from common.server.tasks import until_first
from common.server.websocket import GOING_AWAY, WebSocketSender, close
from tts_service.app.service import SpeechService
from tts_service.app.utterance import SpeechOptions

log = get_logger(__name__)


class _Idle(Exception):
    """The session has nothing more to wait for; the message says why."""


class SimpleSession:
    """One accepted WebSocket, from its first message to its close."""

    def __init__(self, websocket: WebSocket, service: SpeechService, began: float) -> None:
        self._websocket = websocket
        self._client = WebSocketSender(websocket, service.settings.idle_timeout_s)
        self._service = service
        self._settings = service.settings
        self._options = SpeechOptions(sample_rate_hz=self._settings.tts_sr)
        self._inbox: asyncio.Queue[str | SpeechError] = asyncio.Queue(
            self._settings.tts_max_queued_texts
        )
        self._until = began + self._settings.max_session_s

    async def run(self, first: Message) -> None:
        """Serve until the client leaves, an error ends the session, or it was idle too long.

        `first` is the client's first message.
        """
        async with error_boundary(self._websocket, session=False):
            try:
                await until_first(self._listen(first), self._answer(), self._client.watch())
            except _Idle as idle:
                await close(self._websocket, GOING_AWAY, str(idle))

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
        while True:
            request = await self._next()
            if isinstance(request, SpeechError):
                raise request
            await self._speak(request)

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
                    await self._client.send(frame)
                    if first_audio_ms is None:
                        first_audio_ms = (time.perf_counter() - started) * 1000
                sent_bytes += len(pcm)
            if rest := chunker.flush():
                await self._client.send(rest)
            await self._client.send(END)
        log.info(
            "utterance.done",
            audio_ms=round(sent_bytes / 2 / self._options.sample_rate_hz * 1000),
            first_audio_ms=None if first_audio_ms is None else round(first_audio_ms, 1),
            total_ms=round((time.perf_counter() - started) * 1000, 1),
            **text_field(self._settings, text),
        )
