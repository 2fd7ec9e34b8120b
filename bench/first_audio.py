"""This benchmark measures time to first audio, directly and through the gateway.

    python -m bench.first_audio [--rounds 40] [--only-first-audio]

It starts its own fleet on free ports, with the voice that TTS_MODEL names. Requests alternate
between tts_service and the gateway, so that other load affects both alike; the WebSocket is open
before the clock starts. It also prints each service's time from start to ready, and its resident
memory after 10 and 100 requests.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import httpx
import psutil
from websockets.sync.client import ClientConnection, connect

from bench.support import machine, median, percentile, say, table
from deploy.local import SERVICES, LocalFleet

TEXTS = {
    "Hello world": "Hello world",
    "60 words": (
        "Every morning before the sun comes up, the old fisherman walks down to the harbor, "
        "unties his small wooden boat, and rows out past the rocks to the place where his father "
        "taught him to fish, and there he waits, quiet and patient, until the first light touches "
        "the water and the birds begin to call above the cold waves."
    ),
}
WAYS = {"direct": "tts", "gateway": "gateway"}
REQUESTS_EARLY, REQUESTS_LATE = 10, 100


def speak(ws: ClientConnection, text: str) -> tuple[float, float]:
    """Speak a text; returns seconds to its first audio and to its end."""
    message = json.dumps({"text": text})
    started = time.perf_counter()
    ws.send(message)
    first = 0.0
    while True:
        frame = ws.recv(60)
        if isinstance(frame, str):
            assert frame == '{"type":"end"}', frame
            return first, time.perf_counter() - started
        first = first or time.perf_counter() - started


def start_times() -> dict[str, float]:
    """Start each service alone; returns the seconds until each is ready."""
    times = {}
    with tempfile.TemporaryDirectory() as folder:
        fleet = LocalFleet(Path(folder))
        try:
            for name in SERVICES:
                started = time.perf_counter()
                fleet.start(name)
                # The gateway is ready only with the others, so its start ends when it is alive.
                url = f"{fleet.url(name)}/{'healthz' if name == 'gateway' else 'readyz'}"
                while not _answers(url):
                    time.sleep(0.005)
                times[name] = time.perf_counter() - started
        finally:
            fleet.stop()
    return times


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def resident_mb(fleet: LocalFleet) -> dict[str, float]:
    return {
        name: psutil.Process(process.pid).memory_info().rss / 1e6
        for name, process in fleet.processes.items()
    }


def measure(fleet: LocalFleet, rounds: int) -> None:
    first: dict[tuple[str, str], list[float]] = defaultdict(list)
    total: dict[tuple[str, str], list[float]] = defaultdict(list)
    urls = {way: f"{fleet.url(name, scheme='ws')}/ws/tts" for way, name in WAYS.items()}
    with (
        connect(urls["direct"], compression=None, proxy=None) as direct,
        connect(urls["gateway"], compression=None, proxy=None) as gateway,
    ):
        sockets = {"direct": direct, "gateway": gateway}
        for index in range(rounds + 3):
            for label, text in TEXTS.items():
                for way in sorted(WAYS, reverse=bool(index % 2)):
                    a, b = speak(sockets[way], text)
                    if index >= 3:  # the first rounds warm up
                        first[label, way].append(a * 1000)
                        total[label, way].append(b * 1000)
    rows = []
    for label in TEXTS:
        for way in WAYS:
            f, t = first[label, way], total[label, way]
            rows.append(
                [label, way, f"{median(f):.1f}", f"{percentile(f, 95):.1f}", f"{median(t):.1f}"]
            )
        pairs = zip(first[label, "gateway"], first[label, "direct"], strict=True)
        added = median([g - d for g, d in pairs])
        rows.append([label, "gateway − direct", f"{added:+.1f}", "", ""])
    table(["text", "way", "first audio ms (median)", "(p95)", "end ms (median)"], rows)


def memory(fleet: LocalFleet) -> None:
    wav = b"\0\0" * 16000
    samples = {}
    with httpx.Client(base_url=fleet.url("gateway"), timeout=60, trust_env=False) as client:
        for count in range(1, REQUESTS_LATE + 1):
            spoken = client.post("/api/tts", json={"text": TEXTS["60 words"]}).content
            body = spoken[: 3 * 32000] if count % 2 else wav
            client.post("/api/echo-bytes", content=body).raise_for_status()
            if count in (REQUESTS_EARLY, REQUESTS_LATE):
                samples[count] = resident_mb(fleet)
    early, late = samples[REQUESTS_EARLY], samples[REQUESTS_LATE]
    rows = [
        [name, f"{early[name]:.0f}", f"{late[name]:.0f}", f"{late[name] / early[name]:.3f}"]
        for name in SERVICES
    ]
    table(["service", f"MB after {REQUESTS_EARLY}", f"after {REQUESTS_LATE}", "ratio"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--rounds", type=int, default=40, help="times that each text is spoken; default: 40"
    )
    parser.add_argument(
        "--only-first-audio", action="store_true", help="skip start times and memory"
    )
    options = parser.parse_args()
    say(machine())
    say()
    if not options.only_first_audio:
        print_start_times()
    with tempfile.TemporaryDirectory() as folder, LocalFleet(Path(folder)) as fleet:
        measure(fleet, options.rounds)
        if not options.only_first_audio:
            say()
            memory(fleet)


def print_start_times() -> None:
    starts = [start_times() for _ in range(3)]
    table(
        ["service", "start to ready s (median of 3)"],
        [[name, f"{median([s[name] for s in starts]):.2f}"] for name in SERVICES],
    )
    say()


if __name__ == "__main__":
    main()
