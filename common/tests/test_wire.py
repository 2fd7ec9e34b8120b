"""The reading side of the protocol: lines, error answers, handshakes, and servers that hang."""

from __future__ import annotations

import asyncio
import json
import socket as sockets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

import anyio
import pytest
from websockets.sync.server import ServerConnection, serve

from common.protocol.live import ListenReady, ListenStart
from common.protocol.recognition import EndLine, SegmentLine
from common.wire import messages
from common.wire.errors import (
    ConnectionEnded,
    ConnectTimeout,
    ErrorAnswer,
    ProtocolError,
    ReceiveTimeout,
    Unreachable,
)
from common.wire.messages import is_fatal, parse_lines, parse_message
from common.wire.socket import WireSocket

SEGMENT = b'{"type":"segment","start_ms":0,"end_ms":9,"text":"Hello"}\n'
END = b'{"type":"end","audio_ms":9,"text":"Hello"}\n'
READY = {
    "type": "ready",
    "session_id": "s",
    "request_id": "r",
    "model": "m",
    "audio": {"encoding": "pcm_s16le", "sample_rate": 16000, "channels": 1},
    "limits": {
        "max_message_bytes": 65536,
        "max_utterance_ms": 1000,
        "max_backlog_ms": 2000,
        "max_session_s": 60,
        "idle_timeout_s": 60,
    },
    "ignored": [],
}
START = ListenStart(type="start")


def lines_of(*chunks: bytes) -> list[SegmentLine | EndLine]:
    async def body() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    async def read() -> list[SegmentLine | EndLine]:
        return [line async for line in parse_lines(body())]

    return anyio.run(read)


@contextmanager
def server(handler: Callable[[ServerConnection], None]) -> Iterator[str]:
    with serve(handler, "127.0.0.1", 0, compression=None) as listening:
        thread = Thread(target=listening.serve_forever)
        thread.start()
        yield f"ws://127.0.0.1:{listening.socket.getsockname()[1]}/"
        listening.shutdown()
        thread.join()


def talk(
    handler: Callable[[ServerConnection], None],
    use: Callable[[WireSocket], Awaitable[None]],
    **options: float,
) -> None:
    async def main(url: str) -> None:
        socket = await WireSocket.open(url, headers={}, timeout_s=5, use_proxy=False, **options)
        try:
            await use(socket)
        finally:
            await socket.close()

    with server(handler) as url:
        anyio.run(main, url)


def test_lines_may_be_cut_anywhere() -> None:
    body = SEGMENT * 2 + END
    whole = lines_of(body)
    assert [line.text for line in whole] == ["Hello"] * 3
    assert isinstance(whole[-1], EndLine)
    assert lines_of(*(body[i : i + 1] for i in range(len(body)))) == whole


@pytest.mark.parametrize(
    "body", [b"", SEGMENT, SEGMENT + END[:-1], b"[]\n", b"\n", b'{"type":"x"}\n']
)
def test_an_answer_without_its_end_is_not_whole(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        lines_of(body)


def test_a_line_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "MAX_LINE_BYTES", 100)
    with pytest.raises(ProtocolError, match="over 100 bytes"):
        lines_of(b"x" * 60, b"x" * 60)


def test_an_error_line_is_the_error_that_the_server_named() -> None:
    line = b'{"type":"error","error":"It failed.","code":"recognition_failed","request_id":"r7"}\n'
    with pytest.raises(ErrorAnswer, match="It failed") as raised:
        lines_of(SEGMENT, line)
    assert (raised.value.code, raised.value.request_id) == ("recognition_failed", "r7")


def test_an_http_error_is_read_in_the_contract_s_shape_or_named_by_its_status() -> None:
    body = json.dumps({"error": {"code": "busy", "message": "Full.", "request_id": "r"}}).encode()
    ours = ErrorAnswer.of_http(503, body, {"Retry-After": "2", "X-Request-ID": "r"})
    assert (ours.code, ours.message, ours.request_id, ours.retry_after_s) == (
        "busy",
        "Full.",
        "r",
        2,
    )
    other = ErrorAnswer.of_http(502, b"<html>", {})
    assert (other.code, other.message) == ("", "It answered 502 (Bad Gateway).")
    assert "unknown status" in ErrorAnswer.of_http(599, b"[]", {}).message


@pytest.mark.parametrize("frame", ["", "[]", "{}", '{"type":1}', "[" * 100_000, b"\xff"])
def test_a_frame_without_a_type_is_no_message(frame: str | bytes) -> None:
    with pytest.raises(ProtocolError, match="not of the protocol"):
        parse_message(frame)


def test_an_error_is_fatal_unless_it_says_otherwise() -> None:
    assert is_fatal({"type": "error"})
    assert not is_fatal({"type": "error", "fatal": False})


def answers(*frames: str | bytes) -> Callable[[ServerConnection], None]:
    def handler(connection: ServerConnection) -> None:
        connection.recv()
        for frame in frames:
            connection.send(frame)
        connection.close(1001, "idle")

    return handler


def test_a_session_starts_with_ready_and_its_end_has_a_code() -> None:
    async def use(socket: WireSocket) -> None:
        ready = await socket.start_session(START, ListenReady, timeout_s=5)
        assert ready.model == "m"
        with pytest.raises(ConnectionEnded) as ended:
            await socket.receive()
        assert (ended.value.code, ended.value.reason) == (1001, "idle")

    talk(answers(json.dumps(READY)), use)


@pytest.mark.parametrize(
    ("frame", "raised"),
    [
        (b"\0\0", ProtocolError),
        ("{}", ProtocolError),
        ('{"type":"ready"}', ProtocolError),
        (json.dumps(READY | {"ignored": ["partials"]}), ProtocolError),
        ('{"type":"error","error":"No.","code":"busy"}', ErrorAnswer),
    ],
)
def test_what_is_no_ready_starts_no_session(frame: str | bytes, raised: type[Exception]) -> None:
    async def use(socket: WireSocket) -> None:
        with pytest.raises(raised):
            await socket.start_session(START, ListenReady, timeout_s=5)

    talk(answers(frame), use)


def test_a_server_that_says_nothing_is_given_up_after_the_time() -> None:
    left = Event()

    async def use(socket: WireSocket) -> None:
        with pytest.raises(ReceiveTimeout, match=r"nothing for 0\.05 s"):
            await socket.start_session(START, ListenReady, timeout_s=0.05)
        left.set()

    def handler(connection: ServerConnection) -> None:
        connection.recv()
        left.wait()

    talk(handler, use)


def test_a_server_that_answers_pings_may_be_silent() -> None:
    async def use(socket: WireSocket) -> None:
        with anyio.move_on_after(0.3) as watched:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(socket.watch)
                await socket.receive()
        assert watched.cancelled_caught

    def handler(connection: ServerConnection) -> None:
        for _ in connection:
            pass

    talk(handler, use, stall_timeout_s=0.05, pong_timeout_s=5)


def test_a_server_that_answers_no_ping_is_noticed() -> None:
    async def main() -> None:
        socket = WireSocket(_Dead(), stall_timeout_s=0.02, pong_timeout_s=0.02)  # type: ignore[arg-type]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(socket.receive)
            with anyio.fail_after(5), pytest.raises(ReceiveTimeout, match="does not answer"):
                await socket.watch()
            tasks.cancel_scope.cancel()

    anyio.run(main)


class _Dead:
    """A connection whose other side has vanished: nothing comes, and no pong either."""

    async def recv(self) -> str:
        await anyio.sleep_forever()
        return ""

    async def ping(self) -> object:
        return asyncio.get_running_loop().create_future()


def test_nobody_at_the_address_is_told_apart_from_nobody_in_time() -> None:
    async def main() -> None:
        with sockets.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            closed_port = bound.getsockname()[1]
        with pytest.raises(Unreachable, match="refused"):
            await WireSocket.open(
                f"ws://127.0.0.1:{closed_port}/", headers={}, timeout_s=5, use_proxy=False
            )
        with sockets.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            with pytest.raises(ConnectTimeout):
                await WireSocket.open(
                    f"ws://127.0.0.1:{port}/", headers={}, timeout_s=0.05, use_proxy=False
                )

    anyio.run(main)
