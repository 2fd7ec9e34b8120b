"""A WebSocket to the server: JSON and audio both ways, its failures as errors of the client."""

from __future__ import annotations

import ipaddress
import json
import math
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, TypeAdapter
from typing_extensions import Self
from websockets.exceptions import InvalidURI

from client.errors import BadInput, BrokenOff, ClientError, Lost, ServerAway, refused
from common.protocol.messages import TOO_BIG
from common.wire.errors import (
    ENDED_EARLY,
    ConnectionEnded,
    ConnectTimeout,
    ErrorAnswer,
    ProtocolError,
    ReceiveTimeout,
    Unreachable,
)
from common.wire.messages import parse_known, parse_message
from common.wire.socket import R, WireSocket

DEFAULT_URL = "http://localhost:8000"
KEY_VARIABLE = "SPEECH_API_KEY"
"""The environment variable with the key for servers that ask for one."""
PATHS = ("/ws/tts", "/ws/stt", "/ws/echo")
_HTTP_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


def key_header(key: str | None = None) -> dict[str, str]:
    """Return the header that carries the key, which is `SPEECH_API_KEY` by default."""
    key = os.environ.get(KEY_VARIABLE, "").strip() if key is None else key
    return {"Authorization": f"Bearer {key}"} if key else {}


def server_url(address: str) -> str:
    """Return the HTTP address of the server at `address`.

    `address` may have the scheme of HTTP or of WebSockets, and may end in one of the server's
    `PATHS`. Raises `BadInput` if it is anything else.
    """
    try:
        parts = urlsplit(address)
        fits = parts.scheme in _HTTP_SCHEMES and parts.hostname is not None and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise BadInput(f"{address!r} is not an address like {DEFAULT_URL}.")
    path = parts.path.rstrip("/")
    for known in PATHS:
        path = path.removesuffix(known)
    return f"{_HTTP_SCHEMES[parts.scheme]}://{parts.netloc}{path}"


def is_on_this_machine(address: str) -> bool:
    """Tell whether it is a loopback address, which no proxy of the environment can reach."""
    host = urlsplit(address).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Connection:
    """A WebSocket. `what` is what is expected of it, as its errors call it."""

    def __init__(self, socket: WireSocket, what: str) -> None:
        self._socket = socket
        self._what = what
        self.has_delivered = False
        """Whether the caller has any of it. That decides which error a failure is."""

    @classmethod
    async def open(
        cls,
        url: str,
        path: str,
        *,
        what: str,
        headers: Mapping[str, str],
        timeout_s: float,
        stall_timeout_s: float = math.inf,
        pong_timeout_s: float = math.inf,
    ) -> Self:
        """Connect to the WebSocket at `path` of the server at `url`.

        The other timeouts are those of `WireSocket.open`.

        Raises `BadInput`, `ServerAway`, or `Refused` if the server refuses the upgrade.
        """
        address = server_url(url).replace("http", "ws", 1) + path
        try:
            socket = await WireSocket.open(
                address,
                headers=headers,
                timeout_s=timeout_s,
                use_proxy=not is_on_this_machine(address),
                stall_timeout_s=stall_timeout_s,
                pong_timeout_s=pong_timeout_s,
            )
        except InvalidURI as error:
            raise BadInput(f"{address!r} is not an address: {error}.") from None
        except ErrorAnswer as answer:
            raise refused(answer) from None
        except ConnectTimeout:
            raise ServerAway(f"{address} did not answer within {timeout_s:g} s.") from None
        except ProtocolError as error:
            raise ServerAway(f"{address} is no speech server. {error.message}") from None
        except Unreachable as error:
            raise ServerAway(
                f"There is no server at {address}: {error.message}. Is the fleet running?"
            ) from None
        return cls(socket, what)

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers with which the server accepted."""
        return self._socket.headers

    @property
    def is_open(self) -> bool:
        return self._socket.is_open

    async def start_session(self, start: BaseModel, ready_type: type[R], timeout_s: float) -> R:
        """Send `start` and return the server's `ready`; close the connection if that fails.

        Raises `Refused`, and `BrokenOff` if the server offers no such session or does not know all
        of `start`.
        """
        try:
            with self._translated_errors():
                return await self._socket.start_session(start, ready_type, timeout_s=timeout_s)
        except BaseException:
            await self.close()
            raise

    async def send(self, message: BaseModel | Mapping[str, Any] | bytes) -> None:
        """Send a message as JSON, or audio. Raises as `receive` does for a closed connection."""
        frame: str | bytes
        if isinstance(message, bytes):
            frame = message
        elif isinstance(message, BaseModel):
            frame = message.model_dump_json(exclude_none=True)
        else:
            frame = json.dumps(message, separators=(",", ":"))
        with self._translated_errors():
            await self._socket.send(frame)

    async def receive(self, timeout_s: float | None) -> dict[str, Any] | bytes:
        """Wait for the next message or frame of audio.

        Raises `SentNothing` after `timeout_s`, `Lost` or `Refused` if the connection has ended, and
        `BrokenOff` for what is not of the protocol.
        """
        with self._translated_errors():
            frame = await self._socket.receive_within(timeout_s)
            return frame if isinstance(frame, bytes) else parse_message(frame)

    def parse_known(self, messages: TypeAdapter[Any], message: Mapping[str, Any]) -> Any:
        """Read a message; return None for a type that is not known here. Raises `BrokenOff`."""
        with self._translated_errors():
            return parse_known(messages, message)

    async def watch(self) -> None:
        """Close the connection when the server does not answer any more.

        Whoever receives then learns that it was lost.
        """
        try:
            await self._socket.watch()
        except ReceiveTimeout:
            await self.close()

    async def close(self) -> None:
        await self._socket.close()

    def error_of(self, message: Mapping[str, Any]) -> ClientError:
        """Return the error that an error frame stands for."""
        answer = ErrorAnswer.of_frame(message)
        if not self.has_delivered:
            return refused(answer)
        return BrokenOff(
            f"The server broke off: {answer.message} [{answer.code}]",
            code=answer.code,
            request_id=answer.request_id,
        )

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except ConnectionEnded as ended:
            raise self._error_of_end(ended) from None
        except ErrorAnswer as answer:
            raise refused(answer) from None
        except ReceiveTimeout as error:
            raise SentNothing(error.message) from None
        except ProtocolError as error:
            raise BrokenOff(error.message) from None

    def _error_of_end(self, ended: ConnectionEnded) -> ClientError:
        if ended.code is None:
            return Lost(f"The connection was lost before the {self._what} was whole.")
        if ended.code == TOO_BIG and not self.has_delivered:
            return refused(ErrorAnswer("A message is over the server's limit.", code="too_large"))
        reason = f", {ended.reason}" if ended.reason else ""
        kind = Lost if ended.code in ENDED_EARLY else BrokenOff
        return kind(
            f"The server closed the connection before the {self._what} was whole ({ended.code}"
            f"{reason})."
        )


class SentNothing(BrokenOff):
    """The server let more time pass than is waited for."""


Open = Callable[[], Awaitable[Connection]]
"""What opens a connection, again for each attempt."""
