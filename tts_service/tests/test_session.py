"""The session mode of `/ws/tts`, held against the wire contract: what is spoken, and when."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from common.audio.encoding import decode
from common.audio.pcm import Encoding
from tests.support.fakes import FakeVoice, audio_ms, tone_of
from tests.support.server import Served
from tests.support.wire import open_session
from tts_service.tests.conftest import Serve

FIRST, SECOND = "The quick brown fox jumps.", "Then it rests."


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
        fade = decode(bytes(session.rules.audio["u1"][-2000:]), encoding)[-240:]
    assert fade[0] == pytest.approx(tone_of("A sentence of words."), rel=0.05)
    assert fade[-1] == 0
    assert np.all(np.diff(fade) <= 0)


@pytest.mark.parametrize(("encoding", "sample_bytes"), [("mulaw", 1), ("alaw", 1)])
def test_telephone_encodings(plain: Served, encoding: Encoding, sample_bytes: int) -> None:
    with open_session(plain.ws, encoding=encoding, sample_rate=8000) as session:
        session.send("speak", "u1", text="Hello world")
        audio, messages = session.read_utterance("u1")
    assert messages[-1]["audio_ms"] == audio_ms("Hello world") == len(audio) // 8
    middle = decode(audio, encoding)[1000:2000]
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
