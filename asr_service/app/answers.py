"""The answers to audio: a whole transcript as JSON, plain text or subtitles, or line
by line its segments as they are found."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack

from fastapi import Request
from fastapi.responses import Response

from asr_service.app.decoding import Recording
from asr_service.app.engine import RecognitionOptions
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
    TranscriptFormat,
    TranscriptOptions,
    VerboseSegment,
    VerboseTranscript,
    VerboseWord,
    wants_lines,
)
from common.server.request_log import current_request_id
from common.server.requests import cancel_on_disconnect
from common.server.streaming import AudioStream

log = get_logger(__name__)


async def answer(
    request: Request, service: RecognitionService, recording: Recording, query: TranscriptOptions
) -> Response:
    """Answer with the transcript of `recording`, as `query` and the header Accept ask for it.

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
        recognizing = held.enter_async_context(service.recognizing(recording, options))
        segments = await cancel_on_disconnect(request, recognizing)
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
    """Yield a line for each segment. Raises what `rest` raises, after a line that says so."""
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
    """Return `message` as a line, with its type first, where people look for it."""
    fields = {"type": message.type} | message.model_dump()
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def render(
    transcript: Transcript, wanted: TranscriptFormat, *, language: str, audio_ms: int
) -> str:
    """Return `transcript` in the format that is wanted."""
    if wanted == "json":
        return transcript.model_dump_json()
    if wanted == "verbose_json":
        return verbose(transcript, language=language, audio_ms=audio_ms).model_dump_json()
    if wanted == "srt":
        return srt(transcript.segments)
    if wanted == "vtt":
        return vtt(transcript.segments)
    return f"{transcript.text}\n" if transcript.text else ""


def verbose(transcript: Transcript, *, language: str, audio_ms: int) -> VerboseTranscript:
    """Return the transcript with times in seconds, and the words in one list."""
    words: list[VerboseWord] | None = None
    if any(segment.words is not None for segment in transcript.segments):
        words = [
            VerboseWord(
                word=word.text.strip(),
                start=word.start_ms / 1000,
                end=word.end_ms / 1000,
                probability=word.probability,
            )
            for segment in transcript.segments
            for word in segment.words or []
        ]
    return VerboseTranscript(
        language=language,
        duration=audio_ms / 1000,
        text=transcript.text,
        segments=[
            VerboseSegment(id=i, start=s.start_ms / 1000, end=s.end_ms / 1000, text=s.text)
            for i, s in enumerate(transcript.segments)
        ],
        words=words,
        warning=transcript.warning,
    )


def srt(segments: Iterable[Segment]) -> str:
    """Return SubRip: numbered cues, with a comma before the milliseconds."""
    return "".join(
        f"{number}\n{_cue_times(segment, ',')}\n{_cue_text(segment)}\n\n"
        for number, segment in enumerate(segments, start=1)
    )


def vtt(segments: Iterable[Segment]) -> str:
    """Return WebVTT (W3C), in which `&`, `<` and `>` are markup."""
    markup = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
    return "WEBVTT\n\n" + "".join(
        f"{_cue_times(segment, '.')}\n{_cue_text(segment).translate(markup)}\n\n"
        for segment in segments
    )


def _cue_times(segment: Segment, point: str) -> str:
    # Players drop a cue that ends when it begins.
    end_ms = max(segment.end_ms, segment.start_ms + 1)
    return f"{_clock(segment.start_ms, point)} --> {_clock(end_ms, point)}"


def _clock(ms: int, point: str) -> str:
    """Return `HH:MM:SS`, then the milliseconds."""
    minutes, rest = divmod(ms, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"


def _cue_text(segment: Segment) -> str:
    """Return the text on one line: an empty one would end the cue, an arrow would begin one."""
    return " ".join(segment.text.split()).replace("-->", "->")
