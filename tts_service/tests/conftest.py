"""A tts_service that speaks with the fake voice, served over a real socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.fakes import FakeVoice
from tests.support.server import Served, served
from tts_service.app.main import build
from tts_service.app.settings import TtsSettings

Serve = Callable[..., Served]


@pytest.fixture
def voice() -> FakeVoice:
    return FakeVoice()


@pytest.fixture
def serve(voice: FakeVoice) -> Iterator[Serve]:
    """Call it with settings to have a server that speaks with `voice`."""
    with ExitStack() as stack:

        def start(**settings: Any) -> Served:
            return stack.enter_context(served(build(TtsSettings(**settings), lambda: voice)))

        yield start
        voice.gate.set()


@pytest.fixture(scope="module")
def plain() -> Iterator[Served]:
    """One server with the defaults, for tests that leave it as it was."""
    with served(build(TtsSettings(), FakeVoice)) as at:
        yield at
