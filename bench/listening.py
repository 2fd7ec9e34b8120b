"""This benchmark compares recognition with plain faster-whisper.

    python -m bench.listening [--short] [--only latency burst words echo memory]

It measures latency, throughput of bursts, word errors, echo and memory. asr_service is asked over
HTTP, in a fleet of its own on free ports. It is compared with `WhisperModel.transcribe` in this
process with default options: `serial` on all cores, one recording after another, and `two workers`
of one thread each. All use the same weights in int8 and the same recordings: the held-out half of
the speech set. They take turns, so that other load affects all alike; compare figures of one run
only. CPU time is that of the whole process. `--short` takes a minute or two and is not precise.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import psutil
from faster_whisper import WhisperModel

from asr_service.app.engine import RecognitionOptions
from asr_service.app.whisper import WhisperEngine, resolve
from bench.speech_set import Clip, held_out, joined, load, word_error_rate
from bench.support import machine, median, percentile, say, table
from common.audio.encoding import decode_s16le
from deploy.local import LocalFleet

PARTS = ("latency", "burst", "words", "echo", "memory")
LENGTHS_S = (2, 5, 15, 60)
ECHOED_S = (3, 60)
BURST_CLIPS_S = (3.0, 6.0)
TOGETHER = 8
"""Requests in flight at once, where only the words or the memory count."""


@dataclass(frozen=True)
class System:
    """A system recognizes recordings in up to `at_once` threads."""

    name: str
    recognize: Callable[[Clip], str]
    at_once: int
    cpu_s: Callable[[], float]
    """CPU time that its process has used so far."""


@dataclass(frozen=True)
class Rounds:
    latency: int
    burst: int
    words: int
    echo: int
    bursts: tuple[int, ...]
    requests_early: int
    requests_late: int


WHOLE = Rounds(10, 5, 1000, 20, (1, 2, 4, 8, 16), 50, 1000)
SHORT = Rounds(2, 1, 24, 3, (1, 8), 20, 60)


def systems(fleet: LocalFleet) -> list[System]:
    weights = str(resolve("tiny.en"))
    client = httpx.Client(
        base_url=fleet.url("asr"),
        timeout=300,
        trust_env=False,
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
    )
    server = psutil.Process(fleet.processes["asr"].pid)

    def server_cpu_s() -> float:
        times = server.cpu_times()
        return times.user + times.system

    serial = WhisperModel(weights, device="cpu", compute_type="int8")
    two = WhisperModel(weights, device="cpu", compute_type="int8", cpu_threads=1, num_workers=2)

    def ours(clip: Clip) -> str:
        answer = client.post("/api/stt/bytes?sr=16000&ch=1&lang=en", content=clip.pcm)
        answer.raise_for_status()
        return str(answer.json()["text"])

    def plainly(model: WhisperModel) -> Callable[[Clip], str]:
        return lambda clip: " ".join(s.text.strip() for s in model.transcribe(clip.samples)[0])

    return [
        System("ours, over HTTP", ours, max(WHOLE.bursts), server_cpu_s),
        System("default, serial", plainly(serial), 1, time.process_time),
        System("default, two workers", plainly(two), 2, time.process_time),
    ]


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def taking_turns(systems: Sequence[System], rounds: int) -> Iterator[System]:
    """Yield each system once a round; the order rotates."""
    for index in range(rounds):
        yield from (*systems[index % len(systems) :], *systems[: index % len(systems)])


def clips_of_about(length_s: float, clips: Sequence[Clip], count: int) -> list[Clip]:
    """Choose recordings of about that length; long ones are joined from short ones."""
    pool = clips if length_s <= 5 else joined([c for c in clips if c.seconds < 10], length_s)
    return sorted(pool, key=lambda clip: abs(clip.seconds - length_s))[:count]


def latency(ours: System, default: System, clips: Sequence[Clip], rounds: int) -> None:
    rows = []
    for length in LENGTHS_S:
        chosen = clips_of_about(length, clips, rounds)
        spent: dict[str, list[float]] = defaultdict(list)
        for clip in chosen:
            for system in taking_turns([ours, default], 2):
                spent[system.name].append(timed(partial(system.recognize, clip)))
        a, b = spent[ours.name], spent[default.name]
        ratio = median([x / y for x, y in zip(a, b, strict=True)])
        rows.append([f"{length} s", *(f"{median(v) * 1000:.0f}" for v in (a, b)), f"{ratio:.2f}"])
    table(["recording", "ours ms (median)", "default ms", "ratio (median of pairs)"], rows)


def overhead(ours: System, rounds: int) -> None:
    """Measure what HTTP, admission and queueing add, with silence, which no model decodes."""
    engine = WhisperEngine(resolve("tiny.en"), compute_type="int8", workers=1, threads_per_worker=1)
    silence = Clip("silence", "", np.zeros(4 * 16000, np.float32))

    def here() -> None:
        samples = decode_s16le(silence.pcm, 1)
        assert not [*engine.windows(samples, RecognitionOptions(), threading.Event())]

    pairs = [
        (timed(lambda: ours.recognize(silence)), timed(here)) for _ in range(max(10, 5 * rounds))
    ]
    say(f"Added by HTTP, admission and queueing: {median([a - b for a, b in pairs]) * 1000:.1f} ms")


def burst(system: System, clips: Sequence[Clip]) -> tuple[float, list[float]]:
    """Recognize all at once; returns seconds of audio per second, and the time of each."""
    started = time.perf_counter()

    def recognize(clip: Clip) -> float:
        system.recognize(clip)
        return time.perf_counter() - started

    with ThreadPoolExecutor(system.at_once) as threads:
        times = list(threads.map(recognize, clips))
    return sum(clip.seconds for clip in clips) / max(times), times


def bursts(systems: Sequence[System], clips: Sequence[Clip], all_rounds: Rounds) -> None:
    rounds = all_rounds.burst
    shortest, longest = BURST_CLIPS_S
    pool = [clip for clip in clips if shortest <= clip.seconds <= longest]
    rows = []
    for size in all_rounds.bursts:
        rates: dict[str, list[float]] = defaultdict(list)
        times: dict[str, list[float]] = defaultdict(list)
        cpu: dict[str, float] = defaultdict(float)
        for index, system in enumerate(taking_turns(systems, rounds)):
            first = index // len(systems) * size
            cpu[system.name] -= system.cpu_s()
            rate, spent = burst(system, [pool[(first + i) % len(pool)] for i in range(size)])
            cpu[system.name] += system.cpu_s()
            rates[system.name].append(rate)
            times[system.name] += spent
        own = rates[systems[0].name]
        for system in systems:
            against = median([a / b for a, b in zip(own, rates[system.name], strict=True)])
            spent = times[system.name]
            rows.append(
                [
                    str(size),
                    system.name,
                    f"{median(rates[system.name]):.1f}",
                    f"{median(spent) * 1000:.0f}",
                    f"{percentile(spent, 95) * 1000:.0f}",
                    f"{against:.1f}",
                    f"{cpu[system.name] / len(spent) * 1000:.0f}",
                ]
            )
    header = ["burst", "system", "audio s per s", "p50 ms", "p95 ms", "ours is faster by (times)"]
    table([*header, "CPU ms a recording"], rows)


def word_errors(systems: Sequence[System], clips: Sequence[Clip]) -> None:
    rows = []
    for system in systems:
        with ThreadPoolExecutor(min(TOGETHER, system.at_once)) as threads:
            transcripts = list(threads.map(system.recognize, clips))
        rate = word_error_rate([clip.text for clip in clips], transcripts)
        rows.append([system.name, f"{100 * rate:.2f} %"])
    table(["system", f"word error rate, {len(clips)} recordings held out"], rows)


def echo(fleet: LocalFleet, clips: Sequence[Clip], rounds: int) -> None:
    """Measure the time from the last byte sent to the first byte of speech received."""
    rows = []
    with httpx.Client(base_url=fleet.url("gateway"), timeout=60, trust_env=False) as client:

        def once(clip: Clip, options: str) -> float:
            sent = 0.0

            def body() -> Iterator[bytes]:
                nonlocal sent
                yield clip.pcm
                sent = time.perf_counter()

            url = f"/api/echo-bytes?sr=16000&ch=1{options}"
            with client.stream("POST", url, content=body()) as answer:
                next(answer.iter_raw())
                return time.perf_counter() - sent

        for length in ECHOED_S:
            chosen = clips_of_about(length, clips, rounds)
            once(chosen[0], "")  # the first warms up
            spent: dict[str, list[float]] = defaultdict(list)
            for clip in chosen:
                for options in ("", "&overlap=true"):
                    spent[options].append(once(clip, options))
            for options, times in spent.items():
                of_these = [f"{median(times) * 1000:.0f}", f"{percentile(times, 95) * 1000:.0f}"]
                rows.append([f"{length} s", options.strip("&") or "whole", *of_these])
    table(["echo of", "", "last byte to first audio ms (median)", "p95 ms"], rows)


def memory(fleet: LocalFleet, ours: System, clips: Sequence[Clip], rounds: Rounds) -> None:
    """Measure whether the service's resident memory grows.

    The longest recordings come first, since a longer window than before takes more memory once.
    """
    clips = sorted(clips, key=lambda clip: clip.seconds, reverse=True)
    process = psutil.Process(fleet.processes["asr"].pid)
    resident = []
    with ThreadPoolExecutor(TOGETHER) as threads:
        done = 0
        for count in (rounds.requests_early, rounds.requests_late):
            list(threads.map(ours.recognize, (clips[i % len(clips)] for i in range(done, count))))
            done = count
            resident.append(process.memory_info().rss / 1e6)
    early, late = resident
    say(
        f"Resident after {rounds.requests_early} and {rounds.requests_late} requests: "
        f"{early:.0f} and {late:.0f} MB, {late / early:.2f} times"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="fewer rounds and recordings")
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=PARTS, help="parts to run; default: all"
    )
    arguments = parser.parse_args()
    rounds = SHORT if arguments.short else WHOLE
    clips = held_out(load())
    say(machine())
    with tempfile.TemporaryDirectory() as folder, LocalFleet(Path(folder)) as fleet:
        compared = systems(fleet)
        ours, serial, _ = compared
        for system in compared:
            system.recognize(clips[0])
        parts: dict[str, Callable[[], None]] = {
            "latency": lambda: latency(ours, serial, clips, rounds.latency),
            "burst": lambda: bursts(compared, clips, rounds),
            "words": lambda: word_errors(compared[:2], clips[: rounds.words]),
            "echo": lambda: echo(fleet, clips, rounds.echo),
            "memory": lambda: memory(fleet, ours, clips, rounds),
        }
        for name in arguments.only:
            say()
            parts[name]()
            if name == "latency":
                say()
                overhead(ours, rounds.latency)


if __name__ == "__main__":
    main()
