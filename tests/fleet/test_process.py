"""Starting: what is wrong is said in a sentence, and ready means ready."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.local import LocalFleet
from deploy.local.words import words
from tests.fleet.conftest import StartFleet
from tests.support.speech import hear, say
from tests.support.wire import wait_for

pytestmark = pytest.mark.fleet


def run(module: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-m", module],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(root), **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("module", "env", "said"),
    [
        ("tts_service", {"TTS_MODEL": "nobody/nowhere"}, ["nobody/nowhere", "hibari/heart"]),
        ("tts_service", {"TTS_SR": "7000", "TTS_SLOTS": "x"}, ["TTS_SR='7000'", "TTS_SLOTS='x'"]),
        ("asr_service", {"ASR_MAX_SECONDS": "0"}, ["ASR_MAX_SECONDS='0'"]),
        ("gateway", {"GATEWAY_TTS_URL": "tts:8082"}, ["GATEWAY_TTS_URL='tts:8082'"]),
    ],
)
def test_settings_that_do_not_fit_end_the_start_with_a_sentence(
    tmp_path: Path, module: str, env: dict[str, str], said: list[str]
) -> None:
    ended = run(module, tmp_path, **env)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    for words_ in said:
        assert words_ in ended.stderr


def test_a_port_in_use_is_said_with_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = run("gateway", tmp_path, GATEWAY_PORT=port)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in ended.stderr
    assert "GATEWAY_PORT" in ended.stderr


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ("no-such-model", "tiny.en, tiny, base.en"),
        ("base.en", "HF_HUB_OFFLINE=1 forbids a download"),
        ("org/repository", "HF_HUB_OFFLINE=1 forbids a download"),
    ],
)
def test_a_model_that_cannot_be_had_ends_the_service_with_a_sentence(
    tmp_path: Path, model: str, named: str
) -> None:
    env = {"ASR_MODEL": model, "ASR_PORT": "0", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    ended = run("asr_service", tmp_path, LOG_FORMAT="json", **env)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stdout + ended.stderr
    events = [json.loads(line) for line in ended.stdout.splitlines()]
    (failed,) = [e for e in events if e["event"] == "model.load_failed"]
    assert failed["error"].startswith(f"ASR_MODEL='{model}' is neither")
    assert named in failed["error"]
    assert "exception" not in failed


def test_a_misspelt_setting_is_reported_by_name(start_fleet: StartFleet) -> None:
    fleet = start_fleet(TTS_SLOTZ="4")
    events = [json.loads(line) for line in fleet.log("tts").read_text().splitlines()]
    assert [e["variable"] for e in events if e["event"] == "settings.unknown"] == ["TTS_SLOTZ"]


def test_one_request_id_stands_in_the_logs_of_all_three(fleet: LocalFleet) -> None:
    headers = {"X-Request-ID": "one-id-through-the-fleet"}
    pcm = say(fleet, "Hello world.")
    url = f"{fleet.url('gateway')}/api/echo-bytes"
    answer = httpx.post(url, content=pcm, headers=headers, timeout=60)
    assert answer.headers["X-Request-ID"] == headers["X-Request-ID"]

    def events_of(name: str) -> list[dict[str, Any]]:
        events = [json.loads(line) for line in fleet.log(name).read_text().splitlines()]
        return [e for e in events if e.get("request_id") == headers["X-Request-ID"]]

    def logged(name: str) -> bool:
        return bool(events_of(name))

    for name in fleet.ports:
        wait_for(partial(logged, name))  # an answer comes before its line
        assert {e["service"] for e in events_of(name)} == {name}


def test_text_is_logged_only_where_it_is_asked_for(
    fleet: LocalFleet, start_fleet: StartFleet
) -> None:
    sentence = "Nobody knows of the butterfly."
    say(fleet, sentence)
    assert "butterfly" not in fleet.log("tts").read_text()
    talkative = start_fleet(LOG_TEXT="1")
    say(talkative, sentence)
    assert "butterfly" in talkative.log("tts").read_text()


def test_nothing_asks_the_network(start_fleet: StartFleet, tmp_path: Path) -> None:
    """Each process may connect to this machine alone: anything else would be an error."""
    (tmp_path / "sitecustomize.py").write_text(
        "import socket, sys\n"
        "def audit(event, args):\n"
        "    host = None\n"
        "    if event == 'socket.getaddrinfo':\n"
        "        host = args[0]\n"
        "    if event == 'socket.connect' and isinstance(args[1], tuple):\n"
        "        host = args[1][0]\n"
        "    if host not in ('127.0.0.1', 'localhost', None):\n"
        "        raise OSError(f'network forbidden: {host}')\n"
        "sys.addaudithook(audit)\n"
    )
    fleet = start_fleet(PYTHONPATH=str(tmp_path))
    sentence = "Nothing leaves this machine."
    assert words(hear(fleet, say(fleet, sentence))["text"]) == words(sentence)
    for name in fleet.ports:
        assert "network forbidden" not in fleet.log(name).read_text()
