"""What is answered to audio: a whole transcript, or its segments line by line as they are found."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from fastapi import Request
from fastapi.responses import Response

from asr_service.app.decoding import Recording
from asr_service.app.engine import RecognitionOptions
from asr_service.app.formats import render
from asr_service.app.service import RecognitionService
from common.errors import BadRequest, SpeechError
from common.logger import get_logger
from common.protocol.recognition import (
    NDJSON,
    TRANSCRIPT_MEDIA_TYPES,
    EndLine,
    ErrorLine,
    Segment,
    SegmentLine,
    Transcript,
    TranscriptOptions,
    wants_lines,
)
from common.server.disconnect import cancel_on_disconnect
from common.server.request_id import current_request_id
from common.server.streaming import AudioStream

log = get_logger(__name__)


async def answer(
    request: Request, service: RecognitionService, recording: Recording, query: TranscriptOptions
) -> Response:
    """What is said in `recording`, as `query` and the header Accept ask for it.

    The request's body must have been read. Raises as `RecognitionService.recognize` does, and
    `BadRequest`.
    """
    service.check_language(query.lang)
    settings = service.settings
    options = RecognitionOptions(
        language=query.lang,
        beam_size=query.beam_size or settings.asr_beam_size,
        words=query.words,
        prompt=query.prompt,
        hotwords=query.hotwords,
        vad=settings.asr_vad if query.vad is None else query.vad,
    )
    if wants_lines(request.headers.get("Accept", "")):
        if query.format != "json":
            raise BadRequest(f"format: {NDJSON} is asked for, and has no format {query.format!r}.")
        return await _lines(request, service, recording, options)
    return _whole(
        await cancel_on_disconnect(request, service.recognize(recording, options)), recording, query
    )


def _whole(transcript: Transcript, recording: Recording, query: TranscriptOptions) -> Response:
    headers: dict[str, str] = {}
    if recording.warning:
        transcript = transcript.model_copy(update={"warning": recording.warning})
        headers["X-Warning"] = recording.warning
    return Response(
        render(transcript, query.format, language=query.lang, audio_ms=recording.audio_ms),
        media_type=TRANSCRIPT_MEDIA_TYPES[query.format],
        headers=headers,
    )


async def _lines(
    request: Request,
    service: RecognitionService,
    recording: Recording,
    options: RecognitionOptions,
) -> Response:
    async with AsyncExitStack() as held:
        listening = held.enter_async_context(service.listen(recording, options))
        segments = await cancel_on_disconnect(request, listening)
        # The first segment is awaited before the status is sent, so that what fails early fails
        # with a status of its own.
        first = await cancel_on_disconnect(request, _next(segments))
        return AudioStream(
            _as_lines(first, segments, recording), held.pop_all(), media_type=NDJSON, headers={}
        )


async def _next(segments: AsyncIterator[Segment]) -> Segment | None:
    return await anext(segments, None)


async def _as_lines(
    first: Segment | None, rest: AsyncIterator[Segment], recording: Recording
) -> AsyncIterator[bytes]:
    """Raises what `rest` raises, after a line that says so."""
    found: list[Segment] = []
    started = time.perf_counter()
    try:
        segment = first
        while segment is not None:
            found.append(segment)
            yield _line(SegmentLine.model_validate(dict(segment)))
            segment = await anext(rest, None)
    except SpeechError as error:
        request_id = current_request_id()
        yield _line(ErrorLine(error=error.message, code=error.code, request_id=request_id))
        raise
    text = Transcript.of(found).text
    yield _line(EndLine(audio_ms=recording.audio_ms, text=text, warning=recording.warning))
    log.info(
        "recognition.streamed",
        total_ms=round((time.perf_counter() - started) * 1000, 1),
        segments=len(found),
    )


def _line(message: SegmentLine | EndLine | ErrorLine) -> bytes:
    """`message` with its type first, where people look for it."""
    fields = {"type": message.type} | message.model_dump()
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
