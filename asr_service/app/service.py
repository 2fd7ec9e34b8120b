"""What stands between the routes and the recognizer: who is let in, and on which thread it runs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from asr_service.app.engine import Decode, Engine, RecognitionOptions
from asr_service.app.settings import AsrSettings
from common.admission import Admission
from common.errors import BadRequest, RecognitionFailed, SpeechError
from common.lifecycle import Lifecycle
from common.logger import get_logger, text_field
from common.protocol import Segment, Transcript

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

    @asynccontextmanager
    async def listen(
        self, decode: Decode, options: RecognitionOptions
    ) -> AsyncIterator[AsyncIterator[Segment]]:
        """The segments of what `decode` gives, as they are found; the work stops on exit.

        Raises `Loading`, `Draining` or `Busy` before it begins. Iterating raises what `decode`
        raises of the error table, and `RecognitionFailed`.
        """
        with self.lifecycle.work():
            async with self.admission.slot() as queued_ms:
                log.debug("recognition.begin", queued_ms=round(queued_ms, 1))
                cancelled = threading.Event()
                found: asyncio.Queue[Segment | None] = asyncio.Queue()
                loop = asyncio.get_running_loop()

                def tell(segment: Segment) -> None:
                    loop.call_soon_threadsafe(found.put_nowait, segment)

                work = loop.run_in_executor(
                    self._workers, self._work, decode, options, cancelled, tell
                )
                work.add_done_callback(lambda _: found.put_nowait(None))
                try:
                    yield _until_done(found, work)
                finally:
                    # The slot is kept until the thread is free: it is what the slot stands for.
                    cancelled.set()
                    await asyncio.wait({work})
                    if not work.cancelled():
                        work.exception()

    async def recognize(self, decode: Decode, options: RecognitionOptions) -> Transcript:
        """All of it as one transcript. Raises as `listen` and its iteration do."""
        started = time.perf_counter()
        async with self.listen(decode, options) as segments:
            transcript = Transcript.of([segment async for segment in segments])
        log.info(
            "recognition.done",
            total_ms=round((time.perf_counter() - started) * 1000, 1),
            segments=len(transcript.segments),
            **text_field(self.settings, transcript.text),
        )
        return transcript

    def _work(
        self,
        decode: Decode,
        options: RecognitionOptions,
        cancelled: threading.Event,
        tell: Callable[[Segment], object],
    ) -> None:
        assert self._engine is not None
        for segment in self._engine.recognize(decode(cancelled), options, cancelled):
            tell(segment)


async def _until_done(
    found: asyncio.Queue[Segment | None], work: asyncio.Future[None]
) -> AsyncIterator[Segment]:
    while (segment := await found.get()) is not None:
        yield segment
    try:
        work.result()
    except SpeechError:
        raise
    except Exception as error:
        log.error("recognition.failed", exc_info=error)
        raise RecognitionFailed("The recognizer failed on this audio.") from error
