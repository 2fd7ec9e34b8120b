"""`/ws/echo` in front of services that hear and say numbers: words, interruptions, endings."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import anyio
import pytest
from pydantic import BaseModel
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection

from asr_service.app.main import build
from asr_service.app.settings import AsrSettings
from client import SpeechClient
from common.protocol.live import Final
from common.protocol.session import Begin, End
from gateway.tests.conftest import Serve
from gateway.tests.misbehaving import closed_port, cut, stall, upstream, websocket_then
from tests.support.fakes import (
    SAMPLES_PER_CHARACTER,
    FakeVoice,
    LoudIsSpeech,
    WordRecognizer,
    silence,
    spoken,
    text_of,
)
from tests.support.server import Served, served
from tests.support.wire import close_of, closing_of, open_ws, wait_for

Frame = dict[str, Any] | bytes
PAUSE = silence(700)


class Loop:
    """An open voice loop; what was read is kept."""

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws
        self.frames: list[Frame] = []

    def send(self, kind: str, **fields: Any) -> None:
        self.ws.send(json.dumps({"type": kind, **fields}))

    def speak(self, pcm: bytes) -> None:
        for start in range(0, len(pcm), 3200):
            self.ws.send(pcm[start : start + 3200])

    def read(self) -> Frame:
        raw = self.ws.recv(20)
        self.frames.append(json.loads(raw) if isinstance(raw, str) else raw)
        return self.frames[-1]

    def read_until(self, kind: str) -> dict[str, Any]:
        while True:
            frame = self.read()
            if isinstance(frame, dict) and frame["type"] == kind:
                return frame

    @property
    def kinds(self) -> list[str]:
        """The types of the messages that were read, partials aside."""
        kinds = [str(frame["type"]) for frame in self.frames if isinstance(frame, dict)]
        return [kind for kind in kinds if kind != "partial"]


@contextmanager
def open_loop(at: Served, **start: Any) -> Iterator[Loop]:
    with open_ws(f"{at.ws}/ws/echo") as ws:
        loop = Loop(ws)
        loop.send("start", **start)
        yield loop


def test_recognized_speech_is_spoken(serve: Serve) -> None:
    with open_loop(serve(), timestamps="sentence", colour="red") as loop:
        ready = loop.read()
        assert isinstance(ready, dict)
        assert ready["audio"] == {"encoding": "pcm_s16le", "sample_rate": 16000, "channels": 1}
        assert ready["voice"]["model"] == "fake"
        assert ready["voice"]["audio"]["sample_rate"] == 16000
        assert ready["ignored"] == ["colour"]
        loop.speak(spoken(1, 2, 3) + PAUSE)
        final = loop.read_until("final")
        assert final["text"] == text_of(1, 2, 3)
        begin = loop.read_until("begin")
        mark = loop.read_until("mark")
        end = loop.read_until("end")
        assert final["id"] == begin["id"] == mark["id"] == end["id"]
        assert mark["text"] == text_of(1, 2, 3)
        assert (end["reason"], end["audio_ms"]) == ("done", 50 * len(text_of(1, 2, 3)))
        audio = b"".join(frame for frame in loop.frames if isinstance(frame, bytes))
        assert len(audio) == 2 * SAMPLES_PER_CHARACTER * len(text_of(1, 2, 3))
        loop.speak(spoken(4))
        loop.send("finish")
        transcript = loop.read_until("transcript")
        assert transcript["text"] == text_of(1, 2, 3, 4)
        assert close_of(loop.ws) == (1000, "")
    assert loop.kinds == [
        *("ready", "speech_start", "final", "speech_end", "begin", "mark", "end"),
        *("speech_start", "final", "speech_end", "begin", "mark", "end", "transcript"),
    ]


def speak_long(loop: Loop, voice: FakeVoice) -> dict[str, Any]:
    """Have something long said, of which nothing is heard before the voice's gate is opened."""
    voice.gate.clear()
    loop.speak(spoken(*range(10, 40)) + PAUSE)
    return loop.read_until("begin")


def test_speech_of_the_client_cancels_the_synthesis_in_flight(
    serve: Serve, voice: FakeVoice
) -> None:
    with open_loop(serve()) as loop:
        begin = speak_long(loop, voice)
        loop.speak(spoken(7))
        loop.read_until("speech_start")
        end = loop.read_until("end")
        assert (end["id"], end["reason"]) == (begin["id"], "cancelled")
        voice.gate.set()
        loop.frames.clear()
        loop.speak(PAUSE)
        assert loop.read_until("end")["reason"] == "done"
        assert loop.kinds == ["final", "speech_end", "begin", "end"]
        audio = b"".join(frame for frame in loop.frames if isinstance(frame, bytes))
        assert len(audio) == 2 * SAMPLES_PER_CHARACTER * len(text_of(7)), "and nothing of before"


def test_the_client_can_cancel_the_synthesis(serve: Serve, voice: FakeVoice) -> None:
    with open_loop(serve()) as loop:
        loop.send("cancel")
        speak_long(loop, voice)
        loop.send("cancel")
        assert loop.read_until("end")["reason"] == "cancelled"
        voice.gate.set()


def test_a_final_of_the_maximum_length_is_spoken_with_what_follows(
    serve_gateway: Serve, tts: Served, recognizer: WordRecognizer, stack: ExitStack
) -> None:
    settings = AsrSettings(asr_live_max_utterance_s=10)
    asr = stack.enter_context(served(build(settings, lambda: recognizer, LoudIsSpeech)))
    at = serve_gateway(gateway_tts_url=tts.http, gateway_asr_url=asr.http)
    with open_loop(at, timestamps="sentence", sample_rate=16000) as loop:
        numbers = range(1, 111)
        loop.speak(spoken(*numbers) + PAUSE)
        loop.read_until("end")
        finals = [f for f in loop.frames if isinstance(f, dict) and f["type"] == "final"]
        assert [final["reason"] for final in finals] == ["max_length", "endpoint"]
        marks = [f for f in loop.frames if isinstance(f, dict) and f["type"] == "mark"]
        assert " ".join(mark["text"] for mark in marks) == text_of(*numbers)
        assert {mark["id"] for mark in marks} == {finals[-1]["id"]}


@pytest.mark.parametrize(
    ("first", "close_code"),
    [
        ("not json", 1007),
        (b"\1\0", 1003),
        ('{"type": "finish"}', 1003),
        ('{"type": "start", "speed": 9}', 1003),
        ('{"type": "start", "language": "tlh"}', 1003),
    ],
)
def test_a_start_that_does_not_fit_is_refused_with_its_reason(
    serve: Serve, first: str | bytes, close_code: int
) -> None:
    with open_ws(f"{serve().ws}/ws/echo") as ws:
        ws.send(first)
        message, closed_with = closing_of(ws)
    assert (message["code"], closed_with) == ("bad_request", close_code)


def test_the_loop_has_one_request_id_in_every_message(serve: Serve) -> None:
    with open_loop(serve(), request_id="r7") as loop:
        ready = loop.read()
        assert isinstance(ready, dict)
        assert ready["request_id"] == "r7"
        loop.send("dance")
        assert loop.read_until("error")["request_id"] == "r7"
        loop.ws.send("not json")
        message, closed_with = closing_of(loop.ws)
    assert (message["request_id"], message["fatal"], closed_with) == ("r7", True, 1007)


def test_an_unknown_message_does_not_end_the_loop(serve: Serve) -> None:
    with open_loop(serve()) as loop:
        loop.send("dance")
        error = loop.read_until("error")
        assert (error["code"], error["fatal"]) == ("bad_request", False)
        loop.send("finish")
        assert loop.read_until("transcript")["text"] == ""


def test_text_that_cannot_be_spoken_does_not_end_the_loop(serve: Serve, tts: Served) -> None:
    object.__setattr__(tts.app.state.settings, "tts_max_text_chars", 5)
    with open_loop(serve()) as loop:
        loop.speak(spoken(1, 2, 3) + PAUSE)
        error = loop.read_until("error")
        assert (error["id"], error["code"], error["fatal"]) == ("t1", "too_large", False)
        loop.speak(spoken(1) + PAUSE)
        assert loop.read_until("end")["reason"] == "done"


def test_a_full_service_and_one_that_is_away_refuse_the_upgrade(
    serve: Serve, stack: ExitStack
) -> None:
    at = serve()
    with open_loop(at), open_loop(at):
        with pytest.raises(InvalidStatus) as refusal, open_ws(f"{at.ws}/ws/echo"):
            pass
        assert refusal.value.response.status_code == 503
        assert refusal.value.response.headers["Retry-After"] == "1"
    for name in ("gateway_tts_url", "gateway_asr_url"):
        away = serve(**{name: closed_port()})
        with pytest.raises(InvalidStatus) as refusal, open_ws(f"{away.ws}/ws/echo"):
            pass
        assert refusal.value.response.status_code == 502


def test_a_client_that_disconnects_leaves_nothing_running(
    serve: Serve, voice: FakeVoice, asr: Served, tts: Served
) -> None:
    at = serve()
    with open_loop(at) as loop:
        speak_long(loop, voice)
        assert at.app.state.lifecycle.in_flight == 1
    lifecycles = [served_.app.state.lifecycle for served_ in (at, asr, tts)]
    wait_for(lambda: all(lifecycle.in_flight == 0 for lifecycle in lifecycles))
    voice.gate.set()
    wait_for(lambda: voice.open_generators == 0)


@pytest.mark.parametrize("service", ["gateway_tts_url", "gateway_asr_url"])
@pytest.mark.parametrize("ending", [cut, stall])
def test_a_protocol_error_of_a_service_is_upstream_failed(
    serve: Serve, stack: ExitStack, service: str, ending: Any
) -> None:
    at = serve(**{service: stack.enter_context(upstream(websocket_then(ending)))})
    with open_loop(at) as loop:
        message, closed_with = closing_of(loop.ws)
    assert (message["code"], closed_with) == ("upstream_failed", 1011)
    wait_for(lambda: at.app.state.lifecycle.in_flight == 0)


def test_a_draining_gateway_recognizes_and_speaks_what_was_said(serve: Serve, tts: Served) -> None:
    at = serve()
    with open_loop(at) as loop:
        loop.speak(spoken(1, 2))
        loop.read_until("speech_start")
        at.leave()
        assert loop.read_until("goaway")["deadline_ms"] > 0
        assert loop.read_until("end")["reason"] == "done"
        assert loop.read_until("transcript")["text"] == text_of(1, 2)
        assert close_of(loop.ws) == (1001, "shutting down")


def test_a_draining_tts_service_ends_the_loop_with_what_was_recognized(
    serve: Serve, tts: Served
) -> None:
    with open_loop(serve()) as loop:
        loop.speak(spoken(1, 2))
        loop.read_until("speech_start")
        tts.leave()
        loop.read_until("goaway")
        error = loop.read_until("error")
        assert (error["id"], error["fatal"]) == ("t1", False)
        assert loop.read_until("transcript")["text"] == text_of(1, 2)
        assert close_of(loop.ws) == (1001, "shutting down")


def test_an_idle_loop_is_closed_as_recognition_closes(serve: Serve, asr: Served) -> None:
    object.__setattr__(asr.app.state.settings, "idle_timeout_s", 0.2)
    with open_loop(serve()) as loop:
        assert loop.read_until("transcript")["text"] == ""
        assert close_of(loop.ws) == (1001, "idle for 0.2 s")


def test_the_session_of_speech_is_kept_alive(serve: Serve, tts: Served) -> None:
    object.__setattr__(tts.app.state.settings, "idle_timeout_s", 0.3)
    with open_loop(serve()) as loop:
        loop.read_until("ready")
        time.sleep(1)
        loop.speak(spoken(1) + PAUSE)
        assert loop.read_until("end")["reason"] == "done"


def test_the_client_library_gets_events_and_audio(serve: Serve) -> None:
    at = serve()
    events: list[BaseModel] = []
    audio = b""

    async def use() -> None:
        nonlocal audio
        ended = anyio.Event()

        async def spoken_aloud() -> AsyncIterator[bytes]:
            yield spoken(1, 2, 3) + PAUSE
            await ended.wait()

        with anyio.fail_after(30):
            async with SpeechClient(at.http) as client, client.echo(spoken_aloud()) as loop:
                async for item in loop:
                    if isinstance(item, bytes):
                        audio += item
                        continue
                    events.append(item)
                    if isinstance(item, End):
                        ended.set()
                assert loop.end is not None
                assert loop.end.text == text_of(1, 2, 3)

    anyio.run(use)
    final = next(event for event in events if isinstance(event, Final))
    begin = next(event for event in events if isinstance(event, Begin))
    assert final.id == begin.id
    assert len(audio) == 2 * SAMPLES_PER_CHARACTER * len(text_of(1, 2, 3))
