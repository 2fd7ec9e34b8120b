"""`POST /api/stt/file`: the ways a file comes in, and the errors of those that do not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from asr_service.app.main import build
from asr_service.app.settings import AsrSettings
from asr_service.tests.conftest import Serve
from tests.support.audio_files import KINDS, encode, tone_file
from tests.support.fakes import FakeRecognizer
from tests.support.server import Served, served

HEARD = {
    "text": "16000 samples",
    "segments": [{"start_ms": 0, "end_ms": 1000, "text": "16000 samples"}],
}
FLAC = tone_file("flac")


@pytest.fixture(scope="module")
def shared() -> Iterator[Served]:
    """One server for the tests that only look at its answers."""
    with served(build(AsrSettings(), FakeRecognizer)) as at:
        yield at


def post(url: str, query: str = "", **request: Any) -> httpx.Response:
    return httpx.post(f"{url}/api/stt/file?{query}", **request)


def test_a_file_comes_as_the_body_or_in_a_form(serve: Serve) -> None:
    at = serve()
    assert post(at.http, content=FLAC).json() == HEARD
    assert post(at.http, content=FLAC, headers={"Content-Type": "audio/flac"}).json() == HEARD
    assert post(at.http, files={"file": ("speech.flac", FLAC)}).json() == HEARD
    # The content of a file tells its kind.
    assert post(at.http, files={"file": ("speech.mp3", FLAC, "audio/mpeg")}).json() == HEARD


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_is_recognized(shared: Served, kind: str) -> None:
    answer = post(shared.http, files={"file": ("speech", tone_file(kind))})
    assert answer.status_code == 200
    assert 950 <= answer.json()["segments"][0]["end_ms"] <= 1070


def test_parameters_come_in_the_query_or_in_the_form(
    serve: Serve, recognizer: FakeRecognizer
) -> None:
    at = serve()
    given = {"words": "true", "prompt": "Ada, naïve", "hotwords": "kettle", "vad": "no"}
    files = {"file": ("speech.flac", FLAC)}
    assert post(at.http, files=files, data=given | {"beam_size": "2"}).status_code == 200
    assert (
        httpx.post(
            f"{at.http}/api/stt/file", params=given | {"beam_size": 2}, content=FLAC
        ).status_code
        == 200
    )
    for _, options in recognizer.heard:
        assert options.words
        assert options.prompt == "Ada, naïve"
        assert options.hotwords == "kettle"
        assert not options.vad
        assert options.beam_size == 2
    assert len(recognizer.heard) == 2


def form(*parts: tuple[str, str], boundary: str = "b") -> dict[str, Any]:
    """A form put together by hand: each part its headers and its content."""
    lines = [f"--{boundary}\r\n{headers}\r\n\r\n{content}\r\n" for headers, content in parts]
    body = "".join(lines) + f"--{boundary}--\r\n"
    return {
        "content": body.encode(),
        "headers": {"Content-Type": f"multipart/form-data; boundary={boundary}"},
    }


A_FILE = ('Content-Disposition: form-data; name="file"; filename="a.wav"', "RIFF")


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        ({"files": {"audio": ("a", FLAC)}}, "audio"),
        ({"files": [("file", ("a", FLAC)), ("file", ("b", FLAC))]}, "not 2"),
        ({"files": [("file", ("a", FLAC))] * 3}, "form cannot be read"),
        ({"files": {"file": ("a", FLAC)}, "data": {"model": "x"}}, "model"),
        ({"files": {"file": ("a", FLAC)}, "data": {"words": "perhaps"}}, "words"),
        ({"files": {"file": ("a", FLAC)}, "data": {"lang": "de"}}, "lang"),
        ({"files": {"file": ("a", FLAC)}, "data": {"vad": ["true", "true"]}}, "vad"),
        ({"files": {"file": ("a", FLAC)}, "data": {"prompt": "x" * 20_000}}, "form"),
        ({"files": {"file": ("a", b"")}}, "empty"),
        (form(('Content-Disposition: form-data; name="file"', "RIFF")), "file name"),
        (form(("Content-Type: audio/wav", "RIFF")), "name"),
        (form(), "not 0"),
        (form(A_FILE, boundary="other") | {"content": b"--b\r\n"}, "form cannot be read"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, "boundary"),
        ({"content": b""}, "empty"),
        ({"content": FLAC, "params": {"sr": "16000"}}, "sr"),
        ({"content": FLAC, "params": {"beam_size": "11"}}, "beam_size"),
        ({"content": FLAC, "params": {"format": "srt", "words": "1"}}, "words"),
        ({"content": FLAC, "params": {"format": "docx"}}, "format"),
    ],
)
def test_an_invalid_parameter_is_named(
    shared: Served, request_: dict[str, Any], named: str
) -> None:
    answer = httpx.post(f"{shared.http}/api/stt/file", **request_)
    assert answer.status_code == 400
    assert named in answer.json()["error"]["message"]


def test_an_option_in_the_query_and_in_the_form_is_refused(shared: Served) -> None:
    answer = post(shared.http, "vad=1", files={"file": ("a", FLAC)}, data={"vad": "1"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "vad: given in the query and in the form."


def test_a_file_that_is_not_audio_is_415(serve: Serve, recognizer: FakeRecognizer) -> None:
    at = serve()
    for content in (b"hello", np.random.default_rng(0).bytes(20_000), FLAC[:40]):
        for request in ({"content": content}, {"files": {"file": ("a.wav", content)}}):
            answer = post(at.http, **request)
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (415, "undecodable_audio")
            assert error["message"].endswith(".")
    assert recognizer.heard == []
    assert post(at.http, content=FLAC).json() == HEARD


def test_a_file_over_the_limit_of_seconds_is_413_at_once(
    serve: Serve, recognizer: FakeRecognizer
) -> None:
    at = serve(asr_max_seconds=5)
    long = encode(np.zeros(600 * 8000, np.int16), "flac", 8000)
    started = time.perf_counter()
    answer = post(at.http, content=long)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    assert "5 s" in answer.json()["error"]["message"]
    assert time.perf_counter() - started < 5
    assert recognizer.heard == []


def test_an_upload_over_the_limit_of_bytes_is_refused_while_it_streams_in(serve: Serve) -> None:
    at = serve(asr_max_body_bytes=100_000)
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'

    def upload(begin: bytes) -> Iterator[bytes]:
        yield begin
        for _ in range(100):
            yield bytes(20_000)

    for begin, kind in ((b"", "audio/wav"), (head, "multipart/form-data; boundary=b")):
        answer = post(at.http, content=upload(begin), headers={"Content-Type": kind})
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
        assert "100000 bytes" in answer.json()["error"]["message"]


def test_damage_is_reported_in_every_format(shared: Served) -> None:
    at = shared
    cut = tone_file("wav", 2)[:40_000]
    answer = post(at.http, content=cut)
    warning = answer.json()["warning"]
    assert warning.startswith("The file is damaged: 1.2 s of 2.0 s")
    assert answer.json()["text"]
    assert post(at.http, "format=verbose_json", content=cut).json()["warning"] == warning
    for name in ("text", "srt", "vtt", "json"):
        assert post(at.http, f"format={name}", content=cut).headers["X-Warning"] == warning
    lines = post(at.http, content=cut, headers={"Accept": "application/x-ndjson"})
    assert f'"warning":"{warning}"' in lines.text.splitlines()[-1]
    assert "X-Warning" not in post(at.http, content=FLAC).headers
