"""Sessions of `/ws/tts`: opened when one is needed, used again when their utterance is over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from itertools import count

from client.connection import Connection
from client.errors import ClientError
from client.opening import Open, opened
from common.protocol.session import Cancel, Ready, Start


class Session:
    """One connection on which one utterance after another is spoken."""

    def __init__(self, connection: Connection, ready: Ready, start: Start) -> None:
        self.connection = connection
        self.ready = ready
        self.start = start
        self._ids = count(1)
        self.leaving = False
        """Whether the server has said that it takes no new utterances."""

    def new_id(self) -> str:
        return f"u{next(self._ids)}"


class Sessions:
    """The sessions of a client. Each is in use by one utterance or waits here for the next.

    Frames of a cancelled utterance that were on their way are skipped by the next one: audio counts
    only after a `begin` of its own. So a session is free as soon as its utterance is cancelled.
    """

    def __init__(self, open_connection: Open, timeout_s: float) -> None:
        self._open_connection = open_connection
        self._timeout_s = timeout_s
        self._idle: list[Session] = []
        self._in_use: set[Session] = set()
        self._giving_back: set[asyncio.Task[None]] = set()

    async def take(self, start: Start) -> Session:
        """A session that was started so. Raises as `opened` does."""
        for session in self._idle:
            if session.start == start and session.connection.is_open:
                self._idle.remove(session)
                break
        else:
            opening = opened(self._open_connection, start, Ready, self._timeout_s)
            session = Session(*await opening, start)
        session.connection.has_delivered = False
        self._in_use.add(session)
        return session

    def give_back(self, session: Session, *, cancel: str | None = None) -> None:
        """Its utterance is over, or is to be cancelled by this id."""
        if cancel is None:
            self._keep(session)
        else:
            self._in_background(self._cancel_and_keep(session, cancel))

    def drop(self, session: Session) -> None:
        """It cannot be used any more."""
        self._in_background(self._close(session))

    async def close(self) -> None:
        """Close all; utterances that are being spoken are cancelled by that."""
        while self._giving_back:
            await asyncio.gather(*self._giving_back)
        sessions = [*self._idle, *self._in_use]
        await asyncio.gather(*(self._close(session) for session in sessions))

    def _in_background(self, work: Awaitable[None]) -> None:
        # Whoever leaves an utterance may be cancelled itself, and must not wait.
        task = asyncio.ensure_future(work)
        self._giving_back.add(task)
        task.add_done_callback(self._giving_back.discard)

    async def _cancel_and_keep(self, session: Session, id_: str) -> None:
        with suppress(ClientError):
            await session.connection.send(Cancel(type="cancel", id=id_).model_dump())
        self._keep(session)

    def _keep(self, session: Session) -> None:
        if session.leaving or not session.connection.is_open:
            self.drop(session)
            return
        self._in_use.discard(session)
        self._idle = [s for s in self._idle if s.connection.is_open] + [session]

    async def _close(self, session: Session) -> None:
        self._in_use.discard(session)
        if session in self._idle:
            self._idle.remove(session)
        await session.connection.close()
