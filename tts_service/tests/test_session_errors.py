"""What a session of `/ws/tts` refuses, and what of it goes on then."""

from __future__ import annotations

import json

import pytest

from tests.support.fakes import FakeVoice, audio_ms
from tests.support.server import Served
from tests.support.wire import close_of, closing_of, open_session, open_ws
from tts_service.tests.conftest import Serve

SENTENCE = "The quick brown fox jumps."


@pytest.mark.parametrize(
    ("message", "code", "names"),
    [
        ({"type": "sing"}, "bad_request", "sing"),
        ({"type": None}, "bad_request", "type: this field is required"),
        ({}, "bad_request", "type"),
        ({"type": "start"}, "bad_request", "started already"),
        ({"type": "text", "id": "u1"}, "bad_request", "text"),
        ({"type": "text", "text": "a"}, "bad_request", "id"),
        ({"type": "text", "id": "", "text": "a"}, "bad_request", "id"),
        ({"type": "text", "id": "u1", "text": "a", "voice": "b"}, "bad_request", "voice"),
        ({"type": "speak", "id": "u1", "text": " "}, "empty_text", "empty"),
        ({"type": "speak", "id": "u1", "text": "a" * 5001}, "too_large", "5000"),
        ({"type": "flush", "id": "u1"}, "bad_request", "not known"),
        ({"type": "finish", "id": "u1"}, "bad_request", "not known"),
        ({"type": "cancel", "id": "u1"}, "bad_request", "not known"),
        ([1], "bad_request", "object"),
        (b"\x00", "bad_request", "binary"),
    ],
)
def test_what_cannot_be_honoured_is_an_error_and_the_session_goes_on(
    plain: Served, message: object, code: str, names: str
) -> None:
    with open_session(plain.ws, request_id="r3") as session:
        session.ws.send(message if isinstance(message, bytes) else json.dumps(message))
        error = session.read()
        assert isinstance(error, dict)
        assert (error["type"], error["code"], error["fatal"]) == ("error", code, False)
        assert error["request_id"] == "r3"
        assert names in error["error"]
        if isinstance(message, dict) and message.get("id"):
            assert error["id"] == "u1"
        session.send("speak", "u1", text="Hello world")
        assert session.read_until("end")["reason"] == "done"


@pytest.mark.parametrize(
    ("late", "names"),
    [
        ({"type": "text", "text": "a"}, "finished already"),
        ({"type": "flush"}, "finished already"),
        ({"type": "finish"}, "finished already"),
        ({"type": "speak", "text": "a"}, "used already"),
    ],
)
def test_nothing_can_be_added_to_a_finished_utterance(
    serve: Serve, voice: FakeVoice, late: dict[str, str], names: str
) -> None:
    with open_session(serve().ws) as session:
        voice.gate.clear()
        session.send("speak", "u1", text="Hello world")
        session.send(late.pop("type"), "u1", **late)
        error = session.read_until("error")
        assert names in error["error"]
        assert (error["id"], error["fatal"]) == ("u1", False)
        voice.gate.set()
        assert session.read_until("end")["reason"] == "done"


def test_an_id_is_used_once(plain: Served) -> None:
    with open_session(plain.ws) as session:
        session.send("speak", "u1", text="Hello world")
        session.read_until("end")
        session.send("text", "u1", text="Hello again")
        assert "used already" in session.read_until("error")["error"]
        session.send("cancel", "u1")
        session.send("ping", nonce="n")
        assert session.read() == {"type": "pong", "nonce": "n"}


def test_text_over_the_limit_ends_the_utterance_with_an_error(serve: Serve) -> None:
    with open_session(serve(tts_max_text_chars=20).ws) as session:
        session.send("text", "u1", text="a" * 15)
        session.send("text", "u1", text="b" * 6)
        error = session.read_until("error")
        assert (error["code"], error["id"], error["fatal"]) == ("too_large", "u1", False)
        assert session.read_until("end")["reason"] == "error"


@pytest.mark.parametrize(
    "start",
    [
        {"encoding": "opus"},
        {"sample_rate": 1},
        {"chunk_ms": 0},
        {"timestamps": "word"},
        {"speed": 9},
        {"max_buffer_delay_ms": -1},
        {"request_id": "\n"},
    ],
)
def test_a_start_that_cannot_be_honoured_is_fatal(plain: Served, start: dict[str, object]) -> None:
    with open_ws(f"{plain.ws}/ws/tts") as ws:
        ws.send(json.dumps({"type": "start", **start}))
        message, closed_with = closing_of(ws)
    assert (message["code"], message["fatal"], closed_with) == ("bad_request", True, 1003)
    assert next(iter(start)) in message["error"]


def test_what_is_not_json_ends_the_session_and_all_in_it(serve: Serve, voice: FakeVoice) -> None:
    with open_session(serve().ws) as session:
        voice.gate.clear()
        session.send("speak", "u1", text="Hello world")
        session.send("speak", "u2", text="Hello world")
        session.ws.send("not json")
        assert [session.read_until("end")["reason"] for _ in range(2)] == ["error", "error"]
        message, closed_with = closing_of(session.ws)
        assert (message["fatal"], closed_with) == (True, 1007)


def test_a_message_over_the_limit_closes_1009(serve: Serve) -> None:
    with open_session(serve(max_message_bytes=2000).ws) as session:
        session.send("text", "u1", text="a" * 3000)
        assert close_of(session.ws)[0] == 1009


@pytest.mark.parametrize("text", ["😀", "?!...", "\ud83d"])
def test_an_utterance_without_a_sound_ends_with_an_error(plain: Served, text: str) -> None:
    with open_session(plain.ws) as session:
        session.send("speak", "u1", text=text)
        error = session.read_until("error")
        assert (error["code"], error["id"], error["fatal"]) == ("empty_text", "u1", False)
        assert session.read_until("end")["reason"] == "error"


def test_a_failure_ends_its_utterance_and_no_other(plain: Served) -> None:
    with open_session(plain.ws) as session:
        session.send("speak", "u1", text="This text will FAIL at last")
        session.send("speak", "u2", text="Hello world")
        error = session.read_until("error")
        assert (error["code"], error["id"], error["fatal"]) == ("synthesis_failed", "u1", False)
        end = session.read_until("end", "u1")
        assert (end["reason"], end["audio_ms"] > 0) == ("error", True)
        assert session.read_until("end", "u2")["reason"] == "done"


def test_what_the_engine_had_to_cut_is_told(serve: Serve, voice: FakeVoice) -> None:
    with open_session(serve().ws) as session:
        session.send("speak", "u1", text=f"{SENTENCE} A BABBLE of words.")
        warning = session.read_until("warning", "u1")
        assert (warning["code"], bool(warning["message"])) == ("stalled", True)
        assert warning["at_ms"] == audio_ms(SENTENCE) + 100
        assert session.read_until("end")["reason"] == "done"
