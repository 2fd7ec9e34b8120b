"""This benchmark measures live recognition: how late words come, and whether stable text changes.

    python -m bench.live [--streams 1 2 4] [--seconds 60] [--gateway] [--words | --memory MINUTES]

It streams human speech (the held-out half of `bench.speech_set`, with pauses of 0.8 s between
clips) in real time to its own fleet, and prints for each number of streams at once:

- lag: audio that was received when a partial was sent and is not covered by it;
- partial: time from the end of a word to the first partial that has it, correct and in place;
- final: time from the end of speech to the final, less the silence that the endpoint waits for;
- changed: messages that changed text that an earlier partial of the same id declared stable;
- WER of the streams' text, and of the text of `POST /api/stt/bytes` for the same audio.

The end of a word is taken from recognition of the whole recording. `--words` streams the whole half
and prints WER only. `--memory` streams so many minutes as fast as they are accepted, and prints
the service's resident memory meanwhile.
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
from client.stream_stt import chunks_of, listen
from common.protocol.live import Final, ListenEnd, Partial, SpeechEnd
from deploy.local import LocalFleet
from deploy.local.words import words

ENDPOINT_MS = 600
BYTES_PER_S = 32_000
MEGABYTE = 1e6


@dataclass
class StreamResult:
    """A result holds the events of one stream, with their times in ms from its first sample."""

    clip: Clip
    events: list[tuple[float, Event]] = field(default_factory=list)

    @property
    def text(self) -> str:
        return next(event.text for _, event in self.events if isinstance(event, ListenEnd))

    @property
    def lags_ms(self) -> list[float]:
        return [event.lag_ms for _, event in self.events if isinstance(event, Partial)]

    @property
    def final_latencies_ms(self) -> list[float]:
        """Return the latency of each final whose utterance ended with silence."""
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
        """Count the messages that changed stable text."""
        stable: dict[str, str] = {}
        count = 0
        for _, event in self.events:
            if isinstance(event, Partial | Final):
                count += not event.text.startswith(stable.get(event.id, ""))
            if isinstance(event, Partial):
                stable[event.id] = event.text[: event.stable_chars]
        return count

    def word_latencies_ms(self, spoken: Sequence[tuple[str, int]]) -> list[float]:
        """Return the latency of each word of `spoken` (with its end in ms) in the final text."""
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


def stream(url: str, clip: Clip, begins: float) -> StreamResult:
    """Stream `clip` in real time, starting at `begins` of the monotonic clock."""
    result = StreamResult(clip)
    started = 0.0

    def spoken() -> Iterator[bytes]:
        nonlocal started
        started = time.monotonic()
        yield from chunks_of(clip.pcm, BYTES_PER_S, paced=True)

    time.sleep(max(0, begins - time.monotonic()))
    for event in listen(spoken(), f"{url}/ws/stt", endpoint_ms=ENDPOINT_MS, timeout_s=120):
        result.events.append(((time.monotonic() - started) * 1000, event))
    return result


def stream_at_once(url: str, clips: Sequence[Clip]) -> list[StreamResult]:
    """Stream all `clips` at once, each starting a little after the one before."""
    results: list[StreamResult] = []
    begins = time.monotonic() + 0.2
    threads = [
        threading.Thread(
            target=lambda c=clip, n=n: results.append(stream(url, c, begins + 0.37 * n))
        )
        for n, clip in enumerate(clips)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == len(clips), "a stream failed"
    return results


def stream_in_turns(url: str, clips: Sequence[Clip], count: int) -> list[StreamResult]:
    """Stream all clips, `count` at once."""
    turns = [clips[i : i + count] for i in range(0, len(clips), count)]
    return [one for turn in turns for one in stream_at_once(url, turn)]


def spoken_words(clip: Clip, engine: WhisperEngine) -> list[tuple[str, int]]:
    """Return the words that are recognized in the whole recording, and their ends in ms."""
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
    """Return the text of `POST /api/stt/bytes`."""
    answer = httpx.post(f"{url}/api/stt/bytes?sr=16000", content=clip.pcm, timeout=120)
    return str(answer.raise_for_status().json()["text"])


def error_rates(results: Sequence[StreamResult], whole: Mapping[str, str]) -> tuple[float, float]:
    """Return the WER in percent of the streams, and of the whole recordings in `whole`."""
    said = [one.clip.text for one in results]
    live = word_error_rate(said, [one.text for one in results])
    return live * 100, word_error_rate(said, [whole[one.clip.name] for one in results]) * 100


def measure_words(
    fleet: LocalFleet, service: str, counts: Sequence[int], clips: Sequence[Clip]
) -> None:
    whole = {clip.name: whole_text(fleet.url(service), clip) for clip in clips}
    rows = []
    for count in counts:
        results = stream_in_turns(fleet.url(service, scheme="ws"), clips, count)
        live, at_rest = error_rates(results, whole)
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
        results = stream_in_turns(ws, chosen, count)
        lags = [ms for one in results for ms in one.lags_ms]
        late = [ms for one in results for ms in one.word_latencies_ms(spoken[one.clip.name])]
        finals = [ms for one in results for ms in one.final_latencies_ms]
        rates = error_rates(results, whole)
        rows.append(
            [
                str(count),
                f"{median(lags):.0f}; {max(lags):.0f}",
                f"{median(late):.0f}; {percentile(late, 95):.0f}",
                f"{median(finals):.0f}; {percentile(finals, 95):.0f}",
                str(sum(one.changed for one in results)),
                f"{rates[0]:.1f}; {rates[1]:.1f}",
                f"{len(late)} words, {len(finals)} finals",
            ]
        )
    table(
        [
            "streams",
            "lag ms (median; max)",
            "partial ms (median; p95)",
            "final ms (median; p95)",
            "changed",
            "WER % live; whole",
            "of",
        ],
        rows,
    )


def memory(fleet: LocalFleet, clips: Sequence[Clip], minutes: float) -> None:
    """Measure resident memory while a long stream is sent as fast as it is accepted."""
    process = psutil.Process(fleet.processes["asr"].pid)
    samples: list[tuple[float, float]] = []

    def endless() -> Iterator[bytes]:
        sent = 0.0
        while True:
            for clip in clips:
                for piece in chunks_of(clip.pcm, BYTES_PER_S, paced=False):
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
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 2, 4], help="streams at once")
    parser.add_argument(
        "--seconds", type=float, default=60, help="length of each stream; default: 60"
    )
    parser.add_argument("--gateway", action="store_true", help="through the gateway")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--words", action="store_true", help="print the WER of the whole half only")
    only.add_argument("--memory", type=float, metavar="MINUTES", help="measure memory only")
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
