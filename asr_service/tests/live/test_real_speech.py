"""Live recognition with the real model, of the embedded voice's speech, over a real socket."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from rapidfuzz.distance import Levenshtein

from asr_service.app.main import build
from asr_service.app.settings import AsrSettings
from asr_service.app.weights import resolve
from asr_service.app.whisper import WhisperEngine
from deploy.words import words
from tests.support.server import Served, served
from tests.support.wire import close_of, open_ws
from tts_service.app.engines.hibari import HibariEngine
from tts_service.app.utterance import SpeechOptions, utter

pytestmark = pytest.mark.models

SENTENCES = (
    "The garden gate was open when we came home.",
    "After a while, rain began to fall on the old wooden roof, and we sat by the window and talked "
    "about the summer that had gone by, and about the people who used to sit with us.",
    "Nobody had seen the cat since Tuesday morning.",
)


@pytest.fixture(scope="module")
def at() -> Iterator[Served]:
    def load() -> WhisperEngine:
        return WhisperEngine(
            resolve("tiny.en"), compute_type="int8", workers=2, threads_per_worker=1
        )

    with served(build(AsrSettings(asr_workers=2), load)) as at:
        yield at


@pytest.fixture(scope="module")
def speech() -> bytes:
    """The sentences, 1 s apart; about 18 s."""
    voice = HibariEngine("hibari/heart", max_parallel=1)
    pause = bytes(32_000)
    said = [b"".join(utter(voice, text, SpeechOptions(16000))) for text in SENTENCES]
    return pause + pause.join(said) + pause


@pytest.fixture(scope="module")
def whole(at: Served, speech: bytes) -> list[str]:
    """The words that a request for the whole recording hears."""
    answer = httpx.post(f"{at.http}/api/stt/bytes?sr=16000", content=speech, timeout=60)
    return words(answer.json()["text"])


def listen(at: Served, pcm: bytes, *, hurry: float = 0, **start: Any) -> list[dict[str, Any]]:
    """What comes of `pcm`, sent `hurry` times as fast as it is spoken, or as it is taken."""
    with open_ws(f"{at.ws}/ws/stt") as ws:
        ws.send(json.dumps({"type": "start", **start}))

        def send() -> None:
            for i in range(0, len(pcm), 3200):
                ws.send(pcm[i : i + 3200])
                time.sleep(0.1 / hurry if hurry else 0)
            ws.send('{"type": "finish"}')

        sender = threading.Thread(target=send)
        sender.start()
        messages: list[dict[str, Any]] = []
        while not messages or messages[-1]["type"] != "end":
            messages.append(json.loads(ws.recv(60)))
        sender.join()
        assert close_of(ws) == (1000, "")
    return messages


@pytest.mark.parametrize("partials", [False, True])
def test_a_finished_stream_has_the_words_of_the_whole_recording(
    at: Served, speech: bytes, whole: list[str], partials: bool
) -> None:
    messages = listen(at, speech, hurry=4 if partials else 0, partials=partials)
    finals = [m for m in messages if m["type"] == "final"]
    assert [m["reason"] for m in finals] == ["endpoint"] * 3
    assert messages[-1]["text"] == " ".join(m["text"] for m in finals)
    # A word of these is more than a point; partials may settle one that would still have changed.
    heard = words(messages[-1]["text"])
    assert Levenshtein.distance(heard, whole) <= (1 if partials else 0)
    assert any(m["type"] == "partial" for m in messages) is partials


def test_what_was_stable_never_changes(at: Served, speech: bytes) -> None:
    stable: dict[str, str] = {}
    for message in listen(at, speech, hurry=3):
        if message["type"] in ("partial", "final"):
            assert message["text"].startswith(stable.get(message["id"], ""))
        if message["type"] == "partial":
            stable[message["id"]] = message["text"][: message["stable_chars"]]
    assert len(stable) >= 2


def test_speech_is_found_where_it_is(at: Served, speech: bytes) -> None:
    messages = listen(at, speech, partials=False)
    starts = [m["at_ms"] for m in messages if m["type"] == "speech_start"]
    ends = [m["at_ms"] for m in messages if m["type"] == "speech_end"]
    assert len(starts) == len(ends) == 3
    assert 900 <= starts[0] <= 1300
    for end_ms, start_ms in zip(ends, starts[1:], strict=False):
        assert 600 <= start_ms - end_ms <= 1500


@pytest.mark.parametrize("kind", ["silence", "noise", "hum"])
def test_nobody_speaking_is_no_text(at: Served, kind: str) -> None:
    t = np.arange(5 * 16000) / 16000
    made = {
        "silence": np.zeros_like(t),
        "noise": np.random.default_rng(3).standard_normal(len(t)) * 3000,
        "hum": np.sin(2 * np.pi * 50 * t) * 10_000,
    }[kind]
    end = listen(at, made.astype("<i2").tobytes())[-1]
    assert (end["text"], end["segments"]) == ("", [])
