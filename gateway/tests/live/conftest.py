"""The asr_service of these tests recognizes the numbers that a recording spells."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from asr_service.app.main import build
from asr_service.app.settings import AsrSettings
from tests.support.fakes import LoudIsSpeech, WordRecognizer
from tests.support.server import Served, served


@pytest.fixture
def recognizer(stack: ExitStack) -> WordRecognizer:
    recognizer = WordRecognizer()
    stack.callback(recognizer.gate.set)
    return recognizer


@pytest.fixture
def asr(stack: ExitStack, recognizer: WordRecognizer) -> Served:
    settings = AsrSettings(asr_live_sessions=2)
    return stack.enter_context(served(build(settings, lambda: recognizer, LoudIsSpeech)))
