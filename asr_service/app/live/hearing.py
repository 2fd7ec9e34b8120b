"""A stream being heard: its frames to the listener, the listener's wishes to the recognizer, and
what comes of both to the client, in the order of the stream."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from asr_service.app.engine import RecognitionOptions
from asr_service.app.live.inbox import Inbox
from asr_service.app.live.intake import Frame, Intake
from asr_service.app.live.listener import Listener
from asr_service.app.live.recognizing import Recognizing
from asr_service.app.live.service import LiveService
from common.protocol.live import Event, ListenAudio, ListenEnd, ListenStart

UPDATE_SHARE = 0.5
"""Of its time that a session may spend on partials: if they take longer, they come more rarely."""


class Hearing:
    """`take` and `finish` it in the order of the stream; `stop` it in any case."""

    def __init__(
        self,
        service: LiveService,
        start: ListenStart,
        audio: ListenAudio,
        inbox: Inbox,
        send: Callable[[Event], Awaitable[None]],
    ) -> None:
        settings = service.settings
        self._service = service
        self._audio = audio
        self._inbox = inbox
        self._send = send
        self._intake: Intake | None = None
        self._update_ms = self._interval_ms = settings.asr_live_update_ms
        self._listener = Listener(
            endpoint_ms=start.endpoint_ms,
            partials=start.partials,
            max_utterance_ms=round(settings.asr_live_max_utterance_s * 1000),
        )
        options = RecognitionOptions(
            language=start.language, beam_size=settings.asr_beam_size, words=True, vad=False
        )
        self._recognizing = Recognizing(service.recognition.workers, options)

    @property
    def recognition(self) -> asyncio.Future[Any] | None:
        """Done when `update` has something to tell."""
        return self._recognizing.task

    @property
    def audio_ms(self) -> int:
        """How much of the stream was taken."""
        return 0 if self._intake is None else self._intake.audio_ms

    async def take(self, data: bytes) -> None:
        """Hear the next bytes of the stream. Raises `RecognitionFailed`."""

        def frames() -> list[Frame]:
            if self._intake is None:
                self._intake = Intake(self._audio, self._service.new_activity())
            return list(self._intake.push(data))

        await self._hear(await self._service.on_ears(frames))

    async def finalize(self) -> None:
        """Make final what was said so far."""
        await self._tell(self._listener.finalize())
        await self._see_to_wishes()

    async def finish(self) -> tuple[ListenEnd, int]:
        """There is no more: what was said, and how many bytes were left of a sample."""
        left = 0
        if self._intake is not None:
            left = self._intake.cut_off_bytes
            intake = self._intake
            await self._hear(await self._service.on_ears(lambda: list(intake.flush())))
        await self._tell(self._listener.finish(self.audio_ms))
        await self._see_to_wishes()
        return self._listener.end(), left

    async def update(self) -> None:
        """Tell what was recognized."""
        wish, words, took_ms = await self._recognizing.take()
        if wish.kind == "partial":
            self._interval_ms = max(self._update_ms, round(took_ms / UPDATE_SHARE))
        waiting_ms = self._inbox.audio_bytes * 1000 // self._bytes_per_second
        await self._tell(self._listener.answer(wish, words, self.audio_ms + waiting_ms))

    async def stop(self) -> None:
        """Give up what is under way."""
        await self._recognizing.stop()

    @property
    def _bytes_per_second(self) -> int:
        return self._audio.bytes_per_frame * self._audio.sample_rate

    async def _hear(self, frames: Iterable[Frame]) -> None:
        for frame in frames:
            await self._tell(self._listener.hear(frame.samples, frame.probability))
            await self._see_to_wishes()

    async def _see_to_wishes(self) -> None:
        while True:
            wish = self._listener.wish(self._interval_ms, self._recognizing.kind)
            if wish is not None:
                self._recognizing.begin(wish)
            if not self._listener.blocked:
                return
            await self.update()

    async def _tell(self, events: Iterable[Event]) -> None:
        for event in events:
            await self._send(event)
