"""Each row of the error table that these services can be brought to, over HTTP and WebSocket.

The rows that need a fault (busy, draining, hung and dead services) are in `test_faults`; loading
is in the services' own tests, with a model whose loading waits for the test.
"""

from __future__ import annotations

import json

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from deploy.local import LocalFleet
from tests.support.wire import closing_of, open_ws

pytestmark = pytest.mark.fleet

SECOND = bytes(32000)


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/api/stt/bytes?sr=0", SECOND, 400, "bad_request"),
        ("/api/stt/bytes?ch=9", SECOND, 400, "bad_request"),
        ("/api/stt/bytes?lang=xx", SECOND, 400, "bad_request"),
        ("/api/stt/bytes", b"odd", 400, "bad_request"),
        ("/api/stt/bytes", b"", 400, "empty_audio"),
        ("/api/stt/bytes", SECOND * 601, 413, "too_large"),
        ("/api/echo-bytes?fmt=mp3", SECOND, 400, "bad_request"),
        ("/api/echo-bytes", b"odd", 400, "bad_request"),
        ("/api/echo-bytes", b"", 400, "empty_audio"),
        ("/api/echo-bytes", SECOND * 601, 413, "too_large"),
        ("/api/echo-bytes", SECOND * 1000, 413, "too_large"),
        ("/api/tts", b"{", 400, "bad_request"),
        ("/api/tts", b'{"text": ""}', 400, "empty_text"),
        ("/api/tts", b'{"text": "\\ud83d"}', 400, "empty_text"),
        ("/api/tts", json.dumps({"text": "a" * 5001}).encode(), 413, "too_large"),
        ("/api/nothing", b"", 404, "not_found"),
        ("/healthz", b"", 405, "method_not_allowed"),
    ],
)
def test_over_http(fleet: LocalFleet, path: str, body: bytes, status: int, code: str) -> None:
    answer = httpx.post(f"{fleet.url('gateway')}{path}", content=body, timeout=30)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.json()["error"]["request_id"] == answer.headers["X-Request-ID"]


@pytest.mark.parametrize("service", ["tts", "gateway"])
@pytest.mark.parametrize(
    ("frame", "close_code", "code"),
    [
        ('{"text": ""}', 1003, "empty_text"),
        ('{"text": "😀"}', 1003, "empty_text"),
        ("{}", 1003, "empty_text"),
        ('{"words": "a"}', 1003, "bad_request"),
        (b"\x00\x00", 1003, "bad_request"),
        ("{", 1007, "bad_request"),
        (json.dumps({"text": "a" * 5001}), 1009, "too_large"),
    ],
)
def test_over_websocket(
    fleet: LocalFleet, service: str, frame: str | bytes, close_code: int, code: str
) -> None:
    with open_ws(f"{fleet.url(service, scheme='ws')}/ws/tts") as ws:
        ws.send(frame)
        message, closed_with = closing_of(ws)
    assert (closed_with, message["code"]) == (close_code, code)
    assert isinstance(message["error"], str)


@pytest.mark.parametrize("service", ["tts", "asr", "gateway"])
def test_a_websocket_without_a_route(fleet: LocalFleet, service: str) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        open_ws(f"{fleet.url(service, scheme='ws')}/ws/nowhere").__enter__()
    response = refusal.value.response
    assert response.status_code == 404
    assert json.loads(response.body or b"")["error"]["code"] == "not_found"
