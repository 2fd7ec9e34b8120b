"""Describes audio as bytes: formats, encodings, durations, WAV headers, chunks.

Everything here is bytes and integers; what computes on samples is in `common.audio.samples`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from common.errors import BadRequest, EmptyAudio, UndecodableAudio

BYTES_PER_SAMPLE = 2
"""Bytes of a sample of s16le."""
MIN_SAMPLE_RATE_HZ, MAX_SAMPLE_RATE_HZ = 8000, 48000

SampleRateHz = Annotated[int, Field(ge=MIN_SAMPLE_RATE_HZ, le=MAX_SAMPLE_RATE_HZ)]
Container = Literal["s16le", "wav"]
Compressed = Literal["mp3", "opus", "aac", "flac"]
SpeechFormat = Literal["s16le", "wav", "mulaw", "alaw", "mp3", "opus", "aac", "flac"]
"""The formats of speech over HTTP."""
Encoding = Literal["pcm_s16le", "mulaw", "alaw"]
"""How a sample is written; the last two are G.711's, a byte each."""
RawFormat = Literal["s16le", "mulaw", "alaw"]
"""The encodings by the names that a query has for them."""
ENCODINGS: dict[RawFormat, Encoding] = {"s16le": "pcm_s16le", "mulaw": "mulaw", "alaw": "alaw"}
BYTES_PER_ENCODED_SAMPLE: dict[Encoding, int] = {
    "pcm_s16le": BYTES_PER_SAMPLE,
    "mulaw": 1,
    "alaw": 1,
}
MEDIA_TYPES: dict[SpeechFormat, str] = {
    "s16le": "audio/pcm",
    "wav": "audio/wav",
    # RFC 4856 names G.711 so; it has no container here.
    "mulaw": "audio/PCMU",
    "alaw": "audio/PCMA",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
}


class PcmQuery(BaseModel):
    """The query that describes a body of raw PCM; unknown parameters are refused by name."""

    model_config = ConfigDict(extra="forbid")

    sr: SampleRateHz = Field(default=16000, description="Sample rate of the body, in Hz.")
    ch: int = Field(
        default=1, ge=1, le=2, description="Channels of the body, interleaved; two are averaged."
    )

    @property
    def pcm(self) -> AudioFormat:
        """The format of the body."""
        return AudioFormat(self.sr, channels=self.ch)


@dataclass(frozen=True)
class AudioFormat:
    """Audio at `sample_rate_hz` with `channels` interleaved."""

    sample_rate_hz: int
    encoding: Encoding = "pcm_s16le"
    channels: int = 1

    @property
    def bytes_per_frame(self) -> int:
        """Bytes of one sample of each channel."""
        return BYTES_PER_ENCODED_SAMPLE[self.encoding] * self.channels

    def samples(self, byte_count: int) -> int:
        """Samples of each channel in so many bytes."""
        return byte_count // self.bytes_per_frame

    def duration_s(self, byte_count: int) -> float:
        return byte_count / self.bytes_per_frame / self.sample_rate_hz

    def ms(self, samples: int) -> int:
        return round(samples * 1000 / self.sample_rate_hz)

    def check(self, body: bytes | bytearray) -> None:
        """Raise unless `body` is one or more whole frames of raw samples.

        Raises `EmptyAudio`, `UndecodableAudio` for a WAV file, or `BadRequest`.
        """
        if not body:
            raise EmptyAudio("The body is empty; send PCM samples.")
        if body[:4] == b"RIFF" and body[8:12] == b"WAVE":
            raise UndecodableAudio(
                "The body is a WAV file, not raw PCM; send its samples without the header, or the "
                "file to POST /api/stt/file."
            )
        if len(body) % self.bytes_per_frame:
            name = self.encoding.removeprefix("pcm_")
            raise BadRequest(
                f"The body has {len(body)} bytes, which is no whole number of frames of "
                f"{self.bytes_per_frame} bytes ({name}, {self.channels} channel(s))."
            )


UNKNOWN_LENGTH = 0xFFFFFFFF
"""The length in a WAV header that is written before its audio; players then read to the end."""


def wav_header(sample_rate_hz: int, data_bytes: int | None) -> bytes:
    """Return the 44 bytes that precede mono s16le samples in a WAV file.

    `data_bytes` is the length of the samples, or None where it is not known yet.
    """
    data = UNKNOWN_LENGTH if data_bytes is None else data_bytes
    riff = UNKNOWN_LENGTH if data_bytes is None else data_bytes + 36
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        riff,
        b"WAVE",
        b"fmt ",
        16,
        1,
        1,
        sample_rate_hz,
        sample_rate_hz * BYTES_PER_SAMPLE,
        BYTES_PER_SAMPLE,
        8 * BYTES_PER_SAMPLE,
        b"data",
        data,
    )


class Chunker:
    """Cuts a stream of mono audio into chunks of `samples`; only the last is shorter."""

    def __init__(self, samples: int, bytes_per_sample: int = BYTES_PER_SAMPLE) -> None:
        self._size = samples * bytes_per_sample
        self._rest = b""

    def push(self, pcm: bytes) -> list[bytes]:
        """Return the whole chunks there are now; the rest waits for more."""
        data = self._rest + pcm
        whole = len(data) - len(data) % self._size
        self._rest = data[whole:]
        return [data[i : i + self._size] for i in range(0, whole, self._size)]

    def flush(self) -> bytes:
        """Return the last, shorter chunk, or nothing."""
        rest, self._rest = self._rest, b""
        return rest
