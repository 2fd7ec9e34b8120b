"""Live recognition: how late words come, and whether what was said to be stable was.

    python -m bench.live [--streams 1 2 4] [--seconds 60] [--gateway] [--words | --memory MINUTES]

Streams human speech (see `bench.speech_set`, the held-out half, pauses of 0.8 s between clips) in
real time to a fleet of its own, as many streams at once as told, and prints of each number of them

- lag: audio that had come when a partial was sent and was not heard in it;
- partial: from the end of a word to the first time that it is shown, right and in its place;
- final: from the end of speech to the final, less the silence that the endpoint waits for;
- changed: messages that changed what a partial of the same id had said to be stable;
- WER of the streams' text, and of what `POST /api/stt/bytes` says of the same audio.

When a word ends is what the recognizer says of the whole recording. `--words` streams all that the
half holds and prints WER only. `--memory` streams so many minutes as fast as they are taken, and
prints the service's resident memory on the way.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
from rapidfuzz.distance import Levenshtein

from asr_service.app.engine import RecognitionOptions
from asr_service.app.whisper import WhisperEngine, resolve
from bench.speech_set import Clip, held_out, joined, load, word_error_rate
from bench.support import machine, median, percentile, say, table
from client.stream_stt import Heard as Event
from client.stream_stt import listen, pieces_of
from common.protocol.live import Final, ListenEnd, Partial, SpeechEnd
from deploy.local import LocalFleet
from deploy.local.words import words

ENDPOINT_MS = 600
BYTES_PER_S = 32_000
MEGABYTE = 1e6


@dataclass
class Heard:
    """What came of one stream, and when, in ms from its first sample."""

    clip: Clip
    events: list[tuple[float, Event]] = field(default_factory=list)

    @property
    def text(self) -> str:
        return next(event.text for _, event in self.events if isinstance(event, ListenEnd))

    @property
    def lags_ms(self) -> list[float]:
        return [event.lag_ms for _, event in self.events if isinstance(event, Partial)]

    @property
    def finals_late_ms(self) -> list[float]:
        """Of the utterances that ended with silence."""
        late, final_at = [], 0.0
        by_silence = False
        for at_ms, event in self.events:
            if isinstance(event, Final):
                final_at, by_silence = at_ms, event.reason == "endpoint"
            elif isinstance(event, SpeechEnd) and by_silence:
                late.append(final_at - event.at_ms - ENDPOINT_MS)
        return late

    @property
    def changed(self) -> int:
        """Messages in which something changed that was stable."""
        stable: dict[str, str] = {}
        count = 0
        for _, event in self.events:
            if isinstance(event, Partial | Final):
                count += not event.text.startswith(stable.get(event.id, ""))
            if isinstance(event, Partial):
                stable[event.id] = event.text[: event.stable_chars]
        return count

    def words_late_ms(self, spoken: Sequence[tuple[str, int]]) -> list[float]:
        """Of each word of `spoken` (with its end in ms) that the stream ended up with."""
        last = words(self.text)
        shown: dict[int, float] = {}
        done: list[str] = []
        for at_ms, event in self.events:
            if isinstance(event, Partial | Final):
                now = done + words(event.text)
                for place, (word, final) in enumerate(zip(now, last, strict=False)):
                    if word == final:
                        shown.setdefault(place, at_ms)
            if isinstance(event, Final):
                done += words(event.text)
        same = Levenshtein.opcodes([word for word, _ in spoken], last)
        late = []
        for op in same:
            if op.tag == "equal":
                for i, j in zip(
                    range(op.src_start, op.src_end), range(op.dest_start, op.dest_end), strict=True
                ):
                    if j in shown:
                        late.append(shown[j] - spoken[i][1])
        return late


def stream(url: str, clip: Clip, begins: float) -> Heard:
    """Speak `clip` in real time from `begins` (of the monotonic clock) on."""
    heard = Heard(clip)
    started = 0.0

    def spoken() -> Iterator[bytes]:
        nonlocal started
        started = time.monotonic()
        yield from pieces_of(clip.pcm, BYTES_PER_S, paced=True)

    time.sleep(max(0, begins - time.monotonic()))
    for event in listen(spoken(), f"{url}/ws/stt", endpoint_ms=ENDPOINT_MS, timeout_s=120):
        heard.events.append(((time.monotonic() - started) * 1000, event))
    return heard


def at_once(url: str, clips: Sequence[Clip]) -> list[Heard]:
    """A stream for each of `clips`, begun a little one after another."""
    heard: list[Heard] = []
    begins = time.monotonic() + 0.2
    threads = [
        threading.Thread(target=lambda c=clip, n=n: heard.append(stream(url, c, begins + 0.37 * n)))
        for n, clip in enumerate(clips)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(heard) == len(clips), "a stream failed"
    return heard


def by_turns(url: str, clips: Sequence[Clip], count: int) -> list[Heard]:
    """All of them, `count` at once."""
    turns = [clips[i : i + count] for i in range(0, len(clips), count)]
    return [one for turn in turns for one in at_once(url, turn)]


def spoken_words(clip: Clip, engine: WhisperEngine) -> list[tuple[str, int]]:
    """The words that the recognizer hears in the whole recording, and when they end, in ms."""
    options, never = RecognitionOptions(words=True), threading.Event()
    return [
        (plain, word.end_ms)
        for window in engine.windows(clip.samples, options, never)
        for _, segments in engine.recognize([window])
        for segment in segments
        for word in segment.words or []
        for plain in words(word.text)
    ]


def whole_text(url: str, clip: Clip) -> str:
    """What `POST /api/stt/bytes` says."""
    answer = httpx.post(f"{url}/api/stt/bytes?sr=16000", content=clip.pcm, timeout=120)
    return str(answer.raise_for_status().json()["text"])


def error_rates(heard: Sequence[Heard], whole: Mapping[str, str]) -> tuple[float, float]:
    """WER in percent of the streams, and of the whole recordings, whose texts are `whole`."""
    said = [one.clip.text for one in heard]
    live = word_error_rate(said, [one.text for one in heard])
    return live * 100, word_error_rate(said, [whole[one.clip.name] for one in heard]) * 100


def measure_words(
    fleet: LocalFleet, service: str, counts: Sequence[int], clips: Sequence[Clip]
) -> None:
    whole = {clip.name: whole_text(fleet.url(service), clip) for clip in clips}
    rows = []
    for count in counts:
        heard = by_turns(fleet.url(service, scheme="ws"), clips, count)
        live, at_rest = error_rates(heard, whole)
        said = sum(len(words(clip.text)) for clip in clips)
        rows.append([str(count), f"{live:.2f}", f"{at_rest:.2f}", f"{said} words"])
    table(["streams", "WER % live", "whole", "of"], rows)


def measure(fleet: LocalFleet, service: str, counts: Sequence[int], clips: Sequence[Clip]) -> None:
    ws = fleet.url(service, scheme="ws")
    clips = clips[: max(counts)]
    engine = WhisperEngine(resolve("tiny.en"), compute_type="int8", workers=1, threads_per_worker=1)
    spoken = {clip.name: spoken_words(clip, engine) for clip in clips}
    whole = {clip.name: whole_text(fleet.url(service), clip) for clip in clips}
    rows = []
    for count in counts:
        chosen = [clips[i % len(clips)] for i in range(max(count, 2))]
        heard = by_turns(ws, chosen, count)
        lags = [ms for one in heard for ms in one.lags_ms]
        late = [ms for one in heard for ms in one.words_late_ms(spoken[one.clip.name])]
        finals = [ms for one in heard for ms in one.finals_late_ms]
        rates = error_rates(heard, whole)
        rows.append(
            [
                str(count),
                f"{median(lags):.0f}; {max(lags):.0f}",
                f"{median(late):.0f}; {percentile(late, 95):.0f}",
                f"{median(finals):.0f}; {percentile(finals, 95):.0f}",
                str(sum(one.changed for one in heard)),
                f"{rates[0]:.1f}; {rates[1]:.1f}",
                f"{len(late)} words, {len(finals)} finals",
            ]
        )
    table(
        [
            "streams",
            "lag ms (median; most)",
            "partial ms (median; p95)",
            "final ms (median; p95)",
            "changed",
            "WER % live; whole",
            "of",
        ],
        rows,
    )


def memory(fleet: LocalFleet, clips: Sequence[Clip], minutes: float) -> None:
    """Resident memory while a long stream is heard as fast as it is taken."""
    process = psutil.Process(fleet.processes["asr"].pid)
    samples: list[tuple[float, float]] = []

    def endless() -> Iterator[bytes]:
        sent = 0.0
        while True:
            for clip in clips:
                for piece in pieces_of(clip.pcm, BYTES_PER_S, paced=False):
                    if sent >= minutes * 60:
                        return
                    yield piece
                    sent += len(piece) / BYTES_PER_S

    for event in listen(endless(), f"{fleet.url('asr', scheme='ws')}/ws/stt", timeout_s=120):
        if isinstance(event, Final | ListenEnd):
            at_s = (
                event.audio_ms
                if isinstance(event, ListenEnd)
                else max((s.end_ms for s in event.segments), default=0)
            ) / 1000
            samples.append((at_s, process.memory_info().rss / MEGABYTE))
    marks = [50.0, *(minutes * 60 * share for share in (0.25, 0.5, 0.75, 1))]
    rows = []
    for mark in marks:
        at_s, mb = min(samples, key=lambda sample: abs(sample[0] - mark))
        rows.append([f"{at_s / 60:.1f}", f"{mb:.0f}"])
    table(["minutes of the stream", "resident MB of asr"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--seconds", type=float, default=60, help="of each stream; default: 60")
    parser.add_argument("--gateway", action="store_true", help="through the gateway")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--words", action="store_true", help="WER of all there is, and nothing else")
    only.add_argument("--memory", type=float, metavar="MINUTES")
    options = parser.parse_args()
    say(machine())
    say()
    clips = joined(held_out(load()), min_seconds=options.seconds, gap_s=0.8)
    with tempfile.TemporaryDirectory() as folder, LocalFleet(Path(folder)) as fleet:
        service = "gateway" if options.gateway else "asr"
        if options.memory:
            memory(fleet, clips, options.memory)
        elif options.words:
            measure_words(fleet, service, options.streams, clips)
        else:
            measure(fleet, service, options.streams, clips)


if __name__ == "__main__":
    main()
