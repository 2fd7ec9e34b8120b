"""Compressed speech, encoded as it is made: MP3, Opus in Ogg, AAC in ADTS, FLAC.

FFmpeg's libraries do it, by PyAV. All four containers are streams: nothing in them has to be
corrected once the length is known, so bytes leave long before the end of the speech is there.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass, field

import numpy as np
from anyio import to_thread

from common.audio.pcm import BYTES_PER_SAMPLE, Compressed, SpeechFormat
from common.errors import BadRequest

SLICE_S = 0.25
"""Encoded at a time, a few ms of work: a piece of several seconds need not be done to be sent."""


@dataclass(frozen=True)
class Codec:
    """How FFmpeg is asked for a format; its own names for encoder, container and options."""

    encoder: str
    container: str
    sample_format: str
    bit_rate: int | None
    rates_hz: tuple[int, ...]
    """Sample rates that the format has; empty: any."""
    container_options: dict[str, str] = field(default_factory=dict)


CODECS: dict[Compressed, Codec] = {
    "mp3": Codec(
        "libmp3lame",
        "mp3",
        "s16p",
        64_000,
        (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
        # The frame that tells the length stands at the beginning: nobody can write it there later.
        {"write_xing": "0", "id3v2_version": "0"},
    ),
    "opus": Codec(
        "libopus",
        "ogg",
        "s16",
        32_000,
        (8000, 12000, 16000, 24000, 48000),
        # Microseconds; FFmpeg's own page of a second would be the time to the first sound.
        {"page_duration": "100000"},
    ),
    "aac": Codec(
        "aac",
        "adts",
        "fltp",
        64_000,
        (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
    ),
    "flac": Codec("flac", "flac", "s16", None, ()),
}


def compressed(wanted: SpeechFormat, sample_rate_hz: int) -> Compressed | None:
    """`wanted` if it is a compressed format. Raises `BadRequest` if it lacks the sample rate."""
    if wanted not in CODECS:
        return None
    rates = CODECS[wanted].rates_hz
    if rates and sample_rate_hz not in rates:
        known = ", ".join(map(str, rates))
        raise BadRequest(f"sample_rate: {wanted} has no {sample_rate_hz} Hz; it has: {known}")
    return wanted


class Encoder:
    """One stream of mono s16le PCM into bytes of a format. Computes: not on the event loop."""

    def __init__(self, wanted: Compressed, sample_rate_hz: int) -> None:
        # Here, since most requests want PCM, and FFmpeg's libraries take long to load.
        import av

        codec = CODECS[wanted]
        self._frame_of = av.AudioFrame.from_ndarray
        self._rate_hz = sample_rate_hz
        self._samples = 0
        self._sink = _Sink()
        self._container = av.open(
            self._sink, "w", format=codec.container, options=codec.container_options
        )
        stream = self._container.add_stream(codec.encoder, rate=sample_rate_hz)
        assert isinstance(stream, av.AudioStream)
        self._stream = stream
        context = stream.codec_context
        context.layout = "mono"
        context.format = codec.sample_format
        if codec.bit_rate is not None:
            context.bit_rate = codec.bit_rate

    def push(self, pcm: bytes) -> bytes:
        """What can be sent after these samples; often less than they are, sometimes nothing."""
        samples = np.frombuffer(pcm, dtype="<i2").reshape(1, -1)
        frame = self._frame_of(samples, format="s16", layout="mono")
        frame.sample_rate = self._rate_hz
        frame.pts = self._samples
        self._samples += samples.shape[1]
        self._container.mux(self._stream.encode(frame))
        return self._sink.take()

    def flush(self) -> bytes:
        """The end of the stream; nothing can be pushed after it."""
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._sink.take()


class _Sink:
    """What FFmpeg writes to. It cannot seek, and so knows that it cannot go back."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


async def encode(
    pcm: AsyncIterator[bytes], wanted: Compressed, sample_rate_hz: int
) -> AsyncGenerator[bytes, None]:
    """`pcm` (mono s16le, whole samples) as a stream of `wanted`; none of its chunks is empty.

    The encoder runs on worker threads, for a few ms at a time. Raises what `pcm` raises, and the
    stream is then not ended.
    """
    encoder = await to_thread.run_sync(Encoder, wanted, sample_rate_hz)
    async for chunk in pcm:
        for part in _slices(chunk, sample_rate_hz):
            if data := await to_thread.run_sync(encoder.push, part):
                yield data
    if data := await to_thread.run_sync(encoder.flush):
        yield data


def _slices(pcm: bytes, sample_rate_hz: int) -> Iterator[bytes]:
    size = int(SLICE_S * sample_rate_hz) * BYTES_PER_SAMPLE
    for start in range(0, len(pcm), size):
        yield pcm[start : start + size]
