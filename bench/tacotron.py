"""This benchmark compares the streaming Tacotron2 engine with Coqui on one voice in one run.

Coqui, the engine in float32 and the engine in 8 bits speak the same texts (about 2, 7 and 20 s) in
turns, each on one thread in a process of its own. Measured are time to first audio, real-time
factor, CPU time, start to ready and peak memory; then 1, 2, 4, 6 and 8 utterances at once on all
cores, and how many of them keep ahead of real time. The weights are random, since speed does not
depend on them; every decode is ended at the text's length.

    python -m bench.tacotron [--rounds 3] [--json FILE]

runs in the environment of `make voice`; `make bench-tacotron` makes it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.support import machine, say, table
from bench.tacotron_worker import KINDS, NAME

LENGTHS_S = (2, 7, 20)
SPEAKERS = (1, 2, 4, 6, 8)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="times that each text is spoken")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--voice", type=Path, help="keep the voice in this folder for another run")
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as scratch:
        root = options.voice or Path(scratch)
        if not (root / "voices").exists():
            _make_voice(root)
        figures = {
            "machine": machine(),
            "one": _one_speaker(root, options.rounds),
            "many": _many_speakers(root),
        }
    _print(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def _make_voice(root: Path) -> None:
    from tts_service.tests_voices.release import Shape, make_voice
    from tts_service.voices.prepare import Places, prepare

    make_voice(root / "source", Shape(steps=10**6, model={"double_decoder_consistency": True}))
    prepare(str(root / "source"), Places(root / "voices"), name=NAME)


class Worker:
    """A worker is a process of `bench.tacotron_worker`."""

    def __init__(self, kind: str, root: Path) -> None:
        command = [sys.executable, "-W", "ignore", "-m", "bench.tacotron_worker"]
        began = time.perf_counter()
        self._process = subprocess.Popen(
            [*command, kind, str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.start = self._read()
        self.start["start_s"] = time.perf_counter() - began

    def ask(self, **question: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        raise RuntimeError("the worker ended")

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


def _one_speaker(root: Path, rounds: int) -> dict[str, Any]:
    starts: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for kind in KINDS:
            worker = Worker(kind, root)
            starts[kind].append(worker.start)
            worker.close()
    workers = {kind: Worker(kind, root) for kind in KINDS}
    measured: dict[str, dict[int, list[dict[str, Any]]]] = {
        kind: {seconds: [] for seconds in LENGTHS_S} for kind in KINDS
    }
    for worker in workers.values():
        worker.ask(seconds=2)
    for _ in range(rounds):
        for seconds in LENGTHS_S:
            for kind, worker in workers.items():
                measured[kind][seconds].append(worker.ask(seconds=seconds))
    for worker in workers.values():
        worker.close()
    return {
        kind: {
            "start": _medians(starts[kind]),
            **{str(s): _medians(measured[kind][s]) for s in LENGTHS_S},
        }
        for kind in KINDS
    }


def _many_speakers(root: Path) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for kind in KINDS:
        worker = Worker(kind, root)
        worker.ask(seconds=2)
        counts = SPEAKERS if kind != "coqui" else SPEAKERS[:2]
        figures[kind] = {str(n): worker.ask(speakers=n, seconds=7) for n in counts}
        worker.close()
    return figures


def _medians(rows: list[dict[str, Any]]) -> dict[str, float]:
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def _print(figures: dict[str, Any]) -> None:
    one, many = figures["one"], figures["many"]
    say(figures["machine"] + "\n")
    table(
        ["", "first audio (2 / 7 / 20 s)", "RTF", "CPU of 7 s", "start to ready", "peak memory"],
        [
            [
                kind,
                " / ".join(f"{row[str(s)]['first_ms']:.0f}" for s in LENGTHS_S) + " ms",
                " / ".join(f"{row[str(s)]['rtf']:.2f}" for s in LENGTHS_S),
                f"{row['7']['cpu_s']:.2f} s",
                f"{row['start']['start_s']:.2f} s",
                f"{row['20']['peak_mib']:.0f} MiB",
            ]
            for kind, row in one.items()
        ],
    )
    say()
    base = one["coqui"]["7"]
    for kind, row in one.items():
        if kind != "coqui":
            ours = row["7"]
            say(
                f"{kind}, 7 s: first audio 1/{base['first_ms'] / ours['first_ms']:.1f} of Coqui's,"
                f" CPU {ours['cpu_s'] / base['cpu_s']:.2f} of Coqui's"
            )
    say()
    table(
        [
            "utterances at once",
            "in real time",
            "audio per s",
            "longest underrun",
            "first audio",
            "cores",
            "cores of others",
        ],
        [
            [
                f"{kind} {count}",
                str(row["in_time"]),
                f"{row['audio_per_s']:.1f} s",
                f"{row['waited_ms']:.0f} ms",
                f"{row['first_ms']:.0f} ms",
                f"{row['cpu_s'] / row['wall_s']:.2f}",
                f"{row['others_cpu_s'] / row['wall_s']:.2f}",
            ]
            for kind, rows in many.items()
            for count, row in rows.items()
        ],
    )


if __name__ == "__main__":
    main()
