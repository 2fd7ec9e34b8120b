"""A WebSocket to a server of this protocol: opened, its session started, watched, closed.

socket = await WireSocket.open("ws://localhost:8000/ws/tts", headers={}, timeout_s=5)
ready = await socket.start_session(Start(type="start"), Ready, timeout_s=30)
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

import anyio
from pydantic import BaseModel, ValidationError
from typing_extensions import Self
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.protocol import State

from common.wire.errors import (
    ConnectionEnded,
    ConnectTimeout,
    ErrorAnswer,
    ProtocolError,
    ReceiveTimeout,
    Unreachable,
    deepest_reason,
)
from common.wire.messages import parse_message

CLOSE_TIMEOUT_S = 1.0
"""Closing tells the server to stop; its answer need not be waited for long."""
MAX_QUEUED_FRAMES = 16
"""Received and not taken yet; beyond them nothing is read, which slows the server down."""


class _Ready(Protocol):
    """What every `ready` has."""

    @property
    def ignored(self) -> list[str]: ...

    @classmethod
    def model_validate(cls, obj: Any, /) -> Self: ...


R = TypeVar("R", bound=_Ready)


class WireSocket:
    """An open WebSocket. One task receives; `watch` may run beside it to notice a dead server.

    A server is probed only while a frame is awaited from it: while nothing is read, its pongs are
    not seen either.
    """

    def __init__(
        self,
        connection: ClientConnection,
        *,
        stall_timeout_s: float = math.inf,
        pong_timeout_s: float = math.inf,
    ) -> None:
        self._connection = connection
        self._stall_timeout_s = stall_timeout_s
        self._pong_timeout_s = pong_timeout_s
        self._receiving_since: float | None = None

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        headers: Mapping[str, str],
        timeout_s: float,
        use_proxy: bool = True,
        stall_timeout_s: float = math.inf,
        pong_timeout_s: float = math.inf,
        **connecting: Any,
    ) -> Self:
        """Connect to `url`, uncompressed, within `timeout_s`.

        The server is probed with a ping after `stall_timeout_s` without a frame, and has
        `pong_timeout_s` to answer it, while `watch` runs. `connecting` are further arguments of
        `websockets.connect`, such as the address of a replica.

        Raises `Unreachable`, `ConnectTimeout`, `ErrorAnswer` if the server refuses the upgrade, and
        `websockets.InvalidURI`.
        """
        opening = connect(
            url,
            additional_headers=dict(headers),
            compression=None,
            proxy=True if use_proxy else None,
            open_timeout=None,
            ping_interval=None,
            close_timeout=CLOSE_TIMEOUT_S,
            max_size=None,
            max_queue=MAX_QUEUED_FRAMES,
            **connecting,
        )
        try:
            with anyio.fail_after(timeout_s):
                connection = await opening
        except InvalidStatus as refused:
            answer = refused.response
            body = bytes(answer.body or b"")
            headers_given = dict(answer.headers.raw_items())
            raise ErrorAnswer.of_http(answer.status_code, body, headers_given) from None
        except TimeoutError:
            raise ConnectTimeout(f"It did not answer within {timeout_s:g} s.") from None
        except InvalidHandshake as error:
            raise ProtocolError(f"It does not speak WebSocket: {error}.") from None
        except OSError as error:
            raise Unreachable(deepest_reason(error)) from error
        return cls(connection, stall_timeout_s=stall_timeout_s, pong_timeout_s=pong_timeout_s)

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers with which the server accepted."""
        assert self._connection.response is not None
        return self._connection.response.headers

    @property
    def is_open(self) -> bool:
        return self._connection.state is State.OPEN

    @property
    def is_receiving(self) -> bool:
        """Whether a frame is awaited now."""
        return self._receiving_since is not None

    async def send(self, frame: str | bytes) -> None:
        """Send a text frame or a binary one. Raises `ConnectionEnded`."""
        try:
            await self._connection.send(frame)
        except ConnectionClosed as closed:
            raise _ended(closed) from None

    async def receive(self) -> str | bytes:
        """Wait for the next frame. Raises `ConnectionEnded`."""
        self._receiving_since = time.monotonic()
        try:
            return await self._connection.recv()
        except ConnectionClosed as closed:
            raise _ended(closed) from None
        finally:
            self._receiving_since = None

    async def receive_within(self, timeout_s: float | None) -> str | bytes:
        """Wait for the next frame. Raises `ConnectionEnded`, and `ReceiveTimeout` after a time."""
        try:
            with anyio.fail_after(timeout_s):
                return await self.receive()
        except TimeoutError:
            raise ReceiveTimeout(f"The server sent nothing for {timeout_s:g} s.") from None

    async def start_session(
        self, start: BaseModel, ready_type: type[R], *, timeout_s: float | None
    ) -> R:
        """Send `start` and wait for the server's `ready`.

        Raises `ErrorAnswer` if the server refuses, `ProtocolError` if it offers no such session or
        ignores a field of `start`, `ReceiveTimeout`, and `ConnectionEnded`.
        """
        await self.send(start.model_dump_json(exclude_none=True))
        frame = await self.receive_within(timeout_s)
        if isinstance(frame, bytes):
            raise ProtocolError("The server sent audio before the session was open.")
        message = parse_message(frame)
        if message["type"] == "error":
            raise ErrorAnswer.of_frame(message)
        try:
            ready = ready_type.model_validate(message)
        except ValidationError:
            raise ProtocolError("The server does not offer sessions of this protocol.") from None
        if ready.ignored:
            raise ProtocolError(f"The server does not know {', '.join(ready.ignored)}.")
        return ready

    async def watch(self) -> None:
        """Raise `ReceiveTimeout` when the server hangs; else run until cancelled."""
        stall_s = self._stall_timeout_s
        while True:
            await anyio.sleep(stall_s / 2)
            since = self._receiving_since
            if since is None or time.monotonic() - since <= stall_s:
                continue
            if not await self._answers_ping(since):
                raise ReceiveTimeout("The server does not answer any more.")

    async def close(self) -> None:
        """Close the connection, also while the surrounding scope is being cancelled."""
        with anyio.CancelScope(shield=True):
            await self._connection.close()

    async def _answers_ping(self, since: float) -> bool:
        """Send a ping; a frame that comes meanwhile is as good as its pong."""
        try:
            pong = await self._connection.ping()
            with anyio.fail_after(self._pong_timeout_s):
                # The library may still set the result of a pong that is late.
                await asyncio.shield(pong)
        except TimeoutError:
            return self._receiving_since != since
        except ConnectionClosed:
            return True  # the task that receives learns how it ended
        return True


def _ended(closed: ConnectionClosed) -> ConnectionEnded:
    if closed.rcvd is None:
        return ConnectionEnded(None)
    return ConnectionEnded(closed.rcvd.code, closed.rcvd.reason)
