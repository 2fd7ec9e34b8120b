"""`/ws/stt` through the gateway, in front of a service that recognizes numbers."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection

from gateway.tests.conftest import Serve
from gateway.tests.misbehaving import closing_frame, cut, text_frame, upstream, websocket_then
from tests.support.fakes import WordRecognizer, silence, spoken, text_of
from tests.support.server import Served
from tests.support.wire import close_of, open_ws, wait_for


def conversation(ws: ClientConnection, *parts: str | bytes) -> list[dict[str, Any]]:
    """What comes back for these frames, ids of sessions and requests aside, up to `end`."""
    for part in parts:
        ws.send(part)
    messages: list[dict[str, Any]] = []
    while not messages or messages[-1]["type"] != "end":
        messages.append(json.loads(ws.recv(30)))
        for field in ("session_id", "request_id"):
            messages[-1].pop(field, None)
    assert close_of(ws) == (1000, "")
    return messages


def test_a_stream_is_the_same_directly_and_through_the_gateway(serve: Serve, asr: Served) -> None:
    frames: list[str | bytes] = [
        '{"type": "start", "partials": false, "colour": "red"}',
        spoken(1, 2, 3)[:-1],
        spoken(1, 2, 3)[-1:] + silence(700),
        '{"type": "dance"}',
        spoken(*range(10, 25)),
        '{"type": "finalize"}',
        spoken(4),
        '{"type": "finish"}',
    ]
    said = []
    for at in (asr, serve()):
        with open_ws(f"{at.ws}/ws/stt") as ws:
            said.append(conversation(ws, *frames))
    direct, relayed = said
    assert relayed == direct
    assert relayed[-1]["text"] == text_of(1, 2, 3, *range(10, 25), 4)
    assert [m["fatal"] for m in relayed if m["type"] == "error"] == [False]


def test_a_full_service_refuses_the_upgrade_through_the_gateway(serve: Serve) -> None:
    at = serve()
    with open_ws(f"{at.ws}/ws/stt"), open_ws(f"{at.ws}/ws/stt"):
        with pytest.raises(InvalidStatus) as refusal, open_ws(f"{at.ws}/ws/stt"):
            pass
        answer = refusal.value.response
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert json.loads(answer.body or b"")["error"]["code"] == "busy"


def test_a_client_that_disconnects_stops_the_recognition(
    serve: Serve, asr: Served, recognizer: WordRecognizer
) -> None:
    at = serve()
    recognizer.gate.clear()
    with open_ws(f"{at.ws}/ws/stt") as ws:
        ws.send('{"type": "start"}')
        ws.send(spoken(*range(1, 10)))
        assert recognizer.entered.wait(5)
        assert at.app.state.lifecycle.in_flight == 1
    assert recognizer.was_cancelled.wait(5)
    wait_for(lambda: asr.app.state.lifecycle.in_flight == at.app.state.lifecycle.in_flight == 0)


def test_a_session_stays_in_flight_after_an_error_that_is_not_fatal(
    serve: Serve,
) -> None:
    at = serve()
    lifecycle = at.app.state.lifecycle
    with open_ws(f"{at.ws}/ws/stt") as ws:
        ws.send('{"type": "start"}')
        ws.send('{"type": "dance"}')
        assert [json.loads(ws.recv(10))["type"] for _ in range(2)] == ["ready", "error"]
        ws.send(spoken(1))
        assert lifecycle.in_flight == 1
        lifecycle.state = "draining"
        ws.send('{"type": "finish"}')
        while json.loads(ws.recv(10))["type"] != "end":
            pass
        assert close_of(ws) == (1000, "")
    wait_for(lambda: lifecycle.in_flight == 0)


def test_a_service_that_dies_is_upstream_failed(serve: Serve, stack: ExitStack) -> None:
    at = serve(gateway_asr_url=stack.enter_context(upstream(websocket_then(cut))))
    with open_ws(f"{at.ws}/ws/stt") as ws:
        ws.send('{"type": "start"}')
        assert ws.recv(10) == b"some"
        assert json.loads(ws.recv(10))["code"] == "upstream_failed"
        assert close_of(ws) == (1011, "upstream_failed")


def test_what_a_client_sends_after_the_end_is_not_a_failure(serve: Serve, stack: ExitStack) -> None:
    def close_once_asked(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(closing_frame(1000))
        connection.recv(65536)

    service = websocket_then(close_once_asked, says=text_frame('{"type":"end"}'))
    at = serve(gateway_asr_url=stack.enter_context(upstream(service)))
    with open_ws(f"{at.ws}/ws/stt") as ws:
        ws.send('{"type": "start"}')
        assert ws.recv(10) == '{"type":"end"}'
        at.app.state.lifecycle.state = "draining"  # which refuses new work
        ws.send('{"type": "cancel"}')
        assert close_of(ws) == (1000, "")
