"""Audio that is sent while answers come: recognition while somebody speaks, and the voice loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, TypeAdapter

from client.connection import Connection
from client.iteration import IteratedOnce
from client.messages import is_fatal, parse, told_apart
from client.opening import Open, opened
from client.pieces import each
from client.retrying import Retry
from client.sending import Sending
from common.protocol.echo import EchoEvent, EchoReady, EchoTranscript
from common.protocol.live import ListenEnd, ListenEvent, ListenReady
from common.protocol.session import ErrorMessage, GoAway

Sound = AsyncIterable[bytes] | Iterable[bytes]
Item = TypeVar("Item")
ReadyMessage = TypeVar("ReadyMessage", bound=ListenReady)
LastMessage = TypeVar("LastMessage", bound=BaseModel)


class LiveStream(IteratedOnce[Item], Generic[Item, ReadyMessage, LastMessage]):
    """Iterate for what the server says while audio is sent to it, until it says its last word.

    Opening is tried again where that may help. Later that cannot help, since audio that was spoken
    is gone: a connection that is lost is `Lost`, and so is a stream that the server ends before the
    audio did, in order though it be. Raises what the audio raises, too.
    """

    _messages: ClassVar[TypeAdapter[Any]]
    """What is said after `ready`."""
    _ready_type: type[ReadyMessage]
    _last_type: type[LastMessage]

    def __init__(
        self,
        open_connection: Open,
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
        self._sending: Sending | None = None
        self.ready: ReadyMessage | None = None
        """What the server offers, once the stream is open."""
        self.end: LastMessage | None = None
        """The last word: the transcript of all. None until the iteration has ended."""
        self._finished = False

    async def finish(self) -> None:
        """Take no more of the audio: what was said so far is heard to its end."""
        if not self._finished:
            self._finished = True
            if self._sending is not None:
                self._sending.task.cancel()
            await self._command("finish")

    async def finalize(self) -> None:
        """What was said so far is an utterance; go on listening. Raises as the iteration does."""
        await self._command("finalize")

    async def _command(self, kind: str) -> None:
        if self._connection is None:
            raise RuntimeError("The stream is not open yet: iterate it first.")
        await self._connection.send({"type": kind})

    async def _iterate(self) -> AsyncGenerator[Item, None]:
        connection, ready = await self._retry(self._open)
        self._connection, self.ready = connection, ready
        sending = Sending(connection, partial(self._send, connection, ready))
        self._sending = sending
        try:
            while self.end is None:
                item = await self._next(connection, sending)
                if item is not None:
                    yield item
        finally:
            sending.task.cancel()
            await connection.close()
            await asyncio.gather(sending.task, return_exceptions=True)

    async def _open(self) -> tuple[Connection, ReadyMessage]:
        connection, ready = await opened(
            self._open_connection, self._start, self._ready_type, self._timeout_s
        )
        # From here on, an error breaks off what was begun.
        connection.has_delivered = True
        return connection, ready

    async def _next(self, connection: Connection, sending: Sending) -> Any:
        """What the server says next, if that is for the caller."""
        # While audio goes on, the server need not say anything.
        frame = await sending.receive(self._timeout_s if self._finished else None)
        if isinstance(frame, bytes):
            return frame
        if frame["type"] == "error" and is_fatal(frame):
            raise connection.refusal(frame)
        message = parse(self._messages, frame)
        if isinstance(message, self._last_type):
            self.end = message
            if not self._finished:
                # It was not we who ended it: how it closes says why.
                await connection.receive(self._timeout_s)
            return None
        return message

    async def _send(self, connection: Connection, ready: ReadyMessage) -> None:
        """Send the audio as it comes."""
        longest = ready.limits.max_message_bytes
        async for chunk in each(self._audio):
            for start in range(0, len(chunk), longest):
                await connection.send(chunk[start : start + longest])
        self._finished = True
        await connection.send({"type": "finish"})


class Listening(LiveStream[ListenEvent | ErrorMessage | GoAway, ListenReady, ListenEnd]):
    """What is heard: `SpeechStart`, `Partial`, `Final`, `SpeechEnd`; then `end` has all of it.

    Also `GoAway`, when the server is about to shut down, and `ErrorMessage` for an error that does
    not end the stream.
    """

    _messages = told_apart(ListenEvent | ListenEnd | ErrorMessage | GoAway)
    _ready_type = ListenReady
    _last_type = ListenEnd


class VoiceLoop(LiveStream[EchoEvent | ErrorMessage | GoAway | bytes, EchoReady, EchoTranscript]):
    """What is heard, as of `Listening`, and what the voice says to it: `Begin`, audio, `Mark`,
    `End`. Whoever plays the audio stops, and forgets what it has not played, at `SpeechStart`.
    """

    _messages = told_apart(EchoEvent | EchoTranscript | ErrorMessage | GoAway)
    _ready_type = EchoReady
    _last_type = EchoTranscript

    async def cancel(self) -> None:
        """Stop the voice."""
        await self._command("cancel")
