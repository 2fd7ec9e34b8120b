"""Wyoming, spoken by the package's own client, in front of services that work with fakes."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any, TypeVar

import httpx
import pytest
from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeStopped,
    SynthesizeTextFormat,
    SynthesizeVoice,
)

from asr_service.app.main import build as build_asr
from asr_service.app.settings import AsrSettings
from gateway.app.main import build
from gateway.app.settings import GatewaySettings
from gateway.app.upstreams.service import new_http_client
from gateway.tests import misbehaving
from gateway.tests.conftest import Serve
from gateway.tests.misbehaving import free_port
from tests.support.fakes import SAMPLES_PER_CHARACTER, FakeRecognizer, FakeVoice
from tests.support.server import served
from tests.support.wire import wait_for
from tts_service.app.main import build as build_tts
from tts_service.app.settings import TtsSettings

T = TypeVar("T")
SECOND = bytes([0, 1]) * 16000


@pytest.fixture(scope="module")
def voice() -> FakeVoice:
    return FakeVoice()


@pytest.fixture(scope="module")
def recognizer() -> FakeRecognizer:
    return FakeRecognizer()


@pytest.fixture(scope="module")
def port(voice: FakeVoice, recognizer: FakeRecognizer) -> Iterator[int]:
    """Of one gateway for all tests that do it no harm."""
    with ExitStack() as stack:
        tts = stack.enter_context(served(build_tts(TtsSettings(), lambda: voice)))
        asr = stack.enter_context(served(build_asr(AsrSettings(), lambda: recognizer)))
        at = free_port()
        settings = GatewaySettings(
            gateway_tts_url=tts.http,
            gateway_asr_url=asr.http,
            gateway_wyoming_port=at,
            gateway_max_body_bytes=10 * len(SECOND),
        )
        stack.enter_context(served(build(settings, new_http_client())))
        yield at


def talk(port: int, conversation: Callable[[AsyncTcpClient], Awaitable[T]]) -> T:
    """Have a conversation over one connection."""

    async def run() -> T:
        async with AsyncTcpClient("127.0.0.1", port, read_timeout=20) as client:
            return await conversation(client)

    return asyncio.run(run())


async def next_event(client: AsyncTcpClient) -> Event:
    event = await client.read_event()
    assert event is not None, "the server closed the connection"
    return event


async def heard(client: AsyncTcpClient) -> tuple[AudioStart, bytes]:
    """The audio from `audio-start` to `audio-stop`."""
    first = await next_event(client)
    assert AudioStart.is_type(first.type), first
    start = AudioStart.from_event(first)
    pcm = b""
    while AudioChunk.is_type((event := await next_event(client)).type):
        chunk = AudioChunk.from_event(event)
        assert (chunk.rate, chunk.width, chunk.channels) == (start.rate, 2, 1)
        pcm += chunk.audio
    assert AudioStop.is_type(event.type), event
    return start, pcm


async def say(client: AsyncTcpClient, pcm: bytes, **form: Any) -> None:
    """A recording in chunks, as a satellite sends it."""
    form = {"rate": 16000, "width": 2, "channels": 1, **form}
    await client.write_event(AudioStart(**form).event())
    for at in range(0, len(pcm), 4096):
        await client.write_event(AudioChunk(audio=pcm[at : at + 4096], **form).event())
    await client.write_event(AudioStop().event())


async def error_after(client: AsyncTcpClient, *events: Event) -> Error:
    for event in events:
        await client.write_event(event)
    answer = await next_event(client)
    assert Error.is_type(answer.type), answer
    return Error.from_event(answer)


def test_describe_names_what_is_loaded(port: int) -> None:
    async def ask(client: AsyncTcpClient) -> Info:
        await client.write_event(Describe().event())
        return Info.from_event(await next_event(client))

    info = talk(port, ask)
    (tts,), (asr,) = info.tts, info.asr
    assert tts.supports_synthesize_streaming
    assert [(voice.name, voice.languages) for voice in tts.voices] == [("fake", ["en"])]
    assert asr.supports_transcript_streaming
    assert [(model.name, model.languages) for model in asr.models] == [("tiny.en", ["en"])]


def test_a_text_is_spoken_and_then_another_on_the_same_connection(port: int) -> None:
    async def speak(client: AsyncTcpClient) -> None:
        for text in ("Hello world", "Another one"):
            await client.write_event(Synthesize(text=text).event())
            start, pcm = await heard(client)
            assert start.rate == 16000
            assert len(pcm) == len(text) * SAMPLES_PER_CHARACTER * 2

    talk(port, speak)


def test_a_voice_may_be_named(port: int) -> None:
    async def speak(client: AsyncTcpClient) -> None:
        for named in (SynthesizeVoice(name="fake"), SynthesizeVoice(language="en-GB")):
            await client.write_event(Synthesize(text="Hello", voice=named).event())
            assert (await heard(client))[1]

    talk(port, speak)


def test_a_text_in_chunks_is_spoken_while_it_still_comes(port: int) -> None:
    async def speak(client: AsyncTcpClient) -> None:
        await client.write_event(SynthesizeStart().event())
        for chunk in ("This is the first ", "sentence of two. And ", "here "):
            await client.write_event(SynthesizeChunk(text=chunk).event())
        # The first sentence is spoken before the second is known.
        assert AudioStart.is_type((await next_event(client)).type)
        assert AudioChunk.is_type((await next_event(client)).type)
        await client.write_event(SynthesizeChunk(text="comes the second.").event())
        # For servers that do not stream; it must not be spoken once more.
        whole = "This is the first sentence of two. And here comes the second."
        await client.write_event(Synthesize(text=whole).event())
        await client.write_event(SynthesizeStop().event())
        while AudioChunk.is_type((event := await next_event(client)).type):
            pass
        assert AudioStop.is_type(event.type)
        assert SynthesizeStopped.is_type((await next_event(client)).type)
        await client.write_event(Ping(text="still there?").event())
        assert Pong.from_event(await next_event(client)).text == "still there?"

    talk(port, speak)


@pytest.mark.parametrize(
    ("asked", "code", "named"),
    [
        (Synthesize(text="?!"), "empty_text", "spoken"),
        (Synthesize(text="a" * 5001), "too_large", "5000"),
        (Synthesize(text="Hi", voice=SynthesizeVoice(name="nobody")), "bad_request", "nobody"),
        (Synthesize(text="Hi", voice=SynthesizeVoice(language="de")), "bad_request", "de"),
        (Synthesize(text="Hi", text_format=SynthesizeTextFormat.SSML), "bad_request", "text"),
        (SynthesizeStart(voice=SynthesizeVoice(name="nobody")), "bad_request", "nobody"),
        (Transcribe(name="large"), "bad_request", "large"),
    ],
)
def test_a_refused_request_is_an_error_and_the_connection_goes_on(
    port: int, asked: Any, code: str, named: str
) -> None:
    async def ask(client: AsyncTcpClient) -> None:
        error = await error_after(client, asked.event())
        assert error.code == code
        assert named in error.text
        await client.write_event(Ping().event())
        assert Pong.is_type((await next_event(client)).type)

    talk(port, ask)


def test_a_recording_is_transcribed_in_chunks_and_as_a_whole(
    port: int, recognizer: FakeRecognizer
) -> None:
    async def dictate(client: AsyncTcpClient) -> list[Event]:
        asked = Transcribe(language="en-GB", transcript_names=["Ada"], transcript_terms=["kettle"])
        await client.write_event(asked.event())
        await say(client, SECOND)
        return [await next_event(client) for _ in range(4)]

    start, chunk, whole, stop = talk(port, dictate)
    assert TranscriptStart.is_type(start.type)
    assert TranscriptChunk.from_event(chunk).text == "16000 samples"
    assert Transcript.from_event(whole).text == "16000 samples"
    assert TranscriptStop.is_type(stop.type)
    _, options = recognizer.heard[-1]
    assert (options.language, options.hotwords) == ("en", "Ada kettle")


def test_silence_is_an_empty_transcript(port: int) -> None:
    async def dictate(client: AsyncTcpClient) -> str:
        await say(client, bytes(len(SECOND)))
        while not Transcript.is_type((event := await next_event(client)).type):
            pass
        return Transcript.from_event(event).text

    assert talk(port, dictate) == ""


def test_audio_that_cannot_be_recognized_is_an_error(port: int) -> None:
    async def dictate(client: AsyncTcpClient) -> list[str | None]:
        form = {"rate": 16000, "channels": 1}
        codes = [
            await error_after(client, AudioStart(width=4, **form).event()),
            await error_after(client, AudioStart(rate=96000, width=2, channels=1).event()),
            await error_after(client, AudioStart(width=2, **form).event(), AudioStop().event()),
            await error_after(
                client,
                AudioStart(width=2, **form).event(),
                AudioChunk(audio=b"odd", width=2, **form).event(),
                AudioStop().event(),
            ),
            await error_after(
                client,
                AudioStart(width=2, **form).event(),
                *(AudioChunk(audio=SECOND, width=2, **form).event() for _ in range(11)),
            ),
            await error_after(client, Transcribe(language="de").event(), *one_second()),
        ]
        return [error.code for error in codes]

    assert talk(port, dictate) == [
        *("bad_request", "bad_request", "empty_audio", "bad_request", "too_large", "bad_request")
    ]


def one_second() -> list[Event]:
    form = {"rate": 16000, "width": 2, "channels": 1}
    chunk = AudioChunk(audio=SECOND, **form).event()
    return [AudioStart(**form).event(), chunk, AudioStop().event()]


def test_unknown_events_are_ignored(port: int) -> None:
    async def ask(client: AsyncTcpClient) -> None:
        for kind in ("detect", "run-satellite", "audio-stop", "synthesize-chunk"):
            await client.write_event(Event(kind, {"text": "x"}))
        await client.write_event(Ping(text="on").event())
        assert Pong.from_event(await next_event(client)).text == "on"

    talk(port, ask)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"[]\n",
        b'{"type": 1}\n',
        b'{"type": "describe", "data": []}\n',
        b'{"type": "audio-chunk", "payload_length": 99999999999}\n',
        b'{"type": "audio-chunk", "data_length": "x"}\n',
        b"x" * 200_000,
    ],
)
def test_bytes_that_are_not_wyoming_end_the_connection(port: int, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(sent)
        # Reset, if there was something left that it has not read.
        with suppress(ConnectionResetError):
            assert client.recv(1) == b""


def test_a_missing_field_is_named_in_the_error(port: int) -> None:
    async def ask(client: AsyncTcpClient) -> str:
        return (await error_after(client, Event("synthesize", {}))).text

    assert "text" in talk(port, ask)


def test_a_client_that_disconnects_stops_the_synthesis(port: int, voice: FakeVoice) -> None:
    async def leave(client: AsyncTcpClient) -> None:
        text = "A sentence of so many words that it is long. " * 40
        await client.write_event(Synthesize(text=text).event())
        assert AudioStart.is_type((await next_event(client)).type)

    talk(port, leave)
    wait_for(lambda: voice.open_generators == 0)


def test_services_that_are_away_are_an_error_and_left_out_of_the_description(
    serve_gateway: Serve,
) -> None:
    away = misbehaving.closed_port()
    at = free_port()
    serve_gateway(gateway_tts_url=away, gateway_asr_url=away, gateway_wyoming_port=at)

    async def ask(client: AsyncTcpClient) -> None:
        await client.write_event(Describe().event())
        info = Info.from_event(await next_event(client))
        assert (info.tts, info.asr) == ([], [])
        error = await error_after(client, Synthesize(text="Hello").event())
        assert error.code == "upstream_failed"

    talk(at, ask)


def test_keys_are_warned_of_and_the_port_still_works(
    # In this order: the gateway logs until it has stopped.
    capsys: pytest.CaptureFixture[str],
    serve: Serve,
) -> None:
    at = free_port()
    serve(api_keys="ada:ada-key-12345", gateway_wyoming_port=at)

    async def speak(client: AsyncTcpClient) -> bytes:
        await client.write_event(Synthesize(text="Hello").event())
        return (await heard(client))[1]

    assert talk(at, speak)
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [e["level"] for e in events if e["event"] == "wyoming.no_keys"] == ["warning"]


def test_it_is_off_by_default(serve_gateway: Serve) -> None:
    assert GatewaySettings().gateway_wyoming_port == 0
    at = serve_gateway()
    assert httpx.get(f"{at.http}/healthz").status_code == 200
