"""Anything at all may come in: it is answered, nothing breaks, and the service goes on."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from common.protocol.echo import EchoMessage
from common.protocol.live import ListenEnd, ListenEvent, ListenReady
from common.protocol.session import ErrorMessage, GoAway
from deploy.local import LocalFleet
from tests.support.audio_files import tone_file
from tests.support.wire import close_of, open_session, open_ws

pytestmark = pytest.mark.fleet

fuzz = settings(
    max_examples=500,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
NEARLY_RIGHT = st.fixed_dictionaries(
    {},
    optional={
        "text": JSON | st.text(max_size=12),
        "segments": JSON | st.lists(st.fixed_dictionaries({"text": JSON}), max_size=3),
        "type": st.sampled_from(["start", "text", "end", ""]),
        "speed": JSON,
        "sample_rate": JSON,
        "format": JSON,
    },
)


def assert_unharmed(fleet: LocalFleet, logs_before: dict[str, int]) -> None:
    for name in ("asr", "tts", "gateway"):
        assert httpx.get(f"{fleet.url(name)}/readyz").status_code == 200
        with fleet.log(name).open() as log:
            log.seek(logs_before[name])
            written = log.read()
        assert "Traceback" not in written
        assert not [line for line in written.splitlines() if '"level": "error"' in line]


def log_sizes(fleet: LocalFleet) -> dict[str, int]:
    return {name: Path(fleet.log(name)).stat().st_size for name in fleet.ports}


def test_any_body_is_answered_without_a_500(fleet: LocalFleet) -> None:
    before = log_sizes(fleet)
    with httpx.Client(base_url=fleet.url("gateway"), timeout=60) as client:

        @fuzz
        @given(
            path=st.sampled_from(["/api/stt/bytes", "/api/echo-bytes", "/api/tts"]),
            body=st.binary(max_size=3000) | NEARLY_RIGHT.map(lambda v: json.dumps(v).encode()),
            query=st.sampled_from(
                [
                    "",
                    "sr=8000&ch=2",
                    "sr=48000",
                    "sr=x",
                    "fmt=wav",
                    "fmt=mulaw&sr=8000",
                    "format=vtt",
                    "overlap=1",
                    "words=1&vad=0&prompt=%00%ff",
                    "%ff=%00",
                ]
            ),
        )
        def check(path: str, body: bytes, query: str) -> None:
            answer = client.post(f"{path}?{query}", content=body)
            assert answer.status_code in (200, 400, 413)
            if answer.status_code != 200:
                assert answer.json()["error"]["message"]

        check()
    assert_unharmed(fleet, before)


FILES = [tone_file(kind, 0.3) for kind in ("wav", "mp3", "flac", "ogg-opus", "webm", "m4a")]


@st.composite
def damaged_files(draw: st.DrawFn) -> bytes:
    """Files that once were whole: cut, overwritten in places, or with something before them."""
    content = bytearray(draw(st.sampled_from(FILES)))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(content) - 1))
        piece = draw(st.binary(min_size=1, max_size=40))
        content[place : place + len(piece)] = piece
    if draw(st.booleans()):
        del content[draw(st.integers(0, len(content))) :]
    return draw(st.binary(max_size=8)) + bytes(content)


def test_any_file_is_answered_without_a_500(fleet: LocalFleet) -> None:
    before = log_sizes(fleet)
    with httpx.Client(base_url=fleet.url("gateway"), timeout=60) as client:

        @settings(fuzz, max_examples=150)
        @given(
            content=st.binary(max_size=3000) | damaged_files(),
            as_form=st.booleans(),
            format_=st.sampled_from(["json", "verbose_json", "text", "srt", "vtt", "x"]),
            lines=st.booleans(),
        )
        def check(content: bytes, as_form: bool, format_: str, lines: bool) -> None:
            headers = {"Accept": "application/x-ndjson"} if lines else {}
            given: dict[str, Any] = (
                {"files": {"file": ("a", content)}, "data": {"format": format_}}
                if as_form
                else {"content": content, "params": {"format": format_}}
            )
            answer = client.post("/api/stt/file", headers=headers, **given)
            assert answer.status_code in (200, 400, 413, 415)
            if answer.status_code != 200:
                assert answer.json()["error"]["message"]

        check()

        @settings(fuzz, max_examples=100)
        @given(body=st.binary(max_size=400), boundary=st.text("ab", max_size=3))
        def check_forms(body: bytes, boundary: str) -> None:
            form = b"--" + boundary.encode() + b"\r\n" + body
            kind = f"multipart/form-data; boundary={boundary}"
            answer = client.post("/api/stt/file", content=form, headers={"Content-Type": kind})
            assert answer.status_code in (400, 415)

        check_forms()
    assert_unharmed(fleet, before)


def test_any_frame_is_answered_in_order(fleet: LocalFleet) -> None:
    before = log_sizes(fleet)
    url = f"{fleet.url('gateway', scheme='ws')}/ws/tts"

    @fuzz
    @given(
        frame=st.text(max_size=200)
        | st.binary(max_size=200)
        | NEARLY_RIGHT.map(json.dumps)
        | JSON.map(json.dumps)
    )
    def check(frame: str | bytes) -> None:
        with open_ws(url) as ws:
            try:
                ws.send(frame)
            except UnicodeEncodeError:
                return  # a half of a surrogate pair is no text that a socket could carry
            answers: list[str | bytes] = []
            while not answers or isinstance(answers[-1], bytes):
                answers.append(ws.recv(60))
            if '"type":"ready"' in str(answers[-1]):
                return  # it opened a session, whose frames have a test of their own
            if answers[-1] != '{"type":"end"}':
                assert json.loads(answers[-1])["type"] == "error"
                assert close_of(ws)[0] in (1003, 1007, 1009)

    check()
    assert_unharmed(fleet, before)


NEARLY_A_MESSAGE = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "speak", "flush", "finish", "cancel", "ping", "start", ""])},
    optional={
        "id": st.sampled_from(["a", "b", "c"]) | JSON,
        "text": st.text(max_size=12) | JSON,
        "nonce": JSON,
        "voice": JSON,
    },
)


def test_any_messages_leave_a_session_in_order(fleet: LocalFleet) -> None:
    before = log_sizes(fleet)
    url = fleet.url("gateway", scheme="ws")

    @settings(fuzz, max_examples=100)
    @given(
        start=st.dictionaries(st.text(max_size=8), JSON, max_size=3),
        frames=st.lists(NEARLY_A_MESSAGE | JSON.filter(lambda v: v != {"type": "close"})),
    )
    def check(start: dict[str, object], frames: list[object]) -> None:
        with open_session(url, **start) as session:
            if session.ready["type"] == "error":
                assert close_of(session.ws)[0] == 1003
                return
            for frame in frames:
                session.ws.send(json.dumps(frame))
            session.send("close")
            with contextlib.suppress(ConnectionClosed):
                while True:
                    session.read()
            # NaN and the like are no JSON, though Python's writer writes them.
            assert close_of(session.ws)[0] in (1000, 1007)
            assert set(session.rules.audio) <= set(session.rules.ended)

    check()
    assert_unharmed(fleet, before)


LISTEN_MESSAGE: TypeAdapter[Any] = TypeAdapter(
    ListenReady | ListenEvent | ListenEnd | ErrorMessage | GoAway
)
ECHO_MESSAGE: TypeAdapter[Any] = TypeAdapter(EchoMessage)
A_START = st.fixed_dictionaries(
    {"type": st.just("start")},
    optional={
        "sample_rate": st.sampled_from([8000, 16000, 48000]),
        "channels": st.sampled_from([1, 2]),
        "encoding": st.sampled_from(["pcm_s16le", "mulaw"]),
        "partials": st.booleans(),
        "endpoint_ms": st.sampled_from([100, 600]),
    },
)
NEARLY_A_START = st.fixed_dictionaries(
    {"type": st.just("start")},
    optional=dict.fromkeys(("sample_rate", "channels", "encoding", "partials", "speed"), JSON),
)
NEARLY_A_COMMAND = st.fixed_dictionaries(
    {"type": st.sampled_from(["finalize", "cancel", "finish", "start", "stop"]) | JSON},
    optional={"colour": JSON},
)
AUDIO_OR_ALIKE = st.binary(max_size=2000) | st.integers(1, 3000).map(lambda n: b"\x10\x27" * n)
ANY_FRAME = AUDIO_OR_ALIKE | (NEARLY_A_START | JSON).map(json.dumps) | st.text("{}a")
MOSTLY = st.sampled_from([True, True, True, False])
FIRST = MOSTLY.flatmap(lambda right: A_START.map(json.dumps) if right else ANY_FRAME)
LATER = MOSTLY.flatmap(
    lambda right: AUDIO_OR_ALIKE | NEARLY_A_COMMAND.map(json.dumps) if right else ANY_FRAME
)


@pytest.mark.parametrize(
    ("path", "messages", "last"),
    [("/ws/stt", LISTEN_MESSAGE, "end"), ("/ws/echo", ECHO_MESSAGE, "transcript")],
)
def test_any_frames_leave_listening_in_order(
    fleet: LocalFleet, path: str, messages: TypeAdapter[Any], last: str
) -> None:
    before = log_sizes(fleet)
    url = f"{fleet.url('gateway', scheme='ws')}{path}"

    @settings(fuzz, max_examples=200)
    @given(first=FIRST, frames=st.lists(LATER, max_size=8))
    def check(first: str | bytes, frames: list[str | bytes]) -> None:
        with open_ws(url) as ws:
            with contextlib.suppress(ConnectionClosed):
                for frame in [first, *frames, '{"type": "finish"}']:
                    ws.send(frame)
            assert_ends_in_order(ws, messages, last)

    check()
    assert_unharmed(fleet, before)


def assert_ends_in_order(ws: ClientConnection, messages: TypeAdapter[Any], last: str) -> None:
    """Whatever was sent: `ready` first, each message as documented, one close, as it should be."""
    said: list[dict[str, Any]] = []
    while not said or not (said[-1]["type"] == last or said[-1].get("fatal")):
        frame = ws.recv(60)
        if isinstance(frame, str):
            messages.validate_json(frame)
            said.append(json.loads(frame))
    code = close_of(ws)[0]
    assert code in ((1000,) if said[-1]["type"] == last else (1003, 1007, 1009))
    kinds = [message["type"] for message in said]
    assert kinds[0] == "ready" or kinds == ["error"]
    assert kinds.count("ready") <= 1
    finals = [message["id"] for message in said if message["type"] == "final"]
    assert len(finals) == len(set(finals))
