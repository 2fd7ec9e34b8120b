"""What the programs share: how they report, how they fail, what they say on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from client.errors import INTERRUPTED_EXIT_CODE, ClientError, Interrupted

EXIT_CODES = (
    "exit codes: 0 done; 2 bad arguments or files; 3 no server at the address; 4 the server "
    "refused; 5 the answer broke off; 6 nobody speaks in the recording; 130 interrupted. What came "
    "before a failure is kept in OUT.part; OUT itself is only ever a whole file."
)


def exit_code(command: Callable[[], None]) -> int:
    """Run `command`; a failure becomes a sentence on stderr and an exit code."""
    try:
        command()
    except ClientError as error:
        complain(error.message, error.partial)
        return error.exit_code
    except KeyboardInterrupt as stop:
        complain("Interrupted.", stop.partial if isinstance(stop, Interrupted) else None)
        return INTERRUPTED_EXIT_CODE
    return 0


def complain(sentence: str, partial: Path | None) -> None:
    kept = f" What came before is in {partial}." if partial else ""
    print(sentence + kept, file=sys.stderr)


def report(name: str, value: str) -> None:
    """One line of the result, on stdout."""
    print(f"{name:<18}{value}", flush=True)


@contextmanager
def progress(what: str) -> Iterator[Callable[[float], None]]:
    """A line on stderr that counts seconds of audio; nothing unless stderr is a terminal.

    Yields what is to be called with the seconds of audio so far.
    """
    shape = "{desc}: {n:.1f} s of audio after {elapsed_s:.1f} s"
    with tqdm(desc=what, disable=None, leave=False, bar_format=shape, mininterval=0.05) as line:

        def update(audio_s: float) -> None:
            line.update(audio_s - line.n)

        yield update
