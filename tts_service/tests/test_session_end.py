"""How sessions of `/ws/tts` end: by the client, by their limits, by the server that leaves."""

from __future__ import annotations

import contextlib
import json
import time

import hypothesis
import pytest
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from tests.support.fakes import FakeVoice, audio_ms
from tests.support.server import Served
from tests.support.wire import close_of, open_session, open_ws, wait_for
from tts_service.tests.conftest import Serve


def test_close_speaks_what_was_accepted_and_closes(serve: Serve, voice: FakeVoice) -> None:
    with open_session(serve().ws) as session:
        voice.gate.clear()
        session.send("text", "u1", text="Hello")
        session.send("speak", "u2", text="Hello world")
        session.send("close")
        session.send("speak", "u3", text="Too late")
        assert session.read_until("error")["id"] == "u3"
        voice.gate.set()
        assert session.read_until("end", "u1")["reason"] == "done"
        assert session.read_until("end", "u2")["reason"] == "done"
        assert close_of(session.ws) == (1000, "")


def test_a_session_without_utterances_closes_at_once(plain: Served) -> None:
    with open_session(plain.ws) as session:
        session.send("close")
        assert close_of(session.ws) == (1000, "")


def test_an_idle_session_is_closed_with_its_reason(serve: Serve) -> None:
    with open_session(serve(idle_timeout_s=0.2).ws) as session:
        assert close_of(session.ws) == (1001, "idle for 0.2 s")


def test_pings_keep_it_open(serve: Serve) -> None:
    with open_session(serve(idle_timeout_s=1).ws) as session:
        for _ in range(6):
            time.sleep(0.25)
            session.send("ping")
            assert session.read() == {"type": "pong"}


def test_an_utterance_whose_text_never_ends_is_ended_with_the_idle_session(serve: Serve) -> None:
    at = serve(idle_timeout_s=0.8)
    with open_session(at.ws) as session:
        session.send("text", "u1", text="Hello and")
        assert session.read_until("end")["reason"] == "cancelled"
        assert close_of(session.ws)[0] == 1001
    wait_for(lambda: at.app.state.lifecycle.in_flight == 0)


def test_work_is_not_idleness(serve: Serve, voice: FakeVoice) -> None:
    with open_session(serve(idle_timeout_s=0.2).ws) as session:
        voice.gate.clear()
        session.send("speak", "u1", text="Hello world")
        time.sleep(0.6)
        voice.gate.set()
        assert session.read_until("end")["reason"] == "done"


def test_a_session_ends_at_its_length_limit(serve: Serve) -> None:
    with open_session(serve(max_session_s=1, drain_seconds=0.3).ws) as session:
        session.send("text", "u1", text="Hello and")
        assert session.read_until("goaway")["deadline_ms"] == 300
        assert session.read_until("end")["reason"] == "cancelled"
        assert close_of(session.ws) == (1001, "session length limit")


def test_a_client_that_leaves_stops_the_voice(serve: Serve, voice: FakeVoice) -> None:
    at = serve()
    with open_session(at.ws) as session:
        voice.gate.clear()
        session.send("speak", "u1", text="A sentence. " * 300)
        session.send("text", "u2", text="A sentence. ")
        wait_for(lambda: voice.open_generators == 1)
    wait_for(lambda: at.app.state.lifecycle.in_flight == 0)
    voice.gate.set()
    assert voice.closed.wait(5)
    assert voice.steps <= 3


def test_a_reader_that_takes_nothing_is_given_up(serve: Serve, voice: FakeVoice) -> None:
    at = serve(idle_timeout_s=0.3, tts_max_text_chars=100_000, max_message_bytes=200_000)
    with open_ws(f"{at.ws}/ws/tts", max_queue=1) as ws:
        ws.send('{"type": "start"}')
        ws.send(json.dumps({"type": "speak", "id": "u", "text": "A sentence of words. " * 4280}))
        ws.recv(10)
        assert voice.closed.wait(20)
        wait_for(lambda: at.app.state.lifecycle.in_flight == 0)


def test_a_leaving_server_says_so_and_finishes_what_it_has(serve: Serve, voice: FakeVoice) -> None:
    at = serve(drain_seconds=20)
    with open_session(at.ws) as session:
        session.send("text", "u1", text="Hello ")
        session.send("speak", "u2", text="Hello world")
        session.read_until("begin")
        at.leave()
        assert 15_000 < session.read_until("goaway")["deadline_ms"] < 20_000
        session.send("speak", "u3", text="Too late")
        error = session.read_until("error")
        assert (error["code"], error["id"], error["fatal"]) == ("draining", "u3", False)
        session.send("text", "u1", text="world.")
        session.send("finish", "u1")
        assert session.read_until("end", "u1")["audio_ms"] == audio_ms("Hello world.")
        assert session.read_until("end", "u2")["reason"] == "done"
        assert close_of(session.ws) == (1001, "shutting down")
    wait_for(lambda: at.app.state.lifecycle.in_flight == 0)


def test_what_is_not_done_by_the_deadline_is_cancelled(serve: Serve) -> None:
    at = serve(drain_seconds=0.5)
    with open_session(at.ws) as session:
        session.send("text", "u1", text="Hello ")
        session.read_until("begin")
        at.leave()
        session.read_until("goaway")
        assert session.read_until("end")["reason"] == "cancelled"
        assert close_of(session.ws) == (1001, "shutting down")


def test_an_idle_session_is_told_and_closed(serve: Serve) -> None:
    at = serve()
    with open_session(at.ws) as session:
        at.leave()
        session.read_until("goaway")
        assert close_of(session.ws) == (1001, "shutting down")


SAID = st.sampled_from(["Hello. ", "And then, of course, ", "it ended", " 😀", "FAIL at the end"])


MESSAGES = st.lists(
    st.builds(
        lambda kind, id_, text: (
            {"type": kind, "id": id_, "text": text}
            if kind in ("text", "speak")
            else {"type": kind} | ({} if kind == "ping" or id_ == "u9" else {"id": id_})
        ),
        st.sampled_from(["text", "text", "text", "speak", "flush", "finish", "cancel", "ping"]),
        st.sampled_from(["u1", "u2", "u3", "u4", "u9"]),
        SAID,
    ),
    max_size=25,
)


@pytest.mark.parametrize("delay_ms", [20, 1000])
def test_any_order_of_messages_comes_to_an_orderly_end(serve: Serve, delay_ms: int) -> None:
    at = serve(tts_max_queued_texts=2)

    @hypothesis.settings(max_examples=25, deadline=None)
    @hypothesis.given(MESSAGES)
    def check(messages: list[dict[str, str]]) -> None:
        start = {"timestamps": "sentence", "max_buffer_delay_ms": delay_ms}
        with open_session(at.ws, **start) as session:
            for message in messages:
                session.ws.send(json.dumps(message))
            session.send("close")
            refused = set()
            with contextlib.suppress(ConnectionClosed):
                while True:
                    frame = session.read()
                    if not isinstance(frame, bytes) and frame["type"] == "error":
                        refused.add(frame.get("id"))
            assert close_of(session.ws) == (1000, "")
            assert session.rules.begun is None
            assert set(session.rules.audio) <= set(session.rules.ended)
            named = {m["id"] for m in messages if m["type"] in ("text", "speak")}
            assert set(session.rules.ended) <= named <= set(session.rules.ended) | refused

    check()
    wait_for(lambda: at.app.state.lifecycle.in_flight == 0)
