"""`stream_stt`: what is sent, shown and said, however a session ends."""

from __future__ import annotations

import io
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from websockets.sync.server import ServerConnection

from client.cli import exit_code
from client.errors import BrokenOff
from client.stream_stt import chunks_of, listen, main
from client.tests.conftest import WsServer
from client.wav import WavFile
from common.protocol.live import Final, ListenEnd, Partial, SpeechStart

READY = {
    "type": "ready",
    "protocol": 1,
    "session_id": "s",
    "request_id": "r",
    "model": "fake",
    "audio": {"encoding": "pcm_s16le", "sample_rate": 16000, "channels": 1},
    "limits": {
        "max_message_bytes": 32_000,
        "max_utterance_ms": 30_000,
        "max_backlog_ms": 2000,
        "max_session_s": 3600,
        "idle_timeout_s": 60,
    },
    "ignored": [],
}
SEGMENT = {"start_ms": 320, "end_ms": 1480, "text": "Hello world."}
PARTIAL = {
    "type": "partial",
    "id": "t1",
    "rev": 1,
    "text": "hello wor",
    "stable_chars": 6,
    "start_ms": 320,
    "end_ms": 1100,
    "lag_ms": 40,
}
FINAL = {
    "type": "final",
    "id": "t1",
    "text": "Hello world.",
    "segments": [SEGMENT],
    "reason": "endpoint",
}
END = {"type": "end", "audio_ms": 1500, "text": "Hello world.", "segments": [SEGMENT]}


class Listening:
    """A server that takes a stream, and then says what a test has it say."""

    def __init__(self, *messages: Any, ready: Any = READY, then: Callable[..., None] | None = None):
        self.messages, self.ready, self.then = messages, ready, then
        self.start: dict[str, Any] = {}
        self.audio = b""
        self.commands: list[str] = []

    def __call__(self, connection: ServerConnection) -> None:
        self.start = json.loads(connection.recv())
        connection.send(json.dumps(self.ready))
        while self.commands[-1:] != ["finish"]:
            frame = connection.recv()
            if isinstance(frame, bytes):
                self.audio += frame
            else:
                self.commands.append(json.loads(frame)["type"])
        for message in self.messages:
            connection.send(json.dumps(message))
        if self.then is not None:
            self.then(connection)


@pytest.fixture
def ws_server(ws_server: WsServer) -> WsServer:
    def start(*args: Any, **options: Any) -> str:
        return ws_server(*args, **options).replace("/ws/tts", "/ws/stt")

    return start


def wav_of(tmp_path: Path, pcm: bytes) -> str:
    path = tmp_path / "said.wav"
    with WavFile(path, 16000) as wav:
        wav.write(pcm)
        wav.commit()
    return str(path)


def test_events_come_as_what_they_are_and_the_end_last(ws_server: WsServer) -> None:
    started = {"type": "speech_start", "at_ms": 320}
    server = Listening(started, PARTIAL, FINAL, END)
    events = list(listen([b"12"], ws_server(server), sample_rate=8000, encoding="alaw"))
    assert [type(event) for event in events] == [SpeechStart, Partial, Final, ListenEnd]
    assert (server.audio, server.commands) == (b"12", ["finish"])
    assert (server.start["sample_rate"], server.start["encoding"]) == (8000, "alaw")


def test_long_audio_is_sent_in_frames_that_any_server_takes(ws_server: WsServer) -> None:
    server = Listening(END)
    events = list(listen([bytes(100_000)], ws_server(server, max_size=32_000)))
    assert [type(event) for event in events] == [ListenEnd]
    assert server.audio == bytes(100_000)


def test_what_the_source_raises_comes_out(ws_server: WsServer) -> None:
    def broken() -> Iterator[bytes]:
        yield b"12"
        raise OSError("unplugged")

    with pytest.raises(OSError, match="unplugged"):
        list(listen(broken(), ws_server(Listening(END))))


def test_a_source_that_waits_for_ever_holds_nothing_up(ws_server: WsServer) -> None:
    unplugged = threading.Event()

    def waiting() -> Iterator[bytes]:
        yield b"12"
        unplugged.wait()

    def handler(connection: ServerConnection) -> None:
        connection.recv()
        connection.send(json.dumps(READY))
        connection.recv()
        connection.send(json.dumps(END))
        connection.close(1001, "idle for 60 s")

    with pytest.raises(BrokenOff, match="idle for 60 s"):
        list(listen(waiting(), ws_server(handler)))
    unplugged.set()


def test_the_program_prints_finals_as_lines(
    ws_server: WsServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Listening(PARTIAL, FINAL, END)
    main(["--wav", wav_of(tmp_path, b"\1\0" * 4000), "--fast", "--url", ws_server(server)])
    assert capsys.readouterr().out == "Hello world.\n"
    assert server.audio == b"\1\0" * 4000


def test_the_program_takes_raw_audio_from_a_pipe(
    ws_server: WsServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = SimpleNamespace(buffer=io.BytesIO(b"\2\0" * 70_000), isatty=lambda: False)
    monkeypatch.setattr(sys, "stdin", pipe)
    server = Listening(FINAL, END)
    options = ["--rate", "48000", "--channels", "2", "--times", "--endpoint-ms", "300"]
    main([*options, "--url", ws_server(server)])
    assert capsys.readouterr().out == "    0.32     1.48  Hello world.\n"
    assert server.audio == b"\2\0" * 70_000
    assert server.start["sample_rate"] == 48000
    assert server.start["channels"] == 2
    assert server.start["endpoint_ms"] == 300


def test_on_a_terminal_the_line_shows_what_is_heard_so_far(
    ws_server: WsServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    server = Listening(PARTIAL, FINAL, END)
    main(["--wav", wav_of(tmp_path, bytes(3200)), "--fast", "--url", ws_server(server)])
    shown = terminal.getvalue()
    assert "\x1b[1mhello \x1b[0mwor" in shown
    assert shown.endswith("\r\x1b[K")


def test_a_server_that_leaves_gets_the_session_finished(
    ws_server: WsServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def handler(connection: ServerConnection) -> None:
        connection.recv()
        connection.send(json.dumps(READY))
        connection.send(json.dumps({"type": "goaway", "deadline_ms": 1000}))
        while connection.recv() != '{"type":"finish"}':
            pass
        connection.send(json.dumps(FINAL))
        connection.send(json.dumps(END))

    wav = wav_of(tmp_path, bytes(320_000))
    main(["--wav", wav, "--url", ws_server(handler)])
    said = capsys.readouterr()
    assert said.out == "Hello world.\n"
    assert "shuts down" in said.err


@pytest.mark.parametrize(
    ("server", "code"),
    [
        (Listening({**END, "text": "", "segments": []}), 6),
        (Listening({"type": "error", "error": "No.", "code": "internal", "fatal": True}), 5),
        (Listening(ready={"type": "error", "error": "Bad.", "code": "bad_request"}), 4),
        (Listening(END), 0),
    ],
)
def test_exit_codes(ws_server: WsServer, tmp_path: Path, server: Listening, code: int) -> None:
    arguments = ["--wav", wav_of(tmp_path, bytes(320)), "--fast", "--url", ws_server(server)]
    assert exit_code(lambda: main(arguments)) == code


def test_without_a_server_it_says_so(closed_port: int, tmp_path: Path) -> None:
    wav = wav_of(tmp_path, bytes(320))
    uri = f"ws://127.0.0.1:{closed_port}/ws/stt"
    assert exit_code(lambda: main(["--wav", wav, "--url", uri])) == 3
    assert exit_code(lambda: main(["--wav", str(tmp_path / "none.wav")])) == 2


def test_pieces_are_paced_as_they_would_be_spoken() -> None:
    started = time.monotonic()
    assert b"".join(chunks_of(bytes(9600), 32_000, paced=True)) == bytes(9600)
    assert time.monotonic() - started >= 0.25
    assert [len(p) for p in chunks_of(bytes(3000), 32_000, paced=False)] == [1280, 1280, 440]
