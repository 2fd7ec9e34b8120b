"""Audio that is sent while answers come: recognition while somebody speaks, and the voice loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, TypeAdapter

from client.connection import Connection
from client.errors import BrokenOff, ClientError
from client.iteration import IteratedOnce
from client.messages import is_fatal, parse, told_apart
from client.pieces import each
from client.retrying import Retry
from common.protocol_echo import EchoEvent, EchoMessage, EchoReady, EchoTranscript
from common.protocol_session import Failure, GoAway
from common.protocol_stt import Event, ListenEnd, ListenReady

Sound = AsyncIterable[bytes] | Iterable[bytes]
Item = TypeVar("Item")
ReadyMessage = TypeVar("ReadyMessage", bound=BaseModel)
LastMessage = TypeVar("LastMessage", bound=BaseModel)


class LiveStream(IteratedOnce[Item], Generic[Item, ReadyMessage, LastMessage]):
    """Iterate for what the server says while audio is sent to it, until it says its last word.

    Opening is tried again where that may help. Later that cannot help, since audio that was spoken
    is gone: a connection that is lost is `Lost`. Raises what the audio raises, too.
    """

    _messages: ClassVar[TypeAdapter[Any]]
    _ready_type: ClassVar[type[BaseModel]]
    _last_type: ClassVar[type[BaseModel]]

    def __init__(
        self,
        open_connection: Callable[[], Awaitable[Connection]],
        start: BaseModel,
        audio: Sound,
        retry: Retry,
        timeout_s: float,
    ) -> None:
        self._open_connection = open_connection
        self._start = start
        self._audio = audio
        self._retry = retry
        self._timeout_s = timeout_s
        self._connection: Connection | None = None
        self._sending: asyncio.Task[None] | None = None
        self._raised: Exception | None = None
        """By the audio, which ended the connection then."""
        self.ready: ReadyMessage | None = None
        """What the server offers, once the stream is open."""
        self.end: LastMessage | None = None
        """The last word: the transcript of all. None until the iteration has ended."""
        self.complaints: list[Failure] = []
        """What the server did not like and did not break off for."""
        self.leaving: GoAway | None = None
        """Set when the server is leaving; it ends the stream in order by the deadline."""

    async def finalize(self) -> None:
        """What was said so far is an utterance; go on listening. Raises as the iteration does."""
        await self._command("finalize")

    async def _command(self, kind: str) -> None:
        if self._connection is None:
            raise RuntimeError("The stream is not open yet: iterate it first.")
        await self._connection.send({"type": kind})

    async def _iterate(self) -> AsyncGenerator[Item, None]:
        try:
            connection, ready = await self._retry(self._open)
            self._connection, self.ready = connection, ready
            self._sending = asyncio.create_task(self._send(connection, ready))
            while self.end is None:
                item = await self._next(connection)
                if item is not None:
                    yield item
        finally:
            if self._sending is not None:
                self._sending.cancel()
            if self._connection is not None:
                await self._connection.close()
            if self._sending is not None:
                await asyncio.gather(self._sending, return_exceptions=True)

    async def _open(self) -> tuple[Connection, Any]:
        connection = await self._open_connection()
        try:
            await connection.send(self._start.model_dump(exclude_none=True))
            frame = await connection.receive(self._timeout_s)
            if isinstance(frame, bytes):
                raise BrokenOff("The server sent audio before the stream was open.")
            if frame["type"] == "error":
                raise connection.refusal(frame)
            ready = parse(self._messages, frame)
            if not isinstance(ready, self._ready_type):
                raise BrokenOff("The server does not offer streams of this protocol.")
            if ignored := getattr(ready, "ignored", None):
                raise BrokenOff(f"The server does not know {', '.join(ignored)}.")
        except BaseException:
            await connection.close()
            raise
        return connection, ready

    async def _next(self, connection: Connection) -> Any:
        """What the server says next, if that is for the caller."""
        try:
            # While audio goes on, the server need not say anything.
            listening = self._sending is None or not self._sending.done()
            frame = await connection.receive(None if listening else self._timeout_s)
        except ClientError:
            if self._raised is not None:
                raise self._raised from None
            raise
        if isinstance(frame, bytes):
            connection.has_delivered = True
            return frame
        if frame["type"] == "error" and is_fatal(frame):
            raise connection.refusal(frame)
        message = parse(self._messages, frame)
        if isinstance(message, Failure):
            self.complaints.append(message)
        elif isinstance(message, GoAway):
            self.leaving = message
        elif isinstance(message, self._last_type):
            self.end = message  # type: ignore[assignment]
        elif message is not None:
            connection.has_delivered = True
            return message
        return None

    async def _send(self, connection: Connection, ready: Any) -> None:
        """Send the audio as it comes. What it raises ends the connection."""
        longest = ready.limits.max_message_bytes
        try:
            async for chunk in each(self._audio):
                for start in range(0, len(chunk), longest):
                    await connection.send(chunk[start : start + longest])
            await connection.send({"type": "finish"})
        except ClientError:
            return  # who receives knows how the connection ended
        except Exception as error:
            self._raised = error
            await connection.close()
            raise


class Listening(LiveStream[Event, ListenReady, ListenEnd]):
    """What is heard: `SpeechStart`, `Partial`, `Final`, `SpeechEnd`; then `end` has all of it."""

    _messages = told_apart(ListenReady | Event | ListenEnd | Failure | GoAway)
    _ready_type = ListenReady
    _last_type = ListenEnd


class VoiceLoop(LiveStream[EchoEvent | bytes, EchoReady, EchoTranscript]):
    """What is heard, as of `Listening`, and what the voice says to it: `Begin`, audio, `Mark`,
    `End`. Whoever plays the audio stops, and forgets what it has not played, at `SpeechStart`.
    """

    _messages = told_apart(EchoMessage)
    _ready_type = EchoReady
    _last_type = EchoTranscript

    async def cancel(self) -> None:
        """Stop the voice."""
        await self._command("cancel")
