"""An utterance that the server speaks while its text is still being written, and its session."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any

import anyio
from anyio.abc import TaskGroup

from client.connection import Connection, Open, SentNothing
from client.errors import BrokenOff, ClientError, Lost
from client.recordings import Recording
from client.retry import Retry
from client.streams import IteratedOnce, Sending, TextBuffer
from common.protocol.session import (
    Audio,
    Begin,
    Cancel,
    End,
    Finish,
    GoAway,
    Mark,
    Ping,
    Ready,
    SendText,
    SessionEvent,
    Speak,
    Start,
    WarningMessage,
)
from common.wire.messages import reader_of

Text = str | AsyncIterable[str] | Iterable[str]

_MESSAGES = reader_of(SessionEvent)
CANCEL_TIMEOUT_S = 1.0
_KEEP_ALIVE_SHARE = 3
"""A session is kept alive this many times in the time after which it would be idle."""


class Session:
    """One connection on which one utterance after another is spoken."""

    def __init__(self, connection: Connection, ready: Ready, start: Start) -> None:
        self.connection = connection
        self.ready = ready
        self.start = start
        self._ids = count(1)
        self.draining = False
        """Whether the server has said that it takes no new utterances."""

    def new_id(self) -> str:
        return f"u{next(self._ids)}"


class SessionPool:
    """The sessions of a client. Each is in use by one utterance or waits here for the next.

    Frames of a cancelled utterance that were on their way are skipped by the next one: audio counts
    only after a `begin` of its own. So a session is free as soon as its utterance is cancelled.
    """

    def __init__(self, open_connection: Open, timeout_s: float) -> None:
        self._open_connection = open_connection
        self._timeout_s = timeout_s
        self._idle: list[Session] = []
        self._in_use: set[Session] = set()

    async def take(self, start: Start) -> Session:
        """Return a session that was started by `start`.

        Raises as opening a connection and `Connection.start_session` do.
        """
        for session in self._idle:
            if session.start == start and session.connection.is_open:
                self._idle.remove(session)
                break
        else:
            connection = await self._open_connection()
            ready = await connection.start_session(start, Ready, self._timeout_s)
            session = Session(connection, ready, start)
        session.connection.has_delivered = False
        self._in_use.add(session)
        return session

    async def give_back(self, session: Session, *, cancel: str | None = None) -> None:
        """Take back the session of an utterance that is over, or is cancelled by this id."""
        sent = cancel is None
        if cancel is not None:
            # A server that reads nothing any more must not hold up whoever leaves.
            with suppress(ClientError), anyio.move_on_after(CANCEL_TIMEOUT_S):
                await session.connection.send(Cancel(type="cancel", id=cancel))
                sent = True
        if not sent or session.draining or not session.connection.is_open:
            await self.drop(session)
            return
        self._in_use.discard(session)
        self._idle = [s for s in self._idle if s.connection.is_open] + [session]

    async def drop(self, session: Session) -> None:
        """Close a session that cannot be used any more."""
        self._in_use.discard(session)
        if session in self._idle:
            self._idle.remove(session)
        await session.connection.close()

    async def close(self) -> None:
        """Close all sessions, which cancels the utterances that are being spoken."""
        async with anyio.create_task_group() as tasks:
            for session in [*self._idle, *self._in_use]:
                tasks.start_soon(self.drop, session)


class Utterance(IteratedOnce[bytes]):
    """Iterate once, for its audio as it comes; leaving the iteration cancels it on the server.

    The iteration ends only when the server said that the utterance is whole. It raises `Refused` if
    the server will not speak it, `BrokenOff` if audio was delivered before that, and what the text
    raises. Until audio was delivered, what may help is tried again, on another connection.
    """

    def __init__(
        self,
        tasks: TaskGroup,
        sessions: SessionPool,
        text: Text,
        start: Start,
        retry: Retry,
        timeout_s: float,
    ) -> None:
        self._tasks = tasks
        self._sessions = sessions
        self._text = text
        self._start = start
        self._retry = retry
        self._timeout_s = timeout_s
        self._session: Session | None = None
        self._id = ""
        self._written: TextBuffer | None = None
        self._sending: Sending | None = None
        self._cancelled = False
        self.audio: Audio | None = None
        """What the audio is; known with the first of it."""
        self.begin: Begin | None = None
        self.marks: list[Mark] = []
        """The sentences spoken so far, if they were asked for."""
        self.warnings: list[WarningMessage] = []
        """Stretches that were not spoken as they should have been."""
        self.end: End | None = None

    async def read(self) -> Recording:
        """Iterate to the end and return all of the audio, which knows its rate and encoding.

        `transcribe`, `listen` and the like take what this returns.
        """
        chunks = [chunk async for chunk in self]
        if self.audio is None:
            raise BrokenOff("The utterance was cancelled before its first audio.")
        return Recording(b"".join(chunks), self.audio.sample_rate, self.audio.encoding)

    async def cancel(self) -> None:
        """Stop speaking; the iteration ends where the server stopped."""
        self._cancelled = True
        if self._session is not None and self.end is None:
            with suppress(ClientError):
                await self._session.connection.send(Cancel(type="cancel", id=self._id))

    async def _iterate(self) -> AsyncGenerator[bytes, None]:
        if not isinstance(self._text, str):
            self._written = TextBuffer(self._tasks, self._text)
        try:
            audio = await self._retry(self._begin)
            while audio is not None:
                yield audio
                audio = await self._next()
        except ClientError:
            await self._drop()
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await self._leave()

    async def _begin(self) -> bytes | None:
        """Ask for it from the beginning, and wait for the first audio.

        Returns None if it was cancelled before. Whatever this raises, nothing was delivered.
        """
        self.begin, self.end, self.marks, self.warnings = None, None, [], []
        self._session = session = await self._sessions.take(self._start)
        self._id = id_ = session.new_id()
        self._sending = Sending(
            self._tasks,
            session.connection,
            partial(self._send, session.connection, id_),
            keep_alive=partial(_keep_alive, session),
        )
        try:
            audio = await self._next()
            if audio is None and not self._cancelled:
                raise BrokenOff("The server sent no audio at all.")
        except ClientError:
            await self._sending.stop()
            await self._drop()
            raise
        session.connection.has_delivered = True
        self.audio = session.ready.audio
        return audio

    async def _next(self) -> bytes | None:
        """Return the next audio, None after the last. Messages are taken on the way."""
        assert self._session is not None
        while True:
            frame = await self._receive()
            if isinstance(frame, bytes):
                if self.begin is not None:
                    return frame
                continue
            if frame["type"] == "error" and frame.get("id") in (None, self._id):
                raise self._session.connection.error_of(frame)
            message = self._session.connection.parse_known(_MESSAGES, frame)
            if isinstance(message, GoAway):
                self._session.draining = True
            elif getattr(message, "id", None) == self._id and self._take(message):
                return None

    def _take(self, message: SessionEvent) -> bool:
        """Remember what a message of this utterance says; return whether it was the last."""
        if isinstance(message, Begin):
            self.begin = message
        elif isinstance(message, Mark):
            self.marks.append(message)
        elif isinstance(message, WarningMessage):
            self.warnings.append(message)
        elif isinstance(message, End):
            self.end = message
            if message.reason == "cancelled" and not self._cancelled:
                raise Lost("The server cancelled the utterance before it was whole.")
            if message.reason == "error":
                raise BrokenOff("The server could not speak the utterance to its end.")
            return True
        return False

    async def _receive(self) -> dict[str, Any] | bytes:
        """Wait for the next frame. While the text is still being written, none need come."""
        assert self._sending is not None
        while True:
            try:
                return await self._sending.receive(self._timeout_s)
            except SentNothing:
                if self._written is None or self._written.ended_for_s() >= self._timeout_s:
                    raise

    async def _send(self, connection: Connection, id_: str) -> None:
        """Send the text as it is written."""
        if self._written is None:
            await connection.send(Speak(type="speak", id=id_, text=str(self._text)))
            return
        sent = False
        async for text in self._written:
            await connection.send(SendText(type="text", id=id_, text=text))
            sent = True
        if not sent:
            await connection.send(SendText(type="text", id=id_, text=""))
        await connection.send(Finish(type="finish", id=id_))

    async def _drop(self) -> None:
        if self._session is not None:
            session, self._session = self._session, None
            await self._sessions.drop(session)

    async def _leave(self) -> None:
        if self._sending is not None:
            await self._sending.stop()
        session, self._session = self._session, None
        if session is not None:
            await self._sessions.give_back(session, cancel=None if self.end else self._id)
        if self._written is not None:
            await self._written.stop()


async def _keep_alive(session: Session) -> None:
    """Send pings, so that a text that is slow to come does not end the session."""
    with suppress(ClientError):
        while True:
            await anyio.sleep(session.ready.limits.idle_timeout_s / _KEEP_ALIVE_SHARE)
            await session.connection.send(Ping(type="ping"))
