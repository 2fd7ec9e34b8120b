"""The HTTP endpoints of the gateway, in front of services that work."""

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
from websockets.exceptions import InvalidStatus

from gateway.tests.conftest import Serve
from tests.support.fakes import SAMPLES_PER_CHARACTER, FakeRecognizer, FakeVoice, tone_of
from tests.support.server import Served
from tests.support.wire import open_ws, wait_for

SECOND = bytes([0, 1]) * 16000


def test_a_transcript_is_passed_on_unchanged(serve: Serve, asr: Served) -> None:
    at = serve()
    path = "/api/stt/bytes?sr=16000&ch=1&lang=en"
    direct = httpx.post(f"{asr.http}{path}", content=SECOND)
    relayed = httpx.post(f"{at.http}{path}", content=SECOND)
    assert relayed.status_code == 200
    assert relayed.content == direct.content
    assert relayed.headers["Content-Type"] == direct.headers["Content-Type"]


def test_voices_and_models_are_listed_as_the_services_list_them(
    serve: Serve, tts: Served, asr: Served
) -> None:
    at = serve()
    for service, path in ((tts, "/api/voices"), (asr, "/api/models")):
        direct, relayed = httpx.get(f"{service.http}{path}"), httpx.get(f"{at.http}{path}")
        assert (relayed.status_code, relayed.json()) == (200, direct.json())


def test_a_websocket_path_that_does_not_exist_is_404(serve: Serve) -> None:
    with pytest.raises(InvalidStatus) as refusal, open_ws(f"{serve().ws}/ws/nowhere"):
        pass
    assert refusal.value.response.status_code == 404


@pytest.mark.parametrize("body", [{"text": "Hello world"}, {"text": "One. Two.", "format": "wav"}])
def test_speech_is_passed_on_unchanged(serve: Serve, tts: Served, body: dict[str, Any]) -> None:
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


def test_the_echo_names_the_transcript_in_a_header(serve: Serve) -> None:
    at = serve()
    answer = httpx.post(f"{at.http}/api/echo-bytes?sr=16000&ch=1&fmt=s16le", content=SECOND)
    assert answer.status_code == 200
    assert unquote(answer.headers["X-Transcript"]) == "16000 samples"
    samples = np.frombuffer(answer.content, "<i2")
    assert len(samples) == len("16000 samples") * SAMPLES_PER_CHARACTER
    assert set(samples / 32768) == {tone_of("16000 samples")}


def test_the_echo_has_the_sample_rate_of_the_recording(serve: Serve) -> None:
    at = serve()
    answer = httpx.post(f"{at.http}/api/echo-bytes?sr=8000&ch=2&fmt=wav", content=SECOND)
    assert unquote(answer.headers["X-Transcript"]) == "16000 samples"
    with wave.open(io.BytesIO(answer.content)) as wav:
        assert wav.getparams()[:3] == (1, 2, 8000)


def test_the_echo_of_silence_is_empty_and_says_so_in_a_header(
    serve: Serve, voice: FakeVoice
) -> None:
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
def test_an_echo_that_fails_has_the_status_of_its_error(
    serve: Serve, query: str, body: bytes, status: int, code: str
) -> None:
    answer = httpx.post(f"{serve().http}/api/echo-bytes?{query}", content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_a_body_over_the_gateways_limit_is_not_passed_on(
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


def test_a_client_that_disconnects_stops_the_recognition(
    serve: Serve, recognizer: FakeRecognizer
) -> None:
    at = serve()
    recognizer.gate.clear()
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{at.http}/api/echo-bytes", content=SECOND, timeout=0.3)
    assert recognizer.was_cancelled.wait(5)


def test_a_client_that_disconnects_mid_stream_stops_the_synthesis(
    serve: Serve, voice: FakeVoice
) -> None:
    at = serve()
    body = {"text": "A sentence of words. " * 230}
    with httpx.stream("POST", f"{at.http}/api/tts", json=body) as answer:
        next(answer.iter_raw())
    assert voice.closed.wait(5)
    wait_for(lambda: voice.open_generators == 0)
    wait_for(lambda: at.app.state.lifecycle.in_flight == 0)


def test_health_reports_the_states_of_the_services(serve: Serve, asr: Served) -> None:
    at = serve()
    assert httpx.get(f"{at.http}/healthz").json()["upstreams"] == {"tts": "ready", "asr": "ready"}
    assert httpx.get(f"{at.http}/readyz").status_code == 200
    asr.app.state.lifecycle.state = "draining"
    health = httpx.get(f"{at.http}/healthz")
    assert (health.status_code, health.json()["upstreams"]["asr"]) == (200, "draining")
    ready = httpx.get(f"{at.http}/readyz")
    assert (ready.status_code, ready.json()["reason"]) == (503, "asr is draining")


def test_a_draining_gateway_refuses_requests(serve: Serve) -> None:
    at = serve()
    at.app.state.lifecycle.state = "draining"
    answer = httpx.post(f"{at.http}/api/tts", content=json.dumps({"text": "Hello"}))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "draining")
    assert answer.headers["Retry-After"]
