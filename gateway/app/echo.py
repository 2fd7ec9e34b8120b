"""`POST /api/echo-bytes`: speech to text to speech, the two services joined.

The whole transcript is spoken as one text; with `overlap`, each segment as soon as it is found.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from common.audio.pcm import MEDIA_TYPES, wav_header
from common.errors import (
    EmptyAudio,
    EmptyText,
    RecognitionFailed,
    SynthesisFailed,
    UndecodableAudio,
    UpstreamFailed,
)
from common.protocol.recognition import EchoQuery, Transcript
from common.server.openapi import AUDIO, errors, pcm_body
from common.server.requests import cancel_on_disconnect
from common.server.streaming import AudioStream
from common.wire.errors import ErrorAnswer
from gateway.app.upstreams.services import (
    RELAYED_ERRORS,
    STT_BYTES,
    Answer,
    Recording,
    Services,
    parse_answer,
    segments_of,
    streamed,
)


def router(services: Services) -> APIRouter:
    routes = APIRouter(tags=["recognition"])

    @routes.post(
        "/api/echo-bytes",
        summary="Speech to text to speech",
        response_class=Response,
        responses=AUDIO
        | errors(*RELAYED_ERRORS, EmptyAudio, UndecodableAudio, RecognitionFailed, SynthesisFailed),
        openapi_extra=pcm_body(),
    )
    async def echo_bytes(request: Request, query: Annotated[EchoQuery, Query()]) -> Response:
        async with AsyncExitStack() as held:
            await held.enter_async_context(services.admitted())
            body = await services.read_body(request)
            query.pcm.check(body)
            recording = Recording(STT_BYTES, body, query.heard)
            if query.overlap:
                return await overlapped(request, held, recording, query)
            answer = await services.transcript(request, recording)
            transcript = parse_answer(Transcript, answer, services.asr.name)
            if not transcript.text:
                return nothing_said(query)
            speech = speech_of(services, transcript.text, query.sr, query.fmt)
            # Percent-encoded UTF-8, which a header can carry.
            headers = {"X-Transcript": quote(transcript.text)}
            return await streamed(request, held, services.tts, speech, headers)

    async def overlapped(
        request: Request, held: AsyncExitStack, recording: Recording, query: EchoQuery
    ) -> Response:
        """Have each segment spoken as soon as it is found."""
        audio = echo_segments(services, recording, query.sr)
        held.push_async_callback(audio.aclose)

        async def first_chunk() -> bytes | None:
            return await anext(audio, None)

        # Awaited before the status is sent, so that an early failure has a status of its own.
        first = await cancel_on_disconnect(request, first_chunk())
        if first is None:
            return nothing_said(query)
        if query.fmt == "wav":
            first = wav_header(query.sr, None) + first
        return AudioStream(
            audio,
            held.pop_all(),
            first=first,
            media_type=MEDIA_TYPES[query.fmt],
            headers={"X-Sample-Rate": str(query.sr), "X-Channels": "1"},
        )

    return routes


async def echo_segments(
    services: Services, recording: Recording, sample_rate_hz: int
) -> AsyncGenerator[bytes, None]:
    """Yield the speech of each segment of a recording, one after the other.

    Nothing comes if nobody speaks. A segment that cannot be spoken is left out, unless none can.
    Raises as `Upstream` and `segments_of` do.
    """
    has_sound = False
    unspeakable: ErrorAnswer | None = None
    async with (
        services.segments(recording) as answer,
        aclosing(segments_of(services.asr.chunks(answer))) as segments,
    ):
        async for segment in segments:
            try:
                async with speech_of(services, segment.text, sample_rate_hz) as speech:
                    async for chunk in services.tts.chunks(speech):
                        has_sound = True
                        yield chunk
            except ErrorAnswer as refusal:
                if refusal.code == EmptyText.code:
                    unspeakable = refusal
                elif has_sound:
                    raise UpstreamFailed(
                        f"The tts service refused to speak the rest: {refusal.code}."
                    ) from refusal
                else:
                    raise
    if unspeakable and not has_sound:
        raise unspeakable


def speech_of(
    services: Services, text: str, sample_rate_hz: int, container: str = "s16le"
) -> Answer:
    """Have `text` spoken at the rate at which the speaker was recorded."""
    body = {"text": text, "sample_rate": sample_rate_hz, "format": container}
    return services.speech(json.dumps(body).encode())


def nothing_said(query: EchoQuery) -> Response:
    """Answer audio in which nobody speaks: the body is empty."""
    return Response(headers={"X-Speech": "none"}, media_type=MEDIA_TYPES[query.fmt])
