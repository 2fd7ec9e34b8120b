"""Is somebody speaking? Asked of each frame of 32 ms as it comes.

Silero VAD v6 (MIT; the ONNX graph that faster-whisper carries) is recurrent: it takes a frame and
the last samples of the one before, and hands its state on to the next. So it hears a stream as it
hears a whole recording. It computes: call it on a worker thread.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from asr_service.app.engine import SAMPLE_RATE_HZ
from common.audio.samples import Samples

FRAME_SAMPLES = 512
FRAME_MS = FRAME_SAMPLES * 1000 // SAMPLE_RATE_HZ
_CONTEXT_SAMPLES = 64
_STATE_SHAPE = (1, 1, 128)

Probabilities = NDArray[np.float32]
"""That there is speech in each frame, shape (frames,), within [0, 1]."""


class VoiceActivity(Protocol):
    """Hears one stream; each stream has its own."""

    def probabilities(self, frames: Samples) -> Probabilities:
        """Of the next frames of the stream: (n * `FRAME_SAMPLES`,) gives (n,)."""
        ...


class SileroVoiceActivity:
    """The state of Silero VAD for one stream. The graph itself is shared by all streams."""

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
        given = {"input": np.concatenate([contexts, rows], axis=1), "h": self._h, "c": self._c}
        found, self._h, self._c = self._session.run(None, given)
        probabilities: Probabilities = found.reshape(-1)
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
