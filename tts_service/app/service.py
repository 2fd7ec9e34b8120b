"""What the routes and sessions of this service share: the voice, its scheduler, who is let in."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager
from typing import TypeVar

from common.errors import EmptyText, TooLarge
from common.logger import get_logger
from common.protocol.catalogue import LoadedVoice
from common.server.admission import Admission
from common.server.lifecycle import Lifecycle
from tts_service.app.engines.base import Engine, Listener, Notice
from tts_service.app.feed import TextFeed
from tts_service.app.scheduler import Scheduler, Stream
from tts_service.app.settings import TtsSettings
from tts_service.app.text import split
from tts_service.app.utterance import SpeechOptions, Step, speak_pieces, utter

log = get_logger(__name__)

LANGUAGES = ("en",)
"""Of all voices that there are."""

T = TypeVar("T")


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
        """Free the voice. Blocks no longer than a model step."""
        if self._scheduler is not None:
            await asyncio.to_thread(self._scheduler.stop)
        if self._engine is not None:
            self._engine.close()

    def check_open(self) -> None:
        """Raise `Loading`, `Draining` or `Busy` if a new utterance would be refused now."""
        self.lifecycle.check()
        self.admission.check()

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

    def check_text(self, text: str) -> None:
        """Raise `EmptyText` or `TooLarge` for what can be refused without asking the voice."""
        if not text.strip():
            raise EmptyText("The text is empty.")
        limit = self.settings.tts_max_text_chars
        if len(text) > limit:
            raise TooLarge(f"The text has {len(text)} characters; at most {limit} are allowed.")

    def makes_in_one_step(self, text: str) -> bool:
        """Whether all audio of `text` comes at once, so that its length is known with the first."""
        engine = self._engine
        return engine is not None and engine.whole_pieces and len(split(text)) == 1

    @property
    def model(self) -> str:
        """The name of the voice; only once it is loaded."""
        assert self._engine is not None
        return self._engine.name

    @asynccontextmanager
    async def speak(self, text: str, options: SpeechOptions) -> AsyncIterator[Stream[bytes]]:
        """The stream of one utterance, which is stopped on exit.

        Raises `EmptyText`, `TooLarge`, `Loading`, `Draining` or `Busy` before it begins; iterating
        the stream raises what fails later.
        """
        self.check_text(text)

        def steps(engine: Engine, listener: Listener) -> Generator[bytes, None, None]:
            return utter(engine, text, options, listener)

        with self.lifecycle.work():
            async with self._stream(steps, options) as stream:
                yield stream

    @asynccontextmanager
    async def speak_feed(
        self, feed: TextFeed, options: SpeechOptions
    ) -> AsyncIterator[Stream[Step]]:
        """The stream of one utterance whose text is still coming, which is stopped on exit.

        Whoever accepted the utterance has checked its text and holds `lifecycle.work`. Raises
        `Busy` before it begins; iterating the stream raises what fails later.
        """

        def steps(engine: Engine, listener: Listener) -> Generator[Step, None, None]:
            pieces = feed.pieces(short_first=engine.whole_pieces)
            return speak_pieces(engine, pieces, options, listener)

        async with self._stream(steps, options) as stream:
            feed.wake = stream.wake
            yield stream

    @asynccontextmanager
    async def _stream(
        self, steps: Callable[[Engine, Listener], Generator[T, None, None]], options: SpeechOptions
    ) -> AsyncIterator[Stream[T]]:
        """Wait for a slot, have `steps` made and computed, stop them on exit."""
        async with self.admission.slot() as queued_ms:
            assert self._engine is not None
            assert self._scheduler is not None
            gone = threading.Event()
            listener = Listener(gone=gone.is_set, notice=_log_notice)
            stream = self._scheduler.submit(steps(self._engine, listener), options.audio)
            log.debug("utterance.begin", queued_ms=round(queued_ms, 1))
            try:
                yield stream
            finally:
                # The step that is being made ends early, the generator is closed after it.
                gone.set()
                stream.close()


def _log_notice(notice: Notice) -> None:
    log.warning("utterance.flawed", code=notice.code, at_sample=notice.at_sample)
