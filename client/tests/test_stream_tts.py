"""`stream_tts`: what is on disk and what is said when speech ends well, badly, or never begins."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection

from client.errors import BadInput, BrokenOff, Interrupted, Refused, ServerAway
from client.stream_tts import speak, speak_to_file
from client.tests.conftest import WsServer
from client.tests.simple_mode import CHUNK, END, error_frame, frames_of, part_of, says


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

    def on_upgrade(_: ServerConnection, __: Request) -> Response:
        headers = Headers({"Retry-After": "3", "Content-Length": str(len(body))})
        return Response(503, "Service Unavailable", headers, body)

    with pytest.raises(Refused, match=r"All slots are taken\. \[busy\] Try again in 3 s") as caught:
        speak_to_file("Hello", out, ws_server(says(END), on_upgrade=on_upgrade))
    assert caught.value.code == "busy"


def test_refused_upgrade_of_some_other_server_names_the_status(
    ws_server: WsServer, out: Path
) -> None:
    def on_upgrade(_: ServerConnection, __: Request) -> Response:
        return Response(404, "Not Found", Headers({"Content-Length": "3"}), b"no!")

    with pytest.raises(Refused, match=r"404 \(Not Found\)"):
        speak_to_file("Hello", out, ws_server(says(END), on_upgrade=on_upgrade))


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


@pytest.mark.parametrize("uri", ["localhost:8000", "ftp://localhost", "ws://", "ws://h:x/"])
def test_address_of_another_kind_is_bad_input(uri: str, out: Path) -> None:
    with pytest.raises(BadInput, match="not an address like http://localhost"):
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
