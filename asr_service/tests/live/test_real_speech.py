"""Live recognition with the real model, of the embedded voice's speech, over a real socket."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from rapidfuzz.distance import Levenshtein

from asr_service.app.live.vad import SileroVoiceActivity
from asr_service.app.main import build
from asr_service.app.settings import AsrSettings
from asr_service.app.whisper import WhisperEngine, resolve
from asr_service.tests.live.stream import Stream, assert_the_rules_hold
from common.protocol.live import Final, Partial
from deploy.local.words import words
from tests.support.server import Served, served
from tests.support.speaking import speech_of
from tests.support.wire import close_of, open_ws
from tts_service.app.engines.hibari import HibariEngine
from tts_service.app.utterance import SpeechOptions

pytestmark = pytest.mark.models

SENTENCES = (
    "The garden gate was open when we came home.",
    "After a while, rain began to fall on the old wooden roof, and we sat by the window and talked "
    "about the summer that had gone by, and about the people who used to sit with us.",
    "Nobody had seen the cat since Tuesday morning.",
)


@pytest.fixture(scope="module")
def engine() -> WhisperEngine:
    return WhisperEngine(resolve("tiny.en"), compute_type="int8", workers=2, threads_per_worker=1)


@pytest.fixture(scope="module")
def at(engine: WhisperEngine) -> Iterator[Served]:
    with served(build(AsrSettings(asr_workers=2), lambda: engine)) as at:
        yield at


@pytest.fixture(scope="module")
def speech() -> bytes:
    """The sentences, 1 s apart; about 18 s."""
    voice = HibariEngine("hibari/heart", max_parallel=1)
    pause = bytes(32_000)
    said = [speech_of(voice, text, SpeechOptions(16000)) for text in SENTENCES]
    return pause + pause.join(said) + pause


@pytest.fixture(scope="module")
def whole(at: Served, speech: bytes) -> list[str]:
    """The words of a request with the whole recording."""
    answer = httpx.post(f"{at.http}/api/stt/bytes?sr=16000", content=speech, timeout=60)
    return words(answer.json()["text"])


def listen(at: Served, pcm: bytes, **start: Any) -> list[dict[str, Any]]:
    """Return the messages that answer `pcm`, sent as fast as it is read."""
    with open_ws(f"{at.ws}/ws/stt") as ws:
        ws.send(json.dumps({"type": "start", **start}))

        def send() -> None:
            for i in range(0, len(pcm), 3200):
                ws.send(pcm[i : i + 3200])
            ws.send('{"type": "finish"}')

        sender = threading.Thread(target=send)
        sender.start()
        messages: list[dict[str, Any]] = []
        while not messages or messages[-1]["type"] != "end":
            messages.append(json.loads(ws.recv(60)))
        sender.join()
        assert close_of(ws) == (1000, "")
    return messages


def test_a_finished_stream_has_the_words_of_the_whole_recording(
    at: Served, speech: bytes, whole: list[str]
) -> None:
    messages = listen(at, speech)
    finals = [m for m in messages if m["type"] == "final"]
    assert [m["reason"] for m in finals] == ["endpoint"] * 3
    assert messages[-1]["text"] == " ".join(m["text"] for m in finals)
    # One word of these is more than a point, but a partial may make one stable too early.
    assert Levenshtein.distance(words(messages[-1]["text"]), whole) <= 1


def test_without_partials_it_has_exactly_those(at: Served, speech: bytes, whole: list[str]) -> None:
    messages = listen(at, speech, partials=False)
    assert words(messages[-1]["text"]) == whole
    assert "partial" not in [m["type"] for m in messages]


def test_stable_text_never_changes(engine: WhisperEngine, speech: bytes, whole: list[str]) -> None:
    stream = Stream(delay_ms=320, recognizer=engine, activity=SileroVoiceActivity())
    end = stream.say(speech).finish()
    assert_the_rules_hold(stream.events, end)
    partials = [e for e in stream.events if isinstance(e, Partial)]
    assert len(partials) >= 15
    assert max(p.stable_chars for p in partials) >= 80
    assert Levenshtein.distance(words(end.text), whole) <= 1


@pytest.mark.parametrize(("delay_ms", "interval_ms"), [(96, 900), (992, 1984), (60_000, 400)])
def test_a_final_depends_on_its_partials_only_where_it_contradicts_stable_text(
    engine: WhisperEngine, speech: bytes, delay_ms: int, interval_ms: int
) -> None:
    def finals(*, partials: bool) -> tuple[list[Final], dict[str, str]]:
        stream = Stream(
            partials=partials,
            delay_ms=delay_ms,
            interval_ms=interval_ms,
            recognizer=engine,
            activity=SileroVoiceActivity(),
        )
        stream.say(speech).finish()
        stable = {e.id: e.text[: e.stable_chars] for e in stream.events if isinstance(e, Partial)}
        return [e for e in stream.events if isinstance(e, Final)], stable

    (without, _), (with_partials, stable) = finals(partials=False), finals(partials=True)
    assert [(f.id, f.reason) for f in with_partials] == [(f.id, f.reason) for f in without]
    for alone, final in zip(without, with_partials, strict=True):
        kept = stable.get(final.id, "")
        assert final.text.startswith(kept)
        assert final == alone or not alone.text.startswith(kept)


def test_speech_begins_and_ends_where_it_does(at: Served, speech: bytes) -> None:
    messages = listen(at, speech, partials=False)
    starts = [m["at_ms"] for m in messages if m["type"] == "speech_start"]
    ends = [m["at_ms"] for m in messages if m["type"] == "speech_end"]
    assert len(starts) == len(ends) == 3
    assert 900 <= starts[0] <= 1300
    for end_ms, start_ms in zip(ends, starts[1:], strict=False):
        assert 600 <= start_ms - end_ms <= 1500


@pytest.mark.parametrize("kind", ["silence", "noise", "hum"])
def test_audio_without_speech_gives_no_text(at: Served, kind: str) -> None:
    t = np.arange(5 * 16000) / 16000
    made = {
        "silence": np.zeros_like(t),
        "noise": np.random.default_rng(3).standard_normal(len(t)) * 3000,
        "hum": np.sin(2 * np.pi * 50 * t) * 10_000,
    }[kind]
    end = listen(at, made.astype("<i2").tobytes())[-1]
    assert (end["text"], end["segments"]) == ("", [])
