"""A WebSocket to the server: JSON and audio both ways, and its failures under our names."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import anyio
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.protocol import State

from client import address
from client.answers import refusal
from client.errors import BadInput, BrokenOff, ClientError, Lost, ServerAway, refused

CLOSE_TIMEOUT_S = 1.0
NORMAL, GOING_AWAY, TOO_BIG, SERVICE_RESTART = 1000, 1001, 1009, 1012
_WENT_AWAY = {NORMAL, GOING_AWAY, SERVICE_RESTART}


class Connection:
    """Made by `Connection.open`. `what` is what is expected of it, as errors call it."""

    def __init__(self, socket: ClientConnection, what: str) -> None:
        self._socket = socket
        self._what = what
        self.has_delivered = False
        """Whether the caller has anything of it; that decides how its failures are called."""

    @classmethod
    async def open(
        cls, uri: str, *, what: str, headers: Mapping[str, str], timeout_s: float
    ) -> Connection:
        """Raises `BadInput`, `ServerAway`, or `Refused` if the server refuses the upgrade."""
        address.check(uri, "ws", "wss")
        try:
            socket = await connect(
                uri,
                additional_headers=dict(headers),
                compression=None,
                proxy=None if address.is_on_this_machine(uri) else True,
                open_timeout=timeout_s,
                close_timeout=CLOSE_TIMEOUT_S,
                max_size=None,
            )
        except InvalidURI as error:
            example = "ws://localhost:8000/ws/tts"
            raise BadInput(f"{uri!r} is not an address like {example}: {error}.") from None
        except InvalidStatus as said:
            answer = said.response
            raise refusal(answer.status_code, bytes(answer.body or b""), answer.headers) from None
        except InvalidHandshake as error:
            raise ServerAway(f"What answers at {uri} does not speak WebSocket: {error}.") from None
        except (TimeoutError, asyncio.TimeoutError):  # two classes on Python 3.10
            raise ServerAway(f"{uri} did not answer within {timeout_s:g} s.") from None
        except OSError as error:
            why = address.deepest_reason(error)
            raise ServerAway(f"There is no server at {uri}: {why}. Is the fleet running?") from None
        return cls(socket, what)

    @property
    def headers(self) -> Mapping[str, str]:
        """Those of the server's handshake."""
        assert self._socket.response is not None
        return self._socket.response.headers

    @property
    def is_open(self) -> bool:
        return self._socket.state is State.OPEN

    async def send(self, message: Mapping[str, Any] | bytes) -> None:
        """A message as JSON, or audio. Raises as `receive` does for a closed connection."""
        try:
            await self._socket.send(message if isinstance(message, bytes) else json.dumps(message))
        except ConnectionClosed as closed:
            raise self._how_it_closed(closed) from None

    async def receive(self, timeout_s: float | None) -> dict[str, Any] | bytes:
        """The next message or frame of audio.

        Raises `SentNothing` after `timeout_s`, `Lost` or `Refused` if the connection has ended, and
        `BrokenOff` for what is not of the protocol.
        """
        try:
            with anyio.fail_after(timeout_s):
                frame = await self._socket.recv()
        except TimeoutError:
            raise SentNothing(f"The server sent nothing for {timeout_s:g} s.") from None
        except ConnectionClosed as closed:
            raise self._how_it_closed(closed) from None
        return frame if isinstance(frame, bytes) else _message(frame)

    async def close(self) -> None:
        await self._socket.close()

    def refusal(self, message: Mapping[str, Any]) -> ClientError:
        """The error that an error frame stands for: of something begun, or before it."""
        sentence, code = str(message.get("error")), str(message.get("code", ""))
        request_id = str(message.get("request_id", ""))
        if not self.has_delivered:
            return refused(sentence, code=code, request_id=request_id)
        named = f"The server broke off: {sentence} [{code}]"
        return BrokenOff(named, code=code, request_id=request_id)

    def _how_it_closed(self, closed: ConnectionClosed) -> ClientError:
        rcvd = closed.rcvd
        if rcvd is None:
            return Lost(f"The connection was lost before the {self._what} was whole.")
        if rcvd.code == TOO_BIG and not self.has_delivered:
            return refused("A message is over the server's limit.", code="too_large")
        reason = f", {rcvd.reason}" if rcvd.reason else ""
        kind = Lost if rcvd.code in _WENT_AWAY else BrokenOff
        return kind(
            f"The server closed the connection before the {self._what} was whole ({rcvd.code}"
            f"{reason})."
        )


class SentNothing(BrokenOff):
    """The server let more time pass than is waited for."""


def _message(frame: str) -> dict[str, Any]:
    try:
        message: Any = json.loads(frame)
    except ValueError:
        message = None
    if isinstance(message, dict) and isinstance(message.get("type"), str):
        return message
    raise BrokenOff(f"The server sent something that is not of the protocol: {frame[:80]!r}.")
