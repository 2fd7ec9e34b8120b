"""This program runs one kind of Tacotron2 in a process of its own, for `bench.tacotron`.

    python -m bench.tacotron_worker KIND ROOT

It reads requests from standard input, a line of JSON each: {"seconds": 7} is spoken once,
{"speakers": 4, "seconds": 7} that many times at once. Each is answered with a line. The first line
is written without a request and says how long the start took.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.support import say

if TYPE_CHECKING:
    from tts_service.app.engines.tacotron.manifest import PrecisionName

HOP, RATE = 256, 22050
TEXT = (
    "It took me quite a long time to develop a voice, and now that I have it I am not going to be"
    " silent. The quick brown fox jumps over the lazy dog, and nobody has ever asked it why it does"
    " so every time that somebody wants to see all the letters of the alphabet in a row."
)
NAME = "tts_models/en/random/tacotron2-DDC"

Speak = Callable[[int], Iterator[NDArray[np.float32]]]
"""Speaks for so many seconds and yields audio as soon as it is synthesized."""


def main() -> None:
    kind, root = sys.argv[1:]
    began = time.perf_counter()
    speak = KINDS[kind](Path(root))
    _answer({"start_s": time.perf_counter() - began, "ready_mib": _memory()})
    for line in sys.stdin:
        asked = json.loads(line)
        if "speakers" in asked:
            _answer(_together(speak, asked["speakers"], asked["seconds"]))
        else:
            _answer(_measure(speak, asked["seconds"]))


def _load_ours(precision: PrecisionName, root: Path) -> Speak:
    from tts_service.app.engines.tacotron import GuardLimits, TacotronOptions, load

    options = TacotronOptions(
        precision,
        limits=GuardLimits.off(),
        sentence_pause_ms=0,
        vocoder_slots=max((os.cpu_count() or 1) - 1, 1),
    )
    engine = load(NAME, root / "voices", options)

    def speak(seconds: int) -> Iterator[NDArray[np.float32]]:
        symbols = engine.front_end.symbols(_text(seconds))
        yield from engine.speak(symbols, max_steps=seconds * RATE // HOP)

    return speak


def _load_coqui(root: Path) -> Speak:
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
    return speak


KINDS: dict[str, Callable[[Path], Speak]] = {
    "coqui": _load_coqui,
    "float32": partial(_load_ours, "float32"),
    "int8": partial(_load_ours, "int8"),
}


def _text(seconds: int) -> str:
    return (TEXT * (1 + seconds * 15 // len(TEXT)))[: seconds * 15]


def _measure(speak: Speak, seconds: int) -> dict[str, Any]:
    """Speak one utterance; returns CPU and wall time to its first audio and to its end."""
    wall, cpu = time.perf_counter(), time.process_time()
    first_wall, first_cpu, samples = 0.0, 0.0, 0
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


def _together(speak: Speak, count: int, seconds: int) -> dict[str, Any]:
    """Speak several utterances at once.

    One is in real time if playback never waits after its first audio and synthesis takes no longer
    than the audio lasts, so that the next text could follow without a gap.
    """
    barrier = threading.Barrier(count)

    def listen(_: int) -> tuple[float, float, float]:
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
    with ThreadPoolExecutor(count) as threads:
        heard = list(threads.map(listen, range(count)))
    own = time.process_time() - cpu
    return {
        "wall_s": time.perf_counter() - wall,
        "cpu_s": own,
        "others_cpu_s": max(_busy_s() - busy - own, 0.0),
        "in_time": sum(waited <= 0.005 and took <= seconds for _, waited, took in heard),
        "waited_ms": 1000 * max(waited for _, waited, _ in heard),
        "first_ms": 1000 * statistics.median(first for first, _, _ in heard),
        "audio_per_s": count * seconds / max(took for _, _, took in heard),
    }


def _answer(figures: dict[str, Any]) -> None:
    say(json.dumps(figures))


def _memory() -> float:
    """Return the peak resident memory of this process in MiB.

    `ru_maxrss` would start with the parent's.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _busy_s() -> float:
    """Return the CPU seconds that all processes of this machine have used."""
    ticks = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system = (int(t) for t in ticks[:3])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
