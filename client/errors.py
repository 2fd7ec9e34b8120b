"""Every way in which a client can fail, and the exit code of each program for it.

    ClientError
      BadInput        2  what was asked for cannot be done: no text, no such file, no player
      ServerAway      3  nobody answers at the address
      Refused         4  the server answered with an error of its own
        Unavailable   4  it cannot serve this now, and may later: busy, loading, leaving, limited
      BrokenOff       5  the answer did not come to its end
        Lost          5  because the connection or the server went away
      NoSpeech        6  nobody speaks in the recording
    Interrupted     130  Ctrl-C, as shells have it

0 is success, and only after the server said that the answer is whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

INTERRUPTED_EXIT_CODE = 130
_MAY_WORK_LATER = {"busy", "loading", "draining", "rate_limited", "queue_full"}


class ClientError(Exception):
    """Base of all failures. `message` is a sentence for a person.

    `code` is the contract's word for what is wrong and `request_id` what the server's logs call the
    request, where the server said so; `partial` is the file that holds what came before the
    failure, if a file was being written and anything came.
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
    exit_code = 2


class ServerAway(ClientError):
    exit_code = 3


class Refused(ClientError):
    """`retry_after_s` is the server's advice, where it gave one."""

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
    pass


class BrokenOff(ClientError):
    exit_code = 5


class Lost(BrokenOff):
    pass


class NoSpeech(ClientError):
    exit_code = 6


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while a file was being written; `partial` as in `ClientError`."""

    def __init__(self, partial: Path | None) -> None:
        super().__init__()
        self.partial = partial


def refused(
    message: str, *, code: str = "", request_id: str = "", retry_after_s: float | None = None
) -> Refused:
    """The error that a refusal of the server is."""
    kind = Unavailable if code in _MAY_WORK_LATER else Refused
    return kind(message, code=code, request_id=request_id, retry_after_s=retry_after_s)
