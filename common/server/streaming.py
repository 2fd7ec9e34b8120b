"""Streams a body that is either whole or visibly aborted, and that stops with its client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from common.errors import SpeechError
from common.logger import get_logger
from common.server.requests import until_disconnect

log = get_logger(__name__)


class AudioStream(Response):
    """Streams `chunks`, and then releases what is `held` for them (a slot, a model, a connection).

    If `chunks` raises, the body is not ended: the server closes the connection without the last
    chunk, so that no client takes a part for the whole. If the client disconnects, `held` is
    released at once. `first` precedes the chunks; `content_length` is sent where it is known
    beforehand.
    """

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        held: AsyncExitStack,
        *,
        first: bytes = b"",
        media_type: str,
        headers: Mapping[str, str],
        content_length: int | None = None,
    ) -> None:
        self._chunks = chunks
        self._held = held
        self._first = first
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        self.init_headers(headers)
        if content_length is not None:
            self.headers["Content-Length"] = str(content_length)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held, anyio.create_task_group() as tasks:

            async def watch() -> None:
                await until_disconnect(receive)
                tasks.cancel_scope.cancel()

            tasks.start_soon(watch)
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
            if self._first:
                await send({"type": "http.response.body", "body": self._first, "more_body": True})
            try:
                async for chunk in self._chunks:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            except SpeechError as error:
                log.warning("stream.aborted", code=error.code, error=error.message)
            except Exception as error:
                log.error("stream.failed", exc_info=error)
            else:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            tasks.cancel_scope.cancel()
