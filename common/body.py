"""Reading a request's body up to a limit, and not a byte further than needed to say so."""

from __future__ import annotations

from starlette.requests import Request

from common.errors import TooLarge


async def read_body(request: Request, *, limit_bytes: int, limit_in_words: str) -> bytearray:
    """The whole body.

    Raises `TooLarge` as soon as more than `limit_bytes` are announced or have come, and
    `starlette.requests.ClientDisconnect` if the client leaves before its end.
    """
    refusal = TooLarge(f"The body is over the limit of {limit_in_words}.")
    announced = request.headers.get("Content-Length", "")
    if announced.isdigit() and int(announced) > limit_bytes:
        raise refusal
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit_bytes:
            raise refusal
    return body
