"""Every way in which a client can fail, and the exit code of each program for it.

    ClientError
      BadInput        2  what was asked for cannot be done: no text, no such file, no player
      ServerAway      3  no server answers at the address
      Refused         4  the server answered with an error
        Unavailable   4  it is busy, loading or shutting down, or the key has reached its limit
      BrokenOff       5  the answer did not come to its end
        Lost          5  because the connection or the server went away
      NoSpeech        6  nobody speaks in the recording
    Interrupted     130  Ctrl-C; 130 is what shells use for it

0 is success, and only after the server said that the answer is whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from common.wire.errors import ErrorAnswer

INTERRUPTED_EXIT_CODE = 130
_MAY_WORK_LATER = {"busy", "loading", "draining", "rate_limited", "queue_full"}


class ClientError(Exception):
    """Base of all failures. `message` is a sentence for a person.

    `code` is the contract's code and `request_id` the id of the request in the server's logs, where
    the server sent them. `partial` is the file with the audio that came before the failure, if a
    file was being written and any audio came.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self, message: str, *, code: str = "", request_id: str = "", partial: Path | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.request_id = request_id
        self.partial = partial


class BadInput(ClientError):
    """What was asked for cannot be done; nothing was sent."""

    exit_code = 2


class ServerAway(ClientError):
    """No server answers at the address."""

    exit_code = 3


class Refused(ClientError):
    """The server answered with an error. `retry_after_s` is its advice, where it gave one."""

    exit_code = 4

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        request_id: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        named = f" [{code}]" if code else ""
        advice = "" if retry_after_s is None else f" Try again in {retry_after_s:g} s."
        super().__init__(
            f"The server refused: {message}{named}{advice}", code=code, request_id=request_id
        )
        self.retry_after_s = retry_after_s


class Unavailable(Refused):
    """The server cannot serve this now, and may later."""


class BrokenOff(ClientError):
    """The answer did not come to its end, or is not to be trusted."""

    exit_code = 5


class Lost(BrokenOff):
    """The connection or the server went away before the answer was whole."""


class NoSpeech(ClientError):
    """Nobody speaks in the recording."""

    exit_code = 6


class Interrupted(KeyboardInterrupt):
    """Ctrl-C was pressed while a file was being written; `partial` is as in `ClientError`."""

    def __init__(self, partial: Path | None) -> None:
        super().__init__()
        self.partial = partial


def refused(answer: ErrorAnswer) -> Refused:
    """Return the error that a server's error is to its caller."""
    kind = Unavailable if answer.code in _MAY_WORK_LATER else Refused
    return kind(
        answer.message,
        code=answer.code,
        request_id=answer.request_id,
        retry_after_s=answer.retry_after_s,
    )
