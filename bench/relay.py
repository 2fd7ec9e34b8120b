"""This benchmark measures the gateway's throughput against that of tts_service alone.

    python -m bench.relay [--streams 8] [--rounds 10]

It starts its own fleet on free ports. In a round all streams speak one long text at the same time;
rounds alternate between the two. Throughput is seconds of audio delivered per second.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
from websockets.sync.client import connect

from bench.first_audio import TEXTS, WAYS
from bench.support import machine, median, say, table
from deploy.local import LocalFleet

TEXT = " ".join([TEXTS["60 words"]] * 2)


def speak(url: str, together: threading.Barrier) -> float:
    """Speak one text; returns the seconds of audio that were received."""
    with connect(url, compression=None, proxy=None, max_size=None) as ws:
        together.wait()
        ws.send(json.dumps({"text": TEXT}))
        received = 0
        while not isinstance(frame := ws.recv(120), str):
            received += len(frame)
        assert frame == '{"type":"end"}', frame
        return received / 32000


def measure_round(url: str, streams: int) -> float:
    """Speak on all streams at once; returns seconds of audio per second over all of them."""
    together = threading.Barrier(streams + 1)
    with ThreadPoolExecutor(streams) as threads:
        spoken = [threads.submit(speak, url, together) for _ in range(streams)]
        together.wait()
        started = time.perf_counter()
        audio_s = sum(future.result() for future in spoken)
        return audio_s / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--streams", type=int, default=8, help="streams at the same time; default: 8"
    )
    parser.add_argument(
        "--rounds", type=int, default=10, help="rounds that are measured; default: 10"
    )
    arguments = parser.parse_args()
    say(machine())
    say()
    throughput: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder, LocalFleet(Path(folder)) as fleet:
        urls = {way: f"{fleet.url(name, scheme='ws')}/ws/tts" for way, name in WAYS.items()}
        for index in range(arguments.rounds + 1):
            for way in sorted(WAYS, reverse=bool(index % 2)):
                value = measure_round(urls[way], arguments.streams)
                if index:  # the first round warms up
                    throughput[way].append(value)
        gateway = psutil.Process(fleet.processes["gateway"].pid).cpu_times()
        tts = psutil.Process(fleet.processes["tts"].pid).cpu_times()
    ratios = [g / d for g, d in zip(throughput["gateway"], throughput["direct"], strict=True)]
    table(
        ["way", f"audio s per s, {arguments.streams} streams (median)"],
        [[way, f"{median(values):.1f}"] for way, values in throughput.items()]
        + [["gateway / direct (median of pairs)", f"{median(ratios):.3f}"]],
    )
    say()
    cpu = (gateway.user + gateway.system) / (tts.user + tts.system) * 2
    say(f"CPU time of the gateway per second of CPU time of tts: {cpu:.3f} s")


if __name__ == "__main__":
    main()
