"""The HTTP doors of the gateway, in front of services that work."""

from __future__ import annotations

import io
import json
import wave
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote

import httpx
import numpy as np
import pytest

from gateway.tests.conftest import Serve
from tests.support.fakes import SAMPLES_PER_CHARACTER, FakeRecognizer, FakeVoice, tone_of
from tests.support.server import Served
from tests.support.wire import wait_for

SECOND = bytes([0, 1]) * 16000


def test_recognition_is_passed_on_as_it_is(serve: Serve, asr: Served) -> None:
    at = serve()
    path = "/api/stt/bytes?sr=16000&ch=1&lang=en"
    direct = httpx.post(f"{asr.http}{path}", content=SECOND)
    relayed = httpx.post(f"{at.http}{path}", content=SECOND)
    assert relayed.status_code == 200
    assert relayed.content == direct.content
    assert relayed.headers["Content-Type"] == direct.headers["Content-Type"]


@pytest.mark.parametrize("body", [{"text": "Hello world"}, {"text": "One. Two.", "format": "wav"}])
def test_speech_is_passed_on_as_it_is(serve: Serve, tts: Served, body: dict[str, Any]) -> None:
    at = serve()
    direct = httpx.post(f"{tts.http}/api/tts", json=body)
    relayed = httpx.post(f"{at.http}/api/tts", json=body)
    assert relayed.status_code == 200
    assert relayed.content == direct.content
    for name in ("Content-Type", "X-Sample-Rate", "X-Channels"):
        assert relayed.headers[name] == direct.headers[name]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/stt/bytes?sr=1", SECOND, 400),
        ("/api/stt/bytes?lang=de", SECOND, 400),
        ("/api/stt/bytes", b"", 400),
        ("/api/stt/bytes", SECOND * 11, 413),
        ("/api/stt/bytes", b"\x00\x80" + SECOND, 500),
        ("/api/tts", b'{"text": ""}', 400),
        ("/api/tts", b"not json", 400),
        ("/api/tts", b'{"text": "' + b"a" * 5001 + b'"}', 413),
        ("/api/tts", b'{"text": "FAIL FAIL FAIL", "format": "wav"}', 500),
    ],
)
def test_a_refusal_is_passed_on_with_the_id(
    serve: Serve, tts: Served, asr: Served, path: str, body: bytes, status: int
) -> None:
    at = serve()
    behind = tts if path == "/api/tts" else asr
    headers = {"X-Request-ID": "through"}
    direct = httpx.post(f"{behind.http}{path}", content=body, headers=headers)
    relayed = httpx.post(f"{at.http}{path}", content=body, headers=headers)
    assert relayed.status_code == direct.status_code == status
    assert relayed.json() == direct.json()
    assert relayed.json()["error"]["request_id"] == "through"


def test_the_echo_says_what_it_heard(serve: Serve) -> None:
    at = serve()
    answer = httpx.post(f"{at.http}/api/echo-bytes?sr=16000&ch=1&fmt=s16le", content=SECOND)
    assert answer.status_code == 200
    assert unquote(answer.headers["X-Transcript"]) == "16000 samples"
    samples = np.frombuffer(answer.content, "<i2")
    assert len(samples) == len("16000 samples") * SAMPLES_PER_CHARACTER
    assert set(samples / 32768) == {tone_of("16000 samples")}


def test_the_echo_answers_at_the_rate_it_was_asked_at(serve: Serve) -> None:
    at = serve()
    answer = httpx.post(f"{at.http}/api/echo-bytes?sr=8000&ch=2&fmt=wav", content=SECOND)
    assert unquote(answer.headers["X-Transcript"]) == "16000 samples"
    with wave.open(io.BytesIO(answer.content)) as wav:
        assert wav.getparams()[:3] == (1, 2, 8000)


def test_silence_is_echoed_by_silence_and_said_so(serve: Serve, voice: FakeVoice) -> None:
    at = serve()
    answer = httpx.post(f"{at.http}/api/echo-bytes", content=bytes(32000))
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["X-Speech"] == "none"
    assert voice.steps == 0


@pytest.mark.parametrize(
    ("query", "body", "status", "code"),
    [
        ("sr=1", SECOND, 400, "bad_request"),
        ("ch=3", SECOND, 400, "bad_request"),
        ("fmt=mp3", SECOND, 400, "bad_request"),
        ("format=wav", SECOND, 400, "bad_request"),
        ("", b"", 400, "empty_audio"),
        ("", b"odd", 400, "bad_request"),
        ("", SECOND * 11, 413, "too_large"),
        ("", b"\x00\x80" + SECOND, 500, "recognition_failed"),
    ],
)
def test_what_cannot_be_echoed_has_its_status(
    serve: Serve, query: str, body: bytes, status: int, code: str
) -> None:
    answer = httpx.post(f"{serve().http}/api/echo-bytes?{query}", content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_a_body_over_the_gateways_own_limit_goes_no_further(
    serve: Serve, recognizer: FakeRecognizer
) -> None:
    at = serve(gateway_max_body_bytes=1000)
    for path in ("/api/stt/bytes", "/api/echo-bytes", "/api/tts"):
        answer = httpx.post(f"{at.http}{path}", content=bytes(1002))
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    assert not recognizer.entered.is_set()


def test_busy_is_passed_on_with_its_retry_after(serve: Serve, recognizer: FakeRecognizer) -> None:
    at = serve()
    recognizer.gate.clear()
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(httpx.post, f"{at.http}/api/stt/bytes", content=SECOND)
        assert recognizer.entered.wait(5)
        refused = httpx.post(f"{at.http}/api/echo-bytes", content=SECOND)
        recognizer.gate.set()
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "busy")
        assert refused.headers["Retry-After"] == "1"
        assert first.result().status_code == 200


def test_a_client_that_leaves_stops_the_recognition_behind(
    serve: Serve, recognizer: FakeRecognizer
) -> None:
    at = serve()
    recognizer.gate.clear()
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{at.http}/api/echo-bytes", content=SECOND, timeout=0.3)
    assert recognizer.was_cancelled.wait(5)


def test_a_client_that_leaves_mid_stream_stops_the_voice_behind(
    serve: Serve, voice: FakeVoice
) -> None:
    at = serve()
    body = {"text": "A sentence of words. " * 230}
    with httpx.stream("POST", f"{at.http}/api/tts", json=body) as answer:
        next(answer.iter_raw())
    assert voice.closed.wait(5)
    wait_for(lambda: voice.open_generators == 0)
    wait_for(lambda: at.app.state.lifecycle.in_flight == 0)


def test_health_says_what_it_knows_of_the_others(serve: Serve, asr: Served) -> None:
    at = serve()
    assert httpx.get(f"{at.http}/healthz").json()["upstreams"] == {"tts": "ready", "asr": "ready"}
    assert httpx.get(f"{at.http}/readyz").status_code == 200
    asr.app.state.lifecycle.state = "draining"
    health = httpx.get(f"{at.http}/healthz")
    assert (health.status_code, health.json()["upstreams"]["asr"]) == (200, "draining")
    ready = httpx.get(f"{at.http}/readyz")
    assert (ready.status_code, ready.json()["reason"]) == (503, "asr is draining")


def test_a_gateway_that_leaves_refuses(serve: Serve) -> None:
    at = serve()
    at.app.state.lifecycle.state = "draining"
    answer = httpx.post(f"{at.http}/api/tts", content=json.dumps({"text": "Hello"}))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "draining")
    assert answer.headers["Retry-After"]
