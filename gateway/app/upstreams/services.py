"""The two services behind the gateway: what its endpoints ask of them, and what they answer.

Answers are held against the contract before they are passed on or used.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar
from urllib.parse import urlencode

import httpx
from fastapi import Request
from pydantic import TypeAdapter, ValidationError

from common.errors import (
    BadRequest,
    Busy,
    Draining,
    Loading,
    RecognitionFailed,
    TooLarge,
    UpstreamFailed,
    UpstreamTimeout,
)
from common.protocol.catalogue import LoadedModel, LoadedVoice, Models, Voices
from common.protocol.recognition import (
    NDJSON,
    TRANSCRIPT_MEDIA_TYPES,
    ListeningOptions,
    SegmentLine,
    Transcript,
    VerboseTranscript,
)
from common.server.admission import Admission
from common.server.lifecycle import Lifecycle
from common.server.request_log import HEADER
from common.server.requests import cancel_on_disconnect, read_body
from common.server.streaming import AudioStream
from common.wire.errors import ErrorAnswer, ProtocolError
from common.wire.messages import parse_lines
from gateway.app.settings import GatewaySettings
from gateway.app.upstreams.service import OCTETS, Upstream
from gateway.app.upstreams.socket import upstream_errors

UPSTREAM_ERRORS = (UpstreamFailed, Busy, Loading, Draining, UpstreamTimeout)
"""How any request can fail for which a service behind is asked."""
RELAYED_ERRORS = (BadRequest, TooLarge, *UPSTREAM_ERRORS)
"""How any request can fail whose body is read and passed on."""

M = TypeVar("M")

STT_BYTES = "/api/stt/bytes"
STT_FILE = "/api/stt/file"

Answer = AbstractAsyncContextManager[httpx.Response]
"""Sends a request on entry; gives the answer, its body unread, and closes it on exit."""
Translate = Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]]
"""Makes other bytes of a body, as it comes."""

_PASSED_HEADERS = {"content-type", "content-length", "retry-after"}
_JSON = TRANSCRIPT_MEDIA_TYPES["json"]
_ANY_JSON = TypeAdapter[Transcript | VerboseTranscript](Transcript | VerboseTranscript)


@dataclass(frozen=True)
class Recording:
    """Audio to be recognized, and at which endpoint of asr_service."""

    path: str
    body: bytes | bytearray
    options: ListeningOptions
    content_type: str = OCTETS

    @property
    def query(self) -> str:
        """The options that were given; the service has defaults of its own."""
        return urlencode(self.options.model_dump(exclude_unset=True))


class Services:
    """The services behind the gateway, and the limit on who is served at the same time.

    What asks a service raises as `Upstream` does.
    """

    def __init__(
        self, settings: GatewaySettings, lifecycle: Lifecycle, *, tts: Upstream, asr: Upstream
    ) -> None:
        self.settings = settings
        self.lifecycle = lifecycle
        self.tts = tts
        self.asr = asr
        self.sessions = Admission(slots=settings.gateway_max_sessions, queue=0)

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """Hold one of the places. Raises `Loading`, `Draining` or `Busy`."""
        with self.lifecycle.work():
            async with self.sessions.slot():
                yield

    async def read_body(self, request: Request) -> bytearray:
        """Read the body of a request. Raises `TooLarge`."""
        limit = self.settings.gateway_max_body_bytes
        return await read_body(request, limit_bytes=limit, limit_in_words=f"{limit} bytes")

    async def transcript(self, request: Request, recording: Recording) -> httpx.Response:
        """Have a recording recognized, unless the client disconnects first; the answer is read."""
        asking = self.asr.post(
            recording.path,
            content=recording.body,
            content_type=recording.content_type,
            query=recording.query,
            timeout_s=self.settings.gateway_recognition_timeout_s,
        )
        return await cancel_on_disconnect(request, asking)

    def segments(self, recording: Recording) -> Answer:
        """Have a recording recognized; the answer has a line for each segment, once found."""
        return self.asr.post_stream(
            recording.path,
            content=recording.body,
            content_type=recording.content_type,
            accept=NDJSON,
            query=recording.query,
            timeout_s=self.settings.gateway_recognition_timeout_s,
        )

    def speech(self, body: bytes | bytearray) -> Answer:
        """Have the text of a body of `POST /api/tts` spoken."""
        return self.tts.post_stream(
            "/api/tts",
            content=body,
            content_type="application/json",
            timeout_s=self.settings.gateway_first_byte_timeout_s,
        )

    async def voices(self) -> Voices:
        """Ask tts_service which voices it has."""
        return parse_answer(Voices, await self.tts.get("/api/voices"), self.tts.name)

    async def models(self) -> Models:
        """Ask asr_service which recognizers it has."""
        return parse_answer(Models, await self.asr.get("/api/models"), self.asr.name)

    async def voice(self) -> LoadedVoice:
        """Return the first of the voices, which speaks where none is named."""
        for voice in (await self.voices()).voices:
            return voice
        raise UpstreamFailed("The tts service offers no voice.")

    async def recognizer(self) -> LoadedModel:
        """Return the first of the recognizers, which is used where none is named."""
        for model in (await self.models()).models:
            return model
        raise UpstreamFailed("The asr service offers no model.")


async def streamed(
    request: Request,
    held: AsyncExitStack,
    service: Upstream,
    answer: Answer,
    extra_headers: Mapping[str, str] = MappingProxyType({}),
    *,
    translate: Translate | None = None,
    media_type: str | None = None,
) -> AudioStream:
    """Pass the body of an answer on as it comes, and close what is `held` at its end.

    `translate` makes other bytes of it, of another `media_type`.
    """
    response = await cancel_on_disconnect(request, held.enter_async_context(answer))
    headers = passed_headers(response.headers) | dict(extra_headers)
    given = headers.pop("content-type", OCTETS)
    chunks = service.chunks(response)
    if translate is not None:
        headers.pop("content-length", None)
        chunks = translate(chunks)
    return AudioStream(chunks, held.pop_all(), media_type=media_type or given, headers=headers)


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
