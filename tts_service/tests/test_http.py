"""`POST /api/tts`."""

from __future__ import annotations

import io
import json
import threading
import wave
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from common.audio.encoding import Law, decode_g711
from tests.support.fakes import SAMPLES_PER_CHARACTER, FakeVoice, tone_of
from tests.support.server import served
from tests.support.wire import open_ws, wait_for
from tts_service.app.main import build
from tts_service.app.settings import TtsSettings
from tts_service.tests.conftest import Serve

TWO_SENTENCES = "First a sentence of many words. Then another one."


def test_raw_pcm_is_streamed(serve: Serve) -> None:
    at = serve()
    answer = httpx.post(f"{at.http}/api/tts", json={"text": "Hello world"})
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "audio/pcm"
    assert (answer.headers["X-Sample-Rate"], answer.headers["X-Channels"]) == ("16000", "1")
    assert len(answer.content) == 11 * SAMPLES_PER_CHARACTER * 2


def test_the_rate_and_the_speed_are_those_asked_for(serve: Serve) -> None:
    at = serve()
    body = {"text": "Hello world", "sample_rate": 8000, "speed": 2.0}
    answer = httpx.post(f"{at.http}/api/tts", json=body)
    assert answer.headers["X-Sample-Rate"] == "8000"
    assert len(answer.content) / 2 == pytest.approx(11 * SAMPLES_PER_CHARACTER / 4, abs=4)


def test_the_default_rate_is_a_setting(serve: Serve) -> None:
    at = serve(tts_sr=48000)
    answer = httpx.post(f"{at.http}/api/tts", json={"text": "Hello world"})
    assert answer.headers["X-Sample-Rate"] == "48000"
    assert len(answer.content) / 2 == pytest.approx(3 * 11 * SAMPLES_PER_CHARACTER, abs=4)


def test_wav_of_one_piece_has_its_true_length(serve: Serve) -> None:
    at = serve()
    answer = httpx.post(f"{at.http}/api/tts", json={"text": "Hello world", "format": "wav"})
    assert answer.headers["Content-Type"] == "audio/wav"
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    with wave.open(io.BytesIO(answer.content)) as wav:
        assert wav.getparams()[:4] == (1, 2, 16000, 11 * SAMPLES_PER_CHARACTER)


def test_wav_of_a_voice_that_streams_does_not_wait_for_its_end(
    serve: Serve, voice: FakeVoice
) -> None:
    voice.whole_pieces = False
    answer = httpx.post(f"{serve().http}/api/tts", json={"text": "Hello world", "format": "wav"})
    assert "Content-Length" not in answer.headers
    with wave.open(io.BytesIO(answer.content)) as wav:
        assert len(wav.readframes(10_000_000)) == 11 * SAMPLES_PER_CHARACTER * 2


def test_wav_whose_length_is_not_known_yet_is_streamed_and_still_read_whole(serve: Serve) -> None:
    at = serve()
    answer = httpx.post(f"{at.http}/api/tts", json={"text": TWO_SENTENCES, "format": "wav"})
    assert "Content-Length" not in answer.headers
    with wave.open(io.BytesIO(answer.content)) as wav:
        frames = wav.readframes(10_000_000)
    assert len(frames) == (len(TWO_SENTENCES) - 1) * SAMPLES_PER_CHARACTER * 2


@pytest.mark.parametrize(("law", "media_type"), [("mulaw", "audio/PCMU"), ("alaw", "audio/PCMA")])
def test_telephone_encodings(serve: Serve, law: Law, media_type: str) -> None:
    body = {"text": "Hello world", "format": law, "sample_rate": 8000}
    answer = httpx.post(f"{serve().http}/api/tts", json=body)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == media_type
    assert answer.headers["X-Sample-Rate"] == "8000"
    assert len(answer.content) == 11 * SAMPLES_PER_CHARACTER // 2
    middle = decode_g711(answer.content, law)[1000:2000]
    assert middle == pytest.approx(tone_of("Hello world"), rel=0.04)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"text": ""}, 400, "empty_text"),
        ({"text": "  \n"}, 400, "empty_text"),
        ({"text": "😀"}, 400, "empty_text"),
        ({"text": "?!"}, 400, "empty_text"),
        ({"text": "😀", "format": "wav"}, 400, "empty_text"),
        ({}, 400, "bad_request"),
        ([], 400, "bad_request"),
        ({"text": 5}, 400, "bad_request"),
        ({"text": "a", "voice": "b"}, 400, "bad_request"),
        ({"text": "a", "sample_rate": 7999}, 400, "bad_request"),
        ({"text": "a", "sample_rate": 48001}, 400, "bad_request"),
        ({"text": "a", "speed": 0.1}, 400, "bad_request"),
        ({"text": "a", "speed": float("nan")}, 400, "bad_request"),
        ({"text": "a", "format": "midi"}, 400, "bad_request"),
        ({"text": "a" * 5001}, 413, "too_large"),
        ({"text": "a" * 70_000}, 413, "too_large"),
        ({"text": "FAIL FAIL FAIL FAIL", "format": "wav"}, 500, "synthesis_failed"),
    ],
)
def test_what_cannot_be_honoured_has_its_status(
    serve: Serve, body: Any, status: int, code: str
) -> None:
    at = serve()
    answer = httpx.post(f"{at.http}/api/tts", content=json.dumps(body))
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_a_body_that_is_not_json_is_a_bad_request(serve: Serve) -> None:
    at = serve()
    answer = httpx.post(f"{at.http}/api/tts", content=b"\xff{")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")


def test_5000_characters_are_spoken(serve: Serve) -> None:
    at = serve()
    text = ("word " * 1000)[:4999] + "."
    with httpx.stream("POST", f"{at.http}/api/tts", json={"text": text}) as answer:
        assert answer.status_code == 200
        assert sum(map(len, answer.iter_raw())) > 4000 * SAMPLES_PER_CHARACTER * 2


def test_a_failure_after_audio_breaks_the_body_off(serve: Serve) -> None:
    at = serve()
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(f"{at.http}/api/tts", json={"text": "This text will FAIL at last"})


def test_a_full_service_says_busy_at_once(serve: Serve, voice: FakeVoice) -> None:
    at = serve(tts_slots=1, tts_queue=0)
    voice.gate.clear()
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(httpx.post, f"{at.http}/api/tts", json={"text": "Hello"})
        wait_for(lambda: voice.open_generators == 1)
        refused = httpx.post(f"{at.http}/api/tts", json={"text": "Hello"})
        voice.gate.set()
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "busy")
        assert refused.headers["Retry-After"] == "1"
        assert first.result().status_code == 200


def test_a_client_that_leaves_before_the_first_audio_stops_the_voice(
    serve: Serve, voice: FakeVoice
) -> None:
    at = serve()
    voice.gate.clear()
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{at.http}/api/tts", json={"text": "A sentence. " * 300}, timeout=0.3)
    wait_for(lambda: at.app.state.lifecycle.in_flight == 0)
    voice.gate.set()
    assert voice.closed.wait(5)
    assert voice.steps == 1


def test_a_client_that_leaves_mid_stream_stops_the_voice(serve: Serve, voice: FakeVoice) -> None:
    at = serve(tts_buffer_seconds=1.0)
    text = "A sentence of words. " * 230
    with httpx.stream("POST", f"{at.http}/api/tts", json={"text": text}) as answer:
        next(answer.iter_raw())
    assert voice.closed.wait(5)
    assert httpx.post(f"{at.http}/api/tts", json={"text": "Hello"}).status_code == 200


def test_while_it_loads_it_says_so(voice: FakeVoice) -> None:
    may_load = threading.Event()

    def load() -> FakeVoice:
        may_load.wait()
        return voice

    with served(build(TtsSettings(), load), ready=False) as at:
        answer = httpx.post(f"{at.http}/api/tts", json={"text": "Hello"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "loading")
        assert answer.headers["Retry-After"] == "1"
        with pytest.raises(InvalidStatus) as refusal:
            open_ws(f"{at.ws}/ws/tts").__enter__()
        assert refusal.value.response.status_code == 503
        assert json.loads(refusal.value.response.body or b"")["error"]["code"] == "loading"
        may_load.set()
        wait_for(lambda: httpx.get(f"{at.http}/readyz").status_code == 200)
        assert httpx.post(f"{at.http}/api/tts", json={"text": "Hello"}).status_code == 200


def test_openapi_describes_the_body(serve: Serve) -> None:
    schema = httpx.get(f"{serve().http}/openapi.json").json()
    body = schema["paths"]["/api/tts"]["post"]["requestBody"]["content"]["application/json"]
    assert set(body["schema"]["properties"]) == {"text", "sample_rate", "speed", "format"}
