"""What can go wrong between us and a server of this protocol, whichever way it is spoken to.

WireError
  Unreachable       nobody answers at the address
  ConnectTimeout    a connection was not made in time
  ReceiveTimeout    the server sent nothing for too long
  ConnectionEnded   the connection has ended; `code` is None if it was lost
  ProtocolError     the server sent what is not of the protocol
  ErrorAnswer       the server answered with an error
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from common.protocol.messages import GOING_AWAY, NORMAL, SERVICE_RESTART

ENDED_EARLY = frozenset({NORMAL, GOING_AWAY, SERVICE_RESTART})
"""The close codes of a connection that ends in order: work that is in flight then was not done."""


class WireError(Exception):
    """Base of these errors. `message` is a sentence, or the part of one that says why."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Unreachable(WireError):
    """Nobody answers at the address; `message` is what the operating system says."""


class ConnectTimeout(WireError):
    """A connection was not made in time."""


class ReceiveTimeout(WireError):
    """The server sent nothing for too long."""


class ConnectionEnded(WireError):
    """The connection has ended, with the server's `code` and `reason`; None if it was lost."""

    def __init__(self, code: int | None, reason: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class ProtocolError(WireError):
    """The server sent what is not of the protocol; `message` says what."""


class ErrorAnswer(WireError):
    """The server answered with an error, over HTTP, in an error frame or in an error line.

    `code` is the contract's code; it is empty if the answer is not in the contract's shape: a proxy
    on the way answered, or some other server. `retry_after_s` is the server's advice, where it gave
    one. `status`, `headers` and `body` are those of an HTTP answer.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        request_id: str = "",
        retry_after_s: float | None = None,
        status: int = 0,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.request_id = request_id
        self.retry_after_s = retry_after_s
        self.status = status
        self.headers = headers or {}
        self.body = body

    @classmethod
    def of_http(cls, status: int, body: bytes, headers: Mapping[str, str]) -> ErrorAnswer:
        """Read the answer to a request or to an upgrade, whose status is not the expected one."""
        named = {name.lower(): value for name, value in headers.items()}
        advice = named.get("retry-after", "")
        try:
            error: Any = json.loads(body)["error"]
            message, code = str(error["message"]), str(error["code"])
        except (ValueError, KeyError, TypeError):
            message, code = f"It answered {status} ({_phrase(status)}).", ""
        return cls(
            message,
            code=code,
            request_id=named.get("x-request-id", ""),
            retry_after_s=float(advice) if advice.isdigit() else None,
            status=status,
            headers=headers,
            body=body,
        )

    @classmethod
    def of_frame(cls, message: Mapping[str, Any]) -> ErrorAnswer:
        """Read an error frame of a WebSocket."""
        return cls(
            str(message.get("error")),
            code=str(message.get("code", "")),
            request_id=str(message.get("request_id", "")),
        )


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "unknown status"


def deepest_reason(error: BaseException) -> str:
    """Return what the operating system said, which the libraries above it wrap several times."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            return str(cause.strerror)
        # Where a name has several addresses, asyncio has only a sentence with all their errors.
        numbered = re.search(r"\[Errno (\d+)\]", str(cause))
        if isinstance(cause, OSError) and numbered:
            return os.strerror(int(numbered[1]))
        cause = cause.__cause__ or cause.__context__
    return str(error)
