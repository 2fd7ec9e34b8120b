"""`/ws/echo` in front of a service that takes everything and answers nothing."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from common.protocol.live import ListenLimits, ListenReady
from common.protocol.messages import SessionAudio
from common.protocol.session import Audio, Limits, Ready
from gateway.tests.conftest import Serve
from gateway.tests.live.test_voice_loop import open_loop
from gateway.tests.misbehaving import hang, ready_but, stall, text_frame, upstream, websocket_then
from tests.support.fakes import spoken
from tests.support.server import Served
from tests.support.wire import close_of, open_ws, wait_for

SHORT = {
    "gateway_connect_timeout_s": 0.5,
    "gateway_stall_timeout_s": 0.3,
    "gateway_recognition_timeout_s": 0.5,
}
WITHIN_S = 10.0
"""More than the sum of `SHORT` and of closing a socket that does not answer (1 s): the machine may
be busy."""
LONG = {"gateway_stall_timeout_s": 60, "gateway_recognition_timeout_s": 60}
SOON_S = 5.0

RECOGNITION_IS_READY = ListenReady(
    session_id="s1",
    request_id="r1",
    model="hung",
    audio=SessionAudio(encoding="pcm_s16le", sample_rate=16000, channels=1),
    limits=ListenLimits(
        max_message_bytes=65536,
        max_utterance_ms=30000,
        max_backlog_ms=2000,
        max_session_s=3600,
        idle_timeout_s=60,
    ),
    ignored=[],
)
SPEECH_IS_READY = Ready(
    session_id="s1",
    request_id="r1",
    model="hung",
    audio=Audio(encoding="pcm_s16le", sample_rate=16000, chunk_ms=40),
    limits=Limits(
        max_text_chars=5000,
        max_message_bytes=65536,
        max_queued_utterances=4,
        idle_timeout_s=60,
        max_session_s=3600,
        max_buffer_delay_ms=1000,
    ),
)
HUNG = {
    "recognition, at once": ("gateway_asr_url", b""),
    "recognition, once ready": ("gateway_asr_url", text_frame(RECOGNITION_IS_READY.frame())),
    "speech, at once": ("gateway_tts_url", b""),
    "speech, once ready": ("gateway_tts_url", text_frame(SPEECH_IS_READY.frame())),
}


@pytest.fixture(params=HUNG)
def hung(request: pytest.FixtureRequest, stack: ExitStack) -> dict[str, Any]:
    """The setting that has one of the two services be one that hangs."""
    setting, says = HUNG[request.param]
    answer = ready_but(websocket_then(stall, says=says))
    return {setting: stack.enter_context(upstream(answer))}


def tasks_of(at: Served) -> int:
    """How many run on its event loop."""
    assert at.loop is not None
    return len(asyncio.all_tasks(at.loop))


def assert_nothing_is_running(at: Served, *others: Served, tasks: int) -> None:
    apps = [served_.app for served_ in (at, *others)]
    wait_for(lambda: all(app.state.lifecycle.in_flight == 0 for app in apps), SOON_S)
    wait_for(lambda: tasks_of(at) <= tasks, SOON_S)
    # There is one place, and it becomes free: a socket to a service that hangs takes 1 s to close.
    wait_for(lambda: is_accepted(f"{at.ws}/ws/echo"), SOON_S)


def is_accepted(url: str) -> bool:
    try:
        with open_ws(url):
            return True
    except InvalidStatus:
        return False


@pytest.mark.parametrize("service", ["gateway_asr_url", "gateway_tts_url"])
def test_a_service_that_accepts_no_websocket_refuses_the_upgrade(
    serve: Serve, stack: ExitStack, service: str
) -> None:
    at = serve(**SHORT, **{service: stack.enter_context(upstream(ready_but(hang)))})
    began = time.monotonic()
    with pytest.raises(InvalidStatus) as refusal, open_ws(f"{at.ws}/ws/echo"):
        pass
    response = refusal.value.response
    body = httpx.Response(response.status_code, content=bytes(response.body or b"")).json()
    assert (response.status_code, body["error"]["code"]) == (504, "upstream_timeout")
    assert time.monotonic() - began < WITHIN_S


def test_a_service_that_hangs_ends_the_loop_in_time(
    serve: Serve, hung: dict[str, Any], asr: Served, tts: Served
) -> None:
    at = serve(gateway_max_sessions=1, **SHORT, **hung)
    tasks = tasks_of(at)
    began = time.monotonic()
    with open_loop(at) as loop:
        loop.speak(spoken(1, 2, 3))
        error = loop.read_until("error")
        assert (error["code"], error["fatal"]) == ("upstream_timeout", True)
        assert close_of(loop.ws)[0] == 1011
    assert time.monotonic() - began < WITHIN_S
    assert_nothing_is_running(at, asr, tts, tasks=tasks)


def test_a_client_that_disconnects_meanwhile_leaves_nothing_running(
    serve: Serve, hung: dict[str, Any], asr: Served, tts: Served
) -> None:
    at = serve(gateway_max_sessions=1, **LONG, **hung)
    tasks = tasks_of(at)
    with open_loop(at) as loop:
        loop.speak(spoken(1, 2, 3))
        wait_for(lambda: at.app.state.lifecycle.in_flight == 1)
        loop.ws.socket.shutdown(socket.SHUT_RDWR)
        assert_nothing_is_running(at, asr, tts, tasks=tasks)
