"""One piece of text, spoken: decode, voice, watch, and carry on where a decode failed."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tts_service.app.engines.base import SynthesisContext, SynthesisWarning

from .batch import Batch
from .decoder import Row
from .guard import Ending, Guard, GuardLimits, Verdict
from .schedule import Pace, Schedule
from .voicing import FADE_S, Samples, Voicing, VoicingGraphs, fade

_MESSAGES = {
    Ending.EARLY_STOP: "the voice stopped before it had spoken all of the text",
    Ending.NO_STOP: "the voice did not end by itself and was ended after the text",
    Ending.STALLED: "the voice got stuck in the text",
    Ending.LOST: "the voice lost its place in the text",
    Ending.TOO_LONG: "the voice took longer than the text can need",
    Ending.LIMIT: "the voice reached the model's own limit",
}


@dataclass(frozen=True)
class VoiceRuntime:
    """What is the same for every piece that a voice speaks."""

    batch: Batch
    graphs: VoicingGraphs
    frames_per_step: int
    max_steps: int
    limits: GuardLimits
    pace: Pace
    stochastic: bool
    seed: int
    frame_s: float
    sample_rate_hz: int
    ended: Callable[[Verdict, int, int], None]
    """Told of every decode's end: verdict, frames, attempt."""
    bare_limit: bool = False
    """Whether the audio just ends at `max_steps`, as Coqui's does: for comparisons."""


class Speech:
    """Speaks one piece; iterate `samples` once."""

    def __init__(
        self,
        voice: VoiceRuntime,
        memory: NDArray[np.float32],
        keys: NDArray[np.float32],
        *,
        speed: float,
        context: SynthesisContext,
    ) -> None:
        self._voice = voice
        self._memory = memory
        self._keys = keys
        self._speed = speed
        self._context = context
        self._given = 0
        self._schedule = Schedule(
            voice.pace, voice.frame_s / speed, others=lambda: voice.batch.rows - 1
        )

    def samples(self) -> Generator[Samples, None, None]:
        """A stochastic voice that fails is asked once more, with other dropout, and carries on from
        the symbol it failed at; any other failure cuts the piece there."""
        verdict = yield from self._attempt(0, resume_at=None)
        if verdict is not None and self._retries(verdict):
            yield from self._attempt(1, resume_at=verdict.reached if self._given else None)

    def _attempt(
        self, attempt: int, resume_at: int | None
    ) -> Generator[Samples, None, Verdict | None]:
        voice = self._voice
        guard = Guard(self._memory.shape[0], voice.frames_per_step, voice.max_steps, voice.limits)
        dropout = np.random.Generator(np.random.Philox([voice.seed, attempt]))
        row = Row(self._memory, self._keys, guard, dropout if voice.stochastic else None)
        voicing = Voicing(voice.graphs, self._speed)
        seat = voice.batch.join(row)
        skipping = resume_at is not None
        context = voice.graphs.context_frames
        try:
            while True:
                frames = self._schedule.next_frames() + context
                parts: list[NDArray[np.float32]] = []
                verdict = None
                while frames and verdict is None:
                    more, verdict = voice.batch.take(seat, frames, self._context.cancelled)
                    if self._context.cancelled():
                        return None
                    parts += more
                    frames = self._schedule.missing()
                context = 0
                mel = _together(parts)
                if verdict is not None and self._begins_anew(verdict, attempt):
                    voice.ended(verdict, guard.steps * voice.frames_per_step, attempt)
                    return verdict
                if verdict is not None:
                    # What was already voiced cannot be taken back.
                    keep = max(verdict.keep_frames, voicing.frames)
                    mel = mel[:, : keep - voicing.frames]
                before = voicing.samples
                cut = verdict is not None and self._cuts(verdict)
                audio = voicing.push(mel, last=verdict is not None, cut=cut)
                if skipping:
                    audio, skipping = self._resume(audio, before, guard, voicing, resume_at)
                self._schedule.made(mel.shape[1], audio.size / voice.sample_rate_hz)
                self._given += audio.size
                if audio.size:
                    yield audio
                if verdict is not None:
                    voice.ended(verdict, guard.steps * voice.frames_per_step, attempt)
                    self._warn(verdict, attempt)
                    return verdict
                if voicing.ended:
                    return None
        finally:
            voice.batch.leave(seat)

    def _cuts(self, verdict: Verdict) -> bool:
        bare = self._voice.bare_limit and verdict.ending is Ending.LIMIT
        return verdict.ending is not Ending.STOP and not bare

    def _retries(self, verdict: Verdict) -> bool:
        failed = verdict.ending.failed and verdict.ending is not Ending.LIMIT
        return self._voice.stochastic and failed

    def _begins_anew(self, verdict: Verdict, attempt: int) -> bool:
        """Whether nothing of a failed first attempt was heard: then none of it needs to be."""
        return attempt == 0 and not self._given and self._retries(verdict)

    def _resume(
        self,
        audio: Samples,
        before: int,
        guard: Guard,
        voicing: Voicing,
        resume_at: int | None,
    ) -> tuple[Samples, bool]:
        """Drop what the first attempt has said; returns the rest and whether to go on so."""
        step = next((s for s, at in enumerate(guard.path) if at > (resume_at or 0)), None)
        if step is None:
            return audio[:0], True
        start = voicing.sample_of(step * self._voice.frames_per_step, self._speed)
        if start >= before + audio.size:
            return audio[:0], True
        audio = audio[max(start - before, 0) :]
        return fade(audio, int(FADE_S * self._voice.sample_rate_hz), out=False), False

    def _warn(self, verdict: Verdict, attempt: int) -> None:
        retrying = attempt == 0 and self._retries(verdict)
        if verdict.ending is not Ending.STOP and not retrying:
            message = _MESSAGES[verdict.ending]
            self._context.warn(SynthesisWarning(verdict.ending.value, message, self._given))


def _together(parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Parts (r, mels) as one (mels, n)."""
    if not parts:
        return np.zeros((0, 0), np.float32)
    return np.ascontiguousarray(np.concatenate(parts, axis=0).T)
