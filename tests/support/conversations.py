"""Conversations with the fleet as data: played over real sockets, recorded and compared.

A file of `tests/fleet/recorded/` describes a fleet and holds conversations with it; each is a list
of steps, and a step holds what is sent and what came back when it was recorded:

    {"http": "POST gateway /api/tts", "headers": {…}, "body": CONTENT, "answer": {…}}
    {"open": "tts /ws/tts", "as": "a", "headers": {…}, "subprotocols": […], "answer": {…}}
    {"send": [CONTENT, …], "to": "a"}
    {"until": {"type": "end"}, "from": "a", "frames": [CONTENT, …]}
    {"hold": "voice"}  {"release": "voice"}  {"drain": "gateway"}

`until` is part of the message that ends the step, `{"audio_bytes": N}` (so much audio has come), or
`"close"`. CONTENT is one of the forms that `content` gives; `expand` makes bytes of those that are
sent. To record conversations anew, or new ones, which hold no answers yet:

    python -m tests.support.conversations tests/fleet/recorded/simple.json

The recordings were made with the version before the one that they are played against: record anew
only what is meant to change.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import socket
import sys
import threading
import wave
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection
from websockets.typing import Subprotocol

from tests.support.fakes import (
    FakeRecognizer,
    FakeVoice,
    LoudIsSpeech,
    StepwiseRecognizer,
    WordRecognizer,
)
from tests.support.server import Served, served
from tests.support.wire import open_ws

RECORDED = Path(__file__).resolve().parent.parent / "fleet" / "recorded"
TIMEOUT_S = 20.0

Step = dict[str, Any]
Content = dict[str, Any]
Conversation = dict[str, Any]

# --- what may differ -----------------------------------------------------------------------------

DIFFERS_EACH_TIME = {
    "session_id": "made anew for each session",
    "request_id": "made anew for each request that brings none",
    "queue_ms": "a measured time",
    "first_audio_ms": "a measured time",
    "rtf": "a measured time",
    "lag_ms": "a measured time",
    "deadline_ms": "a measured time",
    "version": "changes with each release",
}
"""Fields of messages and bodies that are replaced by their name in brackets, and why."""
LEFT_OUT_HEADERS = {"date", "sec-websocket-accept", "connection", "upgrade"}
"""Headers of HTTP and of the upgrade itself, which say nothing of the contract."""
SENTENCES = {
    ("error", "code"): "of an error message",
    ("message", "code"): "of an HTTP error, of a warning in a session",
    ("text", "code"): "of a Wyoming error",
    ("reason", "status"): "of a probe that is not ready",
}
"""Fields (beside another field) that are for a person to read.

They are recorded, and compared only in whether there is a sentence: the wording may become better.
Codes, statuses and close codes tell programs the same.
"""
COMPRESSED = {"audio/mpeg", "audio/ogg", "audio/aac", "audio/flac"}
"""Media types whose encoders differ by release and processor: only their first two bytes count."""

# Four more, each in its place below. Of a `Retry-After` that a clock decides only the presence
# counts. `partial` messages come as often as the recognizer is fast: their fields are replaced, and
# repetitions left out. In a voice loop `speech_end` may come before or after `begin`, which another
# service sends. And where a conversation says `"resampled": true`, only the lengths of its audio
# count, since the arithmetic of the resampler differs by processor.


def without_what_differs(value: Any) -> Any:
    """`value` with the fields of `DIFFERS_EACH_TIME` replaced, at any depth."""
    if isinstance(value, list):
        return [without_what_differs(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("type") == "partial":
        return {k: v if k in ("type", "id") else f"<{k}>" for k, v in value.items()}
    return {k: _without(k, v) for k, v in value.items()}


def _without(key: str, value: Any) -> Any:
    if key not in DIFFERS_EACH_TIME or value is None or isinstance(value, (dict, list)):
        return without_what_differs(value)
    if key == "request_id" and not _is_made_up(value):
        return value
    return f"<{key}>"


def _is_made_up(request_id: str) -> bool:
    return re.fullmatch("[0-9a-f]{32}", request_id) is not None


def as_compared(value: Any) -> Any:
    """`value` with the words of `SENTENCES` replaced, at any depth."""
    if isinstance(value, list):
        return [as_compared(item) for item in value]
    if not isinstance(value, dict):
        return value
    sentences = {field for field, beside in SENTENCES if beside in value}
    return {
        k: "<sentence>" if k in sentences and isinstance(v, str) and v else as_compared(v)
        for k, v in value.items()
    }


# --- content -------------------------------------------------------------------------------------


def content(data: str | bytes, media_type: str = "", *, resampled: bool = False) -> Content:
    """A frame or body in the most legible form that says all of it.

    `json`, if it is written compactly; else `text`. Of bytes: `pcm`, runs of equal samples (a
    little-endian number of 16 bits each), if they are few; else `base64`, or `bytes` and `sha256`.
    By its media type a body may also be `lines` (NDJSON), `events` (server-sent), `pcm` behind the
    `header` of a WAV file, or what it `starts` with.
    """
    if media_type in COMPRESSED:
        assert isinstance(data, bytes)
        return {"starts": data[:2].hex()}
    if isinstance(data, bytes) and not media_type.startswith("audio/"):
        with suppress(UnicodeDecodeError):
            data = data.decode() if media_type else data
    if isinstance(data, str):
        return _text(data, media_type, resampled=resampled)
    if data.startswith(b"RIFF"):
        return {"header": data[:44].hex(), **content(data[44:], resampled=resampled)}
    if resampled:
        return {"bytes": len(data)}
    runs = _runs(data)
    if runs is not None:
        return {"pcm": runs}
    if len(data) <= 120:
        return {"base64": base64.b64encode(data).decode()}
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _runs(data: bytes) -> str | None:
    """For example `640 of 4352, 3 of 0`; None for an odd number of bytes, or too many runs."""
    if len(data) % 2:
        return None
    samples = memoryview(data).cast("h") if sys.byteorder == "little" else None
    assert samples is not None
    runs = [f"{len(list(run))} of {sample}" for sample, run in groupby(samples)]
    return ", ".join(runs) if len(runs) <= 40 else None


def _text(text: str, media_type: str, *, resampled: bool) -> Content:
    if media_type == "application/x-ndjson" and text.endswith("\n"):
        return {"lines": [_json(line) for line in text[:-1].split("\n")]}
    if media_type.startswith("text/event-stream") and text.endswith("\n\n"):
        data = [event.removeprefix("data: ") for event in text[:-2].split("\n\n")]
        events = [_json(one, separators=(", ", ": ")) for one in data]
        return {"events": _joined(events, resampled=resampled)}
    value = _json(text)
    return {"text": text} if isinstance(value, str) else {"json": value}


def _json(text: str, separators: tuple[str, str] = (",", ":")) -> Any:
    """The value of a JSON text that is written with these separators; else the text itself."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if isinstance(value, str) or text != json.dumps(
        value, separators=separators, ensure_ascii=False
    ):
        return text
    return without_what_differs(value)


def _joined(events: list[Any], *, resampled: bool) -> list[Any]:
    """The audio of `speech.audio.delta` events as one: where it is cut is not of the contract."""
    joined: list[Any] = []
    for kind, group in groupby(events, lambda event: _field(event, "type")):
        if kind != "speech.audio.delta":
            joined += group
            continue
        data = b"".join(base64.b64decode(event["audio"]) for event in group)
        joined.append({"type": kind, "audio": content(data, resampled=resampled)})
    return joined


def _kind(frame: Content) -> Any:
    """The type of a frame that is a message."""
    return _field(frame.get("json"), "type")


def _field(message: Any, name: str) -> Any:
    return message.get(name) if isinstance(message, dict) else None


def expand(form: Content) -> str | bytes:
    """What is sent for it; a `wav` has its samples as `pcm` has them."""
    match form:
        case {"json": value}:
            return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        case {"text": str(text)}:
            return text
        case {"pcm": str(runs)}:
            return _samples(runs)
        case {"wav": str(runs), "sample_rate": int(sample_rate_hz)}:
            file = io.BytesIO()
            with wave.open(file, "wb") as wav:
                wav.setparams((1, 2, sample_rate_hz, 0, "NONE", ""))
                wav.writeframes(_samples(runs))
            return file.getvalue()
        case {"base64": str(encoded)}:
            return base64.b64decode(encoded)
    raise ValueError(f"{form} cannot be sent")


def _samples(runs: str) -> bytes:
    data = b""
    for run in runs.split(", ") if runs else []:
        count, sample = run.split(" of ")
        data += int(count) * int(sample).to_bytes(2, "little", signed=True)
    return data


# --- the fleet -----------------------------------------------------------------------------------


class Fleet:
    """The services that a file of conversations describes.

    `services` are at their names; `voice` and `recognizer` have a `gate` where they can be held.
    """

    def __init__(self, described: dict[str, Any], stack: ExitStack) -> None:
        self._described = described
        self._stack = stack
        self._may_load = threading.Event()
        self.client = stack.enter_context(
            # A connection for each request: none of them is left to what was answered before.
            httpx.Client(
                timeout=TIMEOUT_S, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)
            )
        )
        self.voice = FakeVoice(**described.get("voice", {}))
        self.recognizer = self._new_recognizer()
        self.services: dict[str, Served] = {}
        self.wyoming_port = _free_port() if described.get("wyoming") else 0
        urls: dict[str, Any] = {}
        for name in ("tts", "asr"):
            if name in described.get("away", ()):
                urls[f"gateway_{name}_url"] = f"http://127.0.0.1:{_free_port()}"
                continue
            self._serve(name, self._build(name))
            urls[f"gateway_{name}_url"] = self.services[name].http
        self._serve("gateway", self._build_gateway(urls))
        for name in described.get("draining", ()):
            self.services[name].leave()

    def _new_recognizer(self) -> Any:
        match self._described.get("recognizer"):
            case "words":
                return WordRecognizer()
            case "stepwise":
                stepwise = StepwiseRecognizer()
                stepwise.allow(1_000_000)
                return stepwise
        return FakeRecognizer()

    def _serve(self, name: str, app: Any) -> None:
        is_ready = not {"loading", "away"} & self._described.keys()
        self.services[name] = self._stack.enter_context(served(app, ready=is_ready))
        # Before the service is stopped: it waits for what it loads and computes.
        self._stack.callback(self._may_load.set)
        self._stack.callback(self.release)

    def _build(self, name: str) -> Any:
        # All that is used of the services' insides is imported here and in `_build_gateway`.
        from asr_service.app.main import build as build_asr
        from asr_service.app.settings import AsrSettings
        from tts_service.app.main import build as build_tts
        from tts_service.app.settings import TtsSettings

        is_loading = name in self._described.get("loading", ())

        def load() -> Any:
            if is_loading:
                self._may_load.wait()
            return self.voice if name == "tts" else self.recognizer

        settings = self._described.get(name, {})
        if name == "tts":
            return build_tts(TtsSettings(**settings), load)
        return build_asr(AsrSettings(**settings), load, LoudIsSpeech)

    def _build_gateway(self, urls: dict[str, Any]) -> Any:
        from gateway.app.main import build
        from gateway.app.settings import GatewaySettings
        from gateway.app.upstreams.service import new_http_client

        own = self._described.get("gateway", {})
        settings = GatewaySettings(gateway_wyoming_port=self.wyoming_port, **urls, **own)
        return build(settings, new_http_client())

    def hold(self, engine: str) -> None:
        """No step of the voice, or no recognition, returns until `release`."""
        getattr(self, engine).gate.clear()

    def release(self) -> None:
        for engine in (self.voice, self.recognizer):
            if hasattr(engine, "gate"):
                engine.gate.set()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(described: dict[str, Any]) -> Iterator[Fleet]:
    """The fleet that a file describes, while the block runs."""
    with ExitStack() as stack:
        yield Fleet(described, stack)


# --- playing -------------------------------------------------------------------------------------


class WyomingSocket:
    """Events of the Wyoming protocol as content: `event`, its `data`, its payload."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self._file = self._socket.makefile("rb")
        self._is_cut = False

    def send(self, event: Content) -> None:
        payload = expand({"pcm": event["pcm"]}) if "pcm" in event else b""
        assert isinstance(payload, bytes)
        header = {"type": event["event"], "data": event.get("data", {})}
        header |= {"payload_length": len(payload)} if payload else {}
        self._socket.sendall(json.dumps(header).encode() + b"\n" + payload)

    def receive(self) -> Content:
        try:
            line = self._file.readline()
        except ConnectionResetError:
            line = b""
        if not line:
            self._is_cut = True
            return {"cut": True}
        header = json.loads(line)
        data = header.get("data", {})
        if length := header.get("data_length"):
            data |= json.loads(self._file.read(length))
        payload = self._file.read(header.get("payload_length") or 0)
        event = {"event": header["type"], "data": without_what_differs(data)}
        return event | (content(payload) if payload else {})

    def rest(self) -> list[Content]:
        """What else has come: asked for by a ping, which is answered in its turn."""
        if self._is_cut:
            return []
        self.send({"event": "ping", "data": {"text": "rest"}})
        events = [self.receive()]
        while events[-1]["event"] != "pong":
            events.append(self.receive())
        return events[:-1]

    def close(self) -> None:
        self._file.close()
        self._socket.close()


class WebSocket:
    """Frames of a WebSocket as content; `close` with its reason is the last of them."""

    def __init__(self, connection: ClientConnection, *, resampled: bool) -> None:
        self._connection = connection
        self._resampled = resampled
        self._is_closed = False

    def send(self, frame: Content) -> None:
        for _ in range(frame.get("times", 1)):
            self._connection.send(expand(frame))

    def receive(self, timeout_s: float = TIMEOUT_S) -> Content:
        try:
            return content(self._connection.recv(timeout_s), resampled=self._resampled)
        except ConnectionClosed as closed:
            self._is_closed = True
            if closed.rcvd is None:
                return {"cut": True}
            reason = closed.rcvd.reason
            if reason.startswith("frame with"):
                reason = "<sentence>"  # of the WebSocket library
            return {"close": closed.rcvd.code, "reason": reason}

    def rest(self) -> list[Content]:
        """What else has come: the pong comes after what the server sent before the ping."""
        if self._is_closed:
            return []
        assert self._connection.ping().wait(TIMEOUT_S), "the server answers no ping"
        frames = []
        while True:
            try:
                frames.append(self.receive(0))
            except TimeoutError:
                return frames


class _Play:
    """One conversation with a fleet."""

    def __init__(self, fleet: Fleet, stack: ExitStack, conversation: Conversation) -> None:
        self._fleet = fleet
        self._stack = stack
        self._resampled = conversation.get("resampled", False)
        self._passed_over = conversation.get("passes_over", [])
        self._sockets: dict[str, WebSocket | WyomingSocket] = {}

    def step(self, step: Step) -> Step:
        """`step` with what came now in place of what it holds."""
        match step:
            case {"http": str(request)}:
                return {**step, "answer": self._http(step, *request.split(" "))}
            case {"open": "wyoming"}:
                wyoming = WyomingSocket(self._fleet.wyoming_port)
                self._sockets[step.get("as", "")] = self._stack.enter_context(closing(wyoming))
                return step
            case {"open": str(where)}:
                return {**step, "answer": self._open(step, *where.split(" "))}
            case {"send": list(frames)}:
                for frame in frames:
                    self._sockets[step.get("to", "")].send(frame)
            case {"until": until}:
                socket_ = self._sockets[step.get("from", "")]
                return {**step, "frames": self._merged(_read(socket_, until))}
            case {"hold": str(engine)}:
                self._fleet.hold(engine)
            case {"release": _}:
                self._fleet.release()
            case {"drain": str(name)}:
                self._fleet.services[name].leave()
            case _:
                raise ValueError(f"{step} is no step of a conversation")
        return step

    def finish(self) -> None:
        """Fails if more has come than was read."""
        for name, socket_ in self._sockets.items():
            rest = [frame for frame in socket_.rest() if _kind(frame) != "partial"]
            assert not rest, f"more than was recorded came over {name!r}: {rest}"

    def _http(self, step: Step, method: str, service: str, path: str) -> dict[str, Any]:
        asked: dict[str, Any] = {"headers": step.get("headers")}
        body = step.get("body")
        if body is not None and "form" in body:
            files = {"file", "audio"} & body["form"].keys()
            asked["data"] = {k: v for k, v in body["form"].items() if k not in files}
            asked["files"] = {k: ("speech.wav", expand(body["form"][k])) for k in files}
        elif body is not None:
            asked["content"] = expand(body)
        url = f"{self._fleet.services[service].http}{path}"
        with self._fleet.client.stream(method, url, **asked) as answer:
            data, broken_off = b"", {}
            try:
                for chunk in answer.iter_raw():
                    data += chunk
            except httpx.RemoteProtocolError:
                broken_off = {"broken_off": True}
            headers = answer.headers.multi_items()
            return self._answer(answer.status_code, headers, data) | broken_off

    def _open(self, step: Step, service: str, path: str) -> dict[str, Any]:
        offered = [Subprotocol(name) for name in step.get("subprotocols", [])]
        try:
            connection = self._stack.enter_context(
                open_ws(
                    f"{self._fleet.services[service].ws}{path}",
                    additional_headers=step.get("headers"),
                    subprotocols=offered or None,
                )
            )
        except InvalidStatus as refused:
            answer = refused.response
            headers = list(answer.headers.raw_items())
            return self._answer(answer.status_code, headers, bytes(answer.body or b""))
        self._sockets[step.get("as", "")] = WebSocket(connection, resampled=self._resampled)
        assert connection.response is not None
        return self._answer(101, list(connection.response.headers.raw_items()), None)

    def _answer(
        self, status: int, headers: list[tuple[str, str]], body: bytes | None
    ) -> dict[str, Any]:
        shown = {}
        for name, value in sorted((name.lower(), value) for name, value in headers):
            if name in LEFT_OUT_HEADERS:
                continue
            if name == "content-length" and body is not None and int(value) == len(body):
                value = "<that of the body>"
            elif name == "x-request-id" and _is_made_up(value):
                value = "<request_id>"
            elif name == "retry-after" and value != "1":
                value = "<seconds>"
            shown[name] = value
        answer: dict[str, Any] = {"status": status, "headers": shown}
        if body:
            media_type = shown.get("content-type", "").partition(";")[0]
            answer["body"] = content(body, media_type, resampled=self._resampled)
        return answer

    def _merged(self, frames: list[Content]) -> list[Content]:
        """The same frames, repetitions as `times`."""
        merged: list[Content] = []
        for frame in frames:
            kind = _kind(frame)
            if kind in self._passed_over:
                continue
            if kind == "speech_end":
                behind = [i for i, f in enumerate(merged) if _kind(f) == "final"]
                merged.insert(behind[-1] + 1 if behind else len(merged), {**frame, "times": 1})
            elif merged and {**merged[-1], "times": 1} == {**frame, "times": 1}:
                merged[-1]["times"] += kind != "partial"
            else:
                merged.append({**frame, "times": 1})
        return [{k: v for k, v in f.items() if (k, v) != ("times", 1)} for f in merged]


def _read(opened: WebSocket | WyomingSocket, until: Any) -> list[Content]:
    """The frames up to the one that `until` describes, or to the close."""
    frames: list[Content] = []
    audio_bytes = 0
    while True:
        try:
            frame = opened.receive()
        except TimeoutError:
            return [*frames, {"nothing_for_s": TIMEOUT_S}]
        frames.append(frame)
        if {"close", "cut"} & frame.keys():
            return frames
        audio_bytes += frame["bytes"] if "bytes" in frame else _audio_bytes(frame)
        if until == "close":
            continue
        if "audio_bytes" in until:
            if audio_bytes >= until["audio_bytes"]:
                return frames
            continue
        message = frame.get("json", frame)
        if isinstance(message, dict) and until.items() <= message.items():
            return frames


def _audio_bytes(frame: Content) -> int:
    return len(expand(frame)) if {"pcm", "base64"} & frame.keys() else 0


def play(fleet: Fleet, conversation: Conversation) -> Conversation:
    """`conversation` with what comes from `fleet` now."""
    with ExitStack() as stack:
        stack.callback(fleet.release)
        playing = _Play(fleet, stack, conversation)
        steps = [playing.step(step) for step in conversation["steps"]]
        playing.finish()
    return {**conversation, "steps": steps}


# --- files ---------------------------------------------------------------------------------------


def read(path: Path) -> dict[str, Any]:
    """A file's `fleet` and `conversations`."""
    recorded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return recorded


def in_lines(value: Any, depth: int = 0) -> str:
    """JSON in which what fits into a line stands in one, and each frame and body does anyway."""
    line, indent = json.dumps(value, ensure_ascii=False), "  " * depth
    if len(indent + line) <= 160 or depth > _MAX_DEPTH or not isinstance(value, (dict, list)):
        return line
    items = [f"{indent}  {in_lines(item, depth + 1)}" for item in value]
    if isinstance(value, dict):
        items = [f"{indent}  {json.dumps(k)}: {in_lines(v, depth + 1)}" for k, v in value.items()]
    start, end = ("{", "}") if isinstance(value, dict) else ("[", "]")
    return f"{start}\n" + ",\n".join(items) + f"\n{indent}{end}"


_MAX_DEPTH = 5
"""That of the headers and body of an answer, and of the frames of a step."""


def record(path: Path) -> None:
    """Play the conversations of a file, and write down what came."""
    held = read(path)
    with started(held["fleet"]) as fleet:
        held["conversations"] = [play(fleet, talk) for talk in held["conversations"]]
    path.write_text(in_lines(held) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        record(Path(name))
