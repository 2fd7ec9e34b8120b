"""`SpeechClient.listen` and `transcribe`: events as they come, and how a stream can end."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream
from starlette.types import Receive, Scope, Send
from websockets.sync.server import ServerConnection
from websockets.utils import accept_key

from client import BrokenOff, Lost, Refused, Retry, SpeechClient, Timeouts, Unavailable
from client.tests.conftest import HttpServer, WsServer
from client.tests.session_server import Side
from client.tests.test_stream_stt import READY
from client.tests.using import busy_upgrade, run, until
from common.protocol.live import Final, ListenEvent, Partial, SpeechEnd, SpeechStart
from common.protocol.session import ErrorMessage, GoAway

SEGMENT = {"start_ms": 0, "end_ms": 900, "text": "Hello."}


class ListeningServer:
    """A handler that answers `start`, then hears until `finish`; `said` at each frame of audio."""

    def __init__(self, *said: tuple[str, dict[str, Any]]) -> None:
        self.said = list(said)
        self.start: dict[str, Any] = {}
        self.heard = b""
        self.commands: list[str] = []
        self.ends = True

    def __call__(self, connection: ServerConnection) -> None:
        side = Side(connection, 1, [])
        self.start = json.loads(connection.recv())
        limits = {
            "max_message_bytes": 1000,
            "max_utterance_ms": 30000,
            "max_backlog_ms": 2000,
            "max_session_s": 3600,
            "idle_timeout_s": 60,
        }
        audio = {"encoding": "pcm_s16le", "sample_rate": 16000, "channels": 1}
        side.send(
            "ready",
            protocol=1,
            session_id="s",
            request_id="r",
            model="fake",
            audio=audio,
            limits=limits,
            ignored=[],
        )
        self.listen(connection, side)

    def listen(self, connection: ServerConnection, side: Side) -> None:
        for message in connection:
            if isinstance(message, bytes):
                assert len(message) <= 1000
                self.heard += message
                if self.said:
                    kind, fields = self.said.pop(0)
                    side.send(kind, **fields)
                continue
            self.commands.append(json.loads(message)["type"])
            if self.commands[-1] == "finish":
                if self.ends:
                    side.send("end", audio_ms=1000, text="Hello.", segments=[SEGMENT])
                return


HELLO: list[tuple[str, dict[str, Any]]] = [
    ("speech_start", {"at_ms": 100}),
    (
        "partial",
        {
            "id": "t1",
            "rev": 1,
            "text": "Hell",
            "stable_chars": 0,
            "start_ms": 100,
            "end_ms": 300,
            "lag_ms": 10,
        },
    ),
    ("final", {"id": "t1", "text": "Hello.", "segments": [SEGMENT], "reason": "endpoint"}),
    ("speech_end", {"at_ms": 900}),
]


def test_events_come_as_they_are_heard_and_the_end_has_all_of_it(ws_server: WsServer) -> None:
    server = ListeningServer(*HELLO)

    async def use(client: SpeechClient) -> None:
        events: list[ListenEvent | ErrorMessage | GoAway] = []

        async def spoken() -> AsyncIterator[bytes]:
            for count in range(4):
                yield b"\1\0" * 400
                await until(partial(has_more_than, events, count))
            yield b"\2\0" * 1200

        listening = client.listen(spoken(), endpoint_ms=300, language="en")
        async for event in listening:
            events.append(event)
            if isinstance(event, Partial):
                await listening.finalize()
        assert [type(event) for event in events] == [SpeechStart, Partial, Final, SpeechEnd]
        assert listening.end is not None
        assert listening.end.text == "Hello."
        assert listening.end.segments[0].end_ms == 900

    run(ws_server(server), use)
    assert server.heard == b"\1\0" * 1600 + b"\2\0" * 1200
    assert server.commands == ["finalize", "finish"]
    assert server.start == {
        "type": "start",
        "sample_rate": 16000,
        "channels": 1,
        "encoding": "pcm_s16le",
        "language": "en",
        "partials": True,
        "endpoint_ms": 300,
    }


def has_more_than(events: list[ListenEvent | ErrorMessage | GoAway], count: int) -> bool:
    return len(events) > count


async def read(client: SpeechClient, audio: Any) -> list[ListenEvent | ErrorMessage | GoAway]:
    return [event async for event in client.listen(audio)]


def test_opening_is_tried_again(ws_server: WsServer) -> None:
    async def use(client: SpeechClient) -> None:
        assert len(await read(client, [b"\1\0"] * 4)) == 4

    run(ws_server(ListeningServer(*HELLO), on_upgrade=busy_upgrade(2)), use)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        ({"code": "recognition_failed", "fatal": True}, BrokenOff),
        ({"code": "recognition_failed"}, BrokenOff),
    ],
)
def test_an_error_that_ends_the_stream_is_broken_off(
    ws_server: WsServer, error: dict[str, Any], raised: type[BrokenOff]
) -> None:
    server = ListeningServer(HELLO[0], ("error", {"error": "It failed.", **error}))

    async def use(client: SpeechClient) -> None:
        with pytest.raises(raised, match="It failed"):
            await read(client, [b"\1\0"] * 4)

    run(ws_server(server), use)


def test_a_complaint_does_not_end_it(ws_server: WsServer) -> None:
    complaint = {"error": "Odd.", "code": "bad_request", "fatal": False, "request_id": "r"}
    server = ListeningServer(("error", complaint), *HELLO)

    async def use(client: SpeechClient) -> None:
        events = await read(client, [b"\1\0"] * 5)
        assert [event.error for event in events if isinstance(event, ErrorMessage)] == ["Odd."]
        assert len(events) == 5

    run(ws_server(server), use)


def test_a_stream_without_its_end_is_lost(ws_server: WsServer) -> None:
    server = ListeningServer(*HELLO)
    server.ends = False

    async def use(client: SpeechClient) -> None:
        with pytest.raises(Lost, match="before the transcript was whole"):
            await read(client, [b"\1\0"] * 4)

    run(ws_server(server), use)


def test_a_stream_that_the_server_ends_is_not_taken_for_whole(ws_server: WsServer) -> None:
    class Idle(ListeningServer):
        def listen(self, connection: ServerConnection, side: Side) -> None:
            side.send("end", audio_ms=1000, text="Hello.", segments=[SEGMENT])
            connection.close(1001, "idle for 60 s")

    async def use(client: SpeechClient) -> None:
        async def waiting() -> AsyncIterator[bytes]:
            yield b"\1\0"
            await anyio.sleep_forever()

        listening = client.listen(waiting())
        with pytest.raises(Lost, match="idle for 60 s"):
            await anext(aiter(listening))
        assert listening.end is not None
        assert listening.end.text == "Hello."

    run(ws_server(Idle()), use)


def test_a_stream_may_be_finished_before_its_audio(ws_server: WsServer) -> None:
    server = ListeningServer(*HELLO)

    async def use(client: SpeechClient) -> None:
        async def endless() -> AsyncIterator[bytes]:
            for _ in range(4):
                yield b"\1\0"
            await anyio.sleep_forever()

        listening = client.listen(endless())
        async for event in listening:
            if isinstance(event, SpeechEnd):
                await listening.finish()
        assert listening.end is not None

    run(ws_server(server), use)
    assert server.commands == ["finish"]


def test_what_the_audio_raises_comes_out(ws_server: WsServer) -> None:
    async def use(client: SpeechClient) -> None:
        async def broken() -> AsyncIterator[bytes]:
            yield b"\1\0"
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            await read(client, broken())

    run(ws_server(ListeningServer(*HELLO)), use)


def test_a_recording_is_transcribed_at_the_second_attempt(http_server: HttpServer) -> None:
    asked: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(scope["query_string"])
        while (await receive()).get("more_body"):
            pass
        status = 503 if len(asked) == 1 else 200
        error = {"error": {"code": "loading", "message": "Not yet.", "request_id": "r"}}
        answer = error if status == 503 else {"text": "Hello.", "segments": [SEGMENT]}
        headers = [(b"retry-after", b"0")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    async def use(client: SpeechClient) -> None:
        transcript = await client.transcribe(b"\1\0" * 100, sample_rate=8000, channels=2)
        assert transcript.text == "Hello."

    url = http_server(app)
    run(url, use)
    assert asked == [b"sr=8000&ch=2&lang=en"] * 2

    asked.clear()

    async def only_once(client: SpeechClient) -> None:
        with pytest.raises(Unavailable, match="Not yet"):
            await client.transcribe(b"\1\0")

    run(url, only_once, retry=Retry(attempts=1))


def test_a_refusal_is_not_asked_again(ws_server: WsServer) -> None:
    opened: list[int] = []

    def handler(connection: ServerConnection) -> None:
        opened.append(1)
        connection.recv()
        connection.send(json.dumps({"type": "error", "error": "No.", "code": "bad_request"}))

    async def use(client: SpeechClient) -> None:
        with pytest.raises(Refused, match=r"No\. \[bad_request\]"):
            await read(client, [b"\1\0"])

    run(ws_server(handler), use)
    assert opened == [1]


def test_an_option_that_there_is_not_is_a_type_error() -> None:
    unknown: dict[str, Any] = {"volume": 11}

    async def use(client: SpeechClient) -> None:
        with pytest.raises(TypeError, match="volume"):
            client.listen([b"\1\0"], **unknown)
        with pytest.raises(TypeError, match="volume"):
            await client.transcribe(b"\1\0", **unknown)

    run("http://localhost:1", use)


def test_a_network_that_has_died_ends_the_stream() -> None:
    """A server that answers nothing after `ready`, not even a ping, as behind a cut cable."""

    async def serve_nothing(stream: SocketStream) -> None:
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            request += await stream.receive()
        key = re.search(rb"Sec-WebSocket-Key: (\S+)", request)
        assert key is not None
        accept = accept_key(key[1].decode()).encode()
        ready = json.dumps(READY).encode()
        await stream.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            b"\x81\x7e" + len(ready).to_bytes(2, "big") + ready
        )
        try:
            await anyio.sleep_forever()
        finally:
            await anyio.aclose_forcefully(stream)

    async def microphone() -> AsyncIterator[bytes]:
        yield bytes(640)
        await anyio.sleep_forever()

    async def main() -> None:
        timeouts = Timeouts(silence_s=0.05, pong_s=0.05)
        async with (
            await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(listener.serve, serve_nothing)
            port = listener.listeners[0].extra(SocketAttribute.local_port)  # noqa: S610 - no Django
            with anyio.fail_after(20):
                async with SpeechClient(f"http://127.0.0.1:{port}", timeouts=timeouts) as client:
                    with pytest.raises(Lost):
                        async for _ in client.listen(microphone()):
                            pass
            tasks.cancel_scope.cancel()

    anyio.run(main)
