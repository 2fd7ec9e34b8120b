"""The policy of windows: how a recording is cut into windows, and how much is encoded.

Whisper was trained on windows of 30 s and pads what is shorter, so that a word costs as much as
half a minute. Its encoder works on less as well:

- A window is the speech and `MARGIN_S` of padding, at least `SHORTEST_S`. Tighter windows loop
  and insert words: the model needs to see that nothing follows. It is rounded up to `STEP_S`, so
  that windows of one length, which can share a batch, are common.
- Where nobody speaks for more than `PAUSE_S`, the pause is left out (with `vad`), but for
  `PADDING_S` on either side of the speech. Nothing remains of noise and silence, nor of a recording
  of up to `SNIPPET_S` or with less than `WORD_S` of speech in it: it is too short for a word, and
  what Whisper makes of it ("Thank you.") is a hallucination.
- What is longer than `PIECE_S` is cut, in the longest pause of the piece's second half; the pieces
  are recognized as if they were recordings of their own, in batches or by several workers. Cuts lie
  where nobody speaks, so that no word is recognized twice or in halves. Only speech without any
  pause that long is cut anywhere. Shorter pieces cost less, but with less context the model
  mishears more.

`ASR_WINDOW=full` encodes 30 s always, as Whisper does, and cuts as late as that. The figures behind
the numbers are in docs/listening.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

from faster_whisper.vad import VadOptions, get_speech_timestamps

from asr_service.app.engine import SAMPLE_RATE_HZ
from common.audio.samples import Samples

FRAMES_PER_SECOND = 100
FULL_S = 30
SHORTEST_S = 10
MARGIN_S = 2
STEP_S = 2
PIECE_S = 20.0
PAUSE_S = 2.0
PADDING_S = 0.4
SNIPPET_S = 0.3
WORD_S = 0.16
BREATH_S = 0.16
"""The shortest pause that a cut may lie in."""

WindowPolicy = Literal["adaptive", "full"]
Span = tuple[int, int]
"""A stretch of a recording: its first sample, and the one after its last."""


def frames_to_encode(frames: int, policy: WindowPolicy) -> int:
    """Return how many mel frames are encoded for `frames` of sound (at most 30 s of them)."""
    if policy == "full":
        return FULL_S * FRAMES_PER_SECOND
    seconds = math.ceil((frames / FRAMES_PER_SECOND + MARGIN_S) / STEP_S) * STEP_S
    return min(max(seconds, SHORTEST_S), FULL_S) * FRAMES_PER_SECOND


def pieces(samples: Samples, *, vad: bool, policy: WindowPolicy) -> Iterator[tuple[Span, ...]]:
    """Yield the spans of `samples` that the model takes, a piece at a time, each of 30 s at most.

    Without `vad` the pieces are the whole recording, and speech only decides where it is cut.
    Computes: about 3 ms for each second of audio that the next piece takes.
    """
    longest = _samples(PIECE_S if policy == "adaptive" else FULL_S - MARGIN_S)
    start, end = 0, len(samples)
    if vad and end <= _samples(SNIPPET_S):
        return
    while start < end:
        if end - start <= longest and not vad:
            yield ((start, end),)
            return
        spoken, cut = _next_piece(samples, start, longest)
        if not vad:
            yield ((start, cut),)
        elif sum(after - begin for begin, after in spoken) >= _samples(WORD_S):
            yield _padded(spoken, start, cut)
        start = cut


def _next_piece(samples: Samples, start: int, longest: int) -> tuple[list[Span], int]:
    """Return the speech in the piece that begins at `start`, and where the piece ends."""
    stop = min(len(samples), start + longest)
    spoken = [
        (start + chunk["start"], start + chunk["end"])
        for chunk in get_speech_timestamps(samples[start:stop], _VAD)
    ]
    if stop == len(samples):
        return spoken, stop
    if not spoken or spoken[0][0] > start + longest // 2:
        # Silence is no reason to cut what follows it short.
        return [], (spoken[0][0] if spoken else stop) - _samples(PADDING_S)
    following = [*(begin for begin, _ in spoken[1:]), stop]
    pauses = [
        (after - end, index, (end + after) // 2)
        for index, ((_, end), after) in enumerate(zip(spoken, following, strict=True))
        if end > start + longest // 2 and after > end
    ]
    if not pauses:
        return spoken, stop
    _, index, cut = max(pauses)
    return spoken[: index + 1], cut


def _padded(spoken: list[Span], start: int, cut: int) -> tuple[Span, ...]:
    """Return the speech between `start` and `cut`, padded, with the pauses of up to `PAUSE_S`."""
    padding = _samples(PADDING_S)
    joined = [spoken[0]]
    for begin, end in spoken[1:]:
        if begin - joined[-1][1] <= _samples(PAUSE_S):
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((begin, end))
    return tuple((max(start, begin - padding), min(cut, end + padding)) for begin, end in joined)


def _samples(seconds: float) -> int:
    return int(seconds * SAMPLE_RATE_HZ)


_VAD = VadOptions(min_silence_duration_ms=int(BREATH_S * 1000), speech_pad_ms=0)
