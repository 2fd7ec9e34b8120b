"""`/ws/tts` through the gateway, in front of a service that works."""

from __future__ import annotations

import json
import logging
import time

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from gateway.tests.conftest import Serve
from tests.support.fakes import FakeVoice
from tests.support.server import Served
from tests.support.wire import close_of, closing_of, open_ws, read_utterance, speak, wait_for


def test_frames_are_passed_on_unchanged(serve: Serve, tts: Served) -> None:
    at = serve()
    text = "First a sentence of many words. Then another one."
    with open_ws(f"{tts.ws}/ws/tts") as direct, open_ws(f"{at.ws}/ws/tts") as relayed:
        expected, got = speak(direct, text), speak(relayed, text)
    assert got == expected
    assert got.closing == '{"type":"end"}'


def test_the_handshake_describes_the_audio(serve: Serve, tts: Served) -> None:
    at = serve()
    for where in (tts, at):
        with open_ws(f"{where.ws}/ws/tts") as ws:
            assert ws.response is not None
            assert ws.response.headers["X-Sample-Rate"] == "16000"
            assert ws.response.headers["X-Channels"] == "1"
            assert len(ws.response.headers.get_all("X-Request-ID")) == 1


def test_compression_is_not_used_even_if_offered(serve: Serve) -> None:
    with open_ws(f"{serve().ws}/ws/tts", compression="deflate") as ws:
        assert ws.response is not None
        assert "Sec-WebSocket-Extensions" not in ws.response.headers
        assert speak(ws, "Hello world").closing == '{"type":"end"}'


@pytest.mark.parametrize(
    ("frame", "close_code", "code"),
    [
        ('{"text": ""}', 1003, "empty_text"),
        ("not json", 1007, "bad_request"),
        (b"\x00", 1003, "bad_request"),
        (json.dumps({"text": "a" * 5001}), 1009, "too_large"),
        ('{"text": "FAIL"}', 0, ""),
        ('{"text": "FAIL FAIL FAIL FAIL"}', 1011, "synthesis_failed"),
    ],
)
def test_errors_and_close_codes_are_those_of_the_service(
    serve: Serve, frame: str | bytes, close_code: int, code: str
) -> None:
    with open_ws(f"{serve().ws}/ws/tts", additional_headers={"X-Request-ID": "r7"}) as ws:
        ws.send(frame)
        if not close_code:
            assert read_utterance(ws).closing == '{"type":"end"}'
            return
        message, closed_with = closing_of(ws)
    assert (closed_with, message["code"], message["request_id"]) == (close_code, code, "r7")


def test_a_full_service_refuses_the_upgrade_through_the_gateway(
    serve: Serve, voice: FakeVoice
) -> None:
    at = serve()
    voice.gate.clear()
    with open_ws(f"{at.ws}/ws/tts") as one, open_ws(f"{at.ws}/ws/tts") as two:
        for ws in (one, two):
            ws.send('{"text": "Hello"}')

        def refused() -> bool:
            try:
                with open_ws(f"{at.ws}/ws/tts"):
                    return False
            except InvalidStatus as refusal:
                answer = refusal.response
                assert answer.status_code == 503
                assert answer.headers["Retry-After"] == "1"
                assert json.loads(answer.body or b"")["error"]["code"] == "busy"
                return True

        wait_for(refused)
        voice.gate.set()
        for ws in (one, two):
            assert read_utterance(ws).closing == '{"type":"end"}'


def test_the_gateways_session_limit_refuses_the_upgrade(serve: Serve) -> None:
    at = serve(gateway_max_sessions=1)
    with open_ws(f"{at.ws}/ws/tts") as ws:
        with pytest.raises(InvalidStatus) as refusal, open_ws(f"{at.ws}/ws/tts"):
            pass
        assert refusal.value.response.status_code == 503
        assert speak(ws, "Hello").closing == '{"type":"end"}'


def test_a_client_that_disconnects_stops_the_synthesis(
    serve: Serve, voice: FakeVoice, tts: Served
) -> None:
    at = serve()
    voice.gate.clear()
    with open_ws(f"{at.ws}/ws/tts") as ws:
        ws.send(json.dumps({"text": "A sentence. " * 300}))
        wait_for(lambda: voice.open_generators == 1)
    lifecycles = [at.app.state.lifecycle, tts.app.state.lifecycle]
    wait_for(lambda: all(lifecycle.in_flight == 0 for lifecycle in lifecycles))
    voice.gate.set()
    assert voice.closed.wait(5)
    assert voice.steps <= 3


def test_an_idle_session_of_the_service_ends_with_its_code_and_reason(
    serve: Serve, tts: Served
) -> None:
    at = serve()
    object.__setattr__(tts.app.state.settings, "idle_timeout_s", 0.1)
    with open_ws(f"{at.ws}/ws/tts") as ws:
        assert close_of(ws) == (1001, "idle for 0.1 s")


def test_a_quiet_session_stays_open_while_the_service_lives(serve: Serve) -> None:
    at = serve(gateway_stall_timeout_s=0.3)
    with open_ws(f"{at.ws}/ws/tts") as ws:
        time.sleep(1.2)
        assert speak(ws, "Hello").closing == '{"type":"end"}'


def test_a_slow_reader_is_waited_for(serve: Serve, voice: FakeVoice, tts: Served) -> None:
    at = serve(gateway_stall_timeout_s=0.3)
    with open_ws(f"{at.ws}/ws/tts", max_queue=1) as ws:
        ws.send(json.dumps({"text": "A sentence of words. " * 230}))
        ws.recv(10)
        time.sleep(1.2)
        assert read_utterance(ws).closing == '{"type":"end"}'


def test_a_client_that_reads_nothing_is_dropped_after_the_idle_time(
    serve: Serve, voice: FakeVoice
) -> None:
    at = serve(idle_timeout_s=0.3)
    with open_ws(f"{at.ws}/ws/tts", max_queue=1) as ws:
        for _ in range(40):
            ws.send(json.dumps({"text": "A sentence of words. " * 230}))
        ws.recv(10)
        wait_for(lambda: at.app.state.lifecycle.in_flight == 0, 20)
    wait_for(lambda: voice.open_generators == 0)


def test_an_utterance_in_flight_is_finished_when_the_gateway_drains(
    serve: Serve, voice: FakeVoice
) -> None:
    at = serve()
    lifecycle = at.app.state.lifecycle
    voice.gate.clear()
    with open_ws(f"{at.ws}/ws/tts") as speaking, open_ws(f"{at.ws}/ws/tts") as idle:
        speaking.send('{"text": "Hello world"}')
        wait_for(lambda: lifecycle.in_flight == 1)
        lifecycle.state = "draining"
        idle.send('{"text": "Too late"}')
        message, closed_with = closing_of(idle)
        assert (message["code"], closed_with) == ("draining", 1013)
        with pytest.raises(InvalidStatus) as refusal, open_ws(f"{at.ws}/ws/tts"):
            pass
        assert refusal.value.response.status_code == 503
        voice.gate.set()
        assert read_utterance(speaking).closing == '{"type":"end"}'
        wait_for(lambda: lifecycle.in_flight == 0)
    assert httpx.get(f"{at.http}/readyz").json()["status"] == "draining"


def test_a_refused_socket_is_not_logged_as_a_fault(
    caplog: pytest.LogCaptureFixture, serve: Serve
) -> None:
    at = serve()
    at.app.state.lifecycle.state = "draining"
    boundary = logging.getLogger("common.server.error_boundary")
    boundary.addHandler(caplog.handler)
    try:
        for path in ("/ws/tts", "/ws/stt", "/ws/echo"):
            with pytest.raises(InvalidStatus) as refusal, open_ws(f"{at.ws}{path}"):
                pass
            assert refusal.value.response.status_code == 503
    finally:
        boundary.removeHandler(caplog.handler)
    assert "request.failed" not in caplog.text
