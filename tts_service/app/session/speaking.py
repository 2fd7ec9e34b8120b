"""The active utterance of a session: from its wait for a slot to its last frame.

What the voice yields is told to the machine frame by frame, each when the one before it was sent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import anyio

from common.audio.pcm import Chunker
from tts_service.app.feed import Gap, TextFeed
from tts_service.app.scheduler import Stream
from tts_service.app.service import SpeechService
from tts_service.app.session.effects import Effect
from tts_service.app.session.machine import SessionMachine
from tts_service.app.session.opening import Terms
from tts_service.app.utterance import Flaw, Sentence, Step


class Speaking:
    """Utterance `id`; `do` carries out what the machine says."""

    def __init__(
        self,
        id_: str,
        terms: Terms,
        machine: SessionMachine,
        do: Callable[[list[Effect]], Awaitable[None]],
    ) -> None:
        self.id = id_
        self._terms = terms
        self._audio = terms.options.audio
        self._machine = machine
        self._do = do
        self._chunker = Chunker(terms.chunk_samples, self._audio.bytes_per_sample)
        self._frames: deque[bytes] = deque()
        """Made and cut, not sent yet."""
        self._slot = anyio.CancelScope()
        self._stream: Stream[Step] | None = None

    async def run(self, service: SpeechService, feed: TextFeed) -> None:
        """To its end, or until `stop`. Raises what the voice fails with."""
        async with AsyncExitStack() as held:
            with self._slot:
                speech = service.speak_feed(feed, self._terms.options)
                self._stream = await held.enter_async_context(speech)
            if self._stream is None or self._machine.active != self.id:
                return
            await self._do(self._machine.begun(self.id))
            async for step in self._stream:
                await self._pass_on(step)
            await self._send_rest()
            await self._do(self._machine.done(self.id))

    @property
    def waits_for_text(self) -> bool:
        return self._stream is not None and self._stream.waiting

    def fade(self) -> bytes:
        """How it falls silent if it is stopped now, as far as its next samples are known."""
        if self._stream is None:
            return b""
        enough = self._audio.sample_rate_hz * self._audio.bytes_per_sample // 100
        rest = b"".join(self._frames) + self._chunker.flush()
        return self._audio.fade(rest if len(rest) >= enough else rest + self._stream.unread(enough))

    def stop(self) -> None:
        """Whatever it waits for."""
        self._frames.clear()
        if self._stream is None:
            self._slot.cancel()
        else:
            self._stream.close()

    async def _pass_on(self, step: Step) -> None:
        machine = self._machine
        if isinstance(step, bytes):
            self._frames += self._chunker.push(step)
            await self._send_frames()
        elif isinstance(step, Sentence):
            if self._terms.marks:
                await self._do(machine.mark(self.id, step))
        elif isinstance(step, Flaw):
            await self._do(machine.warned(self.id, step))
        else:
            await self._send_rest()
            if step is Gap.FLUSHED:
                await self._do(machine.flushed(self.id))

    async def _send_rest(self) -> None:
        """Also a frame that is not full: nothing comes to fill it now."""
        if rest := self._chunker.flush():
            self._frames.append(rest)
        await self._send_frames()

    async def _send_frames(self) -> None:
        assert self._stream is not None
        while self._frames:
            frame = self._frames.popleft()
            await self._do(self._machine.audio(self.id, frame, self._stream.computed_s))
            # Sending suspends only when the socket is full; who interrupts must be heard.
            await asyncio.sleep(0)
