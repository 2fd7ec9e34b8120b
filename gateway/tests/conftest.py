"""A gateway in front of both services, which speak and listen with fakes; or of anything else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from asr_service.app.main import build as build_asr
from asr_service.app.settings import AsrSettings
from gateway.app.main import build
from gateway.app.settings import GatewaySettings
from gateway.app.upstreams.service import new_http_client
from tests.support.fakes import FakeRecognizer, FakeVoice
from tests.support.server import Served, served
from tts_service.app.main import build as build_tts
from tts_service.app.settings import TtsSettings

Serve = Callable[..., Served]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def voice(stack: ExitStack) -> FakeVoice:
    voice = FakeVoice()
    stack.callback(voice.gate.set)
    return voice


@pytest.fixture
def recognizer(stack: ExitStack) -> FakeRecognizer:
    recognizer = FakeRecognizer()
    stack.callback(recognizer.gate.set)
    return recognizer


@pytest.fixture
def tts(stack: ExitStack, voice: FakeVoice) -> Served:
    app = build_tts(TtsSettings(tts_slots=2, tts_queue=0), lambda: voice)
    at = stack.enter_context(served(app))
    stack.callback(voice.gate.set)
    return at


@pytest.fixture
def asr(stack: ExitStack, recognizer: FakeRecognizer) -> Served:
    app = build_asr(
        AsrSettings(asr_workers=1, asr_max_batch=1, asr_queue=0, asr_max_seconds=10),
        lambda: recognizer,
    )
    at = stack.enter_context(served(app))
    stack.callback(recognizer.gate.set)
    return at


@pytest.fixture
def serve_gateway(stack: ExitStack) -> Serve:
    """Call it with settings to have a gateway, in front of whatever its URLs say."""

    def start(**settings: Any) -> Served:
        app = build(GatewaySettings(**settings), new_http_client())
        return stack.enter_context(served(app, ready=False))

    return start


@pytest.fixture
def serve(serve_gateway: Serve, tts: Served, asr: Served) -> Serve:
    """Call it with settings to have a gateway in front of the two services."""

    def start(**settings: Any) -> Served:
        urls = {"gateway_tts_url": tts.http, "gateway_asr_url": asr.http}
        return serve_gateway(**(urls | settings))

    return start
