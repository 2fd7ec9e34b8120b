"""Many speakers and many listeners at once, none of whom hears another."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from deploy.local import LocalFleet
from deploy.local.words import words
from tests.support.speech import hear, say
from tests.support.wire import open_ws, read_utterance

pytestmark = pytest.mark.fleet

NUMBERS = [
    *("one", "two", "three", "four", "five", "six", "seven", "eight"),
    *("nine", "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen"),
]
TEXTS = [
    f"This is speaker {number}. The voice that you hear now belongs to nobody else."
    for number in NUMBERS
]


def test_16_speakers_at_once_each_get_their_own_audio_whole(fleet: LocalFleet) -> None:
    alone = [say(fleet, text) for text in TEXTS]
    assert len(set(alone)) == len(TEXTS)
    together = threading.Barrier(len(TEXTS))

    def speak(text: str) -> bytes:
        with open_ws(f"{fleet.url('gateway', scheme='ws')}/ws/tts") as ws:
            together.wait(30)
            ws.send(json.dumps({"text": text}))
            said = read_utterance(ws)
        assert said.closing == '{"type":"end"}'
        return said.pcm

    with ThreadPoolExecutor(len(TEXTS)) as threads:
        at_once = list(threads.map(speak, TEXTS))
    assert at_once == alone


def test_8_listeners_at_once_each_get_their_own_words(fleet: LocalFleet) -> None:
    recordings = [say(fleet, text) for text in TEXTS[:8]]
    with ThreadPoolExecutor(8) as threads:
        heard = list(threads.map(lambda pcm: hear(fleet, pcm)["text"], recordings))
    assert [words(text) for text in heard] == [words(text) for text in TEXTS[:8]]
