"""What stands between the routes and the recognizer: who is let in, and on which thread it runs."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from asr_service.app.engine import Engine, RecognitionOptions
from asr_service.app.settings import AsrSettings
from common.admission import Admission
from common.errors import BadRequest, RecognitionFailed
from common.lifecycle import Lifecycle
from common.logger import get_logger, text_field
from common.pcm import PcmFormat
from common.protocol import Transcript

log = get_logger(__name__)


class RecognitionService:
    """A recognizer that is loading or loaded, and `ASR_WORKERS` threads to run it on."""

    def __init__(self, settings: AsrSettings, lifecycle: Lifecycle) -> None:
        self.settings = settings
        self.lifecycle = lifecycle
        self.admission = Admission(slots=settings.asr_workers, queue=settings.asr_queue)
        self._engine: Engine | None = None
        self._workers = ThreadPoolExecutor(settings.asr_workers, thread_name_prefix="recognition")

    def use(self, engine: Engine) -> None:
        """Listen with `engine` from now on; it is loaded and warm."""
        self._engine = engine

    async def stop(self) -> None:
        """Take no more work; what runs ends with its window."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    def check_open(self) -> None:
        """Raise `Loading`, `Draining` or `Busy` if a request would be refused now."""
        self.lifecycle.check()
        self.admission.check()

    def check_language(self, language: str) -> None:
        """Raise `BadRequest` unless the model understands `language`."""
        assert self._engine is not None
        if language not in self._engine.languages:
            known = ", ".join(self._engine.languages)
            raise BadRequest(
                f"lang: {language!r} is not a language of this model; it has: {known}."
            )

    async def recognize(self, body: bytes | bytearray, pcm: PcmFormat, language: str) -> Transcript:
        """The transcript of `body`.

        Cancelling the await stops the work at the next window, or before it began. Raises
        `Loading`, `Draining`, `Busy` or `RecognitionFailed`.
        """
        with self.lifecycle.work():
            async with self.admission.slot() as queued_ms:
                started = time.perf_counter()
                transcript = await self._run(body, pcm, language)
        log.info(
            "recognition.done",
            audio_ms=round(pcm.duration_s(len(body)) * 1000),
            queued_ms=round(queued_ms, 1),
            total_ms=round((time.perf_counter() - started) * 1000, 1),
            segments=len(transcript.segments),
            **text_field(self.settings, transcript.text),
        )
        return transcript

    async def _run(self, body: bytes | bytearray, pcm: PcmFormat, language: str) -> Transcript:
        assert self._engine is not None
        cancelled = threading.Event()
        options = RecognitionOptions(language=language, beam_size=self.settings.asr_beam_size)
        work = asyncio.get_running_loop().run_in_executor(
            self._workers, self._engine.recognize, body, pcm, options, cancelled
        )
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            # The slot is kept until the thread is free: it is what the slot stands for.
            cancelled.set()
            await asyncio.wait({work})
            if not work.cancelled():
                work.exception()
            raise
        except Exception as error:
            log.error("recognition.failed", exc_info=error)
            raise RecognitionFailed("The recognizer failed on this audio.") from error
