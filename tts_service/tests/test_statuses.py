"""Each status that the OpenAPI document names: how it comes, and that it is as documented."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.fakes import FakeVoice
from tests.support.server import Served, served
from tests.support.statuses import GUARDS, Sent, documented, guarded, provoke, rows
from tests.support.wire import wait_for
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


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Served]]:
    """One that is sound, one that is leaving, and one whose voice has no name: a fault of ours."""
    with ExitStack() as stack:

        def start(voice: FakeVoice) -> Served:
            return stack.enter_context(served(build(TtsSettings(**GUARDS), lambda: voice)))

        nameless = FakeVoice(name=None)  # type: ignore[arg-type]
        sound, leaving, faulty = map(start, (FakeVoice(), FakeVoice(), nameless))
        leaving.leave()
        wait_for(lambda: leaving.app.state.lifecycle.state == "draining")
        yield {"sound": sound, "leaving": leaving, "faulty": faulty}


def test_the_table_has_what_the_document_has(servers: dict[str, Served]) -> None:
    assert set(rows(TABLE)) == documented(servers["sound"].http)


@pytest.mark.parametrize(("route", "status"), rows(TABLE))
def test_a_documented_status_comes(servers: dict[str, Served], route: str, status: int) -> None:
    provoke(TABLE, route, status, servers[TABLE[route][status].to].http)
