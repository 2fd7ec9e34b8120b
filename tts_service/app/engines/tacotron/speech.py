"""Speaks one piece of text: decodes, vocodes, watches, and carries on where a decode failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.audio.samples import Samples
from tts_service.app.engines.base import SynthesisContext, SynthesisWarning

from .batch import Batch
from .decoder import Row
from .guard import DecodeEnd, Guard, GuardLimits, StopReason
from .vocoder import FADE_S, VocoderGraphs, VocoderStream, fade

# --- how much to decode before audio leaves ------------------------------------------------------


@dataclass(frozen=True)
class Pace:
    """Bounds of the schedule, in frames."""

    first_frames: int = 8
    crowd_frames: int = 6
    """Added to the first chunk for every other speaker: all have to be served before the second
    chunk of one of them, and the first must last until then."""
    max_first_frames: int = 40
    min_frames: int = 6
    max_frames: int = 24
    """Keeps one step of a generator under about 200 ms on one core."""
    margin: float = 0.8
    """Share of the audio that is not played yet which making a chunk may use up."""
    growth: float = 1.5
    """A chunk is at most so many times as long as the one before it."""


class ChunkSchedule:
    """One utterance's chunk lengths, from what was measured on the way."""

    def __init__(
        self,
        pace: Pace,
        frame_s: float,
        clock: Callable[[], float] = time.monotonic,
        others: Callable[[], int] = lambda: 0,
    ) -> None:
        """`others` tells how many speak at the same time."""
        self._others = others
        self._pace = pace
        self._frame_s = frame_s
        self._clock = clock
        self._began = 0.0
        self._first_sound: float | None = None
        self._given_s = 0.0
        self._frames = 0.0
        self._frame_cost_s: float | None = None

    def next_frames(self) -> int:
        """Length of the next chunk; its making begins now."""
        now = self._clock()
        self._began = now
        if self._first_sound is None or self._frame_cost_s is None:
            return self.missing()
        lead_s = self._first_sound + self._given_s - now
        affordable = self._pace.margin * lead_s / self._frame_cost_s
        if lead_s <= 0:
            # It is silent already: a longer chunk makes one gap of several.
            affordable = self._frames * self._pace.growth
        frames = min(affordable, self._frames * self._pace.growth, self._pace.max_frames)
        self._frames = max(frames, self._pace.min_frames)
        return int(self._frames)

    def missing(self) -> int:
        """How much longer the chunk should be, now that it is decoded: those that began at the same
        moment do not see each other before."""
        if self._first_sound is not None:
            return 0
        crowded = self._pace.first_frames + self._pace.crowd_frames * self._others()
        first = min(crowded, max(self._pace.max_first_frames, self._pace.first_frames))
        missing = max(int(first - self._frames), 0)
        self._frames += missing
        return missing

    def made(self, frames: int, audio_s: float) -> None:
        """The chunk is done: `frames` were decoded, `audio_s` seconds leave now."""
        now = self._clock()
        cost = (now - self._began) / max(frames, 1)
        known = self._frame_cost_s
        # Slower is believed at once, faster only by and by.
        self._frame_cost_s = cost if known is None or cost > known else 0.5 * (cost + known)
        if audio_s > 0 and self._first_sound is None:
            self._first_sound = now
        self._given_s += audio_s


# --- a piece -------------------------------------------------------------------------------------


_MESSAGES = {
    StopReason.EARLY_STOP: "the voice stopped before it had spoken all of the text",
    StopReason.NO_STOP: "the voice did not end by itself and was ended after the text",
    StopReason.STALLED: "the voice got stuck in the text",
    StopReason.LOST: "the voice lost its place in the text",
    StopReason.TOO_LONG: "the voice took longer than the text can need",
    StopReason.LIMIT: "the voice reached the model's own limit",
}


@dataclass(frozen=True)
class VoiceRuntime:
    """What is the same for every piece that a voice speaks."""

    batch: Batch
    graphs: VocoderGraphs
    frames_per_step: int
    max_steps: int
    limits: GuardLimits
    pace: Pace
    stochastic: bool
    seed: int
    frame_s: float
    sample_rate_hz: int
    ended: Callable[[DecodeEnd, int, int], None]
    """Called at the end of every decode: why, frames, attempt."""
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
        self._schedule = ChunkSchedule(
            voice.pace, voice.frame_s / speed, others=lambda: voice.batch.rows - 1
        )

    def samples(self) -> Generator[Samples, None, None]:
        """A stochastic voice that fails is asked once more, with other dropout, and carries on from
        the symbol it failed at; any other failure cuts the piece there."""
        end = yield from self._attempt(0, resume_at=None)
        if end is not None and self._retries(end):
            yield from self._attempt(1, resume_at=end.reached if self._given else None)

    def _attempt(
        self, attempt: int, resume_at: int | None
    ) -> Generator[Samples, None, DecodeEnd | None]:
        voice = self._voice
        guard = Guard(self._memory.shape[0], voice.frames_per_step, voice.max_steps, voice.limits)
        dropout = np.random.Generator(np.random.Philox([voice.seed, attempt]))
        row = Row(self._memory, self._keys, guard, dropout if voice.stochastic else None)
        vocoding = VocoderStream(voice.graphs, self._speed)
        slot = voice.batch.join(row)
        skipping = resume_at is not None
        context = voice.graphs.context_frames
        try:
            while True:
                frames = self._schedule.next_frames() + context
                parts: list[NDArray[np.float32]] = []
                end = None
                while frames and end is None:
                    more, end = voice.batch.take(slot, frames, self._context.cancelled)
                    if self._context.cancelled():
                        return None
                    parts += more
                    frames = self._schedule.missing()
                context = 0
                mel = _together(parts)
                if end is not None and self._begins_anew(end, attempt):
                    voice.ended(end, guard.steps * voice.frames_per_step, attempt)
                    return end
                if end is not None:
                    # What was already voiced cannot be taken back.
                    keep = max(end.keep_frames, vocoding.frames)
                    mel = mel[:, : keep - vocoding.frames]
                before = vocoding.samples
                cut = end is not None and self._cuts(end)
                audio = vocoding.push(mel, last=end is not None, cut=cut)
                if skipping:
                    audio, skipping = self._resume(audio, before, guard, vocoding, resume_at)
                self._schedule.made(mel.shape[1], audio.size / voice.sample_rate_hz)
                self._given += audio.size
                if audio.size:
                    yield audio
                if end is not None:
                    voice.ended(end, guard.steps * voice.frames_per_step, attempt)
                    self._warn(end, attempt)
                    return end
                if vocoding.ended:
                    return None
        finally:
            voice.batch.leave(slot)

    def _cuts(self, end: DecodeEnd) -> bool:
        bare = self._voice.bare_limit and end.reason is StopReason.LIMIT
        return end.reason is not StopReason.STOP and not bare

    def _retries(self, end: DecodeEnd) -> bool:
        failed = end.reason.failed and end.reason is not StopReason.LIMIT
        return self._voice.stochastic and failed

    def _begins_anew(self, end: DecodeEnd, attempt: int) -> bool:
        """Whether nothing of a failed first attempt was heard: then none of it needs to be."""
        return attempt == 0 and not self._given and self._retries(end)

    def _resume(
        self,
        audio: Samples,
        before: int,
        guard: Guard,
        vocoding: VocoderStream,
        resume_at: int | None,
    ) -> tuple[Samples, bool]:
        """Drop what the first attempt has said; returns the rest and whether to go on so."""
        step = next((s for s, at in enumerate(guard.path) if at > (resume_at or 0)), None)
        if step is None:
            return audio[:0], True
        start = vocoding.sample_of(step * self._voice.frames_per_step, self._speed)
        if start >= before + audio.size:
            return audio[:0], True
        audio = audio[max(start - before, 0) :]
        return fade(audio, int(FADE_S * self._voice.sample_rate_hz), out=False), False

    def _warn(self, end: DecodeEnd, attempt: int) -> None:
        retrying = attempt == 0 and self._retries(end)
        if end.reason is not StopReason.STOP and not retrying:
            message = _MESSAGES[end.reason]
            self._context.warn(SynthesisWarning(end.reason.value, message, self._given))


def _together(parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Parts (r, mels) as one (mels, n)."""
    if not parts:
        return np.zeros((0, 0), np.float32)
    return np.ascontiguousarray(np.concatenate(parts, axis=0).T)
