"""The client library against the real fleet: what it says is heard, and echoed while it is said."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import pytest

from client import SpeechClient
from common.protocol.live import Final, SpeechStart
from common.protocol.session import Begin, End
from deploy.local import LocalFleet
from deploy.local.words import words
from tests.support.speech import RATE_HZ, say

pytestmark = pytest.mark.fleet

SENTENCES = [
    "The library opens at eight in the morning.",
    "My name is Elizabeth, and this is my brother Michael.",
]
TEXT = " ".join(SENTENCES)
PARAGRAPH = (
    "When the rain had stopped, the children ran out into the garden, where the grass was still "
    "wet, and they played until their mother called them in for dinner, and when they had eaten "
    "they sat around the fire, and the old fisherman told them how he walked down to the harbor "
    "every morning, untied his small wooden boat, and sailed out past the rocks to the place where "
    "his father had taught him to fish"
)
SILENCE = bytes(2 * RATE_HZ)


def run(fleet: LocalFleet, use: Callable[[SpeechClient], Awaitable[None]]) -> None:
    async def main() -> None:
        with anyio.fail_after(90):
            async with SpeechClient(fleet.url("gateway")) as client:
                await use(client)

    anyio.run(main)


async def token_by_token(text: str) -> AsyncIterator[str]:
    """As a language model writes it."""
    for word in text.split():
        yield f"{word} "
        await anyio.sleep(0.005)


def test_text_that_is_written_word_by_word_is_spoken_and_heard(fleet: LocalFleet) -> None:
    async def use(client: SpeechClient) -> None:
        utterance = client.speak(token_by_token(TEXT), marks=True, sample_rate=RATE_HZ)
        pcm = b"".join([chunk async for chunk in utterance])
        assert [mark.text.strip() for mark in utterance.marks] == SENTENCES
        assert utterance.marks[-1].end_ms == pytest.approx(len(pcm) / 2 / RATE_HZ * 1000, abs=1)
        transcript = await client.transcribe(pcm)
        assert words(transcript.text) == words(TEXT)
        listening = client.listen([pcm], partials=False)
        finals = [event async for event in listening if isinstance(event, Final)]
        assert words(" ".join(final.text for final in finals)) == words(TEXT)

    run(fleet, use)


def test_the_voice_loop_says_what_it_hears(fleet: LocalFleet) -> None:
    pcm = say(fleet, TEXT)

    async def use(client: SpeechClient) -> None:
        echoed = b""
        loop = client.echo([pcm, SILENCE])
        async for item in loop:
            echoed += item if isinstance(item, bytes) else b""
        assert loop.end is not None
        assert words(loop.end.text) == words(TEXT)
        assert words((await client.transcribe(echoed)).text) == words(TEXT)

    run(fleet, use)


def test_who_speaks_silences_the_voice(fleet: LocalFleet) -> None:
    pcm, interruption = say(fleet, PARAGRAPH), say(fleet, "Stop, please.")

    async def use(client: SpeechClient) -> None:
        sounding, ended = anyio.Event(), anyio.Event()

        async def spoken() -> AsyncIterator[bytes]:
            yield pcm + SILENCE
            await sounding.wait()
            yield interruption + SILENCE
            await ended.wait()

        # Half the pace is twice the work: the voice is not done before it is interrupted.
        loop = client.echo(spoken(), speed=0.5, partials=False)
        interrupted_at, silent_after_ms = 0.0, 0.0
        ends: dict[str, End] = {}
        speaking = ""
        async for item in loop:
            if isinstance(item, bytes):
                assert speaking, "audio outside of an utterance"
                sounding.set()
            elif isinstance(item, Begin):
                assert item.id not in ends
                speaking = item.id
            elif isinstance(item, SpeechStart) and sounding.is_set():
                interrupted_at = time.perf_counter()
            elif isinstance(item, End):
                if not ends:
                    silent_after_ms = (time.perf_counter() - interrupted_at) * 1000
                ends[item.id] = item
                speaking = ""
                if len(ends) == 2:
                    ended.set()
        first, second = ends.values()
        assert (first.reason, second.reason) == ("cancelled", "done")
        assert loop.end is not None
        assert words(loop.end.text) == words(f"{PARAGRAPH} Stop, please.")
        assert silent_after_ms < 1500, "from hearing of the speech to the end of the voice"

    run(fleet, use)
