"""Compressed speech: decoded by FFmpeg and by libsndfile, it is what was said, and it streams."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncIterator
from typing import Any, get_args

import av
import httpx
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from common.audio.pcm import MEDIA_TYPES, Compressed
from common.audio.samples import resample
from common.errors import BadRequest
from tests.support.fakes import SAMPLES_PER_CHARACTER, FakeVoice
from tests.support.wire import wait_for
from tts_service.app.encoders import Encoder, compressed, encode
from tts_service.tests.conftest import Serve

FORMATS: tuple[Compressed, ...] = get_args(Compressed)
RATE_HZ = 24000
LONG = "A sentence of so many words that it is long. " * 20


def sweep(seconds: float, rate_hz: int = RATE_HZ) -> NDArray[np.float32]:
    """A tone that rises from 200 to 2000 Hz: it is like itself at one place only."""
    t = np.arange(int(seconds * rate_hz)) / rate_hz
    phase = 2 * np.pi * (200 * t + 900 * t**2 / seconds)
    return (0.3 * np.sin(phase)).astype(np.float32)


def as_pcm(samples: NDArray[np.float32]) -> bytes:
    return bytes((samples * 32767).astype("<i2").tobytes())


def decoded(data: bytes) -> tuple[NDArray[np.float32], int]:
    """By FFmpeg: the samples of what a client has received, and their rate."""
    with av.open(io.BytesIO(data)) as container:
        frames = list(container.decode(audio=0))
    parts = []
    for frame in frames:
        samples = frame.to_ndarray().astype(np.float32)[0]
        parts.append(samples / 32768 if frame.format.name.startswith("s16") else samples)
    return np.concatenate(parts), frames[0].sample_rate


def likeness(heard: NDArray[np.float32], said: NDArray[np.float32]) -> float:
    """How well `said` correlates with what was heard, at the delay where it does so best."""
    size = len(heard) + len(said)
    spectrum = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(said, size))
    delay = int(np.argmax(np.fft.irfft(spectrum, size)[: len(heard) - len(said) + 1]))
    return float(np.corrcoef(heard[delay : delay + len(said)], said)[0, 1])


@pytest.mark.parametrize("wanted", FORMATS)
def test_what_is_decoded_is_what_was_encoded(wanted: Compressed) -> None:
    said = sweep(2.0)
    encoder = Encoder(wanted, RATE_HZ)
    pcm = as_pcm(said)
    # Cut anywhere between two samples, as an engine cuts.
    data = b"".join(encoder.push(pcm[i : i + 7002]) for i in range(0, len(pcm), 7002))
    heard, rate_hz = decoded(data + encoder.flush())
    heard = resample(heard, rate_hz, RATE_HZ)
    assert len(said) <= len(heard) + 500
    assert len(heard) <= len(said) + 3000
    assert likeness(heard, said[: len(said) - 4000]) > 0.97


# Not FLAC: libsndfile wants to know its length beforehand, which no stream can say.
@pytest.mark.parametrize("wanted", ["mp3", "opus"])
def test_libsndfile_reads_it_too(wanted: Compressed) -> None:
    encoder = Encoder(wanted, RATE_HZ)
    data = encoder.push(as_pcm(sweep(1.0))) + encoder.flush()
    samples, rate_hz = soundfile.read(io.BytesIO(data))
    assert len(samples) / rate_hz == pytest.approx(1.0, abs=0.11)


@pytest.mark.parametrize("wanted", FORMATS)
def test_the_first_bytes_can_be_played_before_the_rest_is_made(wanted: Compressed) -> None:
    first = Encoder(wanted, RATE_HZ).push(as_pcm(sweep(0.5)))
    heard, rate_hz = decoded(first)
    assert len(heard) / rate_hz > 0.2


@pytest.mark.parametrize(
    ("wanted", "rate_hz"), [("mp3", 10000), ("opus", 22050), ("opus", 44100), ("aac", 47999)]
)
def test_a_rate_that_the_format_lacks_is_refused_by_name(wanted: Compressed, rate_hz: int) -> None:
    with pytest.raises(BadRequest, match=r"^sample_rate: "):
        compressed(wanted, rate_hz)


def test_encoding_computes_off_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[threading.Thread] = set()
    push = Encoder.push

    def watched(self: Encoder, pcm: bytes) -> bytes:
        threads.add(threading.current_thread())
        return push(self, pcm)

    monkeypatch.setattr(Encoder, "push", watched)

    async def pcm() -> AsyncIterator[bytes]:
        yield as_pcm(sweep(1.0))

    async def run() -> list[bytes]:
        return [chunk async for chunk in encode(pcm(), "mp3", RATE_HZ)]

    chunks = asyncio.run(run())
    # A second in slices: it is not encoded as a whole before any of it is sent.
    assert len(chunks) >= 4
    assert all(chunks)
    assert threads
    assert threading.main_thread() not in threads


@pytest.mark.parametrize("wanted", FORMATS)
def test_a_text_is_spoken_in_the_format_asked_for(serve: Serve, wanted: Compressed) -> None:
    at = serve()
    body = {"text": "Hello world", "format": wanted, "sample_rate": RATE_HZ}
    answer = httpx.post(f"{at.http}/api/tts", json=body)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == MEDIA_TYPES[wanted]
    assert answer.headers["X-Sample-Rate"] == str(RATE_HZ)
    heard, rate_hz = decoded(answer.content)
    said_s = 11 * SAMPLES_PER_CHARACTER / 16000
    assert len(heard) / rate_hz == pytest.approx(said_s, abs=0.13)


@pytest.mark.parametrize("wanted", FORMATS)
def test_bytes_leave_before_the_voice_is_done(
    serve: Serve, voice: FakeVoice, wanted: Compressed
) -> None:
    at = serve(tts_buffer_seconds=1)
    body = {"text": LONG, "format": wanted}
    with httpx.stream("POST", f"{at.http}/api/tts", json=body) as answer:
        chunks = answer.iter_raw()
        first = next(chunks)
        voice.gate.clear()
        made = voice.steps
        assert made < len(LONG) / 10
        voice.gate.set()
        rest = b"".join(chunks)
    heard, rate_hz = decoded(first + rest)
    assert len(heard) / rate_hz == pytest.approx(len(LONG.strip()) * 0.05, rel=0.1)


@pytest.mark.parametrize("wanted", FORMATS)
def test_a_failure_midway_breaks_the_body_off(serve: Serve, wanted: Compressed) -> None:
    at = serve()
    text = "A first sentence that is long enough to be sent as it is. " * 4 + "Then FAIL FAIL FAIL."
    body = {"text": text, "format": wanted}
    with httpx.stream("POST", f"{at.http}/api/tts", json=body) as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            answer.read()


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"text": "?!", "format": "opus"}, 400, "empty_text"),
        ({"text": "Hello", "format": "ogg"}, 400, "bad_request"),
        ({"text": "Hello", "format": "opus", "sample_rate": 22050}, 400, "bad_request"),
    ],
)
def test_what_fails_before_the_first_bytes_has_a_status(
    serve: Serve, body: dict[str, Any], status: int, code: str
) -> None:
    at = serve()
    answer = httpx.post(f"{at.http}/api/tts", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_a_client_that_leaves_stops_the_voice(serve: Serve, voice: FakeVoice) -> None:
    at = serve(tts_buffer_seconds=1)
    body = {"text": LONG, "format": "mp3"}
    with httpx.stream("POST", f"{at.http}/api/tts", json=body) as answer:
        next(answer.iter_raw())
    wait_for(lambda: voice.open_generators == 0)
    assert httpx.post(f"{at.http}/api/tts", json={"text": "Hello"}).status_code == 200
