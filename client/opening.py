"""A connection on which the server said `ready`: the beginning of every session and stream."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ValidationError
from typing_extensions import Self

from client.connection import Connection
from client.errors import BrokenOff

Open = Callable[[], Awaitable[Connection]]


class _Ready(Protocol):
    """What every `ready` is."""

    @property
    def ignored(self) -> list[str]: ...

    @classmethod
    def model_validate(cls, obj: Any) -> Self: ...


R = TypeVar("R", bound=_Ready)


async def opened(
    open_connection: Open, start: BaseModel, ready_type: type[R], timeout_s: float
) -> tuple[Connection, R]:
    """Send `start` on a new connection and wait for the server's `ready`.

    Raises as opening a connection does, `Refused`, and `BrokenOff` if the server offers no such
    session or does not know all of `start`; the connection is closed then.
    """
    connection = await open_connection()
    try:
        await connection.send(start.model_dump(exclude_none=True))
        answer = await connection.receive(timeout_s)
        if isinstance(answer, bytes):
            raise BrokenOff("The server sent audio before the session was open.")
        if answer["type"] == "error":
            raise connection.refusal(answer)
        try:
            ready = ready_type.model_validate(answer)
        except ValidationError:
            raise BrokenOff("The server does not offer sessions of this protocol.") from None
        if ready.ignored:
            raise BrokenOff(f"The server does not know {', '.join(ready.ignored)}.")
    except BaseException:
        await connection.close()
        raise
    return connection, ready
