"""Using the client library in a test, and what a server may do before it serves."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Any

import anyio
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection

from client import SpeechClient

Async = Callable[[SpeechClient], Awaitable[None]]


def run(uri: str, use: Async, **options: Any) -> None:
    """Use a client of the server at `uri`, in an event loop."""

    async def main() -> None:
        url = uri.replace("ws", "http", 1).removesuffix("/ws/tts")
        with anyio.fail_after(20):
            async with SpeechClient(url, **options) as client:
                await use(client)

    anyio.run(main)


async def hear(audio: AsyncIterable[bytes], heard: list[bytes]) -> None:
    async for chunk in audio:
        heard.append(chunk)


async def all_of(audio: AsyncIterable[bytes]) -> bytes:
    heard: list[bytes] = []
    await hear(audio, heard)
    return b"".join(heard)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what the server's thread brings about."""
    while not condition():  # noqa: ASYNC110
        await anyio.sleep(0.005)


def busy_upgrade(times: int, retry_after: str = "0") -> Callable[[Any, Request], Response | None]:
    left = iter(range(times))

    def on_upgrade(_: ServerConnection, __: Request) -> Response | None:
        if next(left, None) is None:
            return None
        error = {"code": "busy", "message": "All slots are taken.", "request_id": "r7"}
        body = json.dumps({"error": error}).encode()
        headers = {"Retry-After": retry_after, "X-Request-ID": "r7", "Content-Length": len(body)}
        return Response(
            503, "Service Unavailable", Headers({k: str(v) for k, v in headers.items()}), body
        )

    return on_upgrade
