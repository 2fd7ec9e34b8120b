"""A TCP listener that goes on accepting when the process has too many files open."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, cast

import anyio
from anyio.abc import SocketListener, SocketStream, TaskGroup

from common.logger import get_logger

log = get_logger(__name__)

RETRY_S = 1.0


async def listen(host: str, port: int) -> list[SocketListener]:
    """Listen on a port, on each of the addresses of `host`. Raises `OSError`."""
    listener = await anyio.create_tcp_listener(local_host=host, local_port=port)
    return [cast(SocketListener, one) for one in listener.listeners]


async def accept(
    listener: SocketListener,
    handle: Callable[[SocketStream], Coroutine[Any, Any, None]],
    connections: TaskGroup,
) -> None:
    """Handle each connection in a task of `connections`, until cancelled; then stop listening."""
    async with listener:
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                log.error("tcp.cannot_accept", error=str(error))
                await anyio.sleep(RETRY_S)
            else:
                connections.start_soon(handle, stream)
