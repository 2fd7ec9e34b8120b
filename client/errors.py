"""Every way in which a client can fail, and the exit code of each program for it.

    ClientError
      BadInput        2  what was asked for cannot be done: no text, no such file, no player
      ServerAway      3  nobody answers at the address
      Refused         4  the server answered with an error of its own
      BrokenOff       5  the answer did not come to its end
      NoSpeech        6  nobody speaks in the recording
    Interrupted     130  Ctrl-C, as shells have it

0 is success, and only after the server said that the answer is whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

INTERRUPTED_EXIT_CODE = 130


class ClientError(Exception):
    """Base of all failures. `message` is a sentence for the person who started the program.

    `partial` is the file that holds what came before the failure, if anything came.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, partial: Path | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.partial = partial


class BadInput(ClientError):
    exit_code = 2


class ServerAway(ClientError):
    exit_code = 3


class Refused(ClientError):
    """`code` is the contract's word for what is wrong; `retry_after_s` is the server's advice."""

    exit_code = 4

    def __init__(self, message: str, *, code: str = "", retry_after_s: str = "") -> None:
        named = f" [{code}]" if code else ""
        advice = f" Try again in {retry_after_s} s." if retry_after_s else ""
        super().__init__(f"The server refused: {message}{named}{advice}")
        self.code = code


class BrokenOff(ClientError):
    exit_code = 5


class NoSpeech(ClientError):
    exit_code = 6


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while a file was being written; `partial` as in `ClientError`."""

    def __init__(self, partial: Path | None) -> None:
        super().__init__()
        self.partial = partial
