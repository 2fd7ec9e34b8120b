"""Segments line by line, as they are found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from asr_service.app.main import build
from asr_service.app.settings import AsrSettings
from tests.support.fakes import StepwiseRecognizer
from tests.support.server import Served, served
from tests.support.wire import wait_for

SECOND = bytes([0, 1]) * 16000
FAILS = b"\x00\x80" + SECOND[2:]
LINES = {"Accept": "application/x-ndjson"}


@pytest.fixture
def recognizer() -> StepwiseRecognizer:
    return StepwiseRecognizer()


@pytest.fixture
def at(recognizer: StepwiseRecognizer) -> Iterator[Served]:
    settings = AsrSettings(asr_workers=1, asr_max_batch=1, asr_queue=0)
    with served(build(settings, lambda: recognizer)) as at:
        yield at


@contextmanager
def lines(at: Served, body: bytes, query: str = "") -> Iterator[Iterator[dict[str, Any]]]:
    url = f"{at.http}/api/stt/bytes?{query}"
    with httpx.stream("POST", url, content=body, headers=LINES, timeout=10) as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "application/x-ndjson"
        yield (json.loads(line) for line in answer.iter_lines())


def test_each_segment_comes_when_it_is_found(at: Served, recognizer: StepwiseRecognizer) -> None:
    recognizer.allow()
    with lines(at, SECOND * 2) as answer:
        first = next(answer)
        assert first == {"type": "segment", "start_ms": 0, "end_ms": 1000, "text": "Second 0."}
        recognizer.allow()
        assert next(answer)["text"] == "Second 1."
        assert next(answer) == {"type": "end", "audio_ms": 2000, "text": "Second 0. Second 1."}
        assert list(answer) == []


def test_silence_is_only_an_end(at: Served, recognizer: StepwiseRecognizer) -> None:
    recognizer.allow()
    with lines(at, bytes(32000)) as answer:
        assert list(answer) == [{"type": "end", "audio_ms": 1000, "text": ""}]


def test_segments_have_their_words(at: Served, recognizer: StepwiseRecognizer) -> None:
    recognizer.allow()
    with lines(at, SECOND, "words=1") as answer:
        word = {"start_ms": 0, "end_ms": 1000, "text": " Second 0.", "probability": 0.5}
        assert next(answer)["words"] == [word]


def test_a_failure_before_the_first_segment_has_its_status(
    at: Served, recognizer: StepwiseRecognizer
) -> None:
    recognizer.allow()
    answer = httpx.post(f"{at.http}/api/stt/bytes", content=FAILS, headers=LINES)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "recognition_failed")
    answer = httpx.post(f"{at.http}/api/stt/file", content=b"no audio", headers=LINES)
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "undecodable_audio")


def test_a_failure_after_the_first_segment_is_a_line_and_an_aborted_body(
    at: Served, recognizer: StepwiseRecognizer
) -> None:
    recognizer.allow(2)
    with lines(at, SECOND + FAILS) as answer:
        assert next(answer)["type"] == "segment"
        said = next(answer)
        assert (said["type"], said["code"]) == ("error", "recognition_failed")
        assert said["request_id"]
        with pytest.raises(httpx.RemoteProtocolError):
            next(answer)
    wait_for(lambda: at.app.state.lifecycle.in_flight == 0)


def test_a_client_that_disconnects_stops_the_recognition(
    at: Served, recognizer: StepwiseRecognizer
) -> None:
    recognizer.allow()
    with lines(at, SECOND * 3) as answer:
        next(answer)
    assert recognizer.was_cancelled.wait(5)
    wait_for(lambda: at.app.state.lifecycle.in_flight == 0)


def test_another_format_has_no_lines(at: Served) -> None:
    answer = httpx.post(f"{at.http}/api/stt/bytes?format=srt", content=SECOND, headers=LINES)
    assert answer.status_code == 400
    assert "'srt'" in answer.json()["error"]["message"]
