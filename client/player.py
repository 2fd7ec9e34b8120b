"""Playing a WAV file through whatever player the machine has."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from client.errors import BadInput

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
