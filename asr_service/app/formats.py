"""What a transcript looks like when it is sent: JSON, plain text, subtitles."""

from __future__ import annotations

from collections.abc import Iterable

from common.protocol.recognition import (
    Segment,
    Transcript,
    TranscriptFormat,
    VerboseSegment,
    VerboseTranscript,
    VerboseWord,
)


def render(
    transcript: Transcript, wanted: TranscriptFormat, *, language: str, audio_ms: int
) -> str:
    """`transcript` in the format that is wanted."""
    if wanted == "json":
        return transcript.model_dump_json()
    if wanted == "verbose_json":
        return verbose(transcript, language=language, audio_ms=audio_ms).model_dump_json()
    if wanted == "srt":
        return srt(transcript.segments)
    if wanted == "vtt":
        return vtt(transcript.segments)
    return f"{transcript.text}\n" if transcript.text else ""


def verbose(transcript: Transcript, *, language: str, audio_ms: int) -> VerboseTranscript:
    """With times in seconds, and the words in one list."""
    words: list[VerboseWord] | None = None
    if any(segment.words is not None for segment in transcript.segments):
        words = [
            VerboseWord(
                word=word.text.strip(),
                start=word.start_ms / 1000,
                end=word.end_ms / 1000,
                probability=word.probability,
            )
            for segment in transcript.segments
            for word in segment.words or []
        ]
    return VerboseTranscript(
        language=language,
        duration=audio_ms / 1000,
        text=transcript.text,
        segments=[
            VerboseSegment(id=i, start=s.start_ms / 1000, end=s.end_ms / 1000, text=s.text)
            for i, s in enumerate(transcript.segments)
        ],
        words=words,
        warning=transcript.warning,
    )


def srt(segments: Iterable[Segment]) -> str:
    """SubRip: numbered cues, with a comma before the milliseconds."""
    return "".join(
        f"{number}\n{_cue_times(segment, ',')}\n{_cue_text(segment)}\n\n"
        for number, segment in enumerate(segments, start=1)
    )


def vtt(segments: Iterable[Segment]) -> str:
    """WebVTT (W3C), in which `&`, `<` and `>` are markup."""
    markup = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
    return "WEBVTT\n\n" + "".join(
        f"{_cue_times(segment, '.')}\n{_cue_text(segment).translate(markup)}\n\n"
        for segment in segments
    )


def _cue_times(segment: Segment, point: str) -> str:
    # Players drop a cue that ends when it begins.
    end_ms = max(segment.end_ms, segment.start_ms + 1)
    return f"{_clock(segment.start_ms, point)} --> {_clock(end_ms, point)}"


def _clock(ms: int, point: str) -> str:
    """`HH:MM:SS`, then the milliseconds."""
    minutes, rest = divmod(ms, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"


def _cue_text(segment: Segment) -> str:
    """On one line: an empty one would end the cue. An arrow would begin one."""
    return " ".join(segment.text.split()).replace("-->", "->")
