"""Keys, from a client's environment through the gateway to the services, and into no log."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from client.errors import Refused
from deploy.local import ROOT
from tests.fleet.conftest import StartFleet
from tests.support.wire import open_ws, speak

pytestmark = pytest.mark.fleet

KEY, OTHER = "ada-key-12345", "bob-key-67890"


def test_clients_with_a_key_are_served_and_no_log_holds_it(
    start_fleet: StartFleet, tmp_path: Path
) -> None:
    fleet = start_fleet(API_KEYS=f"ada:{KEY},bob:{OTHER}", LOG_LEVEL="debug", LOG_TEXT="true")

    def run(program: str, *arguments: str, key: str) -> int:
        ended = subprocess.run(
            [sys.executable, str(ROOT / "client" / program), *arguments],
            cwd=tmp_path,
            env={**os.environ, "SPEECH_API_KEY": key},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert KEY not in ended.stdout + ended.stderr
        return ended.returncode

    say = ["--text", "Good morning.", "--url", fleet.url("gateway")]
    url = ["--wav", "said.wav", "--url", fleet.url("gateway")]
    assert run("stream_tts.py", *say, "--out", "none.wav", key="wrong-key-1") == Refused.exit_code
    assert run("stream_tts.py", *say, "--out", "said.wav", key=KEY) == 0
    assert run("transcribe.py", *url, key=KEY) == 0
    assert run("echo_bytes.py", *url, "--out", "echo.wav", key=OTHER) == 0

    for name in ("gateway", "tts"):
        with open_ws(f"{fleet.url(name, scheme='ws')}/ws/tts?token={KEY}") as ws:
            assert speak(ws, "Hello").closing == '{"type":"end"}'
    for name in ("asr", "tts"):
        assert httpx.post(f"{fleet.url(name)}/api/nothing").status_code == 401
        assert httpx.get(f"{fleet.url(name)}/readyz").status_code == 200

    for name in fleet.ports:
        logged = fleet.log(name).read_text()
        assert KEY not in logged
        assert OTHER not in logged
    assert '"caller": "bob"' in fleet.log("gateway").read_text()
