"""A session of `/ws/tts` through the gateway: relayed, not spoken by it."""

from __future__ import annotations

import json

import pytest
from websockets.exceptions import InvalidStatus

from gateway.tests.conftest import Serve
from tests.support.fakes import FakeVoice
from tests.support.server import Served
from tests.support.wire import close_of, closing_of, open_session, open_ws, wait_for

TEXT = "First a sentence of many words. Then another one."


def test_a_session_is_the_same_directly_and_through_the_gateway(serve: Serve, tts: Served) -> None:
    at = serve()
    heard = []
    for where in (tts, at):
        with open_session(where.ws, timestamps="sentence", encoding="mulaw") as session:
            session.send("text", "u1", text=TEXT[:20])
            session.send("text", "u1", text=TEXT[20:])
            session.send("flush", "u1")
            session.send("finish", "u1")
            session.send("speak", "u2", text="Hello world")
            first, second = session.read_utterance("u1"), session.read_utterance("u2")
            for _, messages in (first, second):
                messages[0]["queue_ms"] = messages[-1]["first_audio_ms"] = None
                messages[-1]["rtf"] = None
            session.send("close")
            heard.append((first, second, close_of(session.ws)))
    assert heard[0] == heard[1]
    assert heard[1][2] == (1000, "")
    wait_for(lambda: at.app.state.lifecycle.in_flight == 0)


def test_the_session_has_one_request_id_in_every_message(serve: Serve) -> None:
    with open_ws(f"{serve().ws}/ws/tts", additional_headers={"X-Request-ID": "r7"}) as ws:
        ws.send('{"type": "start"}')
        assert json.loads(ws.recv(10))["request_id"] == "r7"


def test_cancel_stops_the_synthesis(serve: Serve, voice: FakeVoice) -> None:
    with open_session(serve().ws) as session:
        session.send("speak", "u1", text="A sentence of words. " * 200)
        session.read_until("begin")
        session.send("cancel")
        assert session.read_until("end")["reason"] == "cancelled"
        session.send("speak", "u2", text="Hello world")
        assert session.read_until("end")["reason"] == "done"


@pytest.mark.parametrize(
    ("frame", "close_code", "code"),
    [
        ("not json", 1007, "bad_request"),
        (json.dumps({"type": "text", "id": "u1", "text": "a" * 70_000}), 1009, None),
    ],
)
def test_errors_that_end_a_session_end_it_through_the_gateway(
    serve: Serve, frame: str, close_code: int, code: str | None
) -> None:
    with open_session(serve().ws) as session:
        session.ws.send(frame)
        if code is None:
            assert close_of(session.ws)[0] == close_code
            return
        message, closed_with = closing_of(session.ws)
        assert (message["code"], message["fatal"], closed_with) == (code, True, close_code)


def test_a_refused_start_is_fatal(serve: Serve) -> None:
    with open_ws(f"{serve().ws}/ws/tts") as ws:
        ws.send('{"type": "start", "encoding": "opus"}')
        message, closed_with = closing_of(ws)
    assert (message["code"], closed_with) == ("bad_request", 1003)


def test_errors_and_pings_are_relayed_without_counting_as_work(serve: Serve) -> None:
    at = serve()
    with open_session(at.ws) as session:
        session.send("sing")
        assert session.read_until("error")["fatal"] is False
        session.send("ping", nonce="n")
        assert session.read() == {"type": "pong", "nonce": "n"}
        assert at.app.state.lifecycle.in_flight == 0


def test_a_quiet_session_stays_open_and_an_idle_one_is_closed_by_the_service(
    serve: Serve, tts: Served
) -> None:
    at = serve(gateway_stall_timeout_s=0.3)
    object.__setattr__(tts.app.state.settings, "idle_timeout_s", 1.0)
    with open_session(at.ws) as session:
        session.send("text", "u1", text="Hello and")
        assert session.read_until("end")["reason"] == "cancelled"
        assert close_of(session.ws) == (1001, "idle for 1 s")


def test_the_goaway_of_the_service_and_its_close_are_relayed(
    serve: Serve, tts: Served, voice: FakeVoice
) -> None:
    at = serve()
    with open_session(at.ws) as session:
        session.send("text", "u1", text="Hello ")
        session.read_until("begin")
        tts.leave()
        assert session.read_until("goaway")["deadline_ms"] > 0
        session.send("speak", "u2", text="Too late")
        assert session.read_until("error")["code"] == "draining"
        session.send("finish", "u1")
        assert session.read_until("end", "u1")["reason"] == "done"
        assert close_of(session.ws) == (1001, "shutting down")


def test_a_draining_gateway_sends_goaway_and_lets_the_utterance_finish(
    serve: Serve, tts: Served
) -> None:
    at = serve()
    with open_session(at.ws) as speaking, open_session(at.ws) as idle:
        speaking.send("text", "u1", text="Hello ")
        speaking.read_until("begin")
        at.leave()
        for session in (speaking, idle):
            assert 0 < session.read_until("goaway")["deadline_ms"] <= 25_000
        assert close_of(idle.ws) == (1001, "shutting down")
        with pytest.raises(InvalidStatus) as refusal, open_ws(f"{at.ws}/ws/tts"):
            pass
        assert refusal.value.response.status_code == 503
        speaking.send("text", "u1", text="world.")
        speaking.send("finish", "u1")
        assert speaking.read_until("end")["reason"] == "done"
        assert close_of(speaking.ws) == (1001, "shutting down")
    wait_for(lambda: at.app.state.lifecycle.in_flight == 0)
    wait_for(lambda: tts.app.state.lifecycle.in_flight == 0)


def test_a_client_that_disconnects_stops_the_synthesis(
    serve: Serve, voice: FakeVoice, tts: Served
) -> None:
    at = serve()
    voice.gate.clear()
    with open_session(at.ws) as session:
        session.send("speak", "u1", text="A sentence. " * 300)
        wait_for(lambda: voice.open_generators == 1)
    wait_for(lambda: at.app.state.lifecycle.in_flight == 0)
    wait_for(lambda: tts.app.state.lifecycle.in_flight == 0)
    voice.gate.set()
    assert voice.closed.wait(5)
    assert voice.steps <= 3
