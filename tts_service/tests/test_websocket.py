"""`/ws/tts` in its simple mode, held against the wire contract."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from websockets.exceptions import InvalidStatus

from tests.support.fakes import SAMPLES_PER_CHARACTER, FakeVoice, tone_of
from tests.support.wire import close_of, closing_of, open_ws, read_utterance, speak, wait_for
from tts_service.tests.conftest import Serve

CHUNK_BYTES = 1280


def test_audio_then_exactly_the_end(serve: Serve) -> None:
    at = serve()
    with open_ws(f"{at.ws}/ws/tts") as ws:
        said = speak(ws, "Hello world")
    assert said.closing == '{"type":"end"}'
    assert len(said.pcm) == 11 * SAMPLES_PER_CHARACTER * 2
    assert set(said.frame_bytes[:-1]) == {CHUNK_BYTES}
    assert 0 < said.frame_bytes[-1] <= CHUNK_BYTES
    assert said.frame_bytes[-1] % 2 == 0


def test_the_chunk_size_is_a_setting(serve: Serve) -> None:
    at = serve(tts_chunk_samples=1000)
    with open_ws(f"{at.ws}/ws/tts") as ws:
        assert set(speak(ws, "Hello world").frame_bytes[:-1]) == {2000}


def test_several_texts_at_once_are_answered_in_order(serve: Serve) -> None:
    at = serve()
    texts = [f"Text number {word}" for word in ("one", "two", "three", "four", "five", "six")]
    with open_ws(f"{at.ws}/ws/tts") as ws:
        for text in texts:
            ws.send(json.dumps({"text": text}))
        for text in texts:
            said = read_utterance(ws)
            assert said.closing == '{"type":"end"}'
            assert set(np.frombuffer(said.pcm, "<i2") / 32768) == {tone_of(text)}


def test_segments_are_spoken_as_one_text(serve: Serve) -> None:
    at = serve()
    with open_ws(f"{at.ws}/ws/tts") as ws:
        ws.send('{"segments": [{"text": "Hello", "start_ms": 0, "end_ms": 5}, {"text": "world"}]}')
        assert read_utterance(ws).pcm == speak(ws, "Hello world").pcm


def test_first_audio_does_not_wait_for_the_rest(serve: Serve, voice: FakeVoice) -> None:
    at = serve()
    with open_ws(f"{at.ws}/ws/tts") as ws:
        ws.send(json.dumps({"text": "A sentence. " * 50}))
        assert len(ws.recv(10)) == CHUNK_BYTES
        assert read_utterance(ws).closing == '{"type":"end"}'


@pytest.mark.parametrize(
    ("frame", "close_code", "code"),
    [
        ('{"text": ""}', 1003, "empty_text"),
        ('{"text": " \\n\\t "}', 1003, "empty_text"),
        ("{}", 1003, "empty_text"),
        ('{"segments": []}', 1003, "empty_text"),
        ('{"text": "😀"}', 1003, "empty_text"),
        ('{"text": "?!..."}', 1003, "empty_text"),
        ('{"text": "\\ud83d"}', 1003, "empty_text"),
        ("not json", 1007, "bad_request"),
        ("[1]", 1003, "bad_request"),
        ('{"text": 5}', 1003, "bad_request"),
        ('{"text": "a", "voice": "b"}', 1003, "bad_request"),
        ('{"type": "text", "id": "u1", "text": "a"}', 1003, "bad_request"),
        (b"\x00\x01", 1003, "bad_request"),
        (json.dumps({"text": "a" * 5001}), 1009, "too_large"),
    ],
)
def test_what_cannot_be_honoured_gets_an_error_frame_and_its_close_code(
    serve: Serve, frame: str | bytes, close_code: int, code: str
) -> None:
    at = serve()
    with open_ws(f"{at.ws}/ws/tts", additional_headers={"X-Request-ID": "r1"}) as ws:
        ws.send(frame)
        message, closed_with = closing_of(ws)
    assert closed_with == close_code
    assert message["type"] == "error"
    assert message["code"] == code
    assert isinstance(message["error"], str)
    assert message["error"]
    assert message["request_id"] == "r1"


def test_a_frame_over_the_limit_closes_1009(serve: Serve) -> None:
    at = serve(max_message_bytes=2000)
    with open_ws(f"{at.ws}/ws/tts") as ws:
        ws.send(json.dumps({"text": "a" * 3000}))
        assert close_of(ws)[0] == 1009


def test_text_that_is_not_utf8_closes_1007(serve: Serve) -> None:
    at = serve()
    with open_ws(f"{at.ws}/ws/tts") as ws:
        ws.send(b'{"text": "\xff"}', text=True)
        assert close_of(ws)[0] == 1007


def test_what_was_asked_before_an_error_is_still_spoken(serve: Serve) -> None:
    at = serve()
    with open_ws(f"{at.ws}/ws/tts") as ws:
        ws.send('{"text": "Hello world"}')
        ws.send("not json")
        assert read_utterance(ws).closing == '{"type":"end"}'
        message, closed_with = closing_of(ws)
    assert (message["code"], closed_with) == ("bad_request", 1007)


def test_a_session_cannot_be_opened_later(serve: Serve) -> None:
    at = serve()
    with open_ws(f"{at.ws}/ws/tts") as ws:
        assert speak(ws, "Hello world").closing == '{"type":"end"}'
        ws.send('{"type": "start"}')
        message, closed_with = closing_of(ws)
    assert (message["code"], closed_with) == ("bad_request", 1003)


def test_a_failure_after_audio_is_an_error_frame_and_1011_never_an_end(serve: Serve) -> None:
    at = serve()
    with open_ws(f"{at.ws}/ws/tts") as ws:
        ws.send('{"text": "This text will FAIL at last"}')
        said = read_utterance(ws)
        assert said.frame_bytes
        assert said.message["code"] == "synthesis_failed"
        assert close_of(ws)[0] == 1011
    with open_ws(f"{at.ws}/ws/tts") as ws:
        assert speak(ws, "Hello world").closing == '{"type":"end"}'


def test_a_client_that_leaves_stops_the_voice(serve: Serve, voice: FakeVoice) -> None:
    at = serve()
    voice.gate.clear()
    with open_ws(f"{at.ws}/ws/tts") as ws:
        ws.send(json.dumps({"text": "A sentence. " * 300}))
        wait_for(lambda: voice.open_generators == 1)
    wait_for(lambda: at.app.state.lifecycle.in_flight == 0)
    voice.gate.set()
    assert voice.closed.wait(5)
    assert voice.steps <= 3


def test_a_reader_that_sleeps_bounds_what_is_made(serve: Serve, voice: FakeVoice) -> None:
    at = serve(tts_buffer_seconds=2.0, tts_max_text_chars=100_000, max_message_bytes=200_000)
    with open_ws(f"{at.ws}/ws/tts", max_queue=1) as ws:
        # 35 minutes of audio, 67 MB, of which a sleeping reader takes what its socket buffers hold.
        ws.send(json.dumps({"text": "A sentence of words. " * 2000}))
        ws.recv(10)
        before = -1
        while voice.steps != before:
            before = voice.steps
            time.sleep(0.3)
        assert voice.steps * 10 * SAMPLES_PER_CHARACTER * 2 < 25_000_000
        with open_ws(f"{at.ws}/ws/tts") as other:
            assert speak(other, "Hello world").closing == '{"type":"end"}'
        assert read_utterance(ws).closing == '{"type":"end"}'


def test_a_full_service_refuses_the_upgrade(serve: Serve, voice: FakeVoice) -> None:
    at = serve(tts_slots=1, tts_queue=1)
    voice.gate.clear()
    with open_ws(f"{at.ws}/ws/tts") as speaking, open_ws(f"{at.ws}/ws/tts") as waiting:
        for ws in (speaking, waiting):
            ws.send('{"text": "Hello world"}')
        wait_for(lambda: _refused(at.ws) == 503)
        voice.gate.set()
        for ws in (speaking, waiting):
            assert read_utterance(ws).closing == '{"type":"end"}'


def test_a_text_that_finds_the_service_full_gets_busy_and_1013(
    serve: Serve, voice: FakeVoice
) -> None:
    at = serve(tts_slots=1, tts_queue=0)
    voice.gate.clear()
    with open_ws(f"{at.ws}/ws/tts") as late, open_ws(f"{at.ws}/ws/tts") as speaking:
        speaking.send('{"text": "Hello world"}')
        wait_for(lambda: voice.open_generators == 1)
        late.send('{"text": "Hello world"}')
        message, closed_with = closing_of(late)
        assert (message["code"], closed_with) == ("busy", 1013)
        voice.gate.set()
        assert read_utterance(speaking).closing == '{"type":"end"}'


def test_an_idle_session_is_closed_with_its_reason(serve: Serve) -> None:
    at = serve(idle_timeout_s=0.1)
    with open_ws(f"{at.ws}/ws/tts") as ws:
        assert close_of(ws) == (1001, "idle for 0.1 s")


def test_a_session_ends_at_its_length_limit_after_what_it_is_saying(serve: Serve) -> None:
    at = serve(max_session_s=1)
    with open_ws(f"{at.ws}/ws/tts") as ws:
        assert speak(ws, "Hello world").closing == '{"type":"end"}'
        assert close_of(ws) == (1001, "session length limit")


def _refused(url: str) -> int:
    try:
        with open_ws(f"{url}/ws/tts"):
            return 101
    except InvalidStatus as refusal:
        response = refusal.response
        assert response.headers["Retry-After"] == "1"
        assert json.loads(response.body or b"")["error"]["code"] == "busy"
        return response.status_code


def test_a_reader_that_takes_nothing_is_given_up(serve: Serve, voice: FakeVoice) -> None:
    at = serve(idle_timeout_s=0.3, tts_max_text_chars=100_000, max_message_bytes=200_000)
    with open_ws(f"{at.ws}/ws/tts", max_queue=1) as ws:
        ws.send(json.dumps({"text": "A sentence of words. " * 4280}))
        ws.recv(10)
        assert voice.closed.wait(20)
        wait_for(lambda: at.app.state.lifecycle.in_flight == 0)
