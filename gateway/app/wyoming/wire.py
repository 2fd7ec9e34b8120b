"""One client's events: bounded when they come, and never waited for without an end."""

from __future__ import annotations

import asyncio
import json
from typing import cast

from wyoming.error import Error
from wyoming.event import Event, Eventable, async_read_event, async_write_event

from common.errors import SpeechError
from gateway.app.upstreams import UpstreamAnswer

MAX_PART_BYTES = 1 << 20
"""Of an event's data, and of its payload: half a minute of audio."""


class Gone(Exception):
    """The client left, takes nothing, or does not speak Wyoming: there is nothing to be said."""


class Refusal(Exception):
    """What cannot be done, in the words that the client is told."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.text, self.code = text, code

    @classmethod
    def of(cls, error: SpeechError | UpstreamAnswer) -> Refusal:
        if isinstance(error, SpeechError):
            return cls(error.message, error.code)
        # In the one shape, or it would not be an `UpstreamAnswer`.
        return cls(str(json.loads(error.body)["error"].get("message", "")), error.code)


class Peer:
    """A client's connection. Reading and writing raise `Gone`."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, idle_s: float
    ) -> None:
        self._reader = cast(asyncio.StreamReader, _Bounded(reader))
        self._writer = writer
        self._idle_s = idle_s

    async def read(self) -> Event:
        """The next event; not waited for longer than the idle time."""
        try:
            event = await asyncio.wait_for(async_read_event(self._reader), self._idle_s)
        except (asyncio.TimeoutError, EOFError, OSError) as error:
            raise Gone(repr(error)) from None
        except (KeyError, TypeError, AttributeError) as error:
            raise Gone(f"no event of Wyoming: {error!r}") from None
        if event is None or not isinstance(event.data, dict) or not isinstance(event.type, str):
            raise Gone("no event of Wyoming, or the end")
        return event

    async def write(self, message: Eventable) -> None:
        try:
            sending = async_write_event(message.event(), self._writer)
            await asyncio.wait_for(sending, self._idle_s)
        except (asyncio.TimeoutError, OSError) as error:
            raise Gone(repr(error)) from None

    async def refuse(self, refusal: Refusal) -> None:
        await self.write(Error(text=refusal.text, code=refusal.code))


class _Bounded:
    """What `async_read_event` needs of a reader; a part that is too large is a `ValueError`."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    async def readline(self) -> bytes:
        return await self._reader.readline()

    async def readexactly(self, size: int) -> bytes:
        if size > MAX_PART_BYTES:
            raise ValueError("too large")
        return await self._reader.readexactly(size)
