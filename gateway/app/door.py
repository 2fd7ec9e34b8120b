"""What every door of the gateway needs: who is let in, what is read, how the services are asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from types import MappingProxyType
from urllib.parse import urlencode

import httpx
from fastapi import Request

from common.admission import Admission
from common.body import read_body
from common.disconnect import unless_gone
from common.errors import (
    BadRequest,
    Busy,
    Draining,
    Loading,
    TooLarge,
    UpstreamFailed,
    UpstreamTimeout,
)
from common.lifecycle import Lifecycle
from common.protocol import ListeningOptions
from common.streaming import AudioStream
from gateway.app.settings import GatewaySettings
from gateway.app.upstreams import OCTETS, Upstream, passed_headers

RELAYED = (BadRequest, TooLarge, UpstreamFailed, Busy, Loading, Draining, UpstreamTimeout)
"""How any request that a service behind answers can fail."""

Answer = AbstractAsyncContextManager[httpx.Response]
"""An answer of a service, its body unread, as `Upstream.post` gives it."""
Translate = Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]]


class Door:
    """The two services behind, and the places there are for those who ask them.

    All doors share one of these: its places are the gateway's.
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
        """A place, kept while the block runs. Raises `Loading`, `Draining` or `Busy`."""
        with self.lifecycle.work():
            async with self.sessions.slot():
                yield

    async def body_of(self, request: Request) -> bytearray:
        limit = self.settings.gateway_max_body_bytes
        return await read_body(request, limit_bytes=limit, limit_in_words=f"{limit} bytes")

    def speech(self, content: bytes | bytearray) -> Answer:
        """The answer to `content`, a body of `POST /api/tts`. Raises as `Upstream.post` does."""
        return self.tts.post(
            "/api/tts",
            content=content,
            content_type="application/json",
            timeout_s=self.settings.gateway_first_byte_timeout_s,
        )

    def listening(
        self,
        path: str,
        body: bytes | bytearray,
        query: ListeningOptions,
        *,
        content_type: str = OCTETS,
        accept: str = "*/*",
    ) -> Answer:
        """The recognizer's answer as it comes. Raises as `Upstream.post` does."""
        return self.asr.post(
            path,
            content=body,
            content_type=content_type,
            accept=accept,
            query=as_query(query),
            timeout_s=self.settings.gateway_recognition_timeout_s,
        )

    async def recognition(
        self,
        request: Request,
        path: str,
        body: bytes | bytearray,
        query: ListeningOptions,
        content_type: str = OCTETS,
    ) -> httpx.Response:
        """Have `body` recognized, unless the client leaves first."""
        asking = self.asr.post_and_read(
            path,
            content=body,
            content_type=content_type,
            query=as_query(query),
            timeout_s=self.settings.gateway_recognition_timeout_s,
        )
        return await unless_gone(request, asking)

    async def streamed(
        self,
        request: Request,
        held: AsyncExitStack,
        service: Upstream,
        asking: Answer,
        extra_headers: Mapping[str, str] = MappingProxyType({}),
        *,
        translate: Translate | None = None,
        media_type: str | None = None,
    ) -> AudioStream:
        """Hand the bytes of an answer on as they come; then let go of what is `held`.

        `translate` makes other bytes of them, of another `media_type`.
        """
        answer = await unless_gone(request, held.enter_async_context(asking))
        headers = passed_headers(answer.headers) | dict(extra_headers)
        given = headers.pop("content-type", OCTETS)
        chunks = service.chunks(answer)
        if translate is not None:
            headers.pop("content-length", None)
            chunks = translate(chunks)
        return AudioStream(chunks, held.pop_all(), media_type=media_type or given, headers=headers)


def as_query(query: ListeningOptions) -> str:
    """`query` for the service behind, which has defaults of its own."""
    return urlencode(query.model_dump(exclude_unset=True))
