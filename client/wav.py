"""WAV files: any kind read as what the server takes, and one written while its audio comes.

A file that is being written is called `NAME.part`. It gets its own name when all of it is there and
its header is true, so that a file under that name is always whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
import soundfile
from typing_extensions import Self

from client.errors import BadInput, ClientError, Interrupted
from common.audio.encoding import encode_s16le
from common.audio.pcm import (
    BYTES_PER_SAMPLE,
    MAX_SAMPLE_RATE_HZ,
    MIN_SAMPLE_RATE_HZ,
    wav_header,
)
from common.audio.samples import resample


@dataclass(frozen=True)
class Recording:
    """Mono s16le PCM at `sample_rate_hz`, which is one that the server takes."""

    pcm: bytes
    sample_rate_hz: int

    @property
    def audio_s(self) -> float:
        return len(self.pcm) / BYTES_PER_SAMPLE / self.sample_rate_hz


def read_wav(path: Path) -> Recording:
    """The audio of a WAV file of any sample format, rate and number of channels.

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
