"""Home Assistant speaks and listens with a fleet whose address it is given."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from deploy.local import LocalFleet, free_ports
from deploy.local.words import words

TEXT = "The library opens at eight in the morning. It closes at six in the evening."
HERE = Path(__file__).parent / "home_assistant"


def test_it_speaks_and_hears_through_the_fleet(tmp_path: Path) -> None:
    python = os.environ.get("HOME_ASSISTANT_PYTHON")
    if not python:
        pytest.fail("HOME_ASSISTANT_PYTHON is not set: run `make test-home-assistant`.")
    port = str(free_ports()["gateway"])
    with LocalFleet(tmp_path, env={"GATEWAY_WYOMING_PORT": port}):
        ended = subprocess.run(
            [
                str(Path(python).absolute()),
                "-m",
                "pytest",
                "-p",
                "no:cacheprovider",
                "-s",
                "round_trip.py",
            ],
            cwd=HERE,
            env={**os.environ, "WYOMING_PORT": port, "TEXT": TEXT},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-4000:]
    (heard,) = re.findall(r"heard: (.*)", ended.stdout)
    assert words(heard) == words(TEXT)
