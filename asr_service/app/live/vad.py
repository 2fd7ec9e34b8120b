"""Voice activity detection of one stream: the probability of speech, and where speech ends.

Silero VAD v6 (MIT; the ONNX graph that faster-whisper carries) is recurrent: it takes a frame of
32 ms and the last samples of the one before, and hands its state on to the next. So a stream gives
the same probabilities as a whole recording.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from asr_service.app.engine import SAMPLE_RATE_HZ
from common.audio.samples import Samples

FRAME_SAMPLES = 512
"""Samples of one VAD frame at `SAMPLE_RATE_HZ`."""
FRAME_MS = FRAME_SAMPLES * 1000 // SAMPLE_RATE_HZ
SPEECH_BEGINS, SPEECH_ENDS = 0.5, 0.35
"""Silero's own thresholds: speech begins with a frame of at least the first, and ends with a frame
below the second that no frame of the first follows within the endpoint's silence."""
_CONTEXT_SAMPLES = 64
_STATE_SHAPE = (1, 1, 128)

Probabilities = NDArray[np.float32]
"""The probability of speech in each VAD frame, shape (frames,), within [0, 1]."""


class VoiceActivity(Protocol):
    """Detects speech in one stream; each stream has its own. It computes: call it on a thread."""

    def probabilities(self, frames: Samples) -> Probabilities:
        """Return those of the stream's next frames: (n * `FRAME_SAMPLES`,) gives (n,)."""
        ...


class SileroVoiceActivity:
    """Holds the state of Silero VAD for one stream. All streams share the graph itself."""

    def __init__(self) -> None:
        self._session = _session()
        self._h = np.zeros(_STATE_SHAPE, np.float32)
        self._c = np.zeros(_STATE_SHAPE, np.float32)
        self._context = np.zeros(_CONTEXT_SAMPLES, np.float32)

    def probabilities(self, frames: Samples) -> Probabilities:
        """See `VoiceActivity.probabilities`."""
        if not len(frames):
            return np.zeros(0, np.float32)
        rows = frames.reshape(-1, FRAME_SAMPLES)
        contexts = np.empty((len(rows), _CONTEXT_SAMPLES), np.float32)
        contexts[0] = self._context
        contexts[1:] = rows[:-1, -_CONTEXT_SAMPLES:]
        self._context = rows[-1, -_CONTEXT_SAMPLES:].copy()
        inputs = {"input": np.concatenate([contexts, rows], axis=1), "h": self._h, "c": self._c}
        outputs, self._h, self._c = self._session.run(None, inputs)
        probabilities: Probabilities = outputs.reshape(-1)
        return probabilities


@lru_cache(maxsize=1)
def _session() -> Any:
    # Imported here: the service starts before the libraries of its model are loaded.
    import onnxruntime
    from faster_whisper.utils import get_assets_path

    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = options.intra_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    path = Path(get_assets_path()) / "silero_vad_v6.onnx"
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class Endpointer:
    """Finds where speech begins and ends, from the probability of each VAD frame."""

    def __init__(self, endpoint_ms: int) -> None:
        self._endpoint_frames = max(1, -(-endpoint_ms // FRAME_MS))
        self._frames = 0
        self._silent_since: int | None = None
        self.speaking = False

    @property
    def silence_ms(self) -> int:
        """The silence since speech was last detected; 0 before the first speech."""
        return 0 if self._silent_since is None else (self._frames - self._silent_since) * FRAME_MS

    @property
    def speech_until_ms(self) -> int:
        """The end of the speech, as far as is known."""
        until = self._frames if self._silent_since is None else self._silent_since
        return until * FRAME_MS

    def push(self, probability: float) -> Literal["begins", "ends"] | None:
        """Return what the next frame changes; `speech_until_ms` then says where speech ended."""
        self._frames += 1
        if not self.speaking:
            if probability < SPEECH_BEGINS:
                return None
            self.speaking, self._silent_since = True, None
            return "begins"
        if probability >= SPEECH_BEGINS:
            self._silent_since = None
        elif probability < SPEECH_ENDS and self._silent_since is None:
            self._silent_since = self._frames - 1
        since = self._silent_since
        if since is None or self._frames - since < self._endpoint_frames:
            return None
        self.speaking = False
        return "ends"

    def stop(self) -> None:
        """Take the silence so far for the endpoint."""
        self.speaking = False
