"""An utterance that the server speaks while its text is still being written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import suppress
from typing import Any

from client.connection import SentNothing
from client.errors import BrokenOff, ClientError, Lost
from client.iteration import IteratedOnce
from client.messages import parse, told_apart
from client.pieces import Pieces
from client.retrying import Retry
from client.sending import Sending
from client.sessions import Session, Sessions
from common.protocol.session import (
    Audio,
    Begin,
    End,
    Finish,
    GoAway,
    Mark,
    Ping,
    SendText,
    SessionEvent,
    Speak,
    Start,
    WarningMessage,
)

Text = str | AsyncIterable[str] | Iterable[str]

_MESSAGES = told_apart(SessionEvent)
_KEEP_ALIVE_SHARE = 3
"""A session is kept alive this many times in the time after which it would be idle."""


class Utterance(IteratedOnce[bytes]):
    """Iterate once, for its audio as it comes; leaving the iteration cancels it on the server.

    The iteration ends only when the server said that the utterance is whole. It raises `Refused` if
    the server will not speak it, `BrokenOff` if audio was delivered before that, and what the text
    raises. Until audio was delivered, what may help is tried again, on another connection.
    """

    def __init__(
        self, sessions: Sessions, text: Text, start: Start, retry: Retry, timeout_s: float
    ) -> None:
        self._sessions = sessions
        self._text = text
        self._start = start
        self._retry = retry
        self._timeout_s = timeout_s
        self._session: Session | None = None
        self._id = ""
        self._pieces: Pieces | None = None
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

    async def cancel(self) -> None:
        """Stop speaking; the iteration ends where the server stopped."""
        self._cancelled = True
        if self._session is not None and self.end is None:
            with suppress(ClientError):
                await self._session.connection.send({"type": "cancel", "id": self._id})

    async def _iterate(self) -> AsyncGenerator[bytes, None]:
        if not isinstance(self._text, str):
            self._pieces = Pieces(self._text)
        try:
            audio = await self._retry(self._begin)
            while audio is not None:
                yield audio
                audio = await self._next()
        except ClientError:
            self._drop()
            raise
        finally:
            await self._leave()

    async def _begin(self) -> bytes | None:
        """Ask for it, from the beginning, and wait for the first audio; None if it was cancelled
        before. Whatever this raises, nothing was delivered.
        """
        self.begin, self.end, self.marks, self.warnings = None, None, [], []
        self._session = session = await self._sessions.take(self._start)
        self._id = id_ = session.new_id()
        self._sending = Sending(session.connection, lambda: self._send(session, id_))
        try:
            audio = await self._next()
            if audio is None and not self._cancelled:
                raise BrokenOff("The server sent no audio at all.")
        except ClientError:
            self._sending.task.cancel()
            await asyncio.wait([self._sending.task])
            self._drop()
            raise
        session.connection.has_delivered = True
        self.audio = session.ready.audio
        return audio

    async def _next(self) -> bytes | None:
        """The next audio; None after the last. Messages are taken on the way."""
        assert self._session is not None
        while True:
            frame = await self._receive()
            if isinstance(frame, bytes):
                if self.begin is not None:
                    return frame
                continue
            if frame["type"] == "error" and frame.get("id") in (None, self._id):
                raise self._session.connection.refusal(frame)
            message = parse(_MESSAGES, frame)
            if isinstance(message, GoAway):
                self._session.leaving = True
            elif getattr(message, "id", None) == self._id and self._take(message):
                return None

    def _take(self, message: SessionEvent) -> bool:
        """Remember what a message of this utterance says; whether it was the last."""
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
        """The next frame. While the text is still being written, none need come."""
        assert self._sending is not None
        while True:
            try:
                return await self._sending.receive(self._timeout_s)
            except SentNothing:
                if self._pieces is None or self._pieces.ended_for_s() >= self._timeout_s:
                    raise

    async def _send(self, session: Session, id_: str) -> None:
        """Send the text as it is written."""
        connection = session.connection
        keeping = asyncio.create_task(_keep_alive(session))
        try:
            if self._pieces is None:
                whole = Speak(type="speak", id=id_, text=str(self._text))
                await connection.send(whole.model_dump())
                return
            sent = False
            async for piece in self._pieces:
                await connection.send(SendText(type="text", id=id_, text=piece).model_dump())
                sent = True
            if not sent:
                await connection.send(SendText(type="text", id=id_, text="").model_dump())
            await connection.send(Finish(type="finish", id=id_).model_dump())
        finally:
            keeping.cancel()

    def _drop(self) -> None:
        if self._session is not None:
            self._sessions.drop(self._session)
            self._session = None

    async def _leave(self) -> None:
        # First what needs no waiting: whoever leaves may be cancelled.
        session, self._session = self._session, None
        if session is not None:
            self._sessions.give_back(session, cancel=None if self.end else self._id)
        tasks = [self._sending.task] if self._sending else []
        tasks += [self._pieces.reading] if self._pieces else []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _keep_alive(session: Session) -> None:
    """Ask for signs of life, so that a text that is slow to come does not end the session."""
    ping = Ping(type="ping").model_dump(exclude_none=True)
    with suppress(ClientError):
        while True:
            await asyncio.sleep(session.ready.limits.idle_timeout_s / _KEEP_ALIVE_SHARE)
            await session.connection.send(ping)
