"""The recognizer of a service: who may use it, and the workers and threads that it runs on."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
import anyio.to_thread

from asr_service.app.batching import Workers, release
from asr_service.app.engine import Decode, Engine, RecognitionOptions
from asr_service.app.live.vad import SileroVoiceActivity, VoiceActivity
from asr_service.app.settings import AsrSettings
from common.errors import BadRequest
from common.logger import get_logger, text_field
from common.protocol.catalogue import LoadedModel
from common.protocol.recognition import Segment, Transcript
from common.server.admission import Admission
from common.server.lifecycle import Lifecycle

log = get_logger(__name__)

T = TypeVar("T")


class RecognitionService:
    """A recognizer that is loading or loaded, for requests and for live sessions.

    `new_voice_activity` makes the voice activity detection of a new stream; it computes.
    """

    def __init__(
        self,
        settings: AsrSettings,
        lifecycle: Lifecycle,
        new_voice_activity: Callable[[], VoiceActivity] = SileroVoiceActivity,
    ) -> None:
        self.settings = settings
        self.lifecycle = lifecycle
        self.admission = Admission(
            slots=settings.asr_workers * settings.asr_max_batch, queue=settings.asr_queue
        )
        self.live_admission = Admission(slots=settings.asr_live_sessions, queue=0)
        self.new_voice_activity = new_voice_activity
        self._vad_limiter = anyio.CapacityLimiter(1)
        self._engine: Engine | None = None
        self._workers: Workers | None = None

    def use(self, engine: Engine) -> None:
        """Recognize with `engine` from now on; it is loaded and warm."""
        self._engine = engine
        self._workers = Workers(
            engine, workers=self.settings.asr_workers, max_batch=self.settings.asr_max_batch
        )

    async def stop(self) -> None:
        """Take no more work; what runs ends with its batch."""
        if self._workers is not None:
            await anyio.to_thread.run_sync(self._workers.stop)

    def check_open(self) -> None:
        """Raise `Loading`, `Draining` or `Busy` if a request would be refused now."""
        self.lifecycle.check()
        self.admission.check()

    @property
    def model(self) -> LoadedModel:
        """The recognizer that is loaded. Raises `Loading` or `Draining`."""
        self.lifecycle.check()
        assert self._engine is not None
        return LoadedModel(name=self.settings.asr_model, languages=list(self._engine.languages))

    def check_language(self, language: str) -> None:
        """Raise `BadRequest` unless the model understands `language`."""
        assert self._engine is not None
        if language not in self._engine.languages:
            known = ", ".join(self._engine.languages)
            raise BadRequest(
                f"lang: {language!r} is not a language of this model; it has: {known}."
            )

    @property
    def workers(self) -> Workers:
        """The workers of the loaded recognizer. Whoever submits to them bounds how often."""
        assert self._workers is not None, "the lifecycle is asked before the workers are"
        return self._workers

    async def run_vad(self, work: Callable[[], T]) -> T:
        """Run a few ms of voice activity detection on a thread, one stream after another."""
        return await anyio.to_thread.run_sync(work, limiter=self._vad_limiter)

    @asynccontextmanager
    async def recognizing(
        self, decode: Decode, options: RecognitionOptions
    ) -> AsyncIterator[AsyncIterator[Segment]]:
        """Yield the segments of what `decode` gives, as they are found; the work stops on exit.

        Raises `Loading`, `Draining` or `Busy` before it begins. Iterating raises what `decode`
        raises of the error table, and `RecognitionFailed`.
        """
        with self.lifecycle.work():
            async with self.admission.slot() as queued_ms:
                log.debug("recognition.begin", queued_ms=round(queued_ms, 1))
                recognition = self.workers.submit(decode, options)
                try:
                    yield recognition
                finally:
                    await release(recognition)

    async def recognize(self, decode: Decode, options: RecognitionOptions) -> Transcript:
        """Return all segments as one transcript. Raises as `recognizing` and its iteration do."""
        started = time.perf_counter()
        async with self.recognizing(decode, options) as segments:
            transcript = Transcript.of([segment async for segment in segments])
        log.info(
            "recognition.done",
            total_ms=round((time.perf_counter() - started) * 1000, 1),
            segments=len(transcript.segments),
            **text_field(self.settings, transcript.text),
        )
        return transcript
