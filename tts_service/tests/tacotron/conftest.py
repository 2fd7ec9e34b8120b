"""Tiny voices for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tts_service.app.engines.tacotron import TacotronEngine, TacotronOptions, load
from tts_service.tests.tacotron import tiny

LogEvents = Callable[[], list[dict[str, Any]]]
Loaded = Callable[..., TacotronEngine]


@pytest.fixture
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """Installs a tiny voice and loads it."""

    def make(
        voice: tiny.TinyVoice | None = None, options: TacotronOptions = tiny.UNGUARDED
    ) -> TacotronEngine:
        folder: Path = tmp_path_factory.mktemp("voices")
        tiny.install(voice or tiny.TinyVoice(), folder)
        return load(tiny.NAME, folder, options)

    return make


@pytest.fixture
def log_events() -> Iterator[LogEvents]:
    """The ends of decodes that were logged so far."""
    with capture_logs() as captured:
        yield lambda: [dict(e) for e in captured if e["event"] == "tacotron.decode_ended"]
