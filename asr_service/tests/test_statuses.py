"""Each status that the OpenAPI document names: how it comes, and that it is as documented."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI

from asr_service.app.main import build
from asr_service.app.settings import AsrSettings
from common.audio.pcm import wav_header
from tests.support.fakes import FakeRecognizer
from tests.support.statuses import (
    GUARDS,
    Sent,
    documented,
    guarded,
    provoke,
    rows,
    sound_leaving_faulty,
)

OCTETS = "application/octet-stream"
SAMPLES = bytes([0, 1]) * 1600
FAILS = bytes([0, 0x80]) * 1600
"""The fake recognizer does."""


def wav(pcm: bytes) -> bytes:
    return wav_header(16000, len(pcm)) + pcm


PCM, FILE = Sent(SAMPLES, OCTETS), Sent(wav(SAMPLES), OCTETS)

TABLE = {
    "GET /healthz": {200: Sent(), 400: Sent(host="elsewhere.example")},
    "GET /readyz": {200: Sent(), 400: Sent(host="elsewhere.example"), 503: Sent(to="leaving")},
    "POST /api/stt/bytes": guarded(PCM)
    | {
        400: PCM.but(body=b"odd"),
        413: PCM.but(body=SAMPLES * 3),
        415: FILE,
        500: PCM.but(body=FAILS),
        503: PCM.but(to="leaving"),
    },
    "POST /api/stt/file": guarded(FILE)
    | {
        400: FILE.but(body={"colour": "red"}, media_type="multipart/form-data"),
        413: FILE.but(body=wav(SAMPLES * 3)),
        415: FILE.but(body=b"no audio"),
        500: FILE.but(body=wav(FAILS)),
        503: FILE.but(to="leaving"),
    },
    "GET /api/models": guarded(Sent()) | {500: Sent(to="faulty"), 503: Sent(to="leaving")},
}


def listening(language: Any = "en") -> FastAPI:
    recognizer = FakeRecognizer(languages=(language,))
    return build(AsrSettings(asr_max_seconds=0.2, **GUARDS), lambda: recognizer)


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, str]]:
    """The faulty one's model has a language without a name."""
    with sound_leaving_faulty(listening, None) as urls:
        yield urls


def test_the_table_has_what_the_document_has(servers: dict[str, str]) -> None:
    assert set(rows(TABLE)) == documented(servers["sound"])


@pytest.mark.parametrize(("route", "status"), rows(TABLE))
def test_a_documented_status_comes(servers: dict[str, str], route: str, status: int) -> None:
    provoke(TABLE, route, status, servers[TABLE[route][status].to])
