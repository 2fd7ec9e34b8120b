"""Audio files of every kind that people send, made by FFmpeg (PyAV)."""

from __future__ import annotations

import io

import av
import numpy as np
from numpy.typing import NDArray

KINDS = {
    "wav": ("wav", "pcm_s16le", 16000),
    "wav-24-bit": ("wav", "pcm_s24le", 48000),
    "wav-float": ("wav", "pcm_f32le", 22050),
    "wav-u8": ("wav", "pcm_u8", 8000),
    "wav-mulaw": ("wav", "pcm_mulaw", 8000),
    "aiff": ("aiff", "pcm_s16be", 44100),
    "mp3": ("mp3", "libmp3lame", 44100),
    "flac": ("flac", "flac", 44100),
    "ogg-opus": ("ogg", "libopus", 48000),
    "webm": ("webm", "libopus", 48000),
    "m4a": ("ipod", "aac", 44100),
    "alac": ("ipod", "alac", 44100),
    "aac": ("adts", "aac", 44100),
}
"""FFmpeg's names of container and codec, and a rate in Hz."""


def tone(seconds: float, rate_hz: int) -> NDArray[np.int16]:
    """300 Hz, of shape (n,)."""
    times = np.arange(round(seconds * rate_hz)) / rate_hz
    return (np.sin(2 * np.pi * 300 * times) * 10000).astype(np.int16)


def encode(samples: NDArray[np.int16], kind: str, rate_hz: int | None = None) -> bytes:
    """`samples`, of shape (n,) or (channels, n), as a file; at the rate of `kind` by default."""
    container_name, codec, usual_hz = KINDS[kind]
    rate_hz = rate_hz or usual_hz
    channels = 1 if samples.ndim == 1 else len(samples)
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[channels]
    file = io.BytesIO()
    with av.open(file, "w", format=container_name) as container:
        stream = container.add_stream(codec, rate=rate_hz, layout=layout)
        assert isinstance(stream, av.audio.stream.AudioStream)
        packed = samples.reshape(channels, -1).T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(packed), format="s16", layout=layout
        )
        frame.sample_rate = rate_hz
        frame.pts = 0
        for given in (frame, None):
            for packet in stream.encode(given):
                container.mux(packet)
    return file.getvalue()


def tone_file(kind: str, seconds: float = 1.0) -> bytes:
    return encode(tone(seconds, KINDS[kind][2]), kind)
