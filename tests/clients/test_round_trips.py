"""Other people's programs for OpenAI's API work when only the address is changed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from deploy.local import LocalFleet
from deploy.local.words import words

TEXT = "The library opens at eight in the morning. It closes at six in the evening."


@pytest.mark.parametrize("script", ["livekit_round_trip.py", "pipecat_round_trip.py"])
def test_what_it_has_spoken_it_hears(tmp_path: Path, script: str) -> None:
    python = os.environ.get("CLIENTS_PYTHON")
    if not python:
        pytest.fail("CLIENTS_PYTHON is not set: run `make test-clients`.")
    with LocalFleet(tmp_path) as fleet:
        ended = subprocess.run(
            [python, str(Path(__file__).parent / script), f"{fleet.url('gateway')}/v1", TEXT],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert ended.returncode == 0, ended.stderr
    heard = ended.stdout.splitlines()
    assert heard
    for line in heard:
        assert words(line) == words(TEXT)
