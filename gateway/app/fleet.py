"""What the doors ask of the services behind them, for clients that may leave meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import urlencode

import httpx
from fastapi import Request

from common.errors import (
    BadRequest,
    Busy,
    Draining,
    Loading,
    TooLarge,
    UpstreamFailed,
    UpstreamTimeout,
)
from common.protocol.recognition import NDJSON, ListeningOptions
from common.server.admission import Admission
from common.server.lifecycle import Lifecycle
from common.server.requests import cancel_on_disconnect, read_body
from common.server.streaming import AudioStream
from gateway.app.settings import GatewaySettings
from gateway.app.upstreams import OCTETS, Upstream, passed_headers

ASKED = (UpstreamFailed, Busy, Loading, Draining, UpstreamTimeout)
"""How any request can fail for which a service behind is asked."""
RELAYED = (BadRequest, TooLarge, *ASKED)
"""How any request can fail whose body is read and passed on."""

Asking = AbstractAsyncContextManager[httpx.Response]
"""A request that is sent on entry; gives the answer, its body unread, and lets go of it on exit."""
Translate = Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]]
"""Makes other bytes of a body, as it comes."""


@dataclass(frozen=True)
class Audio:
    """What is to be recognized, and at which door of asr_service."""

    path: str
    body: bytes | bytearray
    query: ListeningOptions
    content_type: str = OCTETS

    @property
    def described(self) -> str:
        """The query that was given; the service has defaults of its own."""
        return urlencode(self.query.model_dump(exclude_unset=True))


class Fleet:
    """The services behind the gateway, and who may be served at the same time."""

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
        """Hold a place among those who are served. Raises `Loading`, `Draining` or `Busy`."""
        with self.lifecycle.work():
            async with self.sessions.slot():
                yield

    async def body_of(self, request: Request) -> bytearray:
        """Raises `TooLarge`."""
        limit = self.settings.gateway_max_body_bytes
        return await read_body(request, limit_bytes=limit, limit_in_words=f"{limit} bytes")

    async def transcript(self, request: Request, audio: Audio) -> httpx.Response:
        """The recognizer's whole answer, unless the client leaves first."""
        asking = self.asr.post_and_read(
            audio.path,
            content=audio.body,
            content_type=audio.content_type,
            query=audio.described,
            timeout_s=self.settings.gateway_recognition_timeout_s,
        )
        return await cancel_on_disconnect(request, asking)

    def lines(self, audio: Audio) -> Asking:
        """Segments as they are found."""
        return self.asr.post(
            audio.path,
            content=audio.body,
            content_type=audio.content_type,
            accept=NDJSON,
            query=audio.described,
            timeout_s=self.settings.gateway_recognition_timeout_s,
        )

    def speech(self, content: bytes | bytearray) -> Asking:
        """What the body `content` has said, as it is synthesized."""
        return self.tts.post(
            "/api/tts",
            content=content,
            content_type="application/json",
            timeout_s=self.settings.gateway_first_byte_timeout_s,
        )


async def streamed(
    request: Request,
    held: AsyncExitStack,
    service: Upstream,
    asking: Asking,
    extra_headers: Mapping[str, str] = MappingProxyType({}),
    *,
    translate: Translate | None = None,
    media_type: str | None = None,
) -> AudioStream:
    """Hand the bytes of an answer on as they come; then let go of what is `held`.

    `translate` makes other bytes of them, of another `media_type`.
    """
    answer = await cancel_on_disconnect(request, held.enter_async_context(asking))
    headers = passed_headers(answer.headers) | dict(extra_headers)
    given = headers.pop("content-type", OCTETS)
    chunks = service.chunks(answer)
    if translate is not None:
        headers.pop("content-length", None)
        chunks = translate(chunks)
    return AudioStream(chunks, held.pop_all(), media_type=media_type or given, headers=headers)
