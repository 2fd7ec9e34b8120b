"""A text is the same pieces and the same audio, however it came."""

from __future__ import annotations

import json
import random
from itertools import pairwise

import httpx
import pytest

from tests.support.server import Served
from tests.support.wire import open_session, open_ws, speak
from tts_service.app.text.segmenter import (
    CONTEXT_CHARS,
    WINDOW_CHARS,
    Piece,
    Segmenter,
    split,
)

SENTENCES = [
    "Good evening, Ada.",
    "Dr. Smith paid $3.50 to J. R. Ewing.",
    "Is it 5.30 p.m. yet?",
    '"Go," he said. "Now!"',
    "The town of Ashford has 1,234,567 inhabitants, and 3,500 trees in its streets.",
    "When the rain had stopped, the children went out to play in the garden again.",
    "The old man who lived beside the river with a dog and a cat sold his boat to a stranger.",
    "Wait... What?! e.g. this, etc.",
    "(He left.) “Then what?” she asked [see Fig. 3.]",
    "No end at all and " * 9,
    "One line\n\nand a paragraph",
    "So\u00adft \U0001f600, and: loud; done",
]
ENDS = ["", " ", "\n\n"]
TEXTS = [
    first + gap + second + end
    for i, first in enumerate(SENTENCES)
    for j, second in enumerate(SENTENCES)
    for gap, end in [(" ", ENDS[(i + j) % 3])]
] + SENTENCES
"""Some hundred and fifty: each sentence alone, and before each other."""


def pieces_of(bits: list[str], *, short_first: bool) -> list[Piece]:
    segmenter = Segmenter(short_first=short_first)
    pieces = [piece for bit in bits for piece in segmenter.push(bit)]
    return pieces + list(segmenter.flush())


@pytest.mark.parametrize("short_first", [True, False])
def test_a_text_has_the_same_pieces_in_however_many_bits_it_comes(short_first: bool) -> None:
    for text in TEXTS:
        whole = split(text, short_first=short_first)
        assert pieces_of(list(text), short_first=short_first) == whole
        for at in range(1, len(text)):
            assert pieces_of([text[:at], text[at:]], short_first=short_first) == whole, text[:at]


def test_a_text_has_the_same_pieces_in_bits_of_any_length() -> None:
    chance = random.Random(1)
    for text in TEXTS:
        for _ in range(10):
            places = sorted(chance.sample(range(len(text) + 1), min(len(text), 7)))
            bits = [text[a:b] for a, b in pairwise([0, *places, len(text)])]
            assert pieces_of(bits, short_first=True) == split(text)


def test_a_text_is_the_same_audio_by_every_way_into_the_service(plain: Served) -> None:
    with (
        httpx.Client(base_url=plain.http, trust_env=False) as http,
        open_ws(f"{plain.ws}/ws/tts") as simple,
        open_session(plain.ws) as session,
    ):
        for number, text in enumerate(TEXTS):
            posted = http.post("/api/tts", json={"text": text})
            assert posted.status_code == 200
            answer = speak(simple, text)
            assert answer.closing == '{"type":"end"}'
            assert answer.pcm == posted.content, text
            session.send("speak", f"s{number}", text=text)
            assert session.read_utterance(f"s{number}")[0] == posted.content, text
            session.send("text", f"t{number}", text=text)
            session.send("finish", f"t{number}")
            assert session.read_utterance(f"t{number}")[0] == posted.content, text


def test_segments_are_the_same_audio_as_their_text(plain: Served) -> None:
    with open_ws(f"{plain.ws}/ws/tts") as ws:
        for text in SENTENCES[:4]:
            words = [{"text": word} for word in text.split()]
            whole = speak(ws, text)
            ws.send(json.dumps({"segments": words}))
            parts = []
            while isinstance(frame := ws.recv(10), bytes):
                parts.append(frame)
            assert b"".join(parts) == whole.pcm


HARD = [".", ". ", "!", " ", "\n", "a", ")", '."', "a.)", "word ", "etc. ", "a, ", "!)", "–", "…\n"]


@pytest.mark.parametrize("unit", HARD)
@pytest.mark.parametrize("in_bits", [False, True])
def test_the_work_grows_no_faster_than_the_text(unit: str, in_bits: bool) -> None:
    """Counted in the characters that are looked at, for each decision and each bit."""
    bound = 2 * (WINDOW_CHARS + CONTEXT_CHARS)
    for chars in (1000, 4000, 16_000):
        text = (unit * chars)[:chars]
        segmenter = Segmenter(short_first=True)
        for bit in text if in_bits else [text]:
            for _ in segmenter.push(bit):
                pass
        assert segmenter.examined_chars <= bound * chars
        for _ in segmenter.flush():
            pass
        assert segmenter.examined_chars <= bound * chars
