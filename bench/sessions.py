"""This benchmark measures sessions of `/ws/tts` as a voice assistant uses them.

    python -m bench.sessions [--rounds 30] [--sessions 16]

It starts its own fleet on free ports. Text is sent as a language model writes it, 30 tokens a
second. It measures: the time from the token that ends the first clause to the first audio, paired
with the clause alone in the simple mode; the time from `cancel` during synthesis to its `end`; and
the underruns of many sessions at once, each played in real time, with their CPU time.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import anyio
import psutil
from websockets.asyncio.client import ClientConnection, connect

from bench.support import machine, median, percentile, say, table
from deploy.local import LocalFleet

TOKENS_PER_S = 30
RATE_HZ = 16000
TURNS = 2
"""Utterances of each of the many sessions, each played to its end."""
ANSWERS = [
    "When the rain had stopped, the children went out to play in the garden again. Their mother "
    "watched them from the kitchen window, and she smiled. It had been a long and quiet morning.",
    "To get to the station, turn left at the old church and follow the river. It takes about ten "
    "minutes on foot. The train to Ashford leaves at half past nine, from the second platform.",
    "As far as I can tell, the recipe needs two eggs and a cup of flour. Mix them well before you "
    "add the milk. Then let the dough rest for half an hour, and heat the oven meanwhile.",
    "If I remember correctly, the meeting was moved to Thursday afternoon. Doctor Smith asked for "
    "it, since he is away until then. Shall I send a note to everybody who was invited?",
]


def tokens(text: str) -> list[str]:
    """Split a text like a language model does: a word with the space before it, or a mark."""
    return re.findall(r"\s?(?:\w+|[^\w\s])", text)


async def open_session(url: str) -> ClientConnection:
    ws = await connect(url, compression=None, proxy=None, max_size=None, max_queue=None)
    await ws.send(json.dumps({"type": "start"}))
    assert json.loads(await ws.recv())["type"] == "ready"
    return ws


async def write(ws: ClientConnection, id_: str, text: str) -> float:
    """Send `text` token by token; returns when the token that ends the first clause was sent."""
    clause_ended = 0.0
    due = time.perf_counter()
    for token in tokens(text):
        await anyio.sleep(max(0.0, due - time.perf_counter()))
        due += 1 / TOKENS_PER_S
        await ws.send(json.dumps({"type": "text", "id": id_, "text": token}))
        if not clause_ended and token.strip() in ",.":
            clause_ended = time.perf_counter()
    await ws.send(json.dumps({"type": "finish", "id": id_}))
    return clause_ended


@dataclass
class Playback:
    """A playback is one utterance, played in real time from its first binary frame on."""

    first_at: float = 0.0
    audio_s: float = 0.0
    underruns: int = 0
    underrun_s: float = 0.0

    @property
    def until(self) -> float:
        """When all audio received so far has been played."""
        return self.first_at + self.audio_s + self.underrun_s

    def add(self, audio: bytes) -> None:
        now = time.perf_counter()
        self.first_at = self.first_at or now
        gap_s = now - self.until
        if gap_s > 0:
            self.underruns += 1
            self.underrun_s += gap_s
        self.audio_s += len(audio) / 2 / RATE_HZ


async def play(ws: ClientConnection, id_: str, playback: Playback) -> None:
    """Read one utterance to its `end`."""
    while True:
        frame = await ws.recv()
        if isinstance(frame, bytes):
            playback.add(frame)
            continue
        message = json.loads(frame)
        assert message["type"] in ("begin", "end"), message
        if message["type"] == "end":
            assert (message["id"], message["reason"]) == (id_, "done"), message
            return


async def converse(ws: ClientConnection, id_: str, text: str) -> tuple[float, Playback]:
    """Speak `text`; returns seconds from the end of its first clause to its audio, and playback."""
    playback = Playback()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(play, ws, id_, playback)
        clause_ended = await write(ws, id_, text)
    return playback.first_at - clause_ended, playback


async def speak_in_simple_mode(ws: ClientConnection, clause: str) -> float:
    """Speak a whole text in the simple mode; returns seconds to its first audio."""
    sent = time.perf_counter()
    await ws.send(json.dumps({"text": clause}))
    await ws.recv()
    first_s = time.perf_counter() - sent
    while isinstance(await ws.recv(), bytes):
        pass
    return first_s


async def interrupt(ws: ClientConnection, id_: str, text: str) -> float:
    """Cancel an utterance during synthesis; returns seconds from `cancel` to its `end`."""
    await ws.send(json.dumps({"type": "speak", "id": id_, "text": " ".join([text] * 20)}))
    heard = 0
    while heard < RATE_HZ * 2 * 2:
        frame = await ws.recv()
        heard += len(frame) if isinstance(frame, bytes) else 0
    cancelled = time.perf_counter()
    await ws.send(json.dumps({"type": "cancel"}))
    while True:
        frame = await ws.recv()
        if not isinstance(frame, bytes):
            assert json.loads(frame)["reason"] == "cancelled", frame
            return time.perf_counter() - cancelled


def row(name: str, seconds: list[float]) -> list[str]:
    ms = [s * 1000 for s in seconds]
    return [name, f"{median(ms):.1f}", f"{percentile(ms, 95):.1f}", f"{max(ms):.1f}"]


async def measure(fleet: LocalFleet, rounds: int, sessions: int) -> None:
    ways = {"gateway": fleet.url("gateway", scheme="ws"), "direct": fleet.url("tts", scheme="ws")}
    sockets = {way: await open_session(f"{url}/ws/tts") for way, url in ways.items()}
    simple = await connect(f"{ways['gateway']}/ws/tts", compression=None, proxy=None)
    first: dict[str, list[float]] = {way: [] for way in ways}
    silent: dict[str, list[float]] = {way: [] for way in ways}
    simple_first: list[float] = []
    for index in range(rounds + 1):
        text = ANSWERS[index % len(ANSWERS)]
        sentence, clause = text[: text.index(".") + 1], text[: text.index(",") + 1]
        simple_s = await speak_in_simple_mode(simple, clause)
        if index:  # the first round warms up
            simple_first.append(simple_s)
        for way, ws in sockets.items():
            first_s, _ = await converse(ws, f"u{index}", sentence)
            if index:
                first[way].append(first_s)
        for way, ws in sockets.items():
            silent_s = await interrupt(ws, f"c{index}", text)
            if index:
                silent[way].append(silent_s)
            await anyio.sleep(0.3)  # the step that was in progress is finished first
    for ws in [*sockets.values(), simple]:
        await ws.close()
    rows = [row(f"clause to first audio, {way}", first[way]) for way in ways]
    rows.append(row("the clause alone in the simple mode, gateway", simple_first))
    added = [f - s for f, s in zip(first["gateway"], simple_first, strict=True)]
    rows.append(["session − simple (of pairs)", f"{median(added) * 1000:+.1f}", "", ""])
    rows += [row(f"cancel to silence, {way}", silent[way]) for way in ways]
    table(["one session", "ms (median)", "(p95)", "(max)"], rows)
    await measure_many(fleet, f"{ways['gateway']}/ws/tts", sessions)


async def measure_many(fleet: LocalFleet, url: str, sessions: int) -> None:
    everything: list[tuple[float, Playback]] = []
    sockets = [await open_session(url) for _ in range(sessions)]

    async def converse_in_turns(number: int, ws: ClientConnection) -> None:
        # Sessions start at different moments within two seconds.
        await anyio.sleep(2 * number / sessions)
        for turn in range(TURNS):
            text = ANSWERS[(number + turn) % len(ANSWERS)]
            first_s, played = await converse(ws, f"u{turn}", text)
            everything.append((first_s, played))
            await anyio.sleep(max(0.0, played.until - time.perf_counter()))

    cpu_before, began = cpu_s(fleet), time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for number, ws in enumerate(sockets):
            tasks.start_soon(converse_in_turns, number, ws)
    took_s = time.perf_counter() - began
    cpu = {name: after - cpu_before[name] for name, after in cpu_s(fleet).items()}
    for ws in sockets:
        await ws.close()
    say()
    table(
        [f"{sessions} sessions through the gateway", "ms (median)", "(p95)", "(max)"],
        [row("clause to first audio", [first_s for first_s, _ in everything])],
    )
    say()
    late = [played for _, played in everything if played.underruns]
    longest_s = max((played.underrun_s for played in late), default=0.0)
    audio_s = sum(played.audio_s for _, played in everything)
    say(f"{len(everything)} utterances, {audio_s:.0f} s of audio in {took_s:.0f} s")
    say(f"underruns: {len(late)}" + (f", {longest_s * 1000:.0f} ms at most" if late else ""))
    for name, used_s in cpu.items():
        say(f"CPU of {name}: {used_s / took_s:.2f} cores, {used_s / audio_s:.4f} s per s of audio")


def cpu_s(fleet: LocalFleet) -> dict[str, float]:
    """Return the CPU time that the services have used."""
    used = {}
    for name in ("gateway", "tts"):
        times = psutil.Process(fleet.processes[name].pid).cpu_times()
        used[name] = times.user + times.system
    return used


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=30, help="rounds of one session; default: 30")
    parser.add_argument("--sessions", type=int, default=16, help="sessions at once; default: 16")
    arguments = parser.parse_args()
    say(machine())
    say()
    with tempfile.TemporaryDirectory() as folder, LocalFleet(Path(folder)) as fleet:
        anyio.run(measure, fleet, arguments.rounds, arguments.sessions)


if __name__ == "__main__":
    main()
