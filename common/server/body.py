"""Reading a request's body up to a limit, and not a byte further than needed to say so."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from common.errors import TooLarge

LINGER_S = 1.0
LINGER_BYTES = 32 * 1024 * 1024


async def bounded(
    request: Request, *, limit_bytes: int, limit_in_words: str
) -> AsyncGenerator[bytes, None]:
    """The body as it comes.

    Raises `TooLarge` as soon as more than `limit_bytes` are announced or have come, and
    `starlette.requests.ClientDisconnect` if the client leaves before its end.
    """
    refusal = TooLarge(f"The body is over the limit of {limit_in_words}.")
    announced = request.headers.get("Content-Length", "")
    if announced.isdigit() and int(announced) > limit_bytes:
        raise refusal
    left = limit_bytes
    async for chunk in request.stream():
        left -= len(chunk)
        if left < 0:
            raise refusal
        yield chunk


async def read_body(request: Request, *, limit_bytes: int, limit_in_words: str) -> bytearray:
    """The whole body. Raises as `bounded` does."""
    body = bytearray()
    async for chunk in bounded(request, limit_bytes=limit_bytes, limit_in_words=limit_in_words):
        body += chunk
    return body


class LingeringResponse(JSONResponse):
    """Answers while the client may still be sending, and closes.

    Most clients read only when they have sent, and a close with bytes unread discards the answer on
    its way to them: so the answer is sent first, then what still comes is thrown away, for
    `LINGER_S` or `LINGER_BYTES` at most.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers["Connection"] = "close"
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with anyio.move_on_after(LINGER_S):
            left = LINGER_BYTES
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    break
        await send({"type": "http.response.body", "body": b"", "more_body": False})
