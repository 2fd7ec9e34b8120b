"""`/ws/stt` against the wire contract, with fakes that recognize numbers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import anyio
import httpx
import numpy as np
import pytest
from starlette.websockets import WebSocket, WebSocketState
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection

from asr_service.app.engine import Window
from asr_service.app.live.frames import FrameQueue
from asr_service.app.live.session import LiveSession
from asr_service.app.live.transcriber import MAX_DECODED_MS
from asr_service.app.main import build
from asr_service.app.service import RecognitionService
from asr_service.app.settings import AsrSettings
from common.audio.encoding import decode_s16le, encode
from common.audio.pcm import Encoding
from common.audio.samples import StreamResampler
from common.protocol.recognition import Segment
from common.server.lifecycle import Lifecycle
from tests.support.fakes import LoudIsSpeech, WordRecognizer, silence, spoken, text_of
from tests.support.server import Served, served
from tests.support.wire import close_of, open_ws, wait_for

Message = dict[str, Any]
Serve = Callable[..., Served]


@pytest.fixture
def recognizer() -> WordRecognizer:
    return WordRecognizer()


@pytest.fixture
def serve(recognizer: WordRecognizer) -> Iterator[Serve]:
    with ExitStack() as stack:

        def start(**settings: Any) -> Served:
            app = build(AsrSettings(**settings), lambda: recognizer, LoudIsSpeech)
            return stack.enter_context(served(app))

        yield start
        recognizer.gate.set()


def begin(ws: ClientConnection, **fields: Any) -> Message:
    ws.send(json.dumps({"type": "start", **fields}))
    return next_of(ws)


def next_of(ws: ClientConnection, *kinds: str) -> Message:
    """The next message, or the next of these kinds."""
    while True:
        frame = ws.recv(30)
        assert isinstance(frame, str)
        message: Message = json.loads(frame)
        if not kinds or message["type"] in kinds:
            return message


def rest_of(ws: ClientConnection) -> list[Message]:
    """Everything up to `end`, after which the socket must be closed in order."""
    messages = [next_of(ws)]
    while messages[-1]["type"] != "end":
        messages.append(next_of(ws))
    assert close_of(ws) == (1000, "")
    return messages


def finish(ws: ClientConnection) -> list[Message]:
    ws.send('{"type": "finish"}')
    return rest_of(ws)


def test_ready_lists_the_limits_and_the_ignored_fields(serve: Serve) -> None:
    at = serve(asr_live_max_utterance_s=20)
    headers = {"X-Request-ID": "r1"}
    with open_ws(f"{at.ws}/ws/stt", additional_headers=headers) as ws:
        ready = begin(ws, sample_rate=8000, channels=2, encoding="mulaw", speed=2, mood="good")
    assert ready["type"] == "ready"
    assert ready["protocol"] == 1
    assert ready["audio"] == {"encoding": "mulaw", "sample_rate": 8000, "channels": 2}
    assert ready["ignored"] == ["mood", "speed"]
    assert ready["request_id"] == "r1"
    assert ready["limits"] == {
        "max_message_bytes": 65536,
        "max_utterance_ms": 20_000,
        "max_backlog_ms": 2000,
        "max_session_s": 3600,
        "idle_timeout_s": 60,
    }


def test_the_request_id_of_start_is_taken(serve: Serve) -> None:
    with open_ws(f"{serve().ws}/ws/stt") as ws:
        assert begin(ws, request_id="mine")["request_id"] == "mine"


def test_a_conversation_has_the_shape_of_the_contract(serve: Serve) -> None:
    with open_ws(f"{serve(asr_live_update_ms=100).ws}/ws/stt") as ws:
        begin(ws)
        ws.send(silence(320) + spoken(1, 2, 3, 4, 5))
        partial = next_of(ws, "partial")
        ws.send(silence(800))
        final = next_of(ws, "final")
        assert next_of(ws)["type"] == "speech_end"
        end = finish(ws)[-1]
    assert {k: type(v) for k, v in partial.items()} == {
        "type": str,
        "id": str,
        "rev": int,
        "text": str,
        "stable_chars": int,
        "start_ms": int,
        "end_ms": int,
        "lag_ms": int,
    }
    segments = [{"start_ms": 320, "end_ms": 900, "text": text_of(1, 2, 3, 4, 5)}]
    assert final == {
        "type": "final",
        "id": partial["id"],
        "text": text_of(1, 2, 3, 4, 5),
        "segments": segments,
        "reason": "endpoint",
    }
    assert end == {"type": "end", "audio_ms": 1720, "text": final["text"], "segments": segments}


@pytest.mark.parametrize("frame_bytes", [1, 333, 1280, 65535])
def test_frames_may_be_cut_anywhere(serve: Serve, frame_bytes: int) -> None:
    pcm = spoken(1, 2, 3) + silence(700) + spoken(4)
    if frame_bytes == 1:
        pcm = pcm[:20000]
    with open_ws(f"{serve().ws}/ws/stt") as ws:
        begin(ws, partials=False)
        for i in range(0, len(pcm), frame_bytes):
            ws.send(pcm[i : i + frame_bytes])
        end = finish(ws)[-1]
    assert end["text"] == (text_of(1, 2, 3) if frame_bytes == 1 else text_of(1, 2, 3, 4))


def test_half_a_sample_at_the_end_is_reported(serve: Serve) -> None:
    with open_ws(f"{serve().ws}/ws/stt") as ws:
        begin(ws)
        ws.send(spoken(1, 2) + b"\1")
        messages = finish(ws)
    [error] = [m for m in messages if m["type"] == "error"]
    assert (error["code"], error["fatal"]) == ("bad_request", False)
    assert messages[-1]["text"] == "w1 w2"


@pytest.mark.parametrize(
    ("sample_rate", "channels", "encoding"),
    [(8000, 1, "pcm_s16le"), (48000, 2, "pcm_s16le"), (16000, 1, "alaw"), (8000, 2, "mulaw")],
)
def test_every_format_is_decoded(
    serve: Serve, recognizer: WordRecognizer, sample_rate: int, channels: int, encoding: Encoding
) -> None:
    said = decode_s16le(silence(100) + spoken(*[200] * 8) + silence(900), 1)
    resampler = StreamResampler(16000, sample_rate)
    samples = resampler.push(said).tolist() + resampler.flush().tolist()
    both = [s for sample in samples for s in [sample] * channels]
    mixed = np.array(both, np.float32)
    pcm = encode(mixed, encoding)
    with open_ws(f"{serve().ws}/ws/stt") as ws:
        begin(ws, sample_rate=sample_rate, channels=channels, encoding=encoding)
        for i in range(0, len(pcm), 4001):
            ws.send(pcm[i : i + 4001])
        end = finish(ws)[-1]
    assert abs(end["audio_ms"] - len(said) / 16) <= 1
    assert recognizer.heard
    assert recognizer.heard[-1][1].words


def test_an_unknown_command_or_field_is_reported_and_the_session_goes_on(
    serve: Serve,
) -> None:
    with open_ws(f"{serve().ws}/ws/stt") as ws:
        begin(ws)
        for wrong in (
            {"type": "pause"},
            {"type": 7},
            {},
            {"type": "start"},
            {"type": "finalize", "now": True},
        ):
            ws.send(json.dumps(wrong))
            error = next_of(ws)
            assert (error["type"], error["code"]) == ("error", "bad_request")
            assert error["fatal"] is False
        ws.send(spoken(1, 2))
        assert finish(ws)[-1]["text"] == "w1 w2"


@pytest.mark.parametrize(
    ("first", "close_code", "named"),
    [
        (b"\0\0", 1003, "start"),
        ("{", 1007, "JSON"),
        ("[]", 1003, "object"),
        ('{"type": "finish"}', 1003, "start"),
        ('{"type": "start", "sample_rate": 96000}', 1003, "sample_rate"),
        ('{"type": "start", "channels": 3}', 1003, "channels"),
        ('{"type": "start", "encoding": "mp3"}', 1003, "encoding"),
        ('{"type": "start", "endpoint_ms": 1}', 1003, "endpoint_ms"),
        ('{"type": "start", "language": "de"}', 1003, "de"),
        ('{"type": "start", "request_id": "a b"}', 1003, "request_id"),
    ],
)
def test_a_bad_start_ends_the_session_with_a_sentence(
    serve: Serve, first: str | bytes, close_code: int, named: str
) -> None:
    with open_ws(f"{serve().ws}/ws/stt") as ws:
        ws.send(first)
        error = next_of(ws)
        assert (error["type"], error["code"]) == ("error", "bad_request")
        assert named in error["error"]
        assert close_of(ws) == (close_code, "bad_request")


def test_a_frame_over_the_limit_closes_with_1009(serve: Serve) -> None:
    with open_ws(f"{serve(max_message_bytes=2048).ws}/ws/stt") as ws:
        begin(ws)
        ws.send(bytes(2049))
        assert close_of(ws)[0] == 1009


def test_a_recognizer_that_fails_ends_the_session(serve: Serve) -> None:
    at = serve()
    with open_ws(f"{at.ws}/ws/stt") as ws:
        begin(ws)
        ws.send(spoken(1, WordRecognizer.FAIL) + silence(900))
        error = next_of(ws, "error")
        assert error["code"] == "recognition_failed"
        assert close_of(ws) == (1011, "recognition_failed")
    with open_ws(f"{at.ws}/ws/stt") as ws:
        begin(ws)
        ws.send(spoken(1))
        assert finish(ws)[-1]["text"] == "w1"


def test_beyond_its_sessions_the_upgrade_is_refused(serve: Serve) -> None:
    at = serve(asr_live_sessions=1)
    with open_ws(f"{at.ws}/ws/stt") as ws:
        begin(ws)
        with pytest.raises(InvalidStatus) as refusal, open_ws(f"{at.ws}/ws/stt"):
            pass
        answer = refusal.value.response
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert json.loads(answer.body or b"")["error"]["code"] == "busy"
        # Requests have places of their own.
        heard = httpx.post(f"{at.http}/api/stt/bytes", content=spoken(1, 2)).json()
        assert heard["text"] == "w1 w2"
        finish(ws)

    def free_again() -> bool:
        try:
            with open_ws(f"{at.ws}/ws/stt") as ws:
                return bool(begin(ws)["type"] == "ready")
        except InvalidStatus:
            return False

    wait_for(free_again)


def test_a_client_that_disconnects_stops_the_recognition(
    serve: Serve, recognizer: WordRecognizer
) -> None:
    at = serve()
    recognizer.gate.clear()
    with open_ws(f"{at.ws}/ws/stt") as ws:
        begin(ws)
        ws.send(spoken(*range(1, 10)))
        assert recognizer.entered.wait(5)
    assert recognizer.was_cancelled.wait(5)
    wait_for(lambda: at.app.state.lifecycle.in_flight == 0)


class StubbornRecognizer(WordRecognizer):
    """Does not look at cancellation: it computes until `gate` is set."""

    def recognize(self, batch: Sequence[Window]) -> Iterator[tuple[int, list[Segment]]]:
        self.entered.set()
        assert self.gate.wait(30)
        yield from super().recognize(batch)


def test_a_session_keeps_its_slot_until_the_workers_have_released_its_recognition() -> None:
    recognizer = StubbornRecognizer()
    app = build(AsrSettings(asr_live_sessions=1), lambda: recognizer, LoudIsSpeech)
    with served(app) as at:
        recognizer.gate.clear()
        try:
            with open_ws(f"{at.ws}/ws/stt") as ws:
                begin(ws)
                ws.send(spoken(*range(1, 10)))
                assert recognizer.entered.wait(5)
            for _ in range(5):
                time.sleep(0.05)
                with pytest.raises(InvalidStatus), open_ws(f"{at.ws}/ws/stt"):
                    pass
                assert at.app.state.lifecycle.in_flight == 1
        finally:
            recognizer.gate.set()
        wait_for(lambda: at.app.state.lifecycle.in_flight == 0)
        with open_ws(f"{at.ws}/ws/stt") as ws:
            assert begin(ws)["type"] == "ready"


def test_a_session_that_sends_nothing_ends_in_order(serve: Serve) -> None:
    with open_ws(f"{serve(idle_timeout_s=1).ws}/ws/stt") as ws:
        begin(ws)
        ws.send(spoken(1, 2))
        assert next_of(ws, "end")["text"] == "w1 w2"
        assert close_of(ws) == (1001, "idle for 1 s")
    with open_ws(f"{serve(idle_timeout_s=0.1).ws}/ws/stt") as ws:
        assert close_of(ws) == (1001, "idle for 0.1 s")


def test_a_session_may_last_only_so_long(serve: Serve) -> None:
    with open_ws(f"{serve(max_session_s=1).ws}/ws/stt") as ws:
        begin(ws)
        ws.send(spoken(1, 2))
        assert next_of(ws, "end")["text"] == "w1 w2"
        assert close_of(ws) == (1001, "session length limit")


def test_a_draining_server_says_so_and_waits_for_the_end(serve: Serve) -> None:
    at = serve()
    lifecycle = at.app.state.lifecycle
    with open_ws(f"{at.ws}/ws/stt") as ws, open_ws(f"{at.ws}/ws/stt") as unstarted:
        begin(ws)
        ws.send(spoken(1, 2))
        wait_for(lambda: lifecycle.in_flight == 1)
        at.leave()
        goaway = next_of(ws, "goaway")
        assert 19_000 <= goaway["deadline_ms"] <= 20_000
        assert close_of(unstarted)[0] == 1001
        ws.send(spoken(3))
        assert finish(ws)[-1]["text"] == "w1 w2 w3"
    wait_for(lambda: lifecycle.in_flight == 0)


def test_a_server_at_the_end_of_its_drain_time_ends_the_session_in_order(serve: Serve) -> None:
    at = serve(drain_seconds=0.5)
    with open_ws(f"{at.ws}/ws/stt") as ws:
        begin(ws)
        ws.send(spoken(1, 2))
        wait_for(lambda: at.app.state.lifecycle.in_flight == 1)
        at.leave()
        assert next_of(ws, "end")["text"] == "w1 w2"
        assert close_of(ws) == (1001, "the server is leaving")


def test_audio_may_come_as_fast_as_it_can_and_nothing_is_lost(
    serve: Serve, recognizer: WordRecognizer
) -> None:
    numbers = [n % 290 + 1 for n in range(1000)]  # two minutes
    pcm = spoken(*numbers)
    recognizer.gate.clear()
    with open_ws(f"{serve().ws}/ws/stt") as ws:
        begin(ws)

        def send() -> None:
            for i in range(0, len(pcm), 16000):
                ws.send(pcm[i : i + 16000])
            ws.send('{"type": "finish"}')

        sender = threading.Thread(target=send)
        sender.start()
        try:
            assert recognizer.entered.wait(5)
            recognizer.gate.set()
            end = rest_of(ws)[-1]
        finally:
            sender.join()
    assert end["text"] == text_of(*numbers)
    assert max(samples for samples, _ in recognizer.heard) <= MAX_DECODED_MS * 16


def test_a_client_that_does_not_read_is_dropped(recognizer: WordRecognizer) -> None:
    """Over a socket that takes the first message and no other."""

    async def run() -> list[str]:
        lifecycle = Lifecycle(drain_seconds=1)
        service = RecognitionService(AsrSettings(idle_timeout_s=0.2), lifecycle, LoudIsSpeech)
        service.use(recognizer)
        lifecycle.ready()
        frames = iter(['{"type": "start"}', '{"type": "finalize"}'])
        sent: list[str] = []

        async def receive() -> Any:
            text = next(frames, None)
            if text is None:
                await anyio.sleep_forever()
            return {"type": "websocket.receive", "text": text}

        async def send(message: Any) -> None:
            if message["type"] == "websocket.send":
                sent.append(message["text"])
                if len(sent) > 1:
                    await anyio.sleep_forever()

        websocket = WebSocket({"type": "websocket"}, receive, send)
        websocket.client_state = websocket.application_state = WebSocketState.CONNECTED
        with anyio.fail_after(10):
            await LiveSession(websocket, service).run()
        assert lifecycle.in_flight == 0
        await service.stop()
        return sent

    sent = anyio.run(run)
    assert [json.loads(text)["type"] for text in sent] == ["ready", "final"]


def test_the_frame_queue_is_full_at_its_limit_and_gives_audio_joined_and_all_in_order() -> None:
    async def run() -> None:
        queue = FrameQueue()
        queue.limit_bytes = 10
        with anyio.fail_after(5):
            for frame in (b"1234", b"5678", "text"):
                await queue.put(frame)
            with anyio.move_on_after(0.05) as putting:
                await queue.put(b"9")
            assert putting.cancelled_caught
            assert queue.audio_bytes == 8
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(queue.put, b"9")
                assert queue.take() == b"12345678"
                assert queue.take() == "text"
                assert queue.take() is None
                await queue.wait()
            assert queue.take() == b"9"
            assert queue.audio_bytes == 0

    anyio.run(run)


def test_sessions_do_not_share_audio(serve: Serve) -> None:
    at = serve()
    with ExitStack() as stack:
        sockets = [stack.enter_context(open_ws(f"{at.ws}/ws/stt")) for _ in range(4)]
        for ws in sockets:
            begin(ws)
        for i in range(20):
            for count, ws in enumerate(sockets):
                ws.send(spoken(50 * count + i + 1))
        for count, ws in enumerate(sockets):
            assert finish(ws)[-1]["text"] == text_of(*(50 * count + i + 1 for i in range(20)))
