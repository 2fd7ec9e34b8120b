"""The transcriber by itself: whatever is spoken and however late it is decoded, the rules hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asr_service.app.live.agreement import TimedWord
from asr_service.app.live.transcriber import (
    MAX_BUFFER_MS,
    MAX_DECODED_MS,
    MAX_DECODED_PARTIAL_MS,
    NOT_AGREED_MS,
    Finals,
    StreamTranscriber,
)
from asr_service.app.live.vad import FRAME_MS, FRAME_SAMPLES
from asr_service.tests.live.stream import Stream, assert_the_rules_hold
from common.protocol.live import Final, ListenEnd, ListenEvent, Partial, SpeechEnd, SpeechStart
from tests.support.fakes import (
    GAP_SAMPLES,
    WORD_MS,
    silence,
    spoken,
    text_of,
)


def test_an_utterance_has_its_events_from_beginning_to_end() -> None:
    stream = Stream().say(silence(512)).say(spoken(*range(1, 11))).say(silence(1000))
    kinds = [event.type for event in stream.events]
    assert kinds[0] == "speech_start"
    assert set(kinds[1:-2]) == {"partial"}
    assert kinds[-2:] == ["final", "speech_end"]
    assert stream.finals == [(text_of(*range(1, 11)), "endpoint")]
    assert stream.of(SpeechStart) == [SpeechStart(at_ms=512)]
    [ended] = stream.of(SpeechEnd)
    assert isinstance(ended, SpeechEnd)
    assert 0 <= ended.at_ms - (512 + 10 * WORD_MS - GAP_SAMPLES // 16) <= FRAME_MS
    assert_the_rules_hold(stream.events, stream.finish())


def test_partials_grow_and_most_of_them_is_stable() -> None:
    stream = Stream().say(spoken(*range(1, 31)))
    partials = [e for e in stream.events if isinstance(e, Partial)]
    assert len(partials) >= 5
    words = 8 + NOT_AGREED_MS // WORD_MS
    assert all(len(p.text) - p.stable_chars <= len(text_of(1)) * words for p in partials)
    assert partials[-1].stable_chars > 50


def test_silence_is_never_recognized() -> None:
    stream = Stream().say(silence(30_000))
    assert stream.finish() == ListenEnd(audio_ms=30_016, text="", segments=[])
    assert (stream.events, stream.requests) == ([], [])


def test_a_little_audio_before_speech_is_decoded_with_it() -> None:
    stream = Stream().say(silence(3200)).say(spoken(1, 2, 3, 4, 5))
    assert 320 <= 3200 - stream.requests[0].start_ms <= 416


def test_an_utterance_is_decoded_together_with_the_audio_before_it() -> None:
    stream = Stream().say(spoken(1, 2, 3)).say(silence(5000)).say(spoken(4, 5, 6)).say(silence(800))
    first, last = stream.requests[0], stream.requests[-1]
    assert first.context_ms == 0
    # The pause between them is left out, but for the padding of speech.
    assert 3 * WORD_MS <= last.context_ms <= 3 * WORD_MS + 600
    assert len(last.samples) == (last.context_ms + last.end_ms - last.start_ms) * 16
    assert stream.finals == [("w1 w2 w3", "endpoint"), ("w4 w5 w6", "endpoint")]


def test_context_is_whole_utterances_and_never_more_than_fits() -> None:
    stream = Stream()
    utterances = [range(1, 61), range(61, 81), range(81, 101), range(101, 161)]
    for numbers in utterances:
        stream.say(spoken(*numbers)).say(silence(1000))
    lasting = [request for request in stream.requests if request.kind == "pause"]
    words_before = [request.context_ms // WORD_MS for request in lasting]
    assert words_before[0] == 0
    assert 60 <= words_before[1] < 70, "the first one"
    assert 80 <= words_before[2] < 95, "both of them"
    assert 40 <= words_before[3] < 60, "no room for the first one"
    for request in stream.requests:
        max_ms = MAX_DECODED_PARTIAL_MS if request.kind == "partial" else MAX_DECODED_MS
        assert request.context_ms == 0 or len(request.samples) <= max_ms * 16
    assert stream.finish().text == text_of(*range(1, 161))


def test_noise_does_not_become_context() -> None:
    click = (np.arange(FRAME_SAMPLES) % 4 == 0).astype("<i2") * 99
    stream = Stream().say(click.tobytes()).say(silence(1000)).say(spoken(1, 2)).say(silence(800))
    assert stream.requests[-1].context_ms == 0


def test_the_final_is_there_with_the_endpoint_if_recognition_takes_no_longer() -> None:
    stream = Stream(delay_ms=200).say(spoken(1, 2, 3)).say(silence(800))
    assert [request.kind for request in stream.requests][-1] == "pause"
    assert "final" not in [request.kind for request in stream.requests]
    assert stream.finals == [("w1 w2 w3", "endpoint")]


def test_a_pause_within_an_utterance_does_not_end_it() -> None:
    stream = Stream().say(spoken(1, 2)).say(silence(400)).say(spoken(3, 4)).say(silence(800))
    assert stream.finals == [("w1 w2 w3 w4", "endpoint")]


def test_the_end_of_one_utterance_is_not_recognized_again_in_the_next() -> None:
    stream = Stream(endpoint_ms=100)
    for number in range(1, 6):
        stream.say(spoken(number)).say(silence(160))
    assert [text for text, _ in stream.finals] == [f"w{n}" for n in range(1, 6)]


def test_without_partials_there_are_none_and_the_finals_are_the_same() -> None:
    with_, without = Stream(), Stream(partials=False)
    for stream in (with_, without):
        stream.say(spoken(*range(1, 21))).say(silence(800)).say(spoken(*range(30, 180)))
    assert with_.finish().text == without.finish().text == text_of(*range(1, 21), *range(30, 180))
    assert without.of(Partial) == []
    assert len(without.requests) < len(with_.requests) / 2


@pytest.mark.parametrize("partials", [True, False])
@pytest.mark.parametrize("delay_ms", [0, 300, 3000, 60_000])
def test_the_buffer_is_bounded_however_long_an_utterance_is_and_decoding_takes(
    partials: bool, delay_ms: int
) -> None:
    numbers = list(range(1, 200))
    stream = Stream(partials=partials, delay_ms=delay_ms, max_utterance_ms=600_000)
    end = stream.say(spoken(*numbers)).finish()
    decoded_ms = [len(request.samples) // 16 - request.context_ms for request in stream.requests]
    assert max(decoded_ms) <= MAX_BUFFER_MS
    assert max(len(request.samples) for request in stream.requests) <= MAX_DECODED_MS * 16
    assert end.text == text_of(*numbers)
    assert [reason for _, reason in stream.finals] == ["finish"]
    assert_the_rules_hold(stream.events, end)


def test_speech_without_pauses_gets_finals_by_length() -> None:
    numbers = list(range(1, 250))
    stream = Stream(max_utterance_ms=8000)
    end = stream.say(spoken(*numbers)).finish()
    reasons = [reason for _, reason in stream.finals]
    assert set(reasons[:-1]) == {"max_length"}
    assert len(reasons) >= 4
    assert end.text == text_of(*numbers)
    assert_the_rules_hold(stream.events, end)
    for segment in end.segments:
        assert segment.end_ms - segment.start_ms <= 8000 + WORD_MS


def test_finalize_makes_the_speech_so_far_final_and_the_stream_goes_on() -> None:
    stream = Stream().say(spoken(1, 2, 3, 4)).finalize().say(spoken(5, 6)).say(silence(800))
    assert stream.finals == [("w1 w2 w3 w4", "finalize"), ("w5 w6", "endpoint")]
    assert len(stream.of(SpeechStart)) == len(stream.of(SpeechEnd)) == 1
    assert_the_rules_hold(stream.events, stream.finish())


def test_finalize_in_the_pause_after_speech_ends_it() -> None:
    stream = Stream().say(spoken(1, 2)).say(silence(300)).finalize()
    assert stream.finals == [("w1 w2", "finalize")]
    assert len(stream.of(SpeechEnd)) == 1
    stream.say(silence(1000)).say(spoken(3)).say(silence(1000))
    assert stream.finals[1:] == [("w3", "endpoint")]
    assert_the_rules_hold(stream.events, stream.finish())


def test_every_finalize_is_answered_even_if_nobody_speaks() -> None:
    stream = Stream().finalize().say(silence(500)).finalize()
    assert stream.finals == [("", "finalize")] * 2
    assert_the_rules_hold(stream.events, stream.finish())


def test_a_noise_without_words_is_an_empty_final() -> None:
    click = (np.arange(FRAME_SAMPLES) % 4 == 0).astype("<i2") * 99
    stream = Stream().say(click.tobytes()).say(silence(1000))
    assert stream.finals == [("", "endpoint")]
    assert stream.finish().segments == []


utterances_st = st.lists(
    st.tuples(st.lists(st.integers(1, 290), min_size=1, max_size=60), st.integers(0, 1500)),
    max_size=6,
)


@settings(max_examples=40, deadline=None)
@given(
    utterances=utterances_st,
    partials=st.booleans(),
    endpoint_ms=st.integers(100, 1200),
    max_utterance_ms=st.integers(5000, 30_000),
    delay_ms=st.integers(0, 4000),
    interval_ms=st.integers(100, 3000),
    finalize=st.booleans(),
)
def test_the_rules_hold_whatever_is_spoken_and_however_late_it_is_decoded(
    utterances: list[tuple[list[int], int]],
    partials: bool,
    endpoint_ms: int,
    max_utterance_ms: int,
    delay_ms: int,
    interval_ms: int,
    finalize: bool,
) -> None:
    stream = Stream(partials, endpoint_ms, max_utterance_ms, interval_ms, delay_ms)
    for numbers, pause_ms in utterances:
        stream.say(spoken(*numbers)).say(silence(pause_ms))
        if finalize:
            stream.finalize()
    end = stream.finish()
    assert_the_rules_hold(stream.events, end)
    assert end.text.split() == [f"w{n}" for numbers, _ in utterances for n in numbers]


@settings(max_examples=40, deadline=None)
@given(
    utterances=utterances_st,
    endpoint_ms=st.integers(100, 1200),
    max_utterance_ms=st.integers(5000, 30_000),
    delay_ms=st.integers(0, 4000),
    interval_ms=st.integers(100, 3000),
)
@example([(list(range(1, 200)), 0)], 600, 15_000, 100, 400)
@example([(list(range(1, 200)), 0)], 600, 30_000, 3000, 400)
def test_finals_do_not_depend_on_when_partials_come_or_whether(
    utterances: list[tuple[list[int], int]],
    endpoint_ms: int,
    max_utterance_ms: int,
    delay_ms: int,
    interval_ms: int,
) -> None:
    with_partials = Stream(True, endpoint_ms, max_utterance_ms, interval_ms, delay_ms)
    without = Stream(False, endpoint_ms, max_utterance_ms)
    for stream in (with_partials, without):
        for numbers, pause_ms in utterances:
            stream.say(spoken(*numbers)).say(silence(pause_ms))
    assert with_partials.finish() == without.finish()
    assert with_partials.of(Final) == without.of(Final)
    assert _cuts(with_partials) == _cuts(without)


def _cuts(stream: Stream) -> list[tuple[int, int, int]]:
    """The audio that each cut was decided on."""
    kinds = ("cut", "max_length")
    return [(r.start_ms, r.end_ms, r.context_ms) for r in stream.requests if r.kind in kinds]


def test_a_final_keeps_stable_text_that_its_own_decode_contradicts() -> None:
    transcriber = StreamTranscriber(endpoint_ms=600, partials=True, max_utterance_ms=30_000)
    frame = np.zeros(FRAME_SAMPLES, np.float32)
    heard = [TimedWord(100, 400, " Do"), TimedWord(400, 900, " reset"), TimedWord(900, 999, " it")]
    events: list[ListenEvent] = []
    for _ in range(2):
        for _ in range(32):
            events += transcriber.push(frame, 1.0)
        request = transcriber.next_request(400, None)
        assert request is not None
        events += transcriber.apply(request, heard, request.end_ms)
    partial = events[-1]
    assert isinstance(partial, Partial)
    assert partial.text[: partial.stable_chars] == "Do reset it"
    events = transcriber.finish(transcriber.audio_ms)
    request = transcriber.next_request(400, None)
    assert request is not None
    again = [replace(heard[0], text=" To"), *heard[1:], TimedWord(1500, 1900, " now.", True)]
    final, _ = transcriber.apply(request, again, request.end_ms)
    assert isinstance(final, Final)
    assert final.text == "Do reset it now."


def test_segments_are_in_order_even_if_the_words_of_two_finals_overlap() -> None:
    finals = Finals()
    finals.add("t1", [TimedWord(100, 1000, " one", ends_segment=True)], "endpoint")
    second = finals.add(
        "t2",
        [TimedWord(900, 950, " two", ends_segment=True), TimedWord(980, 1200, " three")],
        "endpoint",
    )
    finals.audio_ms = 2000
    end = finals.end()
    assert [(s.start_ms, s.end_ms) for s in end.segments] == [
        (100, 1000),
        (1000, 1000),
        (1000, 1200),
    ]
    assert second.segments == end.segments[1:]
    assert end.text == "one two three"
