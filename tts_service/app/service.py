"""What the routes and sessions of this service share: the voice, its scheduler, who is let in."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio import to_thread

from common.errors import EmptyText, TooLarge
from common.logger import get_logger
from common.protocol.catalogue import LoadedVoice
from common.server.admission import Admission
from common.server.lifecycle import Lifecycle
from tts_service.app.engines.base import Engine, SynthesisContext, SynthesisWarning
from tts_service.app.scheduler import Scheduler, Stream
from tts_service.app.settings import TtsSettings
from tts_service.app.text import MAX_PIECE_CHARS, TextStream, split
from tts_service.app.utterance import SpeechEvent, SpeechOptions, utter

log = get_logger(__name__)

LANGUAGES = ("en",)
"""Of all voices that there are."""


class SpeechService:
    """A voice that is loading or loaded, and the utterances that it speaks."""

    def __init__(self, settings: TtsSettings, lifecycle: Lifecycle) -> None:
        self.settings = settings
        self.lifecycle = lifecycle
        self.admission = Admission(slots=settings.tts_slots, queue=settings.tts_queue)
        self._engine: Engine | None = None
        self._scheduler: Scheduler | None = None

    def use(self, engine: Engine) -> None:
        """Speak with `engine` from now on; it is loaded and warm."""
        self._engine = engine
        self._scheduler = Scheduler(
            workers=engine.max_parallel, buffer_s=self.settings.tts_buffer_seconds
        )

    async def stop(self) -> None:
        """Free the voice. Blocks no longer than the work of the worker threads on one event."""
        if self._scheduler is not None:
            await to_thread.run_sync(self._scheduler.stop)
        if self._engine is not None:
            self._engine.close()

    def check_open(self) -> None:
        """Raise `Loading`, `Draining` or `Busy` if a new utterance would be refused now."""
        self.lifecycle.check()
        self.admission.check()

    def check_text(self, text: str) -> None:
        """Raise `EmptyText` or `TooLarge` for what can be refused without asking the voice."""
        if not text.strip():
            raise EmptyText("The text is empty.")
        limit = self.settings.tts_max_text_chars
        if len(text) > limit:
            raise TooLarge(f"The text has {len(text)} characters; at most {limit} are allowed.")

    @property
    def voice(self) -> LoadedVoice:
        """The voice that is loaded. Raises `Loading` or `Draining`."""
        self.lifecycle.check()
        assert self._engine is not None
        return LoadedVoice(
            name=self._engine.name,
            sample_rate=self._engine.sample_rate_hz,
            languages=list(LANGUAGES),
        )

    @property
    def model(self) -> str:
        """The name of the voice; only once it is loaded."""
        assert self._engine is not None
        return self._engine.name

    def makes_at_once(self, text: str) -> bool:
        """Whether all audio of `text` comes at once, so that its length is known with the first."""
        engine = self._engine
        if engine is None or not engine.whole_pieces or len(text) > MAX_PIECE_CHARS:
            return False
        return len(split(text)) == 1

    @asynccontextmanager
    async def speak(
        self, text: TextStream, options: SpeechOptions
    ) -> AsyncIterator[Stream[SpeechEvent]]:
        """Wait for a slot and speak `text`, which may still be coming; stop that on exit.

        Whoever accepted the utterance has checked its text and holds `lifecycle.work`. Raises
        `Busy` before it begins; iterating the stream raises what fails later. The slot is free
        again when the worker thread has let go of the utterance.
        """
        queued_ms = await self.admission.acquire()
        assert self._engine is not None
        assert self._scheduler is not None
        cancelled = threading.Event()
        context = SynthesisContext(cancelled=cancelled.is_set, warn=_log_warning)
        stream = self._scheduler.submit(
            utter(self._engine, text, options, context),
            options.audio,
            released=self.admission.release,
        )
        text.wake = stream.wake
        log.debug("utterance.begin", queued_ms=round(queued_ms, 1))
        try:
            yield stream
        finally:
            # The event that is being made ends early, the generator is closed after it.
            cancelled.set()
            stream.close()
            self.admission.leave()


def _log_warning(warning: SynthesisWarning) -> None:
    log.warning("utterance.warning", code=warning.code, at_sample=warning.at_sample)
