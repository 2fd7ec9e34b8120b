"""One Wyoming client's connection: bounded events in, events out, each with a deadline."""

from __future__ import annotations

import asyncio
from io import BytesIO
from typing import cast

import anyio
from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteReceiveStream
from typing_extensions import Self
from wyoming.error import Error
from wyoming.event import Event, Eventable, async_read_event, write_event

MAX_LINE_BYTES = 1 << 16
MAX_PART_BYTES = 1 << 20
"""Limit of an event's data, and of its payload: half a minute of audio."""


class Disconnected(Exception):
    """The client has disconnected, reads nothing or does not speak Wyoming: no error is sent."""


class Peer:
    """A client's connection. Reading and writing raise `Disconnected`.

    `receive_events` runs beside the task that calls `read`: so a `read` that is cancelled leaves no
    event half read.
    """

    def __init__(self, stream: ByteStream, *, idle_s: float) -> None:
        self._reader = cast(asyncio.StreamReader, _Reader(stream))
        self._stream = stream
        self._idle_s = idle_s
        self._received, self._events = anyio.create_memory_object_stream[Event](0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._received.close()
        self._events.close()

    async def receive_events(self) -> None:
        """Receive events until the client's last, one ahead of the task that reads them."""
        with self._received:
            while event := await self._receive_event():
                await self._received.send(event)

    async def read(self) -> Event:
        """Return the next event, if it comes within the idle time."""
        try:
            with anyio.fail_after(self._idle_s):
                return await self._events.receive()
        except TimeoutError:
            raise Disconnected(f"idle for {self._idle_s:g} s") from None
        except anyio.EndOfStream:
            raise Disconnected("no further event") from None

    async def write(self, message: Eventable) -> None:
        """Send an event, if the client takes it within the idle time."""
        event = BytesIO()
        write_event(message.event(), event)
        try:
            with anyio.fail_after(self._idle_s):
                await self._stream.send(event.getvalue())
        except (TimeoutError, OSError, anyio.BrokenResourceError) as error:
            raise Disconnected(repr(error)) from None

    async def send_error(self, code: str, message: str) -> None:
        await self.write(Error(text=message, code=code))

    async def _receive_event(self) -> Event | None:
        """Receive the next event, or nothing where an event ends or is none of Wyoming."""
        try:
            event = await async_read_event(self._reader)
        except (EOFError, OSError, KeyError, TypeError, AttributeError):
            return None
        if event is None or not isinstance(event.data, dict) or not isinstance(event.type, str):
            return None
        return event


_BROKEN = (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError)


class _Reader:
    """What `async_read_event` needs of a reader; a part that is too large is a `ValueError`."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = BufferedByteReceiveStream(stream)

    async def readline(self) -> bytes:
        try:
            return await self._stream.receive_until(b"\n", MAX_LINE_BYTES)
        except anyio.DelimiterNotFound:
            raise ValueError("the line is too long") from None
        except _BROKEN as error:
            raise EOFError(repr(error)) from None

    async def readexactly(self, size: int) -> bytes:
        if size > MAX_PART_BYTES:
            raise ValueError("the part is too large")
        try:
            return await self._stream.receive_exactly(size)
        except _BROKEN as error:
            raise EOFError(repr(error)) from None
