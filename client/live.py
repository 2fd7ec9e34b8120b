"""Audio that is sent while answers come: recognition while somebody speaks, and the voice loop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar

import anyio
from anyio.abc import TaskGroup
from pydantic import BaseModel, TypeAdapter
from typing_extensions import TypedDict

from client.connection import Connection, Open
from client.recordings import Recording
from client.retry import Retry
from client.streams import IteratedOnce, Sending, each
from common.audio.pcm import Encoding
from common.protocol.echo import EchoEvent, EchoReady, EchoTranscript
from common.protocol.live import ListenEnd, ListenEvent, ListenReady
from common.protocol.session import ErrorMessage, GoAway
from common.wire.messages import is_fatal, reader_of

Sound = AsyncIterable[bytes] | Iterable[bytes] | Recording
"""Audio as it is spoken, in bytes cut anywhere; or a recording, which knows its rate."""
Item = TypeVar("Item")
ReadyMessage = TypeVar("ReadyMessage", bound=ListenReady)
LastMessage = TypeVar("LastMessage", bound=BaseModel)


class ListenOptions(TypedDict, total=False):
    """What the audio of somebody speaking is, and how it is recognized; see `ListenStart`."""

    sample_rate: int
    """Hz; default: 16000, or the recording's own."""
    channels: int
    """Interleaved; default: 1."""
    encoding: Encoding
    """Default: `pcm_s16le`, or the recording's own."""
    language: str
    """Default: `en`."""
    partials: bool
    """Whether to send what is recognized of an utterance before it is final; default: yes."""
    endpoint_ms: int
    """Silence after which an utterance is final; default: 600."""


class LiveStream(IteratedOnce[Item], Generic[Item, ReadyMessage, LastMessage]):
    """Iterate for the messages of the server while audio is sent to it, up to its last message.

    Opening is tried again where that may help. Later that cannot help, since audio that was spoken
    is gone: a connection that is lost is `Lost`, and so is a stream that the server ends, also in
    order, before the audio ended. Raises what the audio raises, too.
    """

    _messages: ClassVar[TypeAdapter[Any]]
    """Those that follow `ready`."""
    _ready_type: type[ReadyMessage]
    _last_type: type[LastMessage]

    def __init__(
        self,
        tasks: TaskGroup,
        open_connection: Open,
        start: BaseModel,
        audio: Sound,
        retry: Retry,
        timeout_s: float,
    ) -> None:
        self._tasks = tasks
        self._open_connection = open_connection
        self._start = start
        self._audio = audio
        self._retry = retry
        self._timeout_s = timeout_s
        self._connection: Connection | None = None
        self._sending: Sending | None = None
        self._sending_audio: anyio.CancelScope | None = None
        self.ready: ReadyMessage | None = None
        """What the server offers, once the stream is open."""
        self.end: LastMessage | None = None
        """The last message, with the whole transcript. None until the iteration has ended."""
        self._finished = False

    async def finish(self) -> None:
        """Take no more of the audio: what was sent so far is recognized to its end."""
        if not self._finished:
            self._finished = True
            if self._sending_audio is not None:
                self._sending_audio.cancel()
            await self._command("finish")

    async def finalize(self) -> None:
        """Commit what was spoken so far as a final, and go on. Raises as the iteration does."""
        await self._command("finalize")

    async def _command(self, kind: str) -> None:
        if self._connection is None:
            raise RuntimeError("The stream is not open yet: iterate it first.")
        await self._connection.send({"type": kind})

    async def _iterate(self) -> AsyncGenerator[Item, None]:
        connection, ready = await self._retry(self._open)
        self._connection, self.ready = connection, ready
        sending = Sending(self._tasks, connection, partial(self._send, connection, ready))
        try:
            while self.end is None:
                item = await self._next(connection, sending)
                if item is not None:
                    yield item
        finally:
            await connection.close()
            await sending.stop()

    async def _open(self) -> tuple[Connection, ReadyMessage]:
        connection = await self._open_connection()
        ready = await connection.start_session(self._start, self._ready_type, self._timeout_s)
        # From here on, an error ends what has begun.
        connection.has_delivered = True
        return connection, ready

    async def _next(self, connection: Connection, sending: Sending) -> Any:
        """Return the next message or audio, if it is for the caller."""
        # While audio goes on, the server need not send anything.
        frame = await sending.receive(self._timeout_s if self._finished else None)
        if isinstance(frame, bytes):
            return frame
        if frame["type"] == "error" and is_fatal(frame):
            raise connection.error_of(frame)
        message = connection.parse_known(self._messages, frame)
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
        audio = self._audio.pcm if isinstance(self._audio, Recording) else self._audio
        source: AsyncIterable[bytes] | Iterable[bytes] = (
            [audio] if isinstance(audio, bytes) else audio
        )
        with anyio.CancelScope() as self._sending_audio:
            async for chunk in each(source):
                for start in range(0, len(chunk), longest):
                    await connection.send(chunk[start : start + longest])
            self._finished = True
            await connection.send({"type": "finish"})


class Listening(LiveStream[ListenEvent | ErrorMessage | GoAway, ListenReady, ListenEnd]):
    """Live recognition: `SpeechStart`, `Partial`, `Final`, `SpeechEnd`; then `end` has all of it.

    Also `GoAway`, when the server is about to shut down, and `ErrorMessage` for an error that does
    not end the stream.
    """

    _messages = reader_of(ListenEvent | ListenEnd | ErrorMessage | GoAway)
    _ready_type = ListenReady
    _last_type = ListenEnd


class VoiceLoop(LiveStream[EchoEvent | ErrorMessage | GoAway | bytes, EchoReady, EchoTranscript]):
    """The voice loop: what `Listening` gives, and the voice's `Begin`, audio, `Mark` and `End`.

    Whoever plays the audio stops, and forgets what it has not played, at `SpeechStart`.
    """

    _messages = reader_of(EchoEvent | EchoTranscript | ErrorMessage | GoAway)
    _ready_type = EchoReady
    _last_type = EchoTranscript

    async def cancel(self) -> None:
        """Stop the voice."""
        await self._command("cancel")
