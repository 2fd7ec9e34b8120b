"""What the services answer, held against the contract before it is passed on or used."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from common.errors import RecognitionFailed
from common.protocol.recognition import (
    TRANSCRIPT_MEDIA_TYPES,
    SegmentLine,
    Transcript,
    VerboseTranscript,
)
from common.server.request_log import HEADER
from common.wire.errors import ErrorAnswer, ProtocolError
from common.wire.messages import parse_lines
from gateway.app.upstreams.socket import upstream_errors

M = TypeVar("M")

_PASSED_HEADERS = {"content-type", "content-length", "retry-after"}
_JSON = TRANSCRIPT_MEDIA_TYPES["json"]
_ANY_JSON = TypeAdapter[Transcript | VerboseTranscript](Transcript | VerboseTranscript)


def passed_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Select the headers of an upstream's answer that go to the client (not the request id)."""
    return {
        name: value
        for name, value in headers.items()
        if name.lower() in _PASSED_HEADERS
        or (name.lower().startswith("x-") and name.lower() != HEADER.lower())
    }


def parse_answer(kind: TypeAdapter[M] | type[M], answer: httpx.Response, service: str) -> M:
    """Read the body of a service's answer as a `kind`. Raises `UpstreamFailed`."""
    adapter = kind if isinstance(kind, TypeAdapter) else TypeAdapter(kind)
    with upstream_errors(service):
        try:
            return adapter.validate_json(answer.content, strict=True)
        except ValidationError as error:
            raise ProtocolError(str(error)) from None


def check_transcript(answer: httpx.Response) -> None:
    """Raise `UpstreamFailed` unless `answer` is a transcript in one of the formats."""
    media_type = answer.headers.get("Content-Type", "").partition(";")[0]
    if media_type == _JSON:
        parse_answer(_ANY_JSON, answer, "asr")
    elif media_type not in TRANSCRIPT_MEDIA_TYPES.values():
        with upstream_errors("asr"):
            raise ProtocolError(f"{media_type!r} is not the type of a transcript.")


async def segments_of(body: AsyncIterator[bytes]) -> AsyncGenerator[SegmentLine, None]:
    """Yield the segments of a streamed transcript.

    Raises `RecognitionFailed` if its last line says so, `UpstreamFailed` if it is not whole, and
    what reading it raises.
    """
    with upstream_errors("asr"):
        try:
            async with aclosing(parse_lines(body)) as lines:
                async for line in lines:
                    if isinstance(line, SegmentLine):
                        yield line
            async for _ in body:  # to its end, so that the connection can be used again
                pass
        except ErrorAnswer as error:
            raise RecognitionFailed(error.message) from None
