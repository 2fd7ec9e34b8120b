"""What the gateway costs in throughput: concurrent streams, straight and through it.

    python -m bench.relay [--streams 8] [--rounds 10]

Starts a fleet of its own on free ports. A round speaks one long text on each of the streams at
once; rounds alternate between the two ways. Throughput is seconds of audio delivered a second.
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
    """Seconds of audio of one stream, all of whose frames were received."""
    with connect(url, compression=None, proxy=None, max_size=None) as ws:
        together.wait()
        ws.send(json.dumps({"text": TEXT}))
        received = 0
        while not isinstance(frame := ws.recv(120), str):
            received += len(frame)
        assert frame == '{"type":"end"}', frame
        return received / 32000


def round_of(url: str, streams: int) -> float:
    """Seconds of audio a second, over all streams."""
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
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    say(machine())
    say()
    throughput: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder, LocalFleet(Path(folder)) as fleet:
        urls = {way: f"{fleet.url(name, scheme='ws')}/ws/tts" for way, name in WAYS.items()}
        for index in range(arguments.rounds + 1):
            for way in sorted(WAYS, reverse=bool(index % 2)):
                value = round_of(urls[way], arguments.streams)
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
    say(f"CPU of the gateway for each second of the voice's, same streams: {cpu:.3f} s")


if __name__ == "__main__":
    main()
