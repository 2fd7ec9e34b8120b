"""Sessions of `/ws/tts` with the real voice, over the whole fleet."""

from __future__ import annotations

import re
import signal

import pytest

from deploy.local import LocalFleet
from deploy.local.words import words
from tests.fleet.conftest import StartFleet
from tests.support.speech import hear
from tests.support.wire import close_of, closing_of, open_session

pytestmark = pytest.mark.fleet

TEXT = (
    "When the rain had stopped, the children went out to play in the garden again. Doctor Smith "
    'lives at 42 Main Street. "It is half past five," she said.'
)
SENTENCES = [
    "When the rain had stopped, the children went out to play in the garden again.",
    "Doctor Smith lives at 42 Main Street.",
    '"It is half past five," she said.',
]


def test_what_is_written_token_by_token_is_spoken_whole_and_marked(fleet: LocalFleet) -> None:
    with open_session(fleet.url("gateway", scheme="ws"), timestamps="sentence") as session:
        for token in re.findall(r"\s?(?:\w+|[^\w\s])", TEXT):
            session.send("text", "u1", text=token)
        session.send("finish", "u1")
        audio, messages = session.read_utterance("u1")
    marks, end = messages[1:-1], messages[-1]
    assert [mark["text"] for mark in marks] == SENTENCES
    assert [TEXT[m["char_start"] : m["char_end"]] for m in marks] == SENTENCES
    assert [m["start_ms"] for m in marks] == [0, *(m["end_ms"] for m in marks[:-1])]
    assert marks[-1]["end_ms"] == end["audio_ms"] == round(len(audio) / 32)
    assert words(hear(fleet, audio)["text"]) == words(TEXT)
    # Each mark holds its sentence: what lies between its times says it, and nothing else.
    for mark in marks:
        part = audio[mark["start_ms"] * 32 : mark["end_ms"] * 32]
        assert words(hear(fleet, part)["text"]) == words(mark["text"])


def test_a_service_that_dies_is_a_fatal_error(start_fleet: StartFleet) -> None:
    fleet = start_fleet()
    with open_session(fleet.url("gateway", scheme="ws")) as session:
        session.send("text", "u1", text="Hello and ")
        session.read_until("begin")
        fleet.processes["tts"].kill()
        message, closed_with = closing_of(session.ws)
    assert (message["code"], message["fatal"], closed_with) == ("upstream_failed", True, 1011)


def test_a_service_that_leaves_lets_the_session_finish(start_fleet: StartFleet) -> None:
    fleet = start_fleet()
    tts = fleet.processes["tts"]
    with open_session(fleet.url("gateway", scheme="ws")) as session:
        session.send("text", "u1", text="Hello and ")
        session.read_until("begin")
        tts.send_signal(signal.SIGTERM)
        assert 20_000 < session.read_until("goaway")["deadline_ms"] <= 25_000
        session.send("text", "u1", text="goodbye.")
        session.send("finish", "u1")
        assert session.read_until("end")["reason"] == "done"
        assert close_of(session.ws) == (1001, "shutting down")
    assert tts.wait(10) == 0
