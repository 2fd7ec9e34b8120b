"""Transcripts as JSON, text and subtitles."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from asr_service.app.answers import render, srt, vtt
from common.protocol.recognition import Segment, Transcript, Word

WORDS = [
    Word(start_ms=0, end_ms=480, text=" Hello", probability=0.97),
    Word(start_ms=480, end_ms=1200, text=" world.", probability=0.5),
]
SEGMENTS = [
    Segment(start_ms=0, end_ms=1200, text="Hello world.", words=WORDS),
    Segment(start_ms=3_723_004, end_ms=3_723_004, text="a < b & c --> d"),
]
TRANSCRIPT = Transcript.of(SEGMENTS)


def test_srt_counts_its_cues_and_has_a_comma_before_the_milliseconds() -> None:
    assert srt(SEGMENTS) == (
        "1\n00:00:00,000 --> 00:00:01,200\nHello world.\n\n"
        "2\n01:02:03,004 --> 01:02:03,005\na < b & c -> d\n\n"
    )


def test_vtt_has_a_head_and_no_markup() -> None:
    assert vtt(SEGMENTS) == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:00:01.200\nHello world.\n\n"
        "01:02:03.004 --> 01:02:03.005\na &lt; b &amp; c -&gt; d\n\n"
    )


def test_without_speech_only_the_head_of_each_format_is_left() -> None:
    nothing = Transcript.of([])
    written = {
        name: render(nothing, name, language="en", audio_ms=500) for name in ("text", "srt", "vtt")
    }
    assert written == {"text": "", "srt": "", "vtt": "WEBVTT\n\n"}


@settings(max_examples=50)
@given(st.text(), st.integers(0, 10**8), st.integers(0, 10**6))
def test_no_text_breaks_a_cue(text: str, start_ms: int, length_ms: int) -> None:
    cue = Segment(start_ms=start_ms, end_ms=start_ms + length_ms, text=text)
    for written in (srt([cue, cue]), vtt([cue, cue])):
        assert written.count("-->") == 2
        assert written.count("\n\n") == 2 + written.startswith("WEBVTT")


def test_json_omits_absent_fields() -> None:
    rendered = render(
        Transcript.of([Segment(start_ms=0, end_ms=9, text="Hi.")]),
        "json",
        language="en",
        audio_ms=9,
    )
    assert rendered == '{"text":"Hi.","segments":[{"start_ms":0,"end_ms":9,"text":"Hi."}]}'


def test_json_has_words_in_their_segments() -> None:
    rendered = json.loads(render(TRANSCRIPT, "json", language="en", audio_ms=9))
    assert rendered["segments"][0]["words"][1] == {
        "start_ms": 480,
        "end_ms": 1200,
        "text": " world.",
        "probability": 0.5,
    }


def test_verbose_json_is_in_seconds_with_all_words_in_one_list() -> None:
    damaged = TRANSCRIPT.model_copy(update={"warning": "Cut."})
    assert json.loads(render(damaged, "verbose_json", language="en", audio_ms=3_800_100)) == {
        "task": "transcribe",
        "language": "en",
        "duration": 3800.1,
        "text": "Hello world. a < b & c --> d",
        "segments": [
            {"id": 0, "start": 0.0, "end": 1.2, "text": "Hello world."},
            {"id": 1, "start": 3723.004, "end": 3723.004, "text": "a < b & c --> d"},
        ],
        "words": [
            {"word": "Hello", "start": 0.0, "end": 0.48, "probability": 0.97},
            {"word": "world.", "start": 0.48, "end": 1.2, "probability": 0.5},
        ],
        "warning": "Cut.",
    }
