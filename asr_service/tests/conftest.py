"""An asr_service with the fake recognizer, served over a real socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from asr_service.app.main import build
from asr_service.app.settings import AsrSettings
from tests.support.fakes import FakeRecognizer
from tests.support.server import Served, served

Serve = Callable[..., Served]


@pytest.fixture
def recognizer() -> FakeRecognizer:
    return FakeRecognizer()


@pytest.fixture
def serve(recognizer: FakeRecognizer) -> Iterator[Serve]:
    """Return a function that starts a server with `recognizer` and the given settings."""
    with ExitStack() as stack:

        def start(**settings: Any) -> Served:
            return stack.enter_context(served(build(AsrSettings(**settings), lambda: recognizer)))

        yield start
        recognizer.gate.set()
