"""What the fleet says, the fleet understands."""

from __future__ import annotations

from urllib.parse import unquote

import httpx
import pytest

from deploy.local import LocalFleet
from deploy.local.words import words
from tests.support.speech import RATE_HZ, hear, say, word_error_rate

pytestmark = pytest.mark.fleet

SENTENCES = [
    "Hello.",
    "Hello world.",
    "Good morning, how are you today?",
    "The quick brown fox jumps over the lazy dog.",
    "Doctor Smith lives at 42 Main Street.",
    "The meeting is on March 3rd, 2024.",
    "That will be $12.50, please.",
    "Mr. Jones and Mrs. Brown met at 9:30 a.m. in the park.",
    "Is it going to rain tomorrow, or will the sun shine?",
    "About 75 percent of the people agreed.",
    "My name is Elizabeth, and this is my brother Michael.",
    "We drove from Chicago to New York in fourteen hours.",
    "Please turn off the lights when you leave the room!",
    "The temperature fell to minus five degrees last night.",
    "She sold 1,250 books in the first week.",
    "In 1969, two men walked on the moon for the first time.",
    "Do you remember where we put the keys to the old house?",
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age "
    "of foolishness.",
    "The library opens at eight in the morning and closes at six in the evening, except on "
    "Sundays, when it stays closed all day.",
    "When the rain had stopped, the children ran out into the garden, where the grass was still "
    "wet, and they played until their mother called them in for dinner.",
    "Every morning before the sun comes up, the old fisherman walks down to the harbor, unties his "
    "small wooden boat, and rows out past the rocks to the place where his father taught him to "
    "fish, and there he waits, quiet and patient, until the first light touches the water and the "
    "birds begin to call above the waves.",
    "Thank you very much, and have a nice day.",
]


def test_what_is_said_is_heard(fleet: LocalFleet) -> None:
    heard = [hear(fleet, say(fleet, sentence))["text"] for sentence in SENTENCES]
    assert len(SENTENCES) >= 20
    assert {1, 2} <= {len(s.split()) for s in SENTENCES}
    assert max(len(s.split()) for s in SENTENCES) >= 59
    misheard = [
        pair for pair in zip(SENTENCES, heard, strict=True) if words(pair[0]) != words(pair[1])
    ]
    assert word_error_rate(SENTENCES, heard) <= 0.05, misheard


def test_segments_are_in_order_and_within_the_audio(fleet: LocalFleet) -> None:
    pcm = say(fleet, " ".join(SENTENCES[5:15]))
    segments = hear(fleet, pcm)["segments"]
    times = [t for s in segments for t in (s["start_ms"], s["end_ms"])]
    assert len(segments) >= 5
    assert times == sorted(times)
    assert 0 <= times[0] < 1000
    assert times[-1] <= len(pcm) / 2 / RATE_HZ * 1000


def test_the_echo_of_an_echo_still_says_it(fleet: LocalFleet) -> None:
    sentence = "The library opens at eight in the morning and closes at six in the evening."
    pcm = say(fleet, sentence)
    for _ in range(2):
        url = f"{fleet.url('gateway')}/api/echo-bytes?sr={RATE_HZ}&ch=1&fmt=s16le"
        answer = httpx.post(url, content=pcm, timeout=60)
        assert answer.status_code == 200
        assert words(unquote(answer.headers["X-Transcript"])) == words(sentence)
        pcm = answer.content
    assert words(hear(fleet, pcm)["text"]) == words(sentence)


@pytest.mark.parametrize("text", ["a" * 5000, "word " * 999 + "word.", "Yes. " * 1000])
def test_5000_characters_are_spoken_whole(fleet: LocalFleet, text: str) -> None:
    assert len(text) == 5000
    assert len(say(fleet, text)) > 60 * 2 * RATE_HZ
