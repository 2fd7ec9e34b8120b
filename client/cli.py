"""What the programs share: options, reports, failures, progress on a terminal, a player."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from client.connection import DEFAULT_URL
from client.errors import INTERRUPTED_EXIT_CODE, BadInput, ClientError, Interrupted

EXIT_CODES = (
    "exit codes: 0 done; 2 bad arguments or files; 3 no server at the address; 4 the server "
    "refused; 5 the answer broke off; 6 nobody speaks in the recording; 130 interrupted. What came "
    "before a failure is kept in OUT.part; OUT itself is only ever a whole file."
)


def add_url_option(parser: argparse.ArgumentParser) -> None:
    """Add `--url`; `--uri` is its older name."""
    parser.add_argument(
        "--url", default=DEFAULT_URL, help="the server's address; default: %(default)s"
    )
    parser.add_argument("--uri", dest="url", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def exit_code(command: Callable[[], None]) -> int:
    """Run `command`; a failure becomes a sentence on stderr and an exit code."""
    try:
        command()
    except ClientError as error:
        print_error(error.message, error.partial)
        return error.exit_code
    except KeyboardInterrupt as stop:
        print_error("Interrupted.", stop.partial if isinstance(stop, Interrupted) else None)
        return INTERRUPTED_EXIT_CODE
    return 0


def print_error(sentence: str, partial: Path | None) -> None:
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


PLAYERS: tuple[tuple[str, ...], ...] = (
    ("pw-play",),
    ("paplay",),
    ("aplay", "-q"),
    ("afplay",),
    ("play", "-q"),
    ("ffplay", "-nodisp", "-autoexit", "-loglevel", "error"),
    ("mpv", "--no-video", "--really-quiet"),
)
"""PipeWire, PulseAudio, ALSA, macOS, SoX, FFmpeg, mpv; the first that exists is used."""


def find_player(path: str | None = None) -> tuple[str, ...]:
    """The command that plays a file given after it.

    `path` is searched instead of `PATH`. Raises `BadInput`, naming what was looked for.
    """
    for command in PLAYERS:
        if found := shutil.which(command[0], path=path):
            return (found, *command[1:])
    names = ", ".join(command[0] for command in PLAYERS)
    raise BadInput(f"There is no player to play with; looked for {names}.")


def play(command: tuple[str, ...], wav: Path) -> None:
    """Play `wav` to its end. Raises `BadInput` if the player fails."""
    status = subprocess.run([*command, str(wav)], check=False).returncode
    if status:
        raise BadInput(f"The player {command[0]} failed with status {status}; {wav} is whole.")
