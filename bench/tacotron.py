"""What streaming Tacotron2 gains over Coqui, measured on one voice in one run.

Coqui's own path, ours in float32 and ours in 8 bits speak the same texts (about 2, 7 and 20 s) in
turns, each on one thread in a process of its own: time to first sound, real-time factor, CPU
seconds, start to ready, peak memory. Then 1, 2, 4, 6, 8 speakers at once on all cores: who keeps
ahead of real time. Weights are random (speed does not depend on them); every decode is ended
at the text's length.

Run it in the environment of `make voice`:  python -m bench.tacotron [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LENGTHS_S = (2, 7, 20)
SPEAKERS = (1, 2, 4, 6, 8)
HOP, RATE = 256, 22050
KINDS = ("coqui", "float32", "int8")
TEXT = (
    "It took me quite a long time to develop a voice, and now that I have it I am not going to be"
    " silent. The quick brown fox jumps over the lazy dog, and nobody has ever asked it why it does"
    " so every time that somebody wants to see all the letters of the alphabet in a row."
)
NAME = "tts_models/en/random/tacotron2-DDC"

Speak = Callable[[int], Iterator[NDArray[np.float32]]]
"""Speaks for so many seconds, yielding sound as it is there."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3, help="times that each text is spoken")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--voice", type=Path, help="keep the voice in this folder for another run")
    parser.add_argument("--worker", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        _work(options.worker, options.voice)
        return
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as scratch:
        root = options.voice or Path(scratch)
        if not (root / "voices").exists():
            _make_voice(root)
        figures = {
            "machine": f"{os.cpu_count()} cores, {_cpu()}, Python {platform.python_version()}",
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


# The worker: one kind, loaded once, told over its standard input what to speak.


def _work(kind: str, root: Path) -> None:
    began = time.perf_counter()
    speak, speak_many = _load_coqui(root) if kind == "coqui" else _load_ours(kind, root)
    _answer({"start_s": time.perf_counter() - began, "ready_mib": _memory()})
    for line in sys.stdin:
        asked = json.loads(line)
        if "speakers" in asked:
            _answer(speak_many(asked["speakers"], asked["seconds"]))
        else:
            _answer(_measure(speak, asked["seconds"]))


def _load_ours(kind: str, root: Path) -> tuple[Speak, Callable[[int, int], dict[str, Any]]]:
    from tts_service.app.engines.tacotron import GuardLimits, TacotronOptions, load

    options = TacotronOptions(
        kind,  # type: ignore[arg-type]
        limits=GuardLimits.off(),
        sentence_pause_ms=0,
        vocoder_slots=max((os.cpu_count() or 1) - 1, 1),
    )
    engine = load(NAME, root / "voices", options)

    def speak(seconds: int) -> Iterator[NDArray[np.float32]]:
        symbols = engine.front_end.symbols(_text(seconds))
        yield from engine.speak(symbols, max_steps=seconds * RATE // HOP)

    return speak, lambda count, seconds: _together([speak] * count, seconds)


def _load_coqui(root: Path) -> tuple[Speak, Callable[[int, int], dict[str, Any]]]:
    from tts_service.voices.coqui import CoquiVoice
    from tts_service.voices.unpack import find_checkpoint

    source = root / "source"
    with tempfile.TemporaryDirectory() as scratch:
        checkpoints = find_checkpoint(source), find_checkpoint(source / "vocoder")
        coqui = CoquiVoice(*checkpoints, Path(scratch))
    lock = threading.Lock()

    def speak(seconds: int) -> Iterator[NDArray[np.float32]]:
        # The decoder keeps its state on the module: one at a time.
        with lock:
            coqui.model.decoder.max_decoder_steps = seconds * RATE // HOP
            yield coqui.waveform(coqui.ids(_text(seconds)))

    coqui.model.decoder.stopnet[1].linear_layer.bias.data.fill_(-1e9)
    return speak, lambda count, seconds: _together([speak] * count, seconds)


def _text(seconds: int) -> str:
    return (TEXT * (1 + seconds * 15 // len(TEXT)))[: seconds * 15]


def _measure(speak: Speak, seconds: int) -> dict[str, Any]:
    """One utterance: CPU and wall time to its first sound and to its end."""
    wall, cpu, first_wall, first_cpu, samples = (
        time.perf_counter(),
        time.process_time(),
        0.0,
        0.0,
        0,
    )
    for part in speak(seconds):
        if not samples:
            first_wall, first_cpu = time.perf_counter() - wall, time.process_time() - cpu
        samples += part.size
    audio_s = samples / RATE
    return {
        "audio_s": audio_s,
        "first_ms": 1000 * first_wall,
        "first_cpu_ms": 1000 * first_cpu,
        "rtf": (time.perf_counter() - wall) / audio_s,
        "cpu_s": time.process_time() - cpu,
        "peak_mib": _memory(),
    }


def _together(speakers: list[Speak], seconds: int) -> dict[str, Any]:
    """All at once. A speaker is in time if its player never waits after its first sound and all is
    made in the time that it lasts, so that the next text could follow without a gap."""
    barrier = threading.Barrier(len(speakers))

    def listen(speak: Speak) -> tuple[float, float, float]:
        barrier.wait()
        began = time.perf_counter()
        first, heard_until, waited = 0.0, 0.0, 0.0
        for part in speak(seconds):
            now = time.perf_counter()
            if not first:
                first = now - began
                heard_until = now
            waited += max(0.0, now - heard_until)
            heard_until = max(heard_until, now) + part.size / RATE
        return first, waited, time.perf_counter() - began

    cpu, wall, busy = time.process_time(), time.perf_counter(), _busy_s()
    with ThreadPoolExecutor(len(speakers)) as threads:
        heard = list(threads.map(listen, speakers))
    own = time.process_time() - cpu
    return {
        "wall_s": time.perf_counter() - wall,
        "cpu_s": own,
        "others_cpu_s": max(_busy_s() - busy - own, 0.0),
        "in_time": sum(waited <= 0.005 and took <= seconds for _, waited, took in heard),
        "waited_ms": 1000 * max(waited for _, waited, _ in heard),
        "first_ms": 1000 * statistics.median(first for first, _, _ in heard),
        "audio_per_s": len(speakers) * seconds / max(took for _, _, took in heard),
    }


def _answer(figures: dict[str, Any]) -> None:
    print(json.dumps(figures), flush=True)  # noqa: T201


def _memory() -> float:
    """Peak resident memory of this process, MiB (`ru_maxrss` would begin with the parent's)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _busy_s() -> float:
    """CPU seconds that all processes of this machine have used."""
    ticks = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system = (int(t) for t in ticks[:3])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


# The parent: asks the workers in turns.


class Worker:
    def __init__(self, kind: str, root: Path) -> None:
        command = [sys.executable, "-W", "ignore", "-m", "bench.tacotron"]
        began = time.perf_counter()
        self._process = subprocess.Popen(  # noqa: S603
            [*command, "--worker", kind, "--voice", str(root)],
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


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _print(figures: dict[str, Any]) -> None:
    one, many = figures["one"], figures["many"]
    lines = [figures["machine"], ""]
    lines.append(
        "| | first sound (2 / 7 / 20 s) | RTF | CPU of 7 s | start to ready | peak memory |"
    )
    lines.append("|---|---|---|---|---|---|")
    for kind in KINDS:
        row = one[kind]
        first = " / ".join(f"{row[str(s)]['first_ms']:.0f}" for s in LENGTHS_S)
        rtf = " / ".join(f"{row[str(s)]['rtf']:.2f}" for s in LENGTHS_S)
        lines.append(
            f"| {kind} | {first} ms | {rtf} | {row['7']['cpu_s']:.2f} s |"
            f" {row['start']['start_s']:.2f} s | {row['20']['peak_mib']:.0f} MiB |"
        )
    lines.append("")
    base = one["coqui"]["7"]
    for kind in KINDS[1:]:
        ours = one[kind]["7"]
        lines.append(
            f"{kind}, 7 s: first sound 1/{base['first_ms'] / ours['first_ms']:.1f} of Coqui's,"
            f" CPU {ours['cpu_s'] / base['cpu_s']:.2f} of Coqui's"
        )
    lines += [
        "",
        "| speakers | in time | audio a second | waited | first sound | cores | others' cores |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in KINDS:
        for count, row in many[kind].items():
            lines.append(
                f"| {kind} {count} | {row['in_time']} | {row['audio_per_s']:.1f} s |"
                f" {row['waited_ms']:.0f} ms | {row['first_ms']:.0f} ms |"
                f" {row['cpu_s'] / row['wall_s']:.2f} | {row['others_cpu_s'] / row['wall_s']:.2f} |"
            )
    print("\n".join(lines))  # noqa: T201


if __name__ == "__main__":
    main()
