"""What the recognizer answers, held against the contract before it is passed on or used."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, TypeVar

import httpx
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from common.errors import RecognitionFailed, UpstreamFailed
from common.protocol.recognition import (
    TRANSCRIPT_MEDIA_TYPES,
    EndLine,
    ErrorLine,
    SegmentLine,
    Transcript,
    VerboseTranscript,
)

M = TypeVar("M", bound=BaseModel)

MAX_LINE_BYTES = 1 << 20

_JSON = TRANSCRIPT_MEDIA_TYPES["json"]
_ANY_JSON = TypeAdapter[Transcript | VerboseTranscript](Transcript | VerboseTranscript)
_Line = Annotated[SegmentLine | EndLine | ErrorLine, Field(discriminator="type")]
_LINE = TypeAdapter[SegmentLine | EndLine | ErrorLine](_Line)


def protocol_error(service: str) -> UpstreamFailed:
    return UpstreamFailed(f"The {service} service sent something that is not of the protocol.")


def parse_answer(kind: type[M], answer: httpx.Response, service: str) -> M:
    """Read the body of a service's answer as a `kind`. Raises `UpstreamFailed`."""
    try:
        return kind.model_validate_json(answer.content, strict=True)
    except ValidationError:
        raise protocol_error(service) from None


def check_transcript(answer: httpx.Response) -> None:
    """Raise `UpstreamFailed` unless `answer` is a transcript in one of the formats."""
    media_type = answer.headers.get("Content-Type", "").partition(";")[0]
    if media_type not in TRANSCRIPT_MEDIA_TYPES.values():
        raise protocol_error("asr")
    if media_type == _JSON:
        try:
            _ANY_JSON.validate_json(answer.content, strict=True)
        except ValidationError:
            raise protocol_error("asr") from None


async def segments_of(body: AsyncIterator[bytes]) -> AsyncGenerator[SegmentLine, None]:
    """Yield the segments of a streamed transcript.

    Raises `RecognitionFailed` if its last line says so, `UpstreamFailed` if it is not whole, and
    what reading it raises.
    """
    ended = False
    rest = b""
    async for chunk in body:
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > MAX_LINE_BYTES:
            raise protocol_error("asr")
        for line in lines:
            try:
                message = _LINE.validate_json(line, strict=True)
            except ValidationError:
                raise protocol_error("asr") from None
            if isinstance(message, ErrorLine):
                raise RecognitionFailed(message.error)
            if isinstance(message, EndLine):
                ended = True
            else:
                yield message
    if rest or not ended:
        raise protocol_error("asr")
