"""The scripts as programs: arguments, exit codes, what they print, and Ctrl-C."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from websockets.sync.server import ServerConnection

from client.cli import exit_code
from client.errors import BadInput, BrokenOff, ClientError, Refused, ServerAway
from client.stream_tts import main
from client.tests.conftest import WsServer
from client.tests.simple_mode import CHUNK, END, frames_of, part_of, says

PROGRAMS = ("stream_tts.py", "stream_stt.py", "echo_bytes.py", "transcribe.py")
ROOT = Path(__file__).resolve().parents[2]


def test_program_prints_what_became_of_the_text(
    ws_server: WsServer, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--text", "Hello", "--out", str(out), "--url", ws_server(says(CHUNK, END))])
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
    main([*arguments, "--out", str(out), "--url", ws_server(handler)])
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
    main(["--text", "Hello", "--play", "--out", str(out), "--url", uri])
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
    script = ["client/stream_tts.py", "--text", "x", "--out", str(out), "--url", endless]
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


@pytest.mark.parametrize("script", PROGRAMS)
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


@pytest.mark.parametrize("script", PROGRAMS)
def test_a_machine_without_the_packages_is_told_what_to_install(script: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-S", f"client/{script}", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert "run `make setup`" in ran.stderr
    assert "Traceback" not in ran.stderr


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
