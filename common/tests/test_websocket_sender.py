"""Frames are sent one at a time, and a slow reader is given up after the write timeout."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
from starlette.websockets import WebSocket, WebSocketState

from common.server.websocket import WebSocketSender


def client_that_takes(frames: int, taken: list[Any]) -> WebSocketSender:
    """It takes so many frames, and no more."""
    left = iter(range(frames))

    async def send(message: Any) -> None:
        if next(left, None) is None:
            await anyio.sleep_forever()
        taken.append(("begins", message.get("text", message.get("bytes"))))
        await anyio.lowlevel.checkpoint()  # here another task could come between
        taken.append("taken")

    async def receive() -> Any:
        await anyio.sleep_forever()

    websocket = WebSocket({"type": "websocket"}, receive, send)
    websocket.client_state = websocket.application_state = WebSocketState.CONNECTED
    return WebSocketSender(websocket, 0.1)


def test_several_tasks_send_one_frame_after_the_other() -> None:
    taken: list[Any] = []

    async def run() -> None:
        client = client_that_takes(100, taken)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.send, "a")
            tasks.start_soon(client.send, b"b")

    anyio.run(run)
    assert taken == [("begins", "a"), "taken", ("begins", b"b"), "taken"]


def test_the_watch_ends_only_when_a_frame_is_not_taken() -> None:
    async def run() -> None:
        client = client_that_takes(1, [])
        ended = anyio.Event()

        async def watch() -> None:
            await client.watch()
            ended.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await client.send("a")
            await anyio.sleep(0.3)
            assert not ended.is_set()
            tasks.start_soon(client.send, "b")
            with anyio.fail_after(5):
                await ended.wait()
            tasks.cancel_scope.cancel()

    anyio.run(run)
