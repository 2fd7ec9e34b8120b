"""Each status that the OpenAPI document names: how it comes, and that it is as documented."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI

from tests.support.fakes import FakeVoice
from tests.support.statuses import (
    GUARDS,
    Sent,
    documented,
    guarded,
    provoke,
    rows,
    sound_leaving_faulty,
)
from tts_service.app.main import build
from tts_service.app.settings import TtsSettings

HELLO = Sent({"text": "Hello world"}, "application/json")

TABLE = {
    "GET /healthz": {200: Sent(), 400: Sent(host="elsewhere.example")},
    "GET /readyz": {200: Sent(), 400: Sent(host="elsewhere.example"), 503: Sent(to="leaving")},
    "POST /api/tts": guarded(HELLO)
    | {
        400: HELLO.but(body={"text": "Hello", "colour": "red"}),
        413: HELLO.but(body={"text": "a" * 5001}),
        # What fails before the first byte: the whole of a short WAV is awaited.
        500: HELLO.but(body={"text": "FAIL FAIL FAIL FAIL", "format": "wav"}),
        503: HELLO.but(to="leaving"),
    },
    "GET /api/voices": guarded(Sent()) | {500: Sent(to="faulty"), 503: Sent(to="leaving")},
}


def speaking(name: Any = "fake") -> FastAPI:
    return build(TtsSettings(**GUARDS), lambda: FakeVoice(name=name))


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, str]]:
    """The faulty one's voice has no name."""
    with sound_leaving_faulty(speaking, None) as urls:
        yield urls


def test_the_table_has_what_the_document_has(servers: dict[str, str]) -> None:
    assert set(rows(TABLE)) == documented(servers["sound"])


@pytest.mark.parametrize(("route", "status"), rows(TABLE))
def test_a_documented_status_comes(servers: dict[str, str], route: str, status: int) -> None:
    provoke(TABLE, route, status, servers[TABLE[route][status].to])
