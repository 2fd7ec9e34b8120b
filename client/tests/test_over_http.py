"""`echo_bytes` and `transcribe`: answers whole, refused, broken off, and of nobody speaking."""

from __future__ import annotations

import json
import wave
from pathlib import Path
from urllib.parse import quote

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from client import echo_bytes, transcribe
from client.connection import server_url
from client.errors import BadInput, BrokenOff, NoSpeech, Refused, ServerAway
from client.recordings import Recording
from client.tests.conftest import HttpServer
from common.protocol.recognition import Segment, Word

RECORDING = Recording(b"\5\0" * 1600, 16000)
SPEECH = b"\1\0" * 640


def answers(
    *chunks: bytes,
    status: int = 200,
    headers: dict[str, str] | None = None,
    whole: bool = True,
    seen: dict[str, str | bytes] | None = None,
) -> ASGIApp:
    """An app that reads the body and answers with `chunks`; unless `whole` it then breaks off."""
    raw = [(k.lower().encode(), v.encode()) for k, v in (headers or {}).items()]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if seen is not None:
            seen.update(path=scope["path"], query=scope["query_string"].decode(), body=body)
            seen.update(accept=dict(scope["headers"])[b"accept"])
        await send({"type": "http.response.start", "status": status, "headers": raw})
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if whole:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    return app


def error_body(code: str, sentence: str) -> bytes:
    return json.dumps({"error": {"code": code, "message": sentence, "request_id": "r"}}).encode()


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    path = tmp_path / "in.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(RECORDING.pcm)
    return path


def test_echo_is_a_whole_wav_with_its_transcript(http_server: HttpServer, out: Path) -> None:
    seen: dict[str, str | bytes] = {}
    headers = {"X-Transcript": quote("Grüße, Ada."), "X-Sample-Rate": "16000"}
    url = http_server(answers(SPEECH, SPEECH, headers=headers, seen=seen))
    heard: list[str] = []
    echo = echo_bytes.echo_to_file(RECORDING, out, url, on_transcript=heard.append)
    assert echo.transcript == "Grüße, Ada."
    assert heard == ["Grüße, Ada."]
    assert echo.audio_s == 0.08
    assert seen == {
        "path": "/api/echo-bytes",
        "query": "sr=16000&ch=1&fmt=s16le",
        "body": RECORDING.pcm,
        "accept": b"*/*",
    }
    with wave.open(str(out)) as file:
        assert file.readframes(file.getnframes()) == SPEECH * 2
    assert list(out.parent.iterdir()) == [out]


def test_echo_that_breaks_off_leaves_only_a_part(http_server: HttpServer, out: Path) -> None:
    url = http_server(answers(SPEECH, headers={"X-Transcript": "Hello"}, whole=False))
    with pytest.raises(BrokenOff, match="before the answer was whole") as caught:
        echo_bytes.echo_to_file(RECORDING, out, url)
    assert not out.exists()
    assert caught.value.partial == out.with_name("out.wav.part")
    with wave.open(str(caught.value.partial)) as file:
        assert file.readframes(file.getnframes()) == SPEECH


def test_echo_of_nobody_speaking_writes_no_file(http_server: HttpServer, out: Path) -> None:
    url = http_server(answers(headers={"X-Speech": "none"}))
    with pytest.raises(NoSpeech, match="heard nobody speak"):
        echo_bytes.echo_to_file(RECORDING, out, url)
    assert list(out.parent.iterdir()) == []


def test_echo_without_audio_is_not_success(http_server: HttpServer, out: Path) -> None:
    with pytest.raises(BrokenOff, match="no audio at all"):
        echo_bytes.echo_to_file(RECORDING, out, http_server(answers()))
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize("cut", [(b"\1", b"\0\2", b"\0"), (b"\1\0", b"\2\0")])
def test_samples_that_the_network_cut_are_put_together(
    cut: tuple[bytes, ...], http_server: HttpServer, out: Path
) -> None:
    echo_bytes.echo_to_file(RECORDING, out, http_server(answers(*cut)))
    with wave.open(str(out)) as file:
        assert file.readframes(file.getnframes()) == b"\1\0\2\0"


def test_half_a_sample_at_the_end_is_not_success(http_server: HttpServer, out: Path) -> None:
    with pytest.raises(BrokenOff, match="within a sample"):
        echo_bytes.echo_to_file(RECORDING, out, http_server(answers(b"\1\0\2")))
    assert not out.exists()


def test_refusal_is_told_in_the_servers_words(http_server: HttpServer, out: Path) -> None:
    body = error_body("busy", "All slots are taken.")
    url = http_server(answers(body, status=503, headers={"Retry-After": "2"}))
    with pytest.raises(Refused, match=r"All slots are taken\. \[busy\] Try again in 2 s") as caught:
        echo_bytes.echo_to_file(RECORDING, out, url)
    assert caught.value.code == "busy"
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"detail":"Not Found"}', b'{"error":"x"}'])
def test_refusal_of_some_other_server_names_its_status(
    body: bytes, http_server: HttpServer
) -> None:
    with pytest.raises(Refused, match=r"It answered 404 \(Not Found\)"):
        transcribe.transcribe(RECORDING, http_server(answers(body, status=404)))


def test_no_server_is_said_with_its_address(closed_port: int) -> None:
    url = f"http://127.0.0.1:{closed_port}"
    with pytest.raises(ServerAway, match=f"no server at {url}: Connection refused"):
        transcribe.transcribe(RECORDING, url)


def test_unknown_host_is_said_so() -> None:
    with pytest.raises(ServerAway, match=r"no server at http://nobody\.invalid"):
        transcribe.transcribe(RECORDING, "http://nobody.invalid:8000")


@pytest.mark.parametrize("url", ["localhost:8000", "http://", "http://h:x"])
def test_address_of_another_kind_is_bad_input(url: str) -> None:
    with pytest.raises(BadInput, match="not an address like http://localhost"):
        transcribe.transcribe(RECORDING, url)


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("http://h:8000/", "http://h:8000"),
        ("https://h/speech", "https://h/speech"),
        ("ws://h:8000/ws/tts", "http://h:8000"),
        ("WSS://ws.example/speech/ws/stt/", "https://ws.example/speech"),
    ],
)
def test_an_address_has_one_form(address: str, url: str) -> None:
    assert server_url(address) == url


def test_an_address_may_be_that_of_a_websocket(http_server: HttpServer) -> None:
    url = http_server(answers(json.dumps({"text": "Hello", "segments": []}).encode()))
    transcript = transcribe.transcribe(RECORDING, f"{url.replace('http', 'ws')}/ws/stt")
    assert transcript.text == "Hello"


def test_a_recording_says_its_rate_and_encoding_itself(http_server: HttpServer) -> None:
    seen: dict[str, str | bytes] = {}
    url = http_server(answers(json.dumps({"text": "", "segments": []}).encode(), seen=seen))
    transcribe.transcribe(Recording(b"\xff" * 100, 8000, "mulaw"), url)
    assert seen["query"] == "sr=8000&ch=1&fmt=mulaw&lang=en"


def test_a_file_may_be_given_by_its_path(http_server: HttpServer, tmp_path: Path) -> None:
    url = http_server(answers(json.dumps({"text": "Hello", "segments": []}).encode()))
    path = tmp_path / "talk.mp3"
    path.write_bytes(b"ID3")
    assert transcribe.transcribe(str(path), url).text == "Hello"
    with pytest.raises(BadInput, match="cannot be read"):
        transcribe.transcribe(str(tmp_path / "none.mp3"), url)


def test_audio_of_another_type_is_refused_by_its_name(http_server: HttpServer) -> None:
    url = http_server(answers(b"{}"))
    with pytest.raises(TypeError, match="not list"):
        transcribe.transcribe([1, 2], url)  # type: ignore[arg-type]


def test_silent_server_is_given_up(http_server: HttpServer) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    with pytest.raises(BrokenOff, match=r"sent nothing for 0\.1 s"):
        transcribe.transcribe(RECORDING, http_server(app), timeout_s=0.1)


def test_transcript_has_its_segments(http_server: HttpServer) -> None:
    seen: dict[str, str | bytes] = {}
    body = {"text": "Hi. Ho.", "segments": [{"start_ms": 0, "end_ms": 90, "text": "Hi."}]}
    url = http_server(answers(json.dumps(body).encode(), seen=seen))
    transcript = transcribe.transcribe(RECORDING, url + "/")
    assert transcript.text == "Hi. Ho."
    assert transcript.segments == [Segment(start_ms=0, end_ms=90, text="Hi.")]
    assert seen["path"] == "/api/stt/bytes"
    assert seen["query"] == "sr=16000&ch=1&lang=en"


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"text":"x","segments":[{}]}'])
def test_answer_that_is_no_transcript_is_not_success(body: bytes, http_server: HttpServer) -> None:
    with pytest.raises(BrokenOff, match="not a transcript"):
        transcribe.transcribe(RECORDING, http_server(answers(body)))


def test_overlapping_echo_has_no_transcript(http_server: HttpServer, out: Path) -> None:
    seen: dict[str, str | bytes] = {}
    url = http_server(answers(SPEECH, headers={"X-Sample-Rate": "16000"}, seen=seen))
    echo = echo_bytes.echo_to_file(RECORDING, out, url, overlap=True)
    assert (echo.transcript, echo.audio_s) == ("", 0.04)
    assert seen["query"] == "sr=16000&ch=1&fmt=s16le&overlap=true"


WORD = {"start_ms": 0, "end_ms": 90, "text": " Hi.", "probability": 0.5}
HI = {"start_ms": 0, "end_ms": 90, "text": "Hi."}
END_LINE = b'{"type":"end","audio_ms":90,"text":"Hi."}\n'
SEGMENT_LINE = json.dumps({"type": "segment"} | HI).encode() + b"\n"


def test_file_is_sent_as_it_is(http_server: HttpServer) -> None:
    seen: dict[str, str | bytes] = {}
    message = {"text": "Hi.", "segments": [HI | {"words": [WORD]}], "warning": "Cut."}
    url = http_server(answers(json.dumps(message).encode(), seen=seen))
    transcript = transcribe.transcribe(b"fLaC", url, words=True)
    assert transcript.warning == "Cut."
    assert transcript.segments[0].words == [Word.model_validate(WORD)]
    assert seen["path"] == "/api/stt/file"
    assert seen["query"] == "lang=en&words=true"
    assert seen["body"] == b"fLaC"


def test_segments_come_as_they_are_found(http_server: HttpServer) -> None:
    seen: dict[str, str | bytes] = {}
    end = b'{"type":"end","audio_ms":90,"text":"Hi.","warning":"Cut."}\n'
    url = http_server(answers(SEGMENT_LINE[:9], SEGMENT_LINE[9:] + end, seen=seen))
    warnings: list[str] = []
    found = list(transcribe.listen(RECORDING, url, on_warning=warnings.append))
    assert [(segment.start_ms, segment.end_ms, segment.text) for segment in found] == [
        (0, 90, "Hi.")
    ]
    assert warnings == ["Cut."]
    assert seen["accept"] == b"application/x-ndjson"


@pytest.mark.parametrize(
    ("last", "whole", "said"),
    [
        (b'{"type":"error","error":"The recognizer failed."}\n', False, "The recognizer failed"),
        (b"", True, "before it was whole"),
        (b"", False, "broke off"),
        (b'{"type":"segment"}\n', True, "no segment"),
        (b"[]\n", True, "no segment"),
    ],
)
def test_segments_that_break_off_are_not_success(
    http_server: HttpServer, last: bytes, whole: bool, said: str
) -> None:
    segments = transcribe.listen(RECORDING, http_server(answers(SEGMENT_LINE, last, whole=whole)))
    assert next(segments).text == "Hi."
    with pytest.raises(BrokenOff, match=said):
        next(segments)


# The programs.


def test_echo_program_prints_the_words(
    http_server: HttpServer, wav: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = http_server(answers(SPEECH, headers={"X-Transcript": quote("Hello, Ada.")}))
    out = tmp_path / "echo.wav"
    echo_bytes.main(["--wav", str(wav), "--out", str(out), "--url", url])
    printed = capsys.readouterr().out
    for part in ("Hello, Ada.", "0.04 s at 16000 Hz", str(out)):
        assert part in printed


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        ([], "Hello, Ada.\n"),
        (["--times"], "    0.10     1.20  Hello, Ada.\n"),
        (
            ["--json"],
            '{"text": "Hello, Ada.", "segments": '
            '[{"start_ms": 100, "end_ms": 1200, "text": "Hello, Ada."}]}\n',
        ),
    ],
)
def test_transcribe_program_prints_the_words(
    arguments: list[str],
    printed: str,
    http_server: HttpServer,
    wav: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    segment = {"start_ms": 100, "end_ms": 1200, "text": "Hello, Ada."}
    body = json.dumps({"text": "Hello, Ada.", "segments": [segment]}).encode()
    transcribe.main(["--wav", str(wav), "--url", http_server(answers(body)), *arguments])
    assert capsys.readouterr().out == printed


def test_transcribe_program_says_that_nobody_speaks(http_server: HttpServer, wav: Path) -> None:
    url = http_server(answers(b'{"text":"","segments":[]}'))
    with pytest.raises(NoSpeech, match="Nobody speaks in"):
        transcribe.main(["--wav", str(wav), "--url", url])


@pytest.mark.parametrize(
    ("arguments", "chunks", "printed"),
    [
        (["--format", "srt"], [b"1\n0 --> 1\nHi.\n\n"], "1\n0 --> 1\nHi.\n\n"),
        (["--format", "text"], [b"Hi.\n"], "Hi.\n"),
        (["--format", "verbose_json"], [b'{"text":"Hi."}'], '{"text":"Hi."}\n'),
        (["--stream"], [SEGMENT_LINE, END_LINE], "Hi.\n"),
        (["--stream", "--times"], [SEGMENT_LINE, END_LINE], "    0.00     0.09  Hi.\n"),
        (
            ["--words"],
            [json.dumps({"text": "Hi.", "segments": [HI | {"words": [WORD]}]}).encode()],
            "    0.00     0.09  Hi.\n",
        ),
    ],
)
def test_transcribe_program_sends_a_file_of_any_kind(
    arguments: list[str],
    chunks: list[bytes],
    printed: str,
    http_server: HttpServer,
    wav: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen: dict[str, str | bytes] = {}
    url = http_server(answers(*chunks, seen=seen))
    transcribe.main(["--file", str(wav), "--url", url, *arguments])
    assert capsys.readouterr().out == printed
    assert seen["path"] == "/api/stt/file"
    assert seen["body"] == wav.read_bytes()


@pytest.mark.parametrize(
    ("name", "body"),
    [("json", b'{"text":""}'), ("text", b""), ("srt", b""), ("vtt", b"WEBVTT\n\n")],
)
def test_transcribe_program_says_so_in_any_format(
    name: str, body: bytes, http_server: HttpServer, wav: Path
) -> None:
    with pytest.raises(NoSpeech, match="Nobody speaks in"):
        transcribe.main(["--file", str(wav), "--url", http_server(answers(body)), "--format", name])


def test_transcribe_program_warns_of_damage_on_stderr(
    http_server: HttpServer, wav: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = json.dumps({"text": "Hi.", "segments": [HI], "warning": "Cut."}).encode()
    transcribe.main(["--file", str(wav), "--url", http_server(answers(body))])
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("Hi.\n", "Cut.\n")


def test_file_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read: No such file"):
        transcribe.main(["--file", str(tmp_path / "none.mp3")])
