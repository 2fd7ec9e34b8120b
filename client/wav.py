"""WAV files: any kind read as what the server takes, and one written while its audio comes.

A file that is being written is called `NAME.part`. It gets its own name when all of it is there and
its header is true, so that a file under that name is always whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
import soundfile
from typing_extensions import Self

from client.errors import BadInput, ClientError, Interrupted
from client.recordings import Recording
from common.audio.encoding import encode_s16le
from common.audio.pcm import (
    BYTES_PER_SAMPLE,
    MAX_SAMPLE_RATE_HZ,
    MIN_SAMPLE_RATE_HZ,
    wav_header,
)
from common.audio.samples import resample


def read_wav(path: Path) -> Recording:
    """Read a WAV file of any sample format, rate and number of channels as mono s16le.

    Channels are averaged. A rate that the server takes (8 000 to 48 000 Hz) is kept, any other is
    resampled to the nearest one. Raises `BadInput`.
    """
    try:
        with path.open("rb") as file:
            samples, rate_hz = soundfile.read(file, dtype="float32", always_2d=True)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}.") from None
    except soundfile.LibsndfileError as error:
        raise BadInput(f"{path} is not audio that can be read: {error.error_string}") from None
    if not len(samples):
        raise BadInput(f"{path} holds no audio.")
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    if not np.isfinite(mono).all():
        raise BadInput(f"{path} holds samples that are no numbers (NaN or infinite).")
    wanted_hz = min(max(rate_hz, MIN_SAMPLE_RATE_HZ), MAX_SAMPLE_RATE_HZ)
    return Recording(encode_s16le(resample(mono, rate_hz, wanted_hz)), wanted_hz)


class WavFile:
    """A mono s16le WAV file that is written as its audio comes.

    A context manager. `commit` says that the audio is whole; leaving without it keeps what came in
    `NAME.part`, with a true header, and writes that path into the `ClientError` that passes by, or
    turns Ctrl-C into `Interrupted`. A file without any audio is not kept. Raises `BadInput` if the
    file cannot be written. An older file of the same name stays until it is replaced.
    """

    def __init__(self, path: Path, sample_rate_hz: int) -> None:
        self.path = path
        self.part = path.with_name(path.name + ".part")
        self.sample_rate_hz = sample_rate_hz
        self._data_bytes = 0
        self._file: BinaryIO | None = None

    @property
    def audio_s(self) -> float:
        return self._data_bytes / BYTES_PER_SAMPLE / self.sample_rate_hz

    def write(self, pcm: bytes) -> None:
        assert self._file is not None
        try:
            self._file.write(pcm)
        except OSError as error:
            raise self._cannot_write(error) from None
        self._data_bytes += len(pcm)

    def commit(self) -> None:
        """All audio is there: give the file its name."""
        try:
            self._finish()
            self.part.replace(self.path)
        except OSError as error:
            raise self._cannot_write(error) from None

    def __enter__(self) -> Self:
        try:
            self._file = self.part.open("wb")
            self._file.write(wav_header(self.sample_rate_hz, None))
        except OSError as error:
            raise self._cannot_write(error) from None
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is None:
            return
        partial = self._keep_part()
        if isinstance(exc, ClientError):
            exc.partial = partial
        elif isinstance(exc, KeyboardInterrupt):
            raise Interrupted(partial) from exc

    def _keep_part(self) -> Path | None:
        """Close the unfinished file; its path if it is worth keeping."""
        try:
            self._finish()
            if self._data_bytes:
                return self.part
            self.part.unlink()
        except OSError:
            # Full disks fail here once more; the first failure is the one to report.
            return self.part if self.part.exists() else None
        return None

    def _finish(self) -> None:
        """Make the header true and close."""
        file, self._file = self._file, None
        assert file is not None
        with file:
            file.seek(0)
            file.write(wav_header(self.sample_rate_hz, self._data_bytes))

    def _cannot_write(self, error: OSError) -> BadInput:
        return BadInput(f"{self.path} cannot be written: {error.strerror or error}.")


@dataclass(frozen=True)
class Spoken:
    """A file of speech and how it came about; times from when it was asked for."""

    path: Path
    sample_rate_hz: int
    audio_s: float
    first_audio_s: float
    total_s: float

    @property
    def real_time_factor(self) -> float:
        """Time it took per time it lasts: below 1 it can be listened to while it is made."""
        return self.total_s / self.audio_s


def write_speech(
    audio: Iterable[bytes],
    out: Path,
    sample_rate_hz: int,
    *,
    asked_at: float,
    on_audio: Callable[[float], None],
) -> Spoken:
    """Write `audio`, s16le mono, into the WAV file `out`, which appears when it is whole.

    `asked_at` is in seconds of `time.perf_counter`; `on_audio` is called with the seconds of audio
    so far. Raises as `WavFile` and what `audio` raises.
    """
    first_audio_s = 0.0
    with WavFile(out, sample_rate_hz) as wav:
        for pcm in audio:
            first_audio_s = first_audio_s or time.perf_counter() - asked_at
            wav.write(pcm)
            on_audio(wav.audio_s)
        total_s = time.perf_counter() - asked_at
        wav.commit()
    return Spoken(out, sample_rate_hz, wav.audio_s, first_audio_s, total_s)
