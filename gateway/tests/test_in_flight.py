"""Which frames start and end work in flight on a relayed WebSocket."""

from __future__ import annotations

import pytest

from gateway.app.relay import InFlightTracker, SpeechInFlightTracker

START = '>{"type": "start"}'


def after(seen: InFlightTracker, frames: list[str]) -> InFlightTracker:
    for frame in frames:
        (seen.client_sent if frame[0] == ">" else seen.service_sent)(frame[1:])
    return seen


@pytest.mark.parametrize(
    ("frames", "in_flight"),
    [
        ([], False),
        (['>{"text": "a"}'], True),
        (['>{"text": "a"}', '<{"type":"end"}'], False),
        (['>{"text": "a"}', '<{"type":"error","error":"no"}'], False),
        ([">not json"], True),
        ([START], False),
        ([START, '<{"type":"ready"}', '>{"type":"ping"}', '<{"type":"pong"}'], False),
        ([START, '>{"type":"text","id":"u1","text":"a"}'], True),
        ([START, '>{"type":"speak","id":"u1","text":"a"}', '<{"type":"begin","id":"u1"}'], True),
        ([START, '>{"type":"text","id":"u1"}', '<{"type":"error","id":"u1"}'], False),
        ([START, '>{"type":"text","id":"u1"}', '<{"type":"error"}'], True),
        ([START, '<{"type":"begin","id":"u1"}', '<{"type":"error","id":"u1"}'], True),
        ([START, '<{"type":"begin","id":"u1"}', '<{"type":"end","id":"u1"}'], False),
        ([START, '>{"type":"text","id":"u1"}', '<{"type":"end","id":"u1"}'], False),
        (
            [
                START,
                '>{"type":"speak","id":"u1"}',
                '>{"type":"speak","id":"u2"}',
                '<{"type":"begin","id":"u1"}',
                '<{"type":"end","id":"u1"}',
            ],
            True,
        ),
        ([START, '>{"type":"cancel"}', '>{"type":"close"}', ">not json", ">[1]"], False),
        ([START, '>{"type":"text","id":5}'], False),
        (['>{"text": "a"}', '<{"type":"end"}', '>{"text": "b"}'], True),
        (['>{"text": ""}', '<{"type":"error","error":"no"}', '>{"text": "b"}'], False),
    ],
)
def test_which_frames_start_and_end_work_in_flight_of_speech(
    frames: list[str], in_flight: bool
) -> None:
    assert bool(after(SpeechInFlightTracker(), frames)) is in_flight


@pytest.mark.parametrize(
    ("frames", "in_flight"),
    [
        ([], False),
        ([START], True),
        ([START, '<{"type":"error","error":"no","fatal":false}'], True),
        ([START, '<{"type":"error","error":"no","fatal":true}'], False),
        ([START, '<{"type":"end"}'], False),
        ([START, '<{"type":"end"}', '>{"type":"cancel"}'], False),
        ([START, '<{"type":"error","error":"no","fatal":true}', '>{"type":"finish"}'], False),
    ],
)
def test_other_sessions_are_in_flight_from_the_first_message_to_the_end(
    frames: list[str], in_flight: bool
) -> None:
    assert bool(after(InFlightTracker(), frames)) is in_flight


def test_audio_without_a_text_is_in_flight_in_the_simple_mode() -> None:
    seen = SpeechInFlightTracker()
    seen.service_sent_audio()
    assert seen
