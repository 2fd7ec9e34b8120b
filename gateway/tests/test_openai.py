"""The routes of OpenAI's audio API, in front of services that speak and listen with fakes."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from asr_service.app.main import build as build_asr
from asr_service.app.settings import AsrSettings
from gateway.app.main import build
from gateway.app.settings import GatewaySettings
from gateway.app.upstreams.service import new_http_client
from gateway.tests import misbehaving
from gateway.tests.conftest import Serve
from tests.support.audio_files import tone_file
from tests.support.fakes import SAMPLES_PER_CHARACTER, FakeRecognizer, FakeVoice
from tests.support.server import served
from tests.support.wire import wait_for
from tts_service.app.main import build as build_tts
from tts_service.app.settings import TtsSettings

HELLO = {"model": "tts-1", "voice": "alloy", "input": "Hello world"}
FLAC = tone_file("flac")
"""A second of a tone, of which the fake recognizer says how many samples it has."""
HEARD = "16000 samples"
SENTENCES = "A sentence that is long enough to be a piece. " * 12


@pytest.fixture(scope="module")
def listener() -> FakeRecognizer:
    return FakeRecognizer()


@pytest.fixture(scope="module")
def url(listener: FakeRecognizer) -> Iterator[str]:
    """Of one gateway for all tests that do it no harm."""
    with ExitStack() as stack:
        tts = stack.enter_context(served(build_tts(TtsSettings(), FakeVoice)))
        asr = stack.enter_context(served(build_asr(AsrSettings(), lambda: listener)))
        settings = GatewaySettings(gateway_tts_url=tts.http, gateway_asr_url=asr.http)
        yield stack.enter_context(served(build(settings, new_http_client()))).http


def transcribe(url: str, form: dict[str, Any] | None = None, **request: Any) -> httpx.Response:
    request.setdefault("files", {"file": ("speech.flac", FLAC, "audio/flac")})
    data = {"model": "whisper-1", **(form or {})}
    return httpx.post(f"{url}/v1/audio/transcriptions", data=data, **request)


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    blocks = answer.text.split("\n\n")
    assert blocks.pop() == ""
    return [json.loads(block.removeprefix("data: ")) for block in blocks]


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The error, of exactly OpenAI's shape, with the id in the header."""
    error: dict[str, Any] = answer.json()["error"]
    assert set(answer.json()) == {"error"}
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Request-ID"]
    return error


# --- speech -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "media_type"),
    [
        (None, "audio/mpeg"),
        ("mp3", "audio/mpeg"),
        ("opus", "audio/ogg"),
        ("aac", "audio/aac"),
        ("flac", "audio/flac"),
        ("wav", "audio/wav"),
        ("pcm", "audio/pcm"),
    ],
)
def test_speech_has_the_requested_format(url: str, wanted: str | None, media_type: str) -> None:
    body = HELLO if wanted is None else HELLO | {"response_format": wanted}
    answer = httpx.post(f"{url}/v1/audio/speech", json=body)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == media_type
    assert answer.headers["X-Sample-Rate"] == "24000"
    assert answer.content


def test_pcm_is_24_khz_and_the_speed_is_honoured(url: str) -> None:
    body = HELLO | {"response_format": "pcm", "speed": 2.0}
    answer = httpx.post(f"{url}/v1/audio/speech", json=body)
    expected = 11 * SAMPLES_PER_CHARACTER * 1.5 / 2
    assert len(answer.content) / 2 == pytest.approx(expected, abs=8)


@pytest.mark.parametrize("model", ["tts-1", "tts-1-hd", "gpt-4o-mini-tts", "fake"])
def test_openais_names_and_the_loaded_name_stand_for_what_is_loaded(url: str, model: str) -> None:
    for name in ("alloy", "cedar", "fake"):
        body = HELLO | {"model": model, "voice": name, "instructions": ""}
        assert httpx.post(f"{url}/v1/audio/speech", json=body).status_code == 200


@pytest.mark.parametrize(
    ("change", "status", "param", "code"),
    [
        ({"voice": "nobody"}, 400, "voice", "bad_request"),
        ({"voice": {"id": "voice_1"}}, 400, "voice", "bad_request"),
        ({"model": "tts-9"}, 404, "model", "model_not_found"),
        ({"model": "whisper-1"}, 404, "model", "model_not_found"),
        ({"instructions": "Whisper."}, 400, "instructions", "bad_request"),
        ({"speed": 4.0}, 400, "speed", "bad_request"),
        ({"response_format": "ogg"}, 400, "response_format", "bad_request"),
        ({"stream_format": "ws"}, 400, "stream_format", "bad_request"),
        ({"language": "en"}, 400, "language", "bad_request"),
        ({"input": ""}, 400, "input", "bad_request"),
        ({"input": "?!"}, 400, None, "empty_text"),
        ({"input": "a" * 5001}, 413, None, "too_large"),
    ],
)
def test_options_of_speech_that_cannot_be_honoured_are_refused_by_name(
    url: str, change: dict[str, Any], status: int, param: str | None, code: str
) -> None:
    answer = httpx.post(f"{url}/v1/audio/speech", json=HELLO | change)
    error = error_of(answer)
    assert (answer.status_code, error["param"], error["code"]) == (status, param, code)
    assert error["type"] == "invalid_request_error"


def test_speech_is_streamed_while_it_is_synthesized_and_aborted_if_it_fails(url: str) -> None:
    body = HELLO | {"input": f"{SENTENCES}FAIL FAIL FAIL."}
    with httpx.stream("POST", f"{url}/v1/audio/speech", json=body) as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            answer.read()


@pytest.mark.parametrize("wanted", ["pcm", "wav", "mp3"])
def test_events_carry_the_same_audio(url: str, wanted: str) -> None:
    speech = f"{url}/v1/audio/speech"
    body = HELLO | {"response_format": wanted}
    plain = httpx.post(speech, json=body)
    answer = httpx.post(speech, json=body | {"stream_format": "sse"})
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    *deltas, done = events(answer)
    assert done == {"type": "speech.audio.done"}
    assert {delta["type"] for delta in deltas} == {"speech.audio.delta"}
    assert b"".join(base64.b64decode(delta["audio"]) for delta in deltas) == plain.content


def test_a_failure_after_audio_aborts_the_events(url: str) -> None:
    body = HELLO | {"input": f"{SENTENCES}FAIL FAIL FAIL.", "stream_format": "sse"}
    asking = httpx.stream("POST", f"{url}/v1/audio/speech", json=body)
    with asking as answer, pytest.raises(httpx.RemoteProtocolError):
        answer.read()


# --- transcriptions -----------------------------------------------------------------------------


def test_json_has_the_text_and_the_duration_of_the_audio(url: str) -> None:
    answer = transcribe(url)
    assert answer.status_code == 200
    assert answer.json() == {"text": HEARD, "usage": {"type": "duration", "seconds": 1}}


@pytest.mark.parametrize(
    ("wanted", "content"),
    [
        ("text", f"{HEARD}\n"),
        ("srt", f"1\n00:00:00,000 --> 00:00:01,000\n{HEARD}\n\n"),
        ("vtt", f"WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n{HEARD}\n\n"),
    ],
)
def test_text_and_subtitles_are_plain_text(url: str, wanted: str, content: str) -> None:
    answer = transcribe(url, {"response_format": wanted})
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert answer.text == content


def test_verbose_json_has_the_requested_segments_and_words(url: str) -> None:
    verbose = {"response_format": "verbose_json"}
    plain = transcribe(url, verbose).json()
    assert (plain["task"], plain["language"], plain["duration"]) == ("transcribe", "en", 1.0)
    assert plain["segments"] == [{"id": 0, "start": 0.0, "end": 1.0, "text": HEARD}]
    assert "words" not in plain
    words = transcribe(url, verbose | {"timestamp_granularities[]": "word"}).json()
    assert "segments" not in words
    assert " ".join(word["word"] for word in words["words"]) == HEARD
    both = transcribe(url, verbose | {"timestamp_granularities[]": ["word", "segment"]}).json()
    assert both["segments"] == plain["segments"]
    assert both["words"] == words["words"]


def test_prompt_and_keywords_reach_the_recognizer(url: str, listener: FakeRecognizer) -> None:
    form = {
        "language": "en",
        "prompt": "Ada, naïve & co",
        "keywords[]": ["kettle", "noon"],
        "temperature": "0",
        "chunking_strategy": "auto",
    }
    assert transcribe(url, form).status_code == 200
    _, options = listener.heard[-1]
    assert (options.prompt, options.hotwords) == ("Ada, naïve & co", "kettle noon")
    assert options.language == "en"


def test_the_deltas_of_the_events_joined_are_the_text(url: str) -> None:
    answer = transcribe(url, {"stream": "true"})
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert events(answer) == [
        {"type": "transcript.text.delta", "delta": HEARD},
        {"type": "transcript.text.done", "text": HEARD},
    ]


@pytest.mark.parametrize(
    ("form", "status", "param"),
    [
        ({"model": "whisper-9"}, 404, "model"),
        ({"model": "gpt-4o-transcribe-diarize"}, 404, "model"),
        ({"model": "tts-1"}, 404, "model"),
        ({"language": "de"}, 400, "language"),
        ({"temperature": "0.7"}, 400, "temperature"),
        ({"response_format": "diarized_json", "model": "whisper-1"}, 400, "response_format"),
        ({"timestamp_granularities[]": "word"}, 400, "timestamp_granularities"),
        ({"timestamp_granularities[]": "syllable"}, 400, "timestamp_granularities.0"),
        ({"stream": "true", "response_format": "srt"}, 400, "response_format"),
        ({"include[]": "logprobs"}, 400, "include"),
        ({"known_speaker_names[]": "ada"}, 400, "known_speaker_names"),
        ({"chunking_strategy": '{"type": "server_vad"}'}, 400, "chunking_strategy"),
        ({"language": ["en", "en"]}, 400, "language"),
    ],
)
def test_fields_of_transcription_that_cannot_be_honoured_are_refused_by_name(
    url: str, form: dict[str, Any], status: int, param: str
) -> None:
    answer = transcribe(url, form)
    error = error_of(answer)
    assert answer.status_code == status
    assert error["param"] == param


@pytest.mark.parametrize(
    ("files", "status", "code"),
    [
        ({"file": ("a.wav", b"")}, 400, "empty_audio"),
        ({"file": ("a.wav", b"no audio at all")}, 415, "undecodable_audio"),
        ({"audio": ("a.wav", FLAC)}, 400, "bad_request"),
        ({"file": ("a.wav", bytes(26_300_000))}, 413, "too_large"),
    ],
)
def test_a_file_that_cannot_be_decoded_is_refused(
    url: str, files: dict[str, Any], status: int, code: str
) -> None:
    answer = transcribe(url, files=files)
    assert (answer.status_code, error_of(answer)["code"]) == (status, code)


def test_a_body_other_than_a_form_is_refused(url: str) -> None:
    answer = httpx.post(f"{url}/v1/audio/transcriptions", content=FLAC)
    assert (answer.status_code, error_of(answer)["param"]) == (400, "model")


def test_translations_are_refused(url: str) -> None:
    answer = httpx.post(
        f"{url}/v1/audio/translations",
        data={"model": "whisper-1"},
        files={"file": ("a.flac", FLAC)},
    )
    assert answer.status_code == 400
    assert "understands English only" in error_of(answer)["message"]


# --- models, voices, errors ---------------------------------------------------------------------


def test_models_are_the_loaded_ones_and_their_aliases(url: str) -> None:
    listed = httpx.get(f"{url}/v1/models").json()
    assert listed["object"] == "list"
    roots = {model["id"]: model["root"] for model in listed["data"]}
    assert (roots["tts-1"], roots["fake"]) == ("fake", "fake")
    assert (roots["whisper-1"], roots["tiny.en"]) == ("tiny.en", "tiny.en")
    for name in roots:
        assert httpx.get(f"{url}/v1/models/{name}").json()["id"] == name
    missing = httpx.get(f"{url}/v1/models/gpt-9%2Fx")
    assert missing.status_code == 404
    assert error_of(missing)["code"] == "model_not_found"


def test_voices_are_listed(url: str) -> None:
    voices = httpx.get(f"{url}/v1/audio/voices").json()["voices"]
    assert voices[0] == {"id": "fake", "name": "fake"}
    assert {"id": "alloy", "name": "alloy (fake)"} in voices


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/v1/chat/completions", b"{}", 404, "not_found"),
        ("GET", "/v1/audio/speech", b"", 405, "method_not_allowed"),
        ("POST", "/v1/audio/speech", b"{", 400, "bad_request"),
        ("POST", "/v1/audio/speech", b"[]", 400, "bad_request"),
        ("POST", "/v1/audio/speech", b" " * 26_300_000, 413, "too_large"),
    ],
)
def test_every_refusal_under_v1_has_openais_shape(
    url: str, method: str, path: str, body: bytes, status: int, code: str
) -> None:
    answer = httpx.request(method, f"{url}{path}", content=body)
    assert (answer.status_code, error_of(answer)["code"]) == (status, code)


def test_keys_and_quotas_refuse_in_openais_shape(serve: Serve) -> None:
    # The services behind ask for no key here; the gateway's is of no matter to them.
    at = serve(api_keys="ada:ada-key-12345", gateway_key_requests_per_minute=1)
    url = f"{at.http}/v1/models"
    refused = httpx.get(url)
    assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert error_of(refused)["code"] == "invalid_api_key"
    key = {"Authorization": "Bearer ada-key-12345"}
    assert httpx.get(url, headers=key).status_code == 200
    limited = httpx.get(url, headers=key)
    assert (limited.status_code, "Retry-After" in limited.headers) == (429, True)
    assert error_of(limited)["code"] == "rate_limit_exceeded"
    # Outside of /v1 the shape is the fleet's own.
    assert set(httpx.get(f"{at.http}/nowhere").json()["error"]) == {"code", "message", "request_id"}


def test_a_service_that_is_away_is_a_server_error(serve_gateway: Serve) -> None:
    away = misbehaving.closed_port()
    at = serve_gateway(gateway_tts_url=away, gateway_asr_url=away)
    for answer in (
        httpx.post(f"{at.http}/v1/audio/speech", json=HELLO),
        transcribe(at.http),
        transcribe(at.http, {"stream": "true"}),
        httpx.get(f"{at.http}/v1/models"),
    ):
        assert answer.status_code == 502
        error = error_of(answer)
        assert (error["type"], error["code"]) == ("server_error", "upstream_failed")


def test_a_full_service_answers_with_retry_after(serve: Serve, voice: FakeVoice) -> None:
    at = serve()
    voice.gate.clear()
    body = HELLO | {"input": SENTENCES}
    with httpx.Client(timeout=30) as client:
        url = f"{at.http}/v1/audio/speech"
        with ThreadPoolExecutor(2) as pool:
            busy = [pool.submit(client.post, url, json=body) for _ in range(2)]
            wait_for(lambda: httpx.post(url, json=HELLO, timeout=30).status_code == 503)
            refused = httpx.post(url, json=HELLO)
            voice.gate.set()
            assert [done.result().status_code for done in busy] == [200, 200]
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert error_of(refused)["code"] == "busy"


def test_a_protocol_error_of_a_service_is_a_server_error(serve_gateway: Serve) -> None:
    empty = misbehaving.respond("200 OK", b'{"voices": [], "models": []}')
    with misbehaving.upstream(empty) as url:
        at = serve_gateway(gateway_tts_url=url, gateway_asr_url=url)
        for answer in (
            httpx.get(f"{at.http}/v1/audio/voices"),
            httpx.get(f"{at.http}/v1/models"),
            transcribe(at.http),
            transcribe(at.http, {"model": "other"}),
        ):
            assert (answer.status_code, error_of(answer)["code"]) == (502, "upstream_failed")
