"""Recognition through the gateway: files, formats, options and refusals."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from asr_service.app.settings import AsrSettings
from gateway.app.settings import GatewaySettings
from gateway.tests import misbehaving
from gateway.tests.conftest import Serve
from gateway.tests.misbehaving import upstream
from tests.support.audio_files import tone_file
from tests.support.fakes import FakeRecognizer
from tests.support.server import Served

SECOND = bytes([0, 1]) * 16000
FAILS = b"\x00\x80" + SECOND[2:]
UNSPEAKABLE = b"\x01\x80" + SECOND[2:]
LINES = {"Accept": "application/x-ndjson"}
FLAC = tone_file("flac")


@pytest.mark.parametrize("name", ["json", "verbose_json", "text", "srt", "vtt"])
@pytest.mark.parametrize("path", ["/api/stt/bytes", "/api/stt/file"])
def test_every_format_is_passed_on_unchanged(
    serve: Serve, asr: Served, name: str, path: str
) -> None:
    at = serve()
    body = FLAC if path.endswith("file") else SECOND
    direct = httpx.post(f"{asr.http}{path}?format={name}", content=body)
    relayed = httpx.post(f"{at.http}{path}?format={name}", content=body)
    assert relayed.status_code == 200
    assert relayed.content == direct.content
    assert relayed.headers["Content-Type"] == direct.headers["Content-Type"]


def test_a_form_is_passed_on_unchanged(serve: Serve, recognizer: FakeRecognizer) -> None:
    at = serve()
    form: dict[str, Any] = {"files": {"file": ("a.flac", FLAC)}, "data": {"format": "text"}}
    answer = httpx.post(f"{at.http}/api/stt/file?prompt=Ada&words=no", **form)
    assert answer.text == "16000 samples\n"
    assert recognizer.heard[0][1].prompt == "Ada"


def test_a_warning_is_passed_on(serve: Serve) -> None:
    at = serve()
    damaged = tone_file("wav", 2)[:40_000]
    answer = httpx.post(f"{at.http}/api/stt/file", content=damaged)
    assert answer.json()["warning"] == answer.headers["X-Warning"]


def test_options_reach_the_recognizer_and_its_defaults_apply_to_the_rest(
    serve: Serve, recognizer: FakeRecognizer
) -> None:
    at = serve()
    for path in ("/api/stt/bytes", "/api/echo-bytes"):
        url = f"{at.http}{path}?prompt=A%26b&hotwords=kettle&vad=no&beam_size=2&lang=en"
        assert httpx.post(url, content=SECOND).status_code == 200
    assert httpx.post(f"{at.http}/api/stt/bytes", content=SECOND).status_code == 200
    *asked, default = (options for _, options in recognizer.heard)
    for options in asked:
        assert (options.prompt, options.hotwords) == ("A&b", "kettle")
        assert (options.vad, options.beam_size) == (False, 2)
    assert default.beam_size == AsrSettings().asr_beam_size


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/stt/file", b"no audio", 415),
        ("/api/stt/file", b"", 400),
        ("/api/stt/file", tone_file("flac", 11), 413),
        ("/api/stt/file?sr=8000", FLAC, 400),
        ("/api/stt/file?lang=de", FLAC, 400),
        ("/api/stt/bytes?fmt=mulaw&sr=8000&ch=2", bytes(3), 400),
        ("/api/stt/bytes?fmt=mulaw&sr=8000", bytes(11 * 8000), 413),
    ],
)
def test_a_refusal_is_passed_on(
    serve: Serve, asr: Served, path: str, body: bytes, status: int
) -> None:
    at = serve()
    headers = {"X-Request-ID": "through"}
    direct = httpx.post(f"{asr.http}{path}", content=body, headers=headers)
    relayed = httpx.post(f"{at.http}{path}", content=body, headers=headers)
    assert relayed.status_code == direct.status_code == status
    assert relayed.json() == direct.json()


def test_the_gateways_body_limit_is_no_lower_than_the_recognizers() -> None:
    asr, gateway = AsrSettings(), GatewaySettings()
    assert gateway.gateway_max_body_bytes >= asr.asr_max_body_bytes


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b'{"text": "Hello"}', "application/json"),
        (b"<html>", "text/html"),
        (b'{"text": "Hello", "segments": []}', "text/html"),
    ],
)
def test_an_answer_other_than_a_transcript_is_502(
    serve_gateway: Serve, body: bytes, media_type: str
) -> None:
    answer = misbehaving.respond("200 OK", body, f"Content-Type: {media_type}")
    with upstream(answer) as url:
        at = serve_gateway(gateway_asr_url=url)
        answered = httpx.post(f"{at.http}/api/stt/file", content=FLAC)
        assert answered.status_code == 502
