"""Whatever is sent and whenever the voice reports, the session keeps the contract's rules."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from common.audio.pcm import AudioFormat
from common.errors import BadRequest, NotJson, SpeechError, SynthesisFailed
from common.protocol.session import (
    Cancel,
    Close,
    Finish,
    Flush,
    Ping,
    SendText,
    SessionCommand,
    Speak,
)
from tests.support.wire import Rules
from tts_service.app.engines.base import SynthesisWarning
from tts_service.app.session.machine import (
    REMEMBERED_IDS,
    Accept,
    CloseSocket,
    Drop,
    Effect,
    PutText,
    Send,
    SendAudio,
    SessionMachine,
)
from tts_service.app.text import TextEvent
from tts_service.app.utterance import Sentence

IDS = st.sampled_from([f"u{n}" for n in range(1, 10)])
REPORTED = st.just("the active one") | IDS
TEXTS = st.sampled_from(["", " ", "Hello. ", "a" * 15, "b" * 40])
MAX_QUEUED, MAX_CHARS = 2, 50


class SessionRules(RuleBasedStateMachine):
    """Drives a machine with any client and any voice, and checks each effect as a client would."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.machine = SessionMachine(
            AudioFormat(16000),
            max_text_chars=MAX_CHARS,
            max_queued=MAX_QUEUED,
            clock=lambda: self.now,
        )
        self.client = Rules()
        self.accepted: list[str] = []
        self.dropped: set[str] = set()
        self.text: dict[str, str] = {}
        self.text_events: dict[str, list[TextEvent]] = {}
        self.socket_closed = False
        self.leaving = False

    def see(self, effects: list[Effect]) -> list[Effect]:
        for effect in effects:
            assert not self.socket_closed, "an effect after the socket was closed"
            match effect:
                case Accept():
                    assert effect.id not in self.accepted, "accepted twice"
                    assert not self.leaving, "accepted while leaving"
                    self.accepted.append(effect.id)
                    self.text[effect.id], self.text_events[effect.id] = "", []
                case PutText():
                    assert effect.id not in self.dropped, "text for what has ended"
                    assert TextEvent.FINISH not in self.text_events[effect.id], "text behind finish"
                    if isinstance(effect.event, str):
                        self.text[effect.id] += effect.event
                    else:
                        self.text_events[effect.id].append(effect.event)
                case Drop():
                    assert effect.id in self.accepted
                    assert effect.id not in self.dropped, "dropped twice"
                    self.dropped.add(effect.id)
                case SendAudio():
                    self.client.see(effect.chunk)
                case Send():
                    message = json.loads(effect.message.frame())
                    if message["type"] == "end":
                        assert message["id"] in self.dropped, "an end of what is still spoken"
                    self.client.see(message)
                case CloseSocket():
                    self.socket_closed = True
        return effects

    # --- the client ---

    @rule(id_=IDS, text=TEXTS)
    def sends_text(self, id_: str, text: str) -> None:
        self.says(SendText(type="text", id=id_, text=text), id_)

    @rule(id_=IDS, text=TEXTS)
    def speaks(self, id_: str, text: str) -> None:
        self.says(Speak(type="speak", id=id_, text=text), id_)

    @rule(id_=IDS)
    def flushes(self, id_: str) -> None:
        self.says(Flush(type="flush", id=id_), id_)

    @rule(id_=IDS)
    def finishes(self, id_: str) -> None:
        self.says(Finish(type="finish", id=id_), id_)

    @rule(id_=IDS | st.none(), tail=st.sampled_from([b"", bytes(160)]))
    def cancels(self, id_: str | None, tail: bytes) -> None:
        open_before = [i for i in self.accepted if i not in self.dropped]
        self.see(self.machine.receive(Cancel(type="cancel", id=id_), tail))
        for id_cancelled in open_before:
            if id_ in (None, id_cancelled):
                assert self.client.ended[id_cancelled] == "cancelled"

    @rule()
    def pings(self) -> None:
        effects = self.see(self.machine.receive(Ping(type="ping", nonce="n")))
        assert len(effects) == (0 if self.socket_closed else 1)

    @rule()
    def sends_nonsense(self) -> None:
        effects = self.see(self.machine.refuse(BadRequest("nonsense"), "u1"))
        assert len(effects) == (0 if self.socket_closed else 1)

    @precondition(lambda self: not self.leaving and len(self.accepted) > 3)
    @rule()
    def closes(self) -> None:
        self.see(self.machine.receive(Close(type="close")))
        self.leaving = True

    def says(self, message: SessionCommand, id_: str) -> None:
        """What is said of an utterance is done, or refused by an error that names it."""
        was_open = not self.socket_closed
        effects = self.see(self.machine.receive(message))
        done = [e for e in effects if isinstance(e, Accept | PutText)]
        errors = [
            e.message.id for e in effects if isinstance(e, Send) and e.message.type == "error"
        ]
        nothing_to_do = isinstance(message, SendText) and not message.text
        assert errors in ([], [id_])
        assert bool(done) + bool(errors) == 1 or nothing_to_do or not was_open

    # --- the voice, which may report late ---

    def meant(self, id_: str) -> str:
        return id_ if id_.startswith("u") else self.machine.active or "u1"

    @rule(id_=REPORTED)
    def begins(self, id_: str) -> None:
        self.see(self.machine.begun(self.meant(id_)))

    @rule(id_=REPORTED, frames=st.integers(1, 3))
    def sounds(self, id_: str, frames: int) -> None:
        id_ = self.meant(id_)
        for _ in range(frames):
            self.now += 0.04
            self.see(self.machine.audio(id_, bytes(1280), 0.01))

    @rule(id_=REPORTED)
    def marks(self, id_: str) -> None:
        id_ = self.meant(id_)
        effects = self.machine.mark(id_, Sentence(0, 3, 0, 16000))
        for effect in self.see(effects):
            assert isinstance(effect, Send)
            assert effect.message.type == "mark"
            assert effect.message.text == self.text[id_][:3]

    @rule(id_=REPORTED)
    def is_flushed(self, id_: str) -> None:
        id_ = self.meant(id_)
        self.see(self.machine.flushed(id_))
        self.see(self.machine.warning(id_, SynthesisWarning("stalled", "It stalled.", 1600)))

    @rule(id_=REPORTED)
    def is_done(self, id_: str) -> None:
        active, id_ = self.machine.active, self.meant(id_)
        self.see(self.machine.done(id_))
        if id_ == active and self.client.ended.get(id_) == "done":
            assert self.machine.active != id_

    @rule(id_=REPORTED)
    def fails(self, id_: str) -> None:
        self.see(self.machine.failed(self.meant(id_), SynthesisFailed("The voice failed.")))

    # --- the server ---

    @precondition(lambda self: not self.leaving and len(self.accepted) > 3)
    @rule()
    def leaves(self) -> None:
        self.see(self.machine.go_away(1000, "shutting down"))
        self.leaving = True

    # A session that ends before it did much is not worth the rest of a run.
    @precondition(lambda self: len(self.accepted) > 4)
    @rule(error=st.sampled_from([NotJson("no JSON"), None]))
    def ends(self, error: SpeechError | None) -> None:
        self.see(self.machine.expire("idle") if error is None else self.machine.fatal(error))
        assert self.socket_closed
        assert self.machine.closed

    # --- what holds always ---

    @invariant()
    def whatever_was_accepted_is_open_or_has_ended_once(self) -> None:
        still_open = [id_ for id_ in self.accepted if id_ not in self.dropped]
        assert set(self.client.ended) == self.dropped
        assert self.machine.active == (still_open[0] if still_open else None)
        assert len(still_open) <= MAX_QUEUED + 1
        assert all(len(text) <= MAX_CHARS for text in self.text.values())
        assert self.machine.closed == self.socket_closed

    def teardown(self) -> None:
        """From anywhere, a client that closes and a voice that works come to the end."""
        self.see(self.machine.receive(Close(type="close")))
        while (active := self.machine.active) is not None:
            assert TextEvent.FINISH in self.text_events[active], "it would wait for text for ever"
            self.see(self.machine.begun(active))
            self.see(self.machine.done(active))
            assert active in self.dropped, "it would never end"
        assert self.socket_closed
        assert sorted(self.client.ended) == sorted(self.accepted)


SessionRules.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestSessionRules = SessionRules.TestCase


def machine(clock: Any = None) -> SessionMachine:
    return SessionMachine(
        AudioFormat(16000), max_text_chars=50, max_queued=4, clock=clock or (lambda: 0.0)
    )


def sent(effects: list[Effect]) -> list[dict[str, Any]]:
    return [json.loads(e.message.frame()) for e in effects if isinstance(e, Send)]


def test_times_are_counted_from_where_the_contract_says() -> None:
    now = [10.0]
    session = machine(lambda: now[0])
    session.receive(Speak(type="speak", id="u1", text="Hello"))
    now[0] = 10.012
    (begin,) = sent(session.begun("u1"))
    assert begin == {"type": "begin", "id": "u1", "queue_ms": 12}
    now[0] = 10.054
    session.audio("u1", bytes(32000), 0.05)
    (end,) = sent(session.done("u1"))
    assert end == {
        "type": "end",
        "id": "u1",
        "reason": "done",
        "audio_ms": 1000,
        "first_audio_ms": 42,
        "rtf": 0.05,
    }


def test_one_that_never_sounded_says_so() -> None:
    session = machine()
    session.receive(SendText(type="text", id="u1", text="Hello"))
    (end,) = sent(session.receive(Cancel(type="cancel")))
    assert (end["audio_ms"], end["first_audio_ms"], end["rtf"]) == (0, None, None)


def test_the_fade_belongs_to_the_utterance_and_precedes_its_end() -> None:
    session = machine()
    session.receive(Speak(type="speak", id="u1", text="Hello"))
    session.begun("u1")
    audio, _, end = session.receive(Cancel(type="cancel"), bytes(160))
    assert audio == SendAudio(bytes(160))
    assert isinstance(end, Send)
    assert sent([end])[0]["audio_ms"] == 5


@pytest.mark.parametrize("count", [REMEMBERED_IDS + 5])
def test_what_is_remembered_of_a_long_session_is_bounded(count: int) -> None:
    session = machine()
    for number in range(count):
        session.receive(Speak(type="speak", id=str(number), text="Hello"))
        session.begun(str(number))
        session.done(str(number))
    assert len(session._used) == REMEMBERED_IDS
    assert sent(session.receive(Finish(type="finish", id=str(count - 1))))[0]["type"] == "error"
