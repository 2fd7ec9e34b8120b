"""The WebSocket of an upstream: the wire layer's, whose failures are errors of the gateway."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import anyio
from pydantic import BaseModel

from common.errors import UpstreamFailed, UpstreamTimeout
from common.protocol.messages import NO_STATUS, NORMAL
from common.wire.errors import (
    ENDED_EARLY,
    ConnectionEnded,
    ConnectTimeout,
    ProtocolError,
    ReceiveTimeout,
    Unreachable,
)
from common.wire.messages import parse_as, parse_message
from common.wire.socket import R, WireSocket

M = TypeVar("M", bound=BaseModel)


class SessionClosed(Exception):
    """A session ended in order; the client's socket is closed with the same code and reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason


@contextmanager
def upstream_errors(service: str) -> Iterator[None]:
    """Turn what went wrong with a service into `UpstreamTimeout` or `UpstreamFailed`.

    An `ErrorAnswer` passes: it is the service's own refusal, which its client gets.
    """
    try:
        yield
    except ConnectTimeout:
        raise UpstreamTimeout(f"The {service} service did not answer in time.") from None
    except ReceiveTimeout:
        raise UpstreamTimeout(f"The {service} service does not answer any more.") from None
    except Unreachable as error:
        raise UpstreamFailed(f"The {service} service cannot be reached.") from error
    except ConnectionEnded:
        raise UpstreamFailed(f"The {service} service closed the connection too early.") from None
    except ProtocolError as error:
        raise UpstreamFailed(
            f"The {service} service sent something that is not of the protocol."
        ) from error


class UpstreamSocket(WireSocket):
    """An open WebSocket to the service `name`. What it raises is as `upstream_errors` says.

    Only `send` and `receive` raise `ConnectionEnded`, whose meaning depends on the work in flight.
    """

    name = ""

    async def send_while_open(self, frame: str | bytes) -> None:
        """Send a frame. Once the connection has ended, this waits to be cancelled.

        The task that receives learns how it ended.
        """
        try:
            await self.send(frame)
        except ConnectionEnded:
            await anyio.sleep_forever()

    async def start_session(
        self, start: BaseModel, ready_type: type[R], *, timeout_s: float | None
    ) -> R:
        with upstream_errors(self.name):
            return await super().start_session(start, ready_type, timeout_s=timeout_s)

    async def watch(self) -> None:
        with upstream_errors(self.name):
            await super().watch()

    def parse(self, frame: str | bytes) -> dict[str, Any]:
        """Read a frame as a message."""
        with upstream_errors(self.name):
            return parse_message(frame)

    def parse_as(self, kind: type[M], message: Mapping[str, Any]) -> M:
        """Read a message as a `kind`."""
        with upstream_errors(self.name):
            return parse_as(kind, message)

    def ending(self, ended: ConnectionEnded, *, in_flight: bool) -> SessionClosed | UpstreamFailed:
        """Say what the end of the connection means; `in_flight`: work was left unfinished."""
        if ended.code is None or (in_flight and ended.code in ENDED_EARLY):
            return UpstreamFailed(f"The {self.name} service closed the connection too early.")
        return SessionClosed(NORMAL if ended.code == NO_STATUS else ended.code, ended.reason)
