"""A client is told a frame at a time, and given up when it takes none."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.websockets import WebSocket, WebSocketState

from common.server.websocket import WebSocketSender


def client_that_takes(frames: int, taken: list[Any]) -> WebSocketSender:
    """It takes so many frames, and no more."""
    left = iter(range(frames))

    async def send(message: Any) -> None:
        if next(left, None) is None:
            await asyncio.Event().wait()
        taken.append(("begins", message.get("text", message.get("bytes"))))
        await asyncio.sleep(0)  # here another task could come between
        taken.append("taken")

    async def receive() -> Any:
        await asyncio.Event().wait()

    websocket = WebSocket({"type": "websocket"}, receive, send)
    websocket.client_state = websocket.application_state = WebSocketState.CONNECTED
    return WebSocketSender(websocket, 0.1)


def test_several_tasks_send_one_frame_after_the_other() -> None:
    taken: list[Any] = []

    async def run() -> None:
        client = client_that_takes(100, taken)
        await asyncio.gather(client.send("a"), client.send(b"b"))

    asyncio.run(run())
    assert taken == [("begins", "a"), "taken", ("begins", b"b"), "taken"]


def test_the_watch_ends_only_when_a_frame_is_not_taken() -> None:
    async def run() -> None:
        client = client_that_takes(1, [])
        watch = asyncio.create_task(client.watch())
        await client.send("a")
        await asyncio.sleep(0.3)
        assert not watch.done()
        stuck = asyncio.create_task(client.send("b"))
        await asyncio.wait_for(watch, 5)
        stuck.cancel()

    asyncio.run(run())
