"""Pipecat's services for OpenAI's API, with nothing changed but the address."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from deploy.local import LocalFleet
from deploy.words import words

TEXT = "The library opens at eight in the morning. It closes at six in the evening."
SCRIPT = Path(__file__).parent / "pipecat_round_trip.py"


def test_what_pipecat_has_spoken_it_hears(tmp_path: Path) -> None:
    python = os.environ.get("CLIENTS_PYTHON")
    if not python:
        pytest.fail("CLIENTS_PYTHON is not set: run `make test-clients`.")
    with LocalFleet(tmp_path) as fleet:
        ended = subprocess.run(
            [python, str(SCRIPT), f"{fleet.url('gateway')}/v1", TEXT],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert ended.returncode == 0, ended.stderr
    assert words(ended.stdout) == words(TEXT)
