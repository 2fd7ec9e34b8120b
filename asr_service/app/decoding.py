"""What clients send, decoded to the samples that the recognizer takes.

Raw PCM is decoded at once; an audio file of any kind by FFmpeg (PyAV), frame by frame and never
past the limit. What a file is, its content tells. A file may be made to do harm: so only the listed
containers are opened (a playlist would have other files and addresses read), a header that
announces too much is taken at its word, and one that announces too little is not.

It computes: call it on a worker thread.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, BinaryIO

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.container import InputContainer

from asr_service.app.engine import SAMPLE_RATE_HZ, RecognitionCancelled
from common.audio.encoding import decode
from common.audio.pcm import AudioFormat
from common.audio.samples import Samples, StreamResampler, resample
from common.errors import TooLarge, UndecodableAudio

CONTAINERS = "wav,w64,aiff,au,caf,mp3,aac,flac,ogg,matroska,webm,mov,mp4,m4a,3gp,amr"
"""FFmpeg's names of what may be opened."""
MIN_RATE_HZ, MAX_RATE_HZ = 4000, 384_000
MAX_FRAME_SAMPLES = 1 << 18
"""Some codecs let a few bytes announce a frame of any length."""
MAX_DAMAGED_PACKETS = 1000
"""Before the rest of the file is given up."""
MISSING_S = 0.25
"""A file that holds that much less than it announces is damaged."""

_TOLERANT: dict[str, Any] = (
    {} if int(av.__version__.partition(".")[0]) >= 19 else {"metadata_errors": "ignore"}
)
"""Titles and the like need not be UTF-8; from 19 on, PyAV takes them as they are."""
_DURATION_IS_A_GUESS = {"aac", "amr"}
_MP3_LENGTH_TAGS = (b"Xing", b"Info", b"VBRI")
"""Without one of them, the duration of an MP3 is a guess, too."""
_RIFF_UNKNOWN_LENGTH = 0x7FFF0000
"""From here on, lengths in WAV headers are what writers put that did not know it."""
_HEAD_BYTES = 1 << 16
_FULL_SCALE = {1: 2.0**7, 2: 2.0**15, 4: 2.0**31}
"""Of integer samples, by their width in bytes."""


class Recording(ABC):
    """A `Decode`: it decodes a recording when called, and describes it afterwards."""

    audio_ms: int = 0
    warning: str | None = None
    """A sentence about what could not be decoded."""

    def __call__(self, cancelled: threading.Event) -> Samples:
        samples = self._decode(cancelled)
        self.audio_ms = len(samples) * 1000 // SAMPLE_RATE_HZ
        return samples

    @abstractmethod
    def _decode(self, cancelled: threading.Event) -> Samples:
        """Return the mono audio at `SAMPLE_RATE_HZ`; may set `warning`."""


class RawPcm(Recording):
    """A recording of one or more whole frames of interleaved samples."""

    def __init__(self, body: bytes | bytearray, pcm: AudioFormat) -> None:
        self._body = body
        self._pcm = pcm

    def _decode(self, cancelled: threading.Event) -> Samples:
        samples = decode(self._body, self._pcm.encoding, self._pcm.channels)
        return resample(samples, self._pcm.sample_rate_hz, SAMPLE_RATE_HZ)


class AudioFile(Recording):
    """A recording that is a file of at most `max_seconds`.

    Decoding raises `UndecodableAudio`, `TooLarge` and `RecognitionCancelled`. A damaged file gives
    what there is, and a `warning`.
    """

    def __init__(self, file: BinaryIO, *, max_seconds: float) -> None:
        self._file = file
        self._max_seconds = max_seconds
        self._damaged = 0

    def _decode(self, cancelled: threading.Event) -> Samples:
        head = self._file.read(_HEAD_BYTES)
        self._file.seek(0)
        try:
            with av.open(
                self._file,
                mode="r",  # else it is asked of the file
                options={"format_whitelist": CONTAINERS},
                **_TOLERANT,
            ) as container:
                return self._samples_of(container, head, cancelled)
        except (av.error.FFmpegError, EOFError) as error:
            raise UndecodableAudio(
                "The file is not audio that can be decoded; send WAV, MP3, FLAC, Ogg, WebM or M4A "
                f"({getattr(error, 'strerror', None) or error})."
            ) from None

    def _samples_of(
        self, container: InputContainer, head: bytes, cancelled: threading.Event
    ) -> Samples:
        if not container.streams.audio:
            raise UndecodableAudio("The file holds no audio.")
        if container.streams.audio[0].codec_context is None:
            raise UndecodableAudio("The file holds audio of a kind that is not known.")
        announced_s = _announced_s(container, head)
        self._check_limit(announced_s)
        decoded = _DecodedAudio()
        for frame in self._frames(container):
            if cancelled.is_set():
                raise RecognitionCancelled
            decoded.add(_mono(frame), frame.sample_rate)
            self._check_limit(decoded.seconds)
        samples = decoded.samples()
        if not len(samples):
            raise UndecodableAudio("No audio could be decoded from the file.")
        missing_s = announced_s - decoded.seconds
        if self._damaged or missing_s > MISSING_S:
            of = f" of {announced_s:.1f} s" if missing_s > MISSING_S else ""
            self.warning = f"The file is damaged: {decoded.seconds:.1f} s{of} could be decoded."
        return samples

    def _check_limit(self, seconds: float) -> None:
        if seconds > self._max_seconds:
            raise TooLarge(f"The file is over the limit of {self._max_seconds:g} s of audio.")

    def _frames(self, container: InputContainer) -> Iterator[AudioFrame]:
        """Yield all that can be decoded; what cannot is counted and left out."""
        stream = container.streams.audio[0]
        stream.codec_context.options = {"max_samples": str(MAX_FRAME_SAMPLES)}
        stream.codec_context.thread_count = 1
        packets = container.demux(stream)
        while self._damaged < MAX_DAMAGED_PACKETS:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:
                self._damaged += 1
                return
            if packet is None:
                return
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                self._damaged += 1
            else:
                yield from frames


def _announced_s(container: InputContainer, head: bytes) -> float:
    """Return how long the file says it is, in seconds; 0 if it does not say so."""
    name = container.format.name
    if container.duration is None or name in _DURATION_IS_A_GUESS:
        return 0.0
    if name == "mp3" and not any(tag in head for tag in _MP3_LENGTH_TAGS):
        return 0.0
    seconds = container.duration / av.time_base
    if name == "wav" and head[:4] == b"RIFF":
        # FFmpeg has cut the duration to what is there.
        announced = int.from_bytes(head[4:8], "little") + 8
        if container.size < announced < _RIFF_UNKNOWN_LENGTH:
            seconds = max(seconds, seconds * announced / container.size)
    return seconds


def _mono(frame: AudioFrame) -> Samples:
    """Return the frame's samples, its channels averaged. Raises `UndecodableAudio`."""
    if not MIN_RATE_HZ <= frame.sample_rate <= MAX_RATE_HZ:
        raise UndecodableAudio(
            f"The file has {frame.sample_rate} samples a second; it must be {MIN_RATE_HZ} to "
            f"{MAX_RATE_HZ}."
        )
    try:
        found = frame.to_ndarray()
    except ValueError:  # PyAV's, of 64-bit integers
        raise UndecodableAudio(
            f"The file holds samples of a kind that is not known ({frame.format.name})."
        ) from None
    if not frame.format.is_planar:
        found = found.reshape(-1, frame.layout.nb_channels).T
    if found.dtype.kind == "f":
        if not np.isfinite(found).all():
            raise UndecodableAudio("The file holds samples that are no numbers (NaN or infinite).")
        scaled = np.clip(found, -1.0, 1.0)
    else:
        middle = 128.0 if found.dtype.kind == "u" else 0.0
        scaled = (found - middle) / _FULL_SCALE[found.dtype.itemsize]
    mono: Samples = scaled.mean(axis=0, dtype=np.float32)
    return mono


class _DecodedAudio:
    """Collects audio as it is decoded, at `SAMPLE_RATE_HZ`. Its rate may change on the way."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._rate_hz = 0
        self._waiting: list[Samples] = []
        self._waiting_samples = 0
        self._resampler = StreamResampler(SAMPLE_RATE_HZ, SAMPLE_RATE_HZ)
        self._done: list[Samples] = []

    def add(self, samples: Samples, rate_hz: int) -> None:
        if rate_hz != self._rate_hz:
            self._flush()
            self._rate_hz = rate_hz
            self._resampler = StreamResampler(rate_hz, SAMPLE_RATE_HZ)
        self.seconds += len(samples) / rate_hz
        self._waiting.append(samples)
        self._waiting_samples += len(samples)
        if self._waiting_samples >= rate_hz:
            self._push()

    def samples(self) -> Samples:
        """Return all of it; nothing can be added after this."""
        self._flush()
        return np.concatenate(self._done)

    def _push(self) -> None:
        if self._waiting:
            # Frames are short, and each call of the resampler has its price.
            self._done.append(self._resampler.push(np.concatenate(self._waiting)))
        self._waiting, self._waiting_samples = [], 0

    def _flush(self) -> None:
        self._push()
        self._done.append(self._resampler.flush())
