"""A source that is sent while the answers to it come: text to be spoken, audio to be heard."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from client.connection import Connection
from client.errors import ClientError


class Sending:
    """Runs `send` in `task`, which whoever makes this cancels and awaits.

    What the source raises closes the connection, and then comes out of `receive`.
    """

    def __init__(self, connection: Connection, send: Callable[[], Awaitable[None]]) -> None:
        self._connection = connection
        self._raised: Exception | None = None
        self.task = asyncio.create_task(self._run(send))

    async def receive(self, timeout_s: float | None) -> dict[str, Any] | bytes:
        """As `Connection.receive`; raises what the source raised, too."""
        try:
            return await self._connection.receive(timeout_s)
        except ClientError:
            if self._raised is not None:
                raise self._raised from None
            raise

    async def _run(self, send: Callable[[], Awaitable[None]]) -> None:
        try:
            await send()
        except ClientError:
            return  # who receives knows how the connection ended
        except Exception as error:  # the source's own
            self._raised = error
            await self._connection.close()
            raise
