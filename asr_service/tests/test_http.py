"""`POST /api/stt/bytes`, held against the wire contract."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from asr_service.app.engine import RecognitionOptions
from asr_service.app.main import build
from asr_service.app.settings import AsrSettings
from asr_service.tests.conftest import Serve
from common.audio.pcm import wav_header
from tests.support.fakes import FakeRecognizer
from tests.support.server import served
from tests.support.wire import wait_for

SECOND = bytes([0, 1]) * 16000


def post(url: str, body: bytes = SECOND, query: str = "sr=16000&ch=1&lang=en") -> httpx.Response:
    return httpx.post(f"{url}/api/stt/bytes?{query}", content=body)


def test_the_answer_has_the_shape_of_the_contract(serve: Serve) -> None:
    answer = post(serve().http)
    assert answer.status_code == 200
    assert answer.json() == {
        "text": "16000 samples",
        "segments": [{"start_ms": 0, "end_ms": 1000, "text": "16000 samples"}],
    }


def test_rate_and_channels_reach_the_recognizer(serve: Serve, recognizer: FakeRecognizer) -> None:
    assert post(serve().http, query="sr=8000&ch=2").status_code == 200
    assert recognizer.heard[0][0] == 16000
    assert recognizer.heard[0][1].language == "en"


def test_a_wav_file_is_refused_with_the_route_that_takes_files(serve: Serve) -> None:
    answer = post(serve().http, wav_header(16000, len(SECOND)) + SECOND)
    assert answer.status_code == 415
    error = answer.json()["error"]
    assert error["code"] == "undecodable_audio"
    assert "/api/stt/file" in error["message"]


@pytest.mark.parametrize("law", ["mulaw", "alaw"])
def test_g711_has_one_byte_for_each_sample(
    serve: Serve, recognizer: FakeRecognizer, law: str
) -> None:
    at = serve(asr_max_seconds=2)
    assert post(at.http, bytes(8000), f"sr=8000&fmt={law}").status_code == 200
    assert post(at.http, bytes(16001), f"fmt={law}").status_code == 200
    assert [samples for samples, _ in recognizer.heard] == [16000, 16001]
    assert post(at.http, bytes(16001), f"sr=8000&fmt={law}").status_code == 413
    assert post(at.http, bytes(3), f"sr=8000&ch=2&fmt={law}").status_code == 400


def test_options_reach_the_recognizer(serve: Serve, recognizer: FakeRecognizer) -> None:
    at = serve(asr_beam_size=3)
    query = "words=true&prompt=Ada%20%C3%A9&hotwords=kettle&vad=false&beam_size=1"
    assert post(at.http, query=query).status_code == 200
    assert post(at.http).status_code == 200
    asked, default = (options for _, options in recognizer.heard)
    assert asked == RecognitionOptions("en", 1, True, "Ada é", "kettle", False)
    assert default == RecognitionOptions("en", 3)


TEXT = '"text":"16000 samples","segments":'


@pytest.mark.parametrize(
    ("name", "media_type", "body"),
    [
        ("text", "text/plain; charset=utf-8", "16000 samples\n"),
        ("srt", "application/x-subrip", "1\n00:00:00,000 --> 00:00:01,000\n16000 samples\n\n"),
        (
            "vtt",
            "text/vtt; charset=utf-8",
            "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n16000 samples\n\n",
        ),
        (
            "json",
            "application/json",
            f'{{{TEXT}[{{"start_ms":0,"end_ms":1000,"text":"16000 samples"}}]}}',
        ),
        (
            "verbose_json",
            "application/json",
            f'{{"task":"transcribe","language":"en","duration":1.0,{TEXT}'
            '[{"id":0,"start":0.0,"end":1.0,"text":"16000 samples"}]}',
        ),
    ],
)
def test_the_answer_has_the_format_that_was_asked_for(
    serve: Serve, name: str, media_type: str, body: str
) -> None:
    answer = post(serve().http, query=f"format={name}")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, media_type)
    assert answer.text == body


def test_silence_is_an_empty_transcript(serve: Serve) -> None:
    assert post(serve().http, bytes(32000)).json() == {"text": "", "segments": []}


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("sr=7999", "sr"),
        ("sr=48001", "sr"),
        ("sr=fast", "sr"),
        ("sr=", "sr"),
        ("ch=0", "ch"),
        ("ch=3", "ch"),
        ("lang=de", "en"),
        ("lang=", "lang"),
        ("rate=8000", "rate"),
        ("fmt=s24le", "fmt"),
        ("words=perhaps", "words"),
        ("words=1&format=srt", "words"),
        ("format=docx", "format"),
        ("vad=2", "vad"),
        ("beam_size=0", "beam_size"),
        ("prompt=" + "x" * 2001, "prompt"),
    ],
)
def test_a_parameter_that_does_not_fit_is_named(serve: Serve, query: str, named: str) -> None:
    answer = post(serve().http, query=query)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "bad_request")
    assert named in error["message"]


@pytest.mark.parametrize(
    ("body", "query", "code"),
    [
        (b"", "ch=1", "empty_audio"),
        (b"\0", "ch=1", "bad_request"),
        (bytes(33), "ch=1", "bad_request"),
        (bytes(6), "ch=2", "bad_request"),
    ],
)
def test_a_body_that_is_not_pcm_is_refused(
    serve: Serve, body: bytes, query: str, code: str
) -> None:
    answer = post(serve().http, body, query)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


def test_the_limit_is_in_seconds_whatever_the_format(
    serve: Serve, recognizer: FakeRecognizer
) -> None:
    at = serve(asr_max_seconds=2)
    assert post(at.http, SECOND * 2).status_code == 200
    assert post(at.http, SECOND * 4, "sr=32000&ch=1").status_code == 200
    assert post(at.http, SECOND * 4, "sr=16000&ch=2").status_code == 200
    refused = post(at.http, SECOND * 2 + b"\0\0")
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "too_large")
    assert len(recognizer.heard) == 3


def test_the_limit_of_bytes_holds_too(serve: Serve) -> None:
    at = serve(asr_max_body_bytes=32000)
    assert post(at.http).status_code == 200
    refused = post(at.http, SECOND + b"\0\0")
    assert refused.status_code == 413
    assert "32000 bytes" in refused.json()["error"]["message"]


def test_an_upload_over_the_limit_is_refused_while_it_streams_in(
    serve: Serve, recognizer: FakeRecognizer
) -> None:
    at = serve(asr_max_seconds=1)
    sent = 0

    def upload() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += len(SECOND)
            yield SECOND

    answer = httpx.post(f"{at.http}/api/stt/bytes", content=upload())
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    assert recognizer.heard == []


def test_a_recognizer_that_fails_is_500_and_the_service_goes_on(serve: Serve) -> None:
    at = serve()
    answer = post(at.http, b"\x00\x80" + SECOND)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "recognition_failed")
    assert post(at.http).status_code == 200


def test_beyond_workers_and_queue_a_request_is_busy(
    serve: Serve, recognizer: FakeRecognizer
) -> None:
    at = serve(asr_workers=1, asr_max_batch=1, asr_queue=1)
    recognizer.gate.clear()
    with ThreadPoolExecutor(2) as threads:
        admitted = [threads.submit(post, at.http) for _ in range(2)]
        wait_for(lambda: at.app.state.lifecycle.in_flight == 2)
        refused = post(at.http)
        recognizer.gate.set()
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "busy")
        assert refused.headers["Retry-After"] == "1"
        assert [f.result().status_code for f in admitted] == [200, 200]


def test_a_client_that_disconnects_stops_the_recognition(
    serve: Serve, recognizer: FakeRecognizer
) -> None:
    at = serve(asr_workers=1, asr_max_batch=1, asr_queue=0)
    recognizer.gate.clear()
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{at.http}/api/stt/bytes", content=SECOND, timeout=0.3)
    assert recognizer.was_cancelled.wait(5)
    recognizer.gate.set()
    wait_for(lambda: post(at.http).status_code == 200)


def test_a_client_that_disconnects_while_it_is_queued_is_never_recognized(
    serve: Serve, recognizer: FakeRecognizer
) -> None:
    at = serve(asr_workers=1, asr_max_batch=1, asr_queue=1)
    recognizer.gate.clear()
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(post, at.http)
        wait_for(lambda: at.app.state.lifecycle.in_flight == 1)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{at.http}/api/stt/bytes", content=SECOND * 2, timeout=0.3)
        wait_for(lambda: at.app.state.lifecycle.in_flight == 1)
        recognizer.gate.set()
        assert first.result().status_code == 200
    assert [samples for samples, _ in recognizer.heard] == [16000]


def test_while_it_loads_it_says_so(recognizer: FakeRecognizer) -> None:
    may_load = threading.Event()

    def load() -> FakeRecognizer:
        may_load.wait()
        return recognizer

    with served(build(AsrSettings(), load), ready=False) as at:
        answer = post(at.http)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "loading")
        may_load.set()
        wait_for(lambda: httpx.get(f"{at.http}/readyz").status_code == 200)
        assert post(at.http).status_code == 200
