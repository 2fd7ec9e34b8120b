"""The session mode of `/ws/tts`, held against the wire contract."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from common.encoding import AudioFormat
from common.pcm import Encoding
from tests.support.fakes import SAMPLES_PER_CHARACTER, FakeVoice, tone_of
from tests.support.server import Served, served
from tests.support.session import open_session
from tests.support.wire import close_of, closing_of, open_ws, wait_for
from tts_service.app.main import build
from tts_service.app.settings import TtsSettings
from tts_service.tests.conftest import Serve

MS_PER_CHARACTER = SAMPLES_PER_CHARACTER * 1000 // 16000
FIRST, SECOND = "The quick brown fox jumps.", "Then it rests."


@pytest.fixture(scope="module")
def plain() -> Iterator[Served]:
    """One server with the defaults, for tests that leave it as it was."""
    with served(build(TtsSettings(), FakeVoice)) as at:
        yield at


def audio_ms(text: str) -> int:
    return len(text) * MS_PER_CHARACTER


def types(messages: list[dict[str, Any]]) -> list[str]:
    return [message["type"] for message in messages]


def test_ready_says_what_holds(serve: Serve) -> None:
    at = serve(tts_max_text_chars=300, tts_max_queued_texts=2, idle_timeout_s=7)
    start = {"sample_rate": 24000, "chunk_ms": 20, "request_id": "r9", "color": "red", "a": 1}
    with open_session(at.ws, **start) as session:
        ready = session.ready
    assert ready.pop("session_id")
    assert ready == {
        "type": "ready",
        "protocol": 1,
        "request_id": "r9",
        "model": "fake",
        "audio": {
            "encoding": "pcm_s16le",
            "sample_rate": 24000,
            "channels": 1,
            "chunk_ms": 20,
        },
        "limits": {
            "max_text_chars": 300,
            "max_message_bytes": 65536,
            "max_queued_utterances": 2,
            "idle_timeout_s": 7,
            "max_session_s": 3600,
            "max_buffer_delay_ms": 1000,
        },
        "ignored": ["a", "color"],
    }


def test_the_conversation_of_the_contract(plain: Served) -> None:
    with open_session(plain.ws, timestamps="sentence") as session:
        session.send("text", "u1", text="The quick brown ")
        session.send("text", "u1", text="fox jumps. Then")
        session.send("text", "u1", text=" it rests.")
        session.send("finish", "u1")
        audio, messages = session.read_utterance("u1")
    assert types(messages) == ["begin", "mark", "mark", "end"]
    begin, first, second, end = messages
    assert begin["queue_ms"] >= 0
    assert first | {"type": ""} == {
        "type": "",
        "id": "u1",
        "index": 0,
        "text": FIRST,
        "char_start": 0,
        "char_end": 26,
        "start_ms": 0,
        "end_ms": audio_ms(FIRST),
    }
    assert (second["index"], second["text"]) == (1, SECOND)
    assert (second["char_start"], second["char_end"]) == (27, 41)
    assert (second["start_ms"], second["end_ms"]) == (first["end_ms"], end["audio_ms"])
    assert end["audio_ms"] == len(audio) // 32 == audio_ms(FIRST + SECOND)
    assert (end["reason"], end["first_audio_ms"] >= 0, end["rtf"] > 0) == ("done", True, True)


def test_a_sentence_is_spoken_before_the_next_is_written(plain: Served) -> None:
    with open_session(plain.ws) as session:
        session.send("text", "u1", text=f"{FIRST} Th")
        while len(session.rules.audio.get("u1", b"")) < audio_ms(FIRST) * 32:
            session.read()
        session.send("text", "u1", text="en it rests.")
        session.send("finish", "u1")
        audio, messages = session.read_utterance("u1")
    assert messages[-1]["reason"] == "done"
    assert len(audio) == audio_ms(FIRST + SECOND) * 32


def test_the_first_clause_is_spoken_when_it_is_written(plain: Served) -> None:
    with open_session(plain.ws) as session:
        session.send("text", "u1", text="When the rain had stopped,")
        session.read_until("begin")
        assert isinstance(session.read(), bytes)
        session.send("cancel")
        assert session.read_until("end")["reason"] == "cancelled"


def test_a_pause_speaks_what_is_there(plain: Served) -> None:
    with open_session(plain.ws, max_buffer_delay_ms=20, timestamps="sentence") as session:
        session.send("text", "u1", text="Let me think")
        while len(session.rules.audio.get("u1", b"")) < audio_ms("Let me think") * 32:
            session.read()
        session.send("text", "u1", text=" about it.")
        session.send("finish", "u1")
        _, messages = session.read_utterance("u1")
    (mark,) = [m for m in messages if m["type"] == "mark"]
    assert (mark["text"], mark["char_end"]) == ("Let me think about it.", 22)
    assert mark["end_ms"] == audio_ms("Let me think") + audio_ms("about it.")


def test_a_flush_speaks_and_says_so_when_it_is_spoken(plain: Served) -> None:
    with open_session(plain.ws, sample_rate=8000, timestamps="sentence") as session:
        session.send("text", "u1", text="Let me think")
        session.send("flush", "u1")
        mark = session.read_until("mark")
        flushed = session.read_until("flushed", "u1")
        assert flushed["audio_ms"] == mark["end_ms"] == audio_ms("Let me think")
        assert len(session.rules.audio["u1"]) == flushed["audio_ms"] * 16
        session.send("flush", "u1")
        assert session.read_until("flushed", "u1") == flushed
        session.send("finish", "u1")
        assert session.read_until("end")["audio_ms"] == flushed["audio_ms"]


def test_utterances_are_spoken_in_their_order(plain: Served) -> None:
    texts = {f"u{i}": f"Text number {word}" for i, word in enumerate(["one", "two", "three"])}
    with open_session(plain.ws) as session:
        for id_, text in texts.items():
            session.send("speak", id_, text=text)
        for id_, text in texts.items():
            audio, messages = session.read_utterance(id_)
            assert types(messages) == ["begin", "end"]
            assert set(np.frombuffer(audio, "<i2") / 32768) == {tone_of(text)}


def test_text_for_a_later_utterance_may_come_while_one_is_spoken(
    serve: Serve, voice: FakeVoice
) -> None:
    with open_session(serve().ws) as session:
        voice.gate.clear()
        session.send("speak", "u1", text="Hello world")
        session.send("text", "u2", text="And then ")
        session.send("text", "u2", text="another.")
        session.send("finish", "u2")
        voice.gate.set()
        session.read_utterance("u1")
        assert len(session.read_utterance("u2")[0]) == audio_ms("And then another.") * 32


def test_the_queue_is_bounded_and_says_so(serve: Serve, voice: FakeVoice) -> None:
    with open_session(serve(tts_max_queued_texts=2).ws) as session:
        voice.gate.clear()
        for id_ in ("u1", "u2", "u3", "u4"):
            session.send("speak", id_, text="Hello world")
        error = session.read_until("error")
        assert (error["code"], error["id"], error["fatal"]) == ("queue_full", "u4", False)
        voice.gate.set()
        for id_ in ("u1", "u2", "u3"):
            session.read_until("end", id_)
        session.send("speak", "u4", text="Hello world")
        assert session.read_until("end")["id"] == "u4"


def test_cancel_stops_within_a_step_and_the_next_one_speaks(serve: Serve, voice: FakeVoice) -> None:
    with open_session(serve().ws) as session:
        session.send("text", "u1", text="A sentence of words. " * 200)
        while len(session.rules.audio.get("u1", b"")) < 32000:
            session.read()
        session.send("speak", "u2", text="Hello world")
        session.send("cancel", "u1")
        end = session.read_until("end", "u1")
        assert end["reason"] == "cancelled"
        assert end["audio_ms"] == len(session.rules.audio["u1"]) // 32
        assert session.read_until("end", "u2")["reason"] == "done"
    assert voice.steps < 300


def test_cancel_without_an_id_stops_all(serve: Serve, voice: FakeVoice) -> None:
    with open_session(serve().ws) as session:
        voice.gate.clear()
        for id_ in ("u1", "u2", "u3"):
            session.send("speak", id_, text="A sentence of words. " * 20)
        session.read_until("begin")
        session.send("cancel")
        for id_ in ("u1", "u2", "u3"):
            end = session.read_until("end")
            assert (end["id"], end["reason"]) == (id_, "cancelled")
        voice.gate.set()
        session.send("speak", "u4", text="Hello world")
        assert session.read_until("end")["audio_ms"] == audio_ms("Hello world")


@pytest.mark.parametrize("encoding", ["pcm_s16le", "mulaw"])
def test_what_is_cut_off_fades_where_more_was_made(
    serve: Serve, voice: FakeVoice, encoding: Encoding
) -> None:
    # A reader that sleeps, so that the server has audio which it could not send yet.
    at = serve(tts_buffer_seconds=2.0, tts_max_text_chars=40_000)
    with open_session(at.ws, encoding=encoding, sample_rate=48000) as session:
        session.send("speak", "u1", text="A sentence of words. " * 1800)
        before = -1
        while voice.steps != before:
            before = voice.steps
            time.sleep(0.3)
        session.send("cancel")
        session.read_until("end")
        fade = AudioFormat(48000, encoding).decode(bytes(session.rules.audio["u1"][-2000:]))[-240:]
    assert fade[0] == pytest.approx(tone_of("A sentence of words."), rel=0.05)
    assert fade[-1] == 0
    assert np.all(np.diff(fade) <= 0)


@pytest.mark.parametrize(("encoding", "sample_bytes"), [("mulaw", 1), ("alaw", 1)])
def test_telephone_encodings(plain: Served, encoding: Encoding, sample_bytes: int) -> None:
    with open_session(plain.ws, encoding=encoding, sample_rate=8000) as session:
        session.send("speak", "u1", text="Hello world")
        audio, messages = session.read_utterance("u1")
    assert messages[-1]["audio_ms"] == audio_ms("Hello world") == len(audio) // 8
    middle = AudioFormat(8000, encoding).decode(audio)[1000:2000]
    assert middle == pytest.approx(tone_of("Hello world"), rel=0.04)


def test_frames_are_as_long_as_asked_for(plain: Served) -> None:
    with open_session(plain.ws, sample_rate=8000, chunk_ms=20) as session:
        session.send("speak", "u1", text="Hello world")
        session.read_until("begin")
        sizes = []
        while isinstance(frame := session.read(), bytes):
            sizes.append(len(frame))
    assert set(sizes[:-1]) == {320}
    assert sizes[-1] <= 320


def test_speed_shortens(plain: Served) -> None:
    with open_session(plain.ws, speed=2.0) as session:
        session.send("speak", "u1", text="Hello world")
        assert session.read_until("end")["audio_ms"] == audio_ms("Hello world") // 2


def test_offsets_point_into_the_text_as_it_was_sent(plain: Served) -> None:
    text = "So\u00adft\x07 one.  \u201cTwo 😀\u201d he said. \ufffd Th\u200bree."
    with open_session(plain.ws, timestamps="sentence") as session:
        for character in text:
            session.send("text", "u1", text=character)
        session.send("finish", "u1")
        _, messages = session.read_utterance("u1")
    marks = [m for m in messages if m["type"] == "mark"]
    assert len(marks) == 3
    for mark in marks:
        assert mark["text"] == text[mark["char_start"] : mark["char_end"]]
    assert [m["start_ms"] for m in marks[1:]] == [m["end_ms"] for m in marks[:-1]]


@pytest.mark.parametrize(
    ("message", "code", "names"),
    [
        ({"type": "sing"}, "bad_request", "sing"),
        ({"type": None}, "bad_request", "None"),
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
        session.send("speak", "u1", text=f"{FIRST} A BABBLE of words.")
        warning = session.read_until("warning", "u1")
        assert (warning["code"], bool(warning["message"])) == ("stalled", True)
        assert warning["at_ms"] == audio_ms(FIRST) + 100
        assert session.read_until("end")["reason"] == "done"


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
    with open_session(serve(idle_timeout_s=0.3).ws) as session:
        for _ in range(6):
            time.sleep(0.1)
            session.send("ping")
            assert session.read() == {"type": "pong"}


def test_an_utterance_whose_text_never_ends_is_ended_with_the_idle_session(serve: Serve) -> None:
    at = serve(idle_timeout_s=0.3)
    with open_session(at.ws) as session:
        session.send("text", "u1", text="Hello and")
        assert session.read_until("end")["reason"] == "cancelled"
        assert close_of(session.ws)[0] == 1001
    wait_for(lambda: at.app.state.lifecycle.under_way == 0)


def test_work_is_not_idleness(serve: Serve, voice: FakeVoice) -> None:
    with open_session(serve(idle_timeout_s=0.2).ws) as session:
        voice.gate.clear()
        session.send("speak", "u1", text="Hello world")
        time.sleep(0.6)
        voice.gate.set()
        assert session.read_until("end")["reason"] == "done"


def test_a_session_ends_at_its_length_limit(serve: Serve) -> None:
    with open_session(serve(max_session_s=0.3, drain_seconds=0.3).ws) as session:
        session.send("text", "u1", text="Hello and")
        assert session.read_until("goaway")["deadline_ms"] == 300
        assert session.read_until("end")["reason"] == "cancelled"
        assert close_of(session.ws) == (1001, "session length limit")


def test_one_that_waits_for_text_holds_no_worker(serve: Serve) -> None:
    at = serve(tts_workers=1)
    with open_session(at.ws) as slow, open_session(at.ws) as other:
        slow.send("text", "u1", text="The beginning of")
        slow.read_until("begin")
        for i in range(5):
            other.send("speak", f"u{i}", text="Hello world")
            assert other.read_until("end")["reason"] == "done"
        slow.send("finish", "u1")
        assert slow.read_until("end")["reason"] == "done"


def test_a_full_service_refuses_the_utterance_and_keeps_the_session(
    serve: Serve, voice: FakeVoice
) -> None:
    at = serve(tts_slots=1, tts_queue=0)
    with open_session(at.ws) as late, open_session(at.ws) as speaking:
        speaking.send("text", "u1", text="Hello ")
        speaking.read_until("begin")
        late.send("speak", "u1", text="Hello world")
        error = late.read_until("error")
        assert (error["code"], error["id"], error["fatal"]) == ("busy", "u1", False)
        assert late.read_until("end")["reason"] == "error"
        speaking.send("finish", "u1")
        speaking.read_until("end")
        late.send("speak", "u2", text="Hello world")
        assert late.read_until("end")["reason"] == "done"


def test_a_cancelled_one_gives_up_its_wait_for_a_slot(serve: Serve, voice: FakeVoice) -> None:
    at = serve(tts_slots=1, tts_queue=1)
    with open_session(at.ws) as late, open_session(at.ws) as speaking:
        speaking.send("text", "u1", text="Hello ")
        speaking.read_until("begin")
        late.send("speak", "u1", text="Hello world")
        late.send("cancel")
        assert late.read_until("end")["reason"] == "cancelled"
        speaking.send("cancel")
        speaking.read_until("end")
        late.send("speak", "u2", text="Hello world")
        assert late.read_until("end")["reason"] == "done"


def test_a_client_that_leaves_stops_the_voice(serve: Serve, voice: FakeVoice) -> None:
    at = serve()
    with open_session(at.ws) as session:
        voice.gate.clear()
        session.send("speak", "u1", text="A sentence. " * 300)
        session.send("text", "u2", text="A sentence. ")
        wait_for(lambda: voice.open_generators == 1)
    wait_for(lambda: at.app.state.lifecycle.under_way == 0)
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
        wait_for(lambda: at.app.state.lifecycle.under_way == 0)


def drain(at: Served) -> None:
    """What SIGTERM does, up to where the server closes what is left."""

    async def begin() -> None:
        tasks.append(asyncio.create_task(at.app.state.lifecycle.drain()))

    tasks: list[asyncio.Task[None]] = []
    at.app.add_api_route("/drain", begin, methods=["POST"])
    httpx.post(f"{at.http}/drain", trust_env=False).raise_for_status()


def test_a_leaving_server_says_so_and_finishes_what_it_has(serve: Serve, voice: FakeVoice) -> None:
    at = serve(drain_seconds=20)
    with open_session(at.ws) as session:
        session.send("text", "u1", text="Hello ")
        session.send("speak", "u2", text="Hello world")
        session.read_until("begin")
        drain(at)
        assert 15_000 < session.read_until("goaway")["deadline_ms"] < 20_000
        session.send("speak", "u3", text="Too late")
        error = session.read_until("error")
        assert (error["code"], error["id"], error["fatal"]) == ("draining", "u3", False)
        session.send("text", "u1", text="world.")
        session.send("finish", "u1")
        assert session.read_until("end", "u1")["audio_ms"] == audio_ms("Hello world.")
        assert session.read_until("end", "u2")["reason"] == "done"
        assert close_of(session.ws) == (1001, "shutting down")
    wait_for(lambda: at.app.state.lifecycle.under_way == 0)


def test_what_is_not_done_by_the_deadline_is_cancelled(serve: Serve) -> None:
    at = serve(drain_seconds=0.5)
    with open_session(at.ws) as session:
        session.send("text", "u1", text="Hello ")
        session.read_until("begin")
        drain(at)
        session.read_until("goaway")
        assert session.read_until("end")["reason"] == "cancelled"
        assert close_of(session.ws) == (1001, "shutting down")


def test_an_idle_session_is_told_and_closed(serve: Serve) -> None:
    at = serve()
    with open_session(at.ws) as session:
        drain(at)
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
    wait_for(lambda: at.app.state.lifecycle.under_way == 0)
