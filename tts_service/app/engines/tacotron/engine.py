"""Tacotron2 with HiFi-GAN as an engine: loaded graphs, and a generator a piece."""

from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from common.audio.samples import Samples
from common.logger import get_logger
from tts_service.app.engines.base import UNATTENDED, SynthesisContext, SynthesisError

from .batch import Batch
from .decoder import DecoderModel
from .frontend import FrontEnd, Symbols
from .graph import StreamingGraph, open_graph
from .guard import DecodeEnd, GuardLimits, StopReason
from .manifest import BrokenVoiceError, Manifest, PrecisionName, read_manifest
from .speech import Pace, Speech, VoiceRuntime
from .vocoder import MelBridge, VocoderGraphs

log = get_logger(__name__)


@dataclass(frozen=True)
class TacotronOptions:
    """How a voice is run; none of it changes what it says but `precision` and `seed`."""

    precision: PrecisionName | Literal["best"] = "best"
    """`best` is 8-bit where the voice has it: a third of the time, see docs/voices.md."""
    max_batch: int = 8
    """Utterances that share a decoder step, and the engine's `max_parallel`."""
    vocoder_slots: int = 1
    """Utterances that may be vocoded at once, beside the decoder: the cores less one."""
    sentence_pause_ms: int = 150
    """Silence after a piece that closes a sentence, on top of the voice's own."""
    seed: int = 0
    """Of the dropout of a voice that has it while speaking."""
    limits: GuardLimits = field(default_factory=GuardLimits)
    """What ends a decode that fails; thresholds in one place, not settings."""
    pace: Pace = field(default_factory=Pace)


class TacotronEngine:
    """One loaded voice; see `tts_service.app.engines.base.Engine`."""

    def __init__(self, manifest: Manifest, folder: Path, options: TacotronOptions) -> None:
        """Load and warm. Raises `VoiceError` if a file is missing, broken or not supported."""
        self.manifest = manifest
        self.name = manifest.name
        self.sample_rate_hz = manifest.sample_rate_hz
        self.whole_pieces = False
        self.max_parallel = options.max_batch
        self.precision = _precision(manifest, options.precision)
        self.front_end = FrontEnd(manifest.text)
        self._encoder = open_graph(folder / "encoder.onnx")
        decoder = DecoderModel(open_graph(folder / manifest.precisions[self.precision].file))
        graphs = VocoderGraphs(
            postnet=StreamingGraph(open_graph(folder / "postnet.onnx")),
            vocoder=StreamingGraph(open_graph(folder / "vocoder.onnx")),
            bridge=MelBridge(manifest.mel_steps),
            padding=manifest.vocoder_padding,
            endpoint=manifest.endpoint,
            sample_rate_hz=manifest.sample_rate_hz,
            slots=threading.Semaphore(max(options.vocoder_slots, 1)),
        )
        self._pause = np.zeros(
            options.sentence_pause_ms * manifest.sample_rate_hz // 1000, np.float32
        )
        self._batch = Batch(decoder, max_rows=options.max_batch, read_ahead=options.pace.max_frames)
        self._voice = VoiceRuntime(
            batch=self._batch,
            graphs=graphs,
            frames_per_step=decoder.frames_per_step,
            max_steps=manifest.max_decoder_steps,
            limits=options.limits,
            pace=options.pace,
            stochastic=manifest.prenet_dropout,
            seed=options.seed,
            frame_s=manifest.frame_s,
            sample_rate_hz=manifest.sample_rate_hz,
            ended=self._log_end,
        )
        self._warm()

    @property
    def speaking(self) -> int:
        """Decodes in flight, those that wait for their reader included."""
        return self._batch.rows

    def can_speak(self, text: str) -> bool:
        return self.front_end.can_speak(text)

    def synthesize(
        self,
        text: str,
        *,
        speed: float,
        opens: bool,
        closes: bool,
        context: SynthesisContext = UNATTENDED,
    ) -> Generator[Samples, None, None]:
        symbols = self.front_end.symbols(text)
        if not symbols.ids.size or context.cancelled():
            return
        yield from self.speak(symbols, speed=speed, context=context)
        if closes and self._pause.size and not context.cancelled():
            yield self._pause.copy()

    def speak(
        self,
        symbols: Symbols,
        *,
        speed: float = 1.0,
        context: SynthesisContext = UNATTENDED,
        max_steps: int | None = None,
    ) -> Generator[Samples, None, None]:
        """Speak symbols as they are. With `max_steps` the audio just ends after so many decoder
        steps, as Coqui's does at its own limit. Raises `SynthesisError`.
        """
        voice = self._voice
        if max_steps is not None:
            asked = min(max_steps, voice.max_steps)
            voice = replace(voice, max_steps=asked, bare_limit=True, ended=lambda *_: None)
        try:
            memory, keys = self._encoder.run(["memory", "keys"], {"ids": symbols.ids[None]})
            speech = Speech(voice, memory[0], keys[0], speed=speed, context=context)
            for samples in speech.samples():
                if not np.isfinite(samples).all():
                    raise SynthesisError("the voice gave samples that are not finite")
                yield samples
        except SynthesisError:
            raise
        except Exception as error:
            # ONNX Runtime's errors have no public class in common.
            raise SynthesisError(f"{self.name} failed: {error}") from error

    def close(self) -> None:
        """Nothing to stop: the model goes with the last reference."""

    def _warm(self) -> None:
        """Run every graph once, so that the first utterance does not pay for it."""
        try:
            for _ in self.speak(self.front_end.symbols("a"), max_steps=1):
                pass
        except SynthesisError as error:
            raise BrokenVoiceError(str(error)) from error

    def _log_end(self, end: DecodeEnd, frames: int, attempt: int) -> None:
        if end.reason is StopReason.STOP:
            return
        log.warning(
            "tacotron.decode_ended",
            reason=end.reason.value,
            frames=frames,
            kept_frames=end.keep_frames,
            reached_symbol=end.reached,
            attempt=attempt,
        )


def _precision(manifest: Manifest, wanted: PrecisionName | Literal["best"]) -> PrecisionName:
    if wanted == "best":
        return "int8" if "int8" in manifest.precisions else "float32"
    if wanted not in manifest.precisions:
        there = ", ".join(sorted(manifest.precisions))
        raise BrokenVoiceError(f"the voice has no precision {wanted}; it has {there}")
    return wanted


def load(name: str, voices_dir: Path, options: TacotronOptions | None = None) -> TacotronEngine:
    """Load the prepared voice `name` from `voices_dir`.

    Raises `VoiceNotPreparedError`, whose message names the command that prepares it, or
    `BrokenVoiceError`.
    """
    manifest, folder = read_manifest(voices_dir, name)
    return TacotronEngine(manifest, folder, options or TacotronOptions())
