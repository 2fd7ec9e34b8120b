"""What a client sees when the services behind the gateway fail."""

from __future__ import annotations

import socket
import time

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from gateway.tests import misbehaving
from gateway.tests.conftest import Serve
from gateway.tests.misbehaving import Answer, closed_port, cut, error_of, stall, upstream
from tests.support.server import Served
from tests.support.wire import close_of, open_ws, read_utterance

SECOND = bytes([0, 1]) * 16000
TIMEOUTS = {
    "gateway_connect_timeout_s": 0.5,
    "gateway_first_byte_timeout_s": 0.5,
    "gateway_recognition_timeout_s": 0.5,
    "gateway_stall_timeout_s": 0.2,
}
REQUESTS = {
    "/api/stt/bytes": SECOND,
    "/api/echo-bytes": SECOND,
    "/api/tts": b'{"text": "Hello"}',
}


def post(at: Served, path: str) -> httpx.Response:
    return httpx.post(f"{at.http}{path}", content=REQUESTS[path])


@pytest.mark.parametrize("path", REQUESTS)
def test_a_service_that_is_away_is_502(serve_gateway: Serve, path: str) -> None:
    url = closed_port()
    at = serve_gateway(gateway_tts_url=url, gateway_asr_url=url, **TIMEOUTS)
    assert error_of(post(at, path)) == (502, "upstream_failed")


@pytest.mark.parametrize("path", ["/api/voices", "/api/models"])
@pytest.mark.parametrize("answer", [b"<html>", b'{"voices": [{}], "models": [{}]}'])
def test_a_list_that_does_not_fit_the_protocol_is_502(
    serve_gateway: Serve, path: str, answer: bytes
) -> None:
    with upstream(misbehaving.respond("200 OK", answer)) as url:
        at = serve_gateway(gateway_tts_url=url, gateway_asr_url=url, **TIMEOUTS)
        assert error_of(httpx.get(f"{at.http}{path}")) == (502, "upstream_failed")


@pytest.mark.parametrize("path", REQUESTS)
def test_a_service_that_hangs_is_504_within_the_timeout(serve_gateway: Serve, path: str) -> None:
    with upstream(misbehaving.hang) as url:
        at = serve_gateway(gateway_tts_url=url, gateway_asr_url=url, **TIMEOUTS)
        started = time.monotonic()
        assert error_of(post(at, path)) == (504, "upstream_timeout")
        assert time.monotonic() - started < 5


@pytest.mark.parametrize("path", REQUESTS)
def test_a_service_that_closes_without_an_answer_is_502(serve_gateway: Serve, path: str) -> None:
    def no_answer(connection: socket.socket, head: bytes) -> None:
        pass

    with upstream(no_answer) as url:
        at = serve_gateway(gateway_tts_url=url, gateway_asr_url=url, **TIMEOUTS)
        assert error_of(post(at, path)) == (502, "upstream_failed")


@pytest.mark.parametrize("body", [b"", b"not json", b"[]", b'{"text": 5}', b'{"text": "a"}'])
def test_an_answer_other_than_a_transcript_is_502(serve_gateway: Serve, body: bytes) -> None:
    with upstream(misbehaving.respond("200 OK", body)) as url:
        at = serve_gateway(gateway_asr_url=url, **TIMEOUTS)
        assert error_of(post(at, "/api/echo-bytes")) == (502, "upstream_failed")
        assert error_of(post(at, "/api/stt/bytes")) == (502, "upstream_failed")


@pytest.mark.parametrize("path", REQUESTS)
def test_an_error_that_is_not_in_our_shape_is_502(serve_gateway: Serve, path: str) -> None:
    with upstream(misbehaving.respond("500 Oops", b"<html>")) as url:
        at = serve_gateway(gateway_tts_url=url, gateway_asr_url=url, **TIMEOUTS)
        assert error_of(post(at, path)) == (502, "upstream_failed")


@pytest.mark.parametrize("ending", [cut, stall])
def test_a_stream_that_ends_early_is_aborted_for_the_client_too(
    serve_gateway: Serve, ending: object
) -> None:
    with upstream(misbehaving.stream_then(ending)) as url:  # type: ignore[arg-type]
        at = serve_gateway(gateway_tts_url=url, **TIMEOUTS)
        with httpx.stream("POST", f"{at.http}/api/tts", json={"text": "Hello"}) as answer:
            body = answer.iter_raw()
            assert next(body) == b"some"
            with pytest.raises(httpx.RemoteProtocolError):
                next(body)


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (misbehaving.respond("200 OK", b"no websocket"), 502, "upstream_failed"),
        (misbehaving.respond("500 Oops", b"<html>"), 502, "upstream_failed"),
        (misbehaving.hang, 504, "upstream_timeout"),
    ],
)
def test_a_websocket_that_cannot_be_opened_refuses_the_upgrade(
    serve_gateway: Serve, answer: Answer, status: int, code: str
) -> None:
    with upstream(answer) as url:
        at = serve_gateway(gateway_tts_url=url, **TIMEOUTS)
        assert refusal(at) == (status, code)


def test_a_websocket_to_a_service_that_is_away_refuses_the_upgrade(serve_gateway: Serve) -> None:
    at = serve_gateway(gateway_tts_url=closed_port(), **TIMEOUTS)
    assert refusal(at) == (502, "upstream_failed")


def refusal(at: Served) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as refused, open_ws(f"{at.ws}/ws/tts"):
        pass
    response = refused.value.response
    body = httpx.Response(response.status_code, content=bytes(response.body or b""))
    return error_of(body)


@pytest.mark.parametrize(
    ("ending", "code"), [(cut, "upstream_failed"), (stall, "upstream_timeout")]
)
def test_a_service_that_dies_closes_the_clients_websocket_with_an_error_and_1011(
    serve_gateway: Serve, ending: object, code: str
) -> None:
    with upstream(misbehaving.websocket_then(ending)) as url:  # type: ignore[arg-type]
        at = serve_gateway(gateway_tts_url=url, **TIMEOUTS)
        with open_ws(f"{at.ws}/ws/tts") as ws:
            ws.send('{"text": "Hello"}')
            said = read_utterance(ws)
            assert said.pcm == b"some"
            assert (said.message["type"], said.message["code"]) == ("error", code)
            assert close_of(ws)[0] == 1011
