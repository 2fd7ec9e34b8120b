"""Segments while they are found: as lines, and spoken by the echo with `overlap`."""

from __future__ import annotations

import asyncio
import io
import json
import wave
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager

import httpx
import numpy as np
import pytest

from asr_service.app.main import build as build_asr
from asr_service.app.settings import AsrSettings
from common.errors import UpstreamFailed
from common.wire.messages import MAX_LINE_BYTES
from gateway.app.upstreams.services import segments_of
from gateway.tests import misbehaving
from gateway.tests.conftest import Serve
from gateway.tests.misbehaving import cut, upstream
from tests.support.fakes import SAMPLES_PER_CHARACTER, FakeVoice, StepwiseRecognizer, tone_of
from tests.support.server import Served, served
from tests.support.wire import wait_for

SECOND = bytes([0, 1]) * 16000
FAILS = b"\x00\x80" + SECOND[2:]
UNSPEAKABLE = b"\x01\x80" + SECOND[2:]
LINES = {"Accept": "application/x-ndjson"}


@pytest.fixture
def stepwise() -> StepwiseRecognizer:
    return StepwiseRecognizer()


@pytest.fixture
def at(serve_gateway: Serve, stack: ExitStack, tts: Served, stepwise: StepwiseRecognizer) -> Served:
    """A gateway whose recognizer finds one segment after the other."""
    settings = AsrSettings(asr_workers=1, asr_max_batch=1, asr_queue=0)
    asr = stack.enter_context(served(build_asr(settings, lambda: stepwise)))
    return serve_gateway(gateway_tts_url=tts.http, gateway_asr_url=asr.http)


@contextmanager
def echoing(at: Served, body: bytes, query: str = "") -> Iterator[httpx.Response]:
    url = f"{at.http}/api/echo-bytes?overlap=true&{query}"
    with httpx.stream("POST", url, content=body, timeout=10) as answer:
        yield answer


def spoken(*texts: str) -> bytes:
    """What the fake voice makes of them."""
    parts = [np.full(len(t) * SAMPLES_PER_CHARACTER, tone_of(t) * 32768) for t in texts]
    return np.concatenate(parts).astype("<i2").tobytes()


FIRST, SECOND_TEXT = "Second 0.", "Second 1."


def test_lines_of_segments_are_passed_on_as_they_come(
    at: Served, stepwise: StepwiseRecognizer
) -> None:
    stepwise.allow()
    with httpx.stream(
        "POST", f"{at.http}/api/stt/bytes", content=SECOND * 2, headers=LINES
    ) as answer:
        assert answer.headers["Content-Type"] == "application/x-ndjson"
        lines = answer.iter_lines()
        assert json.loads(next(lines))["text"] == FIRST
        stepwise.allow()
        assert json.loads(next(lines))["text"] == SECOND_TEXT
        assert json.loads(next(lines))["type"] == "end"


def test_lines_that_end_early_are_aborted_for_the_client_too(
    at: Served, stepwise: StepwiseRecognizer
) -> None:
    stepwise.allow(2)
    body = SECOND + FAILS
    with httpx.stream("POST", f"{at.http}/api/stt/bytes", content=body, headers=LINES) as answer:
        lines = answer.iter_lines()
        assert json.loads(next(lines))["type"] == "segment"
        assert json.loads(next(lines))["code"] == "recognition_failed"
        with pytest.raises(httpx.RemoteProtocolError):
            next(lines)


def test_the_first_segment_is_spoken_before_the_second_is_recognized(
    at: Served, stepwise: StepwiseRecognizer
) -> None:
    stepwise.allow()
    with echoing(at, SECOND * 2) as answer:
        assert answer.status_code == 200
        assert answer.headers["X-Sample-Rate"] == "16000"
        assert answer.headers["Content-Type"] == "audio/pcm"
        assert "X-Transcript" not in answer.headers
        audio = b""
        chunks = answer.iter_raw()
        while len(audio) < len(spoken(FIRST)):
            audio += next(chunks)
        assert audio == spoken(FIRST)
        stepwise.allow()
        assert b"".join(chunks) == spoken(SECOND_TEXT)


def test_the_segments_are_spoken_in_order_in_one_stream(
    at: Served, stepwise: StepwiseRecognizer
) -> None:
    stepwise.allow(4)
    with echoing(at, SECOND + bytes(32000) + SECOND * 2, "fmt=wav&sr=16000") as answer:
        whole = answer.read()
    with wave.open(io.BytesIO(whole)) as wav:
        assert wav.getparams()[:3] == (1, 2, 16000)
    assert whole[44:] == spoken(FIRST, "Second 2.", "Second 3.")


def test_the_echo_has_the_sample_rate_of_the_recording(
    at: Served, stepwise: StepwiseRecognizer
) -> None:
    stepwise.allow(1)
    with echoing(at, SECOND[:16000], "sr=8000") as answer:
        assert answer.headers["X-Sample-Rate"] == "8000"
        assert len(answer.read()) == len(spoken(FIRST)) / 2


def test_silence_is_answered_by_an_empty_body_and_a_header(
    at: Served, stepwise: StepwiseRecognizer, voice: FakeVoice
) -> None:
    stepwise.allow(2)
    with echoing(at, bytes(64000)) as answer:
        assert (answer.status_code, answer.read()) == (200, b"")
        assert answer.headers["X-Speech"] == "none"
    assert voice.steps == 0


def test_segments_that_cannot_be_spoken_are_left_out_unless_none_can(
    at: Served, stepwise: StepwiseRecognizer
) -> None:
    stepwise.allow(2)
    with echoing(at, UNSPEAKABLE + SECOND) as answer:
        assert answer.read() == spoken(SECOND_TEXT)
    stepwise.allow(1)
    with echoing(at, UNSPEAKABLE) as answer:
        answer.read()
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "empty_text")


def test_recognition_that_fails_before_any_audio_has_its_status(
    at: Served, stepwise: StepwiseRecognizer
) -> None:
    stepwise.allow(1)
    with echoing(at, FAILS) as answer:
        answer.read()
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "recognition_failed")


def assert_aborted_after(answer: httpx.Response, audio: bytes) -> None:
    assert answer.status_code == 200
    got: list[bytes] = []
    with pytest.raises(httpx.RemoteProtocolError):
        got.extend(answer.iter_raw())
    assert b"".join(got) == audio


def test_recognition_that_fails_after_audio_aborts_the_echo(
    at: Served, stepwise: StepwiseRecognizer
) -> None:
    stepwise.allow(2)
    with echoing(at, SECOND + FAILS) as answer:
        assert_aborted_after(answer, spoken(FIRST))
    wait_for(lambda: at.app.state.lifecycle.in_flight == 0)


def test_speech_that_is_refused_after_audio_aborts_the_echo(
    at: Served, tts: Served, stepwise: StepwiseRecognizer
) -> None:
    stepwise.allow()
    with echoing(at, SECOND * 2) as answer:
        chunks = answer.iter_raw()
        next(chunks)
        tts.app.state.lifecycle.state = "draining"
        stepwise.allow()
        with pytest.raises(httpx.RemoteProtocolError):
            list(chunks)


def test_speech_that_is_refused_before_any_audio_has_its_status(
    at: Served, tts: Served, stepwise: StepwiseRecognizer
) -> None:
    tts.app.state.lifecycle.state = "draining"
    stepwise.allow()
    with echoing(at, SECOND) as answer:
        answer.read()
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "draining")


def test_a_client_that_disconnects_frees_the_recognizer(
    at: Served, stepwise: StepwiseRecognizer, voice: FakeVoice
) -> None:
    stepwise.allow()
    with echoing(at, SECOND * 3) as answer:
        next(answer.iter_raw())
    assert stepwise.was_cancelled.wait(5)
    wait_for(lambda: at.app.state.lifecycle.in_flight == 0)
    wait_for(lambda: voice.open_generators == 0)


def test_a_client_that_disconnects_frees_the_voice(
    at: Served, tts: Served, stepwise: StepwiseRecognizer, voice: FakeVoice
) -> None:
    stepwise.allow(3)
    with echoing(at, SECOND * 3) as answer:
        chunks = answer.iter_raw()
        next(chunks)
        voice.gate.clear()
    wait_for(lambda: at.app.state.lifecycle.in_flight == 0)
    voice.gate.set()
    wait_for(lambda: tts.app.state.lifecycle.in_flight == 0)
    wait_for(lambda: voice.open_generators == 0)


def test_a_client_that_disconnects_before_the_first_segment_frees_the_recognizer(
    at: Served, stepwise: StepwiseRecognizer
) -> None:
    url = f"{at.http}/api/echo-bytes?overlap=true"
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(url, content=SECOND, timeout=0.3)
    assert stepwise.was_cancelled.wait(5)
    wait_for(lambda: at.app.state.lifecycle.in_flight == 0)


def test_a_recognizer_that_dies_is_named_in_the_error(serve_gateway: Serve, tts: Served) -> None:
    with upstream(misbehaving.stream_then(cut)) as url:
        at = serve_gateway(gateway_tts_url=tts.http, gateway_asr_url=url)
        with echoing(at, SECOND) as answer:
            answer.read()
            assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_failed")


SEGMENT = b'{"type":"segment","start_ms":0,"end_ms":9,"text":"Hi."}\n'
END = b'{"type":"end","audio_ms":9,"text":"Hi."}\n'


def texts_of(*chunks: bytes) -> list[str]:
    async def body() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    async def texts() -> list[str]:
        return [segment.text async for segment in segments_of(body())]

    return asyncio.run(texts())


def test_lines_are_joined_wherever_chunks_were_cut() -> None:
    whole = SEGMENT * 2 + END
    for place in range(1, len(whole), 5):
        assert texts_of(whole[:place], whole[place:]) == ["Hi.", "Hi."]


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [SEGMENT],
        [SEGMENT, END[:-1]],
        [b"\n", END],
        [b"not json\n"],
        [b'{"type":"other"}\n'],
        [SEGMENT.replace(b"9", b'"9"'), END],
        [b"x" * (MAX_LINE_BYTES + 1)],
    ],
)
def test_an_incomplete_or_malformed_stream_of_segments_is_an_error(chunks: list[bytes]) -> None:
    with pytest.raises(UpstreamFailed, match="not of the protocol"):
        texts_of(*chunks)
