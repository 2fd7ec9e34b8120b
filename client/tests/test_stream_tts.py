"""`stream_tts`: what is on disk and what is said when speech ends well, badly, or never begins."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import wave
from pathlib import Path
from types import SimpleNamespace

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection

from client.cli import exit_code
from client.errors import BadInput, BrokenOff, ClientError, Interrupted, Refused, ServerAway
from client.stream_tts import main, speak, speak_to_file
from client.tests.conftest import Handler, WsServer

ROOT = Path(__file__).resolve().parents[2]
CHUNK = b"\x01\x00" * 640
END = '{"type":"end"}'


def says(*frames: str | bytes) -> Handler:
    """A handler that sends `frames` after the first message and then closes."""

    def handler(connection: ServerConnection) -> None:
        connection.recv()
        for frame in frames:
            connection.send(frame)

    return handler


def error_frame(sentence: str, code: str) -> str:
    return json.dumps({"type": "error", "error": sentence, "code": code})


def frames_of(path: Path) -> bytes:
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        return bytes(file.readframes(file.getnframes()))


def part_of(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def test_whole_speech_is_a_wav_with_a_true_header(ws_server: WsServer, out: Path) -> None:
    spoken = speak_to_file("Hello", out, ws_server(says(CHUNK, CHUNK, b"\x02\x00", END)))
    assert frames_of(out) == CHUNK + CHUNK + b"\x02\x00"
    assert spoken.audio_s == pytest.approx(1281 / 16000)
    assert 0 < spoken.first_audio_s <= spoken.total_s
    assert spoken.real_time_factor == spoken.total_s / spoken.audio_s
    assert list(out.parent.iterdir()) == [out]


def test_sends_the_text_as_the_contract_has_it(ws_server: WsServer, out: Path) -> None:
    heard: list[str | bytes] = []

    def handler(connection: ServerConnection) -> None:
        heard.append(connection.recv())
        connection.send(CHUNK)
        connection.send(END)

    speak_to_file("Grüße, „Ada“", out, ws_server(handler))
    assert [json.loads(message) for message in heard] == [{"text": "Grüße, „Ada“"}]


def test_reports_seconds_of_audio_as_they_come(ws_server: WsServer, out: Path) -> None:
    heard: list[float] = []
    speak_to_file("Hello", out, ws_server(says(CHUNK, CHUNK, END)), on_audio=heard.append)
    assert heard == [pytest.approx(0.04), pytest.approx(0.08)]


def test_file_grows_while_the_speech_comes(ws_server: WsServer, out: Path) -> None:
    sizes: list[int] = []
    big = CHUNK * 20
    speak_to_file(
        "Hello",
        out,
        ws_server(says(big, big, END)),
        on_audio=lambda _: sizes.append(part_of(out).stat().st_size),
    )
    assert 0 < sizes[0] < sizes[1] <= out.stat().st_size


def test_rate_is_the_one_that_the_server_names(ws_server: WsServer, out: Path) -> None:
    handler = says(CHUNK, END)

    def named(connection: ServerConnection, _: Request, response: Response) -> None:
        response.headers["X-Sample-Rate"] = "24000"

    uri = ws_server(handler, response=named)
    assert speak_to_file("Hello", out, uri).sample_rate_hz == 24000
    with wave.open(str(out)) as file:
        assert file.getframerate() == 24000


def test_rate_that_is_asked_for_wins(ws_server: WsServer, out: Path) -> None:
    uri = ws_server(says(CHUNK, END))
    assert speak_to_file("Hello", out, uri, sample_rate_hz=8000).audio_s == 0.08


def test_closing_before_the_end_leaves_only_a_part(ws_server: WsServer, out: Path) -> None:
    with pytest.raises(BrokenOff, match="before the speech was whole") as caught:
        speak_to_file("Hello", out, ws_server(says(CHUNK, CHUNK)))
    assert not out.exists()
    assert caught.value.partial == part_of(out)
    assert frames_of(part_of(out)) == CHUNK + CHUNK


def test_lost_connection_leaves_only_a_part(ws_server: WsServer, out: Path) -> None:
    def handler(connection: ServerConnection) -> None:
        connection.recv()
        connection.send(CHUNK)
        connection.socket.shutdown(2)

    with pytest.raises(BrokenOff, match="lost") as caught:
        speak_to_file("Hello", out, ws_server(handler))
    assert caught.value.partial == part_of(out)
    assert not out.exists()


def test_error_after_audio_is_a_break_in_the_servers_words(ws_server: WsServer, out: Path) -> None:
    uri = ws_server(says(CHUNK, error_frame("The voice failed.", "synthesis_failed")))
    with pytest.raises(BrokenOff, match=r"The voice failed\. \[synthesis_failed\]") as caught:
        speak_to_file("Hello", out, uri)
    assert caught.value.partial == part_of(out)


def test_error_before_audio_is_a_refusal_that_leaves_nothing(
    ws_server: WsServer, out: Path
) -> None:
    uri = ws_server(says(error_frame("The text has 9000 characters.", "too_large")))
    with pytest.raises(Refused, match="The text has 9000 characters") as caught:
        speak_to_file("Hello", out, uri)
    assert caught.value.code == "too_large"
    assert caught.value.partial is None
    assert list(out.parent.iterdir()) == []


def test_message_over_the_servers_limit_is_a_refusal(ws_server: WsServer, out: Path) -> None:
    uri = ws_server(says(END), max_size=1024)
    with pytest.raises(Refused, match="over the server's limit") as caught:
        speak_to_file("x" * 5000, out, uri)
    assert caught.value.code == "too_large"


def test_refused_upgrade_says_why_and_when_to_try_again(ws_server: WsServer, out: Path) -> None:
    body = json.dumps({"error": {"code": "busy", "message": "All slots are taken."}}).encode()

    def door(_: ServerConnection, __: Request) -> Response:
        headers = Headers({"Retry-After": "3", "Content-Length": str(len(body))})
        return Response(503, "Service Unavailable", headers, body)

    with pytest.raises(Refused, match=r"All slots are taken\. \[busy\] Try again in 3 s") as caught:
        speak_to_file("Hello", out, ws_server(says(END), door=door))
    assert caught.value.code == "busy"


def test_refused_upgrade_of_some_other_server_names_the_status(
    ws_server: WsServer, out: Path
) -> None:
    def door(_: ServerConnection, __: Request) -> Response:
        return Response(404, "Not Found", Headers({"Content-Length": "3"}), b"no!")

    with pytest.raises(Refused, match=r"404 \(Not Found\)"):
        speak_to_file("Hello", out, ws_server(says(END), door=door))


@pytest.mark.parametrize(
    ("frames", "sentence"),
    [
        ((END,), "no audio at all"),
        ((CHUNK + b"\0",), "half a sample"),
        (("nonsense",), "not of the protocol"),
        (('["end"]',), "not of the protocol"),
        ((CHUNK, '{"type":"End"}'), "not of the protocol"),
    ],
)
def test_what_is_not_of_the_protocol_is_never_success(
    ws_server: WsServer, out: Path, frames: tuple[str | bytes, ...], sentence: str
) -> None:
    with pytest.raises(BrokenOff, match=sentence):
        speak_to_file("Hello", out, ws_server(says(*frames)))
    assert not out.exists()


def test_silent_server_is_given_up(ws_server: WsServer, out: Path) -> None:
    def handler(connection: ServerConnection) -> None:
        connection.recv()
        connection.send(CHUNK)
        for _ in connection:
            pass

    with pytest.raises(BrokenOff, match=r"sent nothing for 0\.1 s"):
        speak_to_file("Hello", out, ws_server(handler), timeout_s=0.1)


def test_no_server_is_said_with_its_address(closed_port: int, out: Path) -> None:
    uri = f"ws://127.0.0.1:{closed_port}/ws/tts"
    with pytest.raises(ServerAway, match=f"no server at {uri}: Connection refused"):
        speak_to_file("Hello", out, uri)


@pytest.mark.parametrize("uri", ["localhost:8000", "http://localhost", "ws://", "ws://h:x/"])
def test_address_of_another_kind_is_bad_input(uri: str, out: Path) -> None:
    with pytest.raises(BadInput, match="not an address like ws://localhost"):
        speak_to_file("Hello", out, uri)


def test_folder_that_does_not_exist_is_bad_input(ws_server: WsServer, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be written: No such file or directory"):
        speak_to_file("Hello", tmp_path / "no" / "out.wav", ws_server(says(CHUNK, END)))


def test_older_file_stays_when_the_new_one_breaks_off(ws_server: WsServer, out: Path) -> None:
    out.write_bytes(b"older")
    with pytest.raises(BrokenOff):
        speak_to_file("Hello", out, ws_server(says(CHUNK)))
    assert out.read_bytes() == b"older"


def test_failure_of_the_caller_is_not_taken_for_the_servers(ws_server: WsServer) -> None:
    with pytest.raises(OSError, match="mine"), speak("Hello", ws_server(says(CHUNK, END))):
        raise OSError("mine")


def test_interrupt_leaves_only_a_part(ws_server: WsServer, out: Path) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        speak_to_file("Hello", out, ws_server(says(CHUNK, END)), on_audio=interrupt)
    assert caught.value.partial == part_of(out)
    assert frames_of(part_of(out)) == CHUNK
    assert not out.exists()


# The program.


def test_program_prints_what_became_of_the_text(
    ws_server: WsServer, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--text", "Hello", "--out", str(out), "--uri", ws_server(says(CHUNK, END))])
    printed = capsys.readouterr()
    for line in ("first audio after", "0.04 s at 16000 Hz", "real-time factor", str(out)):
        assert line in printed.out
    assert printed.err == "", "no progress line unless stderr is a terminal"


@pytest.mark.parametrize(
    ("error", "code"),
    [(BadInput("x"), 2), (ServerAway("x"), 3), (Refused("x"), 4), (BrokenOff("x"), 5)],
)
def test_each_failure_has_its_exit_code_and_a_sentence(
    error: ClientError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        error.partial = Path("out.wav.part")
        raise error

    assert exit_code(command) == code
    said = capsys.readouterr().err
    assert error.message in said
    assert said.endswith("What came before is in out.wav.part.\n")


@pytest.mark.parametrize("source", ["file", "stdin"])
def test_text_comes_from_a_file_or_stdin(
    source: str, ws_server: WsServer, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str | bytes] = []

    def handler(connection: ServerConnection) -> None:
        heard.append(connection.recv())
        connection.send(CHUNK)
        connection.send(END)

    text, arguments = "Zwölf Boxkämpfer.\n", []
    if source == "file":
        (tmp_path / "text").write_text(text, encoding="utf-8")
        arguments = ["--file", str(tmp_path / "text")]
    else:
        stdin = SimpleNamespace(buffer=io.BytesIO(text.encode()), isatty=lambda: False)
        monkeypatch.setattr("sys.stdin", stdin)
    main([*arguments, "--out", str(out), "--uri", ws_server(handler)])
    assert json.loads(heard[0]) == {"text": text}


def test_terminal_without_a_text_is_told_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    with pytest.raises(BadInput, match="nothing to say"):
        main([])


def test_file_that_is_no_text_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="not UTF-8"):
        main(["--file", str(tmp_path / "text")])


def test_playing_without_a_player_names_what_was_looked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInput, match=r"looked for pw-play, paplay, aplay"):
        main(["--text", "Hello", "--play"])


def test_plays_the_whole_file(
    ws_server: WsServer, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    player = tmp_path / "aplay"
    player.write_text('#!/bin/sh\n/bin/cp "$2" "$2.played"\n')
    player.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    uri = ws_server(says(CHUNK, END))
    main(["--text", "Hello", "--play", "--out", str(out), "--uri", uri])
    assert out.with_name("out.wav.played").read_bytes() == out.read_bytes()


@pytest.fixture
def endless(ws_server: WsServer) -> str:
    """A server that speaks until its listener leaves."""

    def handler(connection: ServerConnection) -> None:
        connection.recv()
        while True:
            connection.send(CHUNK)

    return ws_server(handler)


def test_script_that_is_interrupted_exits_130_and_names_the_part(endless: str, out: Path) -> None:
    # A shell's background jobs ignore Ctrl-C, and so would their children: begin as in a terminal.
    attentive = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    script = ["client/stream_tts.py", "--text", "x", "--out", str(out), "--uri", endless]
    with subprocess.Popen(
        [sys.executable, "-c", attentive, *script],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        while not part_of(out).exists() or part_of(out).stat().st_size < 100_000:
            assert program.poll() is None
        program.send_signal(signal.SIGINT)
        _, said = program.communicate(timeout=10)
    assert program.returncode == 130
    assert said == f"Interrupted. What came before is in {part_of(out)}.\n"
    assert not out.exists()
    assert frames_of(part_of(out)).startswith(CHUNK)


@pytest.mark.parametrize("script", ["stream_tts.py", "echo_bytes.py", "transcribe.py"])
def test_script_runs_from_the_root_and_documents_its_exit_codes(script: str) -> None:
    ran = subprocess.run(
        [sys.executable, f"client/{script}", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "exit codes: 0 done" in " ".join(ran.stdout.split())


def test_clients_need_no_service_and_no_web_framework() -> None:
    code = (
        "import sys, client.stream_tts, client.echo_bytes, client.transcribe\n"
        "heavy = 'fastapi starlette uvicorn gateway tts_service asr_service deploy'.split()\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.stdout.strip() == "[]", ran.stderr
