"""Print what is said in an audio file.

    python client/transcribe.py --file talk.mp3

As a module: `transcribe` for all of it, `listen` for segments as they are found, `written` for
subtitles and the like; each takes a recording (`read_wav`) or the bytes of a file of any kind.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

if not __package__:
    # Run as a script: the packages are one folder up, and this folder holds no modules of its own.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from client.answers import post
from client.cli import EXIT_CODES, complain, exit_code
from client.errors import BadInput, BrokenOff, NoSpeech
from client.wav import Recording, read_wav
from common.protocol import NDJSON, TranscriptFormat

DEFAULT_URL = "http://localhost:8000"


@dataclass(frozen=True)
class Word:
    """A word; times in ms from the first sample."""

    start_ms: int
    end_ms: int
    text: str
    probability: float


@dataclass(frozen=True)
class Segment:
    """A stretch of speech; times in ms from the first sample. Words only if they were asked for."""

    start_ms: int
    end_ms: int
    text: str
    words: tuple[Word, ...] = ()


@dataclass(frozen=True)
class Transcript:
    """What was said; empty if nobody speaks. `warning` is a sentence about a damaged file."""

    text: str
    segments: tuple[Segment, ...]
    warning: str = ""


def transcribe(
    audio: Recording | bytes,
    url: str = DEFAULT_URL,
    *,
    language: str = "en",
    words: bool = False,
    timeout_s: float = 120.0,
) -> Transcript:
    """What is said in `audio`. `timeout_s` is for each wait for the server.

    Raises as `client.answers.post` does.
    """
    body = written(audio, "json", url, language=language, words=words, timeout_s=timeout_s)
    try:
        message = json.loads(body)
        segments = tuple(_segment(s) for s in message["segments"])
        return Transcript(str(message["text"]), segments, str(message.get("warning", "")))
    except (ValueError, KeyError, TypeError):
        raise BrokenOff(f"The server answered what is no transcript: {body[:80]!r}.") from None


def written(
    audio: Recording | bytes,
    format: TranscriptFormat,  # noqa: A002
    url: str = DEFAULT_URL,
    *,
    language: str = "en",
    words: bool = False,
    timeout_s: float = 120.0,
) -> str:
    """What is said in `audio`, as the server writes it in `format`. Raises as `transcribe` does."""
    path, content, query = _request(audio, language, words)
    if format != "json":
        query["format"] = format
    with post(url, path, content=content, query=query, timeout_s=timeout_s) as answer:
        return answer.read().decode(errors="replace")


def listen(
    audio: Recording | bytes,
    url: str = DEFAULT_URL,
    *,
    language: str = "en",
    words: bool = False,
    timeout_s: float = 120.0,
    on_warning: Callable[[str], None] = lambda warning: None,
) -> Iterator[Segment]:
    """The segments of `audio` as they are found. Raises as `transcribe` does.

    `on_warning` is called at the end with a sentence about a damaged file.
    """
    path, content, query = _request(audio, language, words)
    with post(
        url, path, content=content, query=query, timeout_s=timeout_s, accept=NDJSON
    ) as answer:
        for line in answer.lines():
            try:
                message = json.loads(line)
                kind = message["type"]
                if kind == "error":
                    raise BrokenOff(f"The server failed on the rest: {message['error']}")
                if kind == "end":
                    if message.get("warning"):
                        on_warning(str(message["warning"]))
                    return
                segment = _segment(message)
            except (ValueError, KeyError, TypeError):
                raise BrokenOff(f"The server sent what is no segment: {line[:80]!r}.") from None
            yield segment
    raise BrokenOff("The answer ended before it was whole.")


def _request(
    audio: Recording | bytes, language: str, words: bool
) -> tuple[str, bytes, dict[str, str | int]]:
    """Path, body and query of the request."""
    asked: dict[str, str | int] = {"lang": language}
    if words:
        asked["words"] = "true"
    if isinstance(audio, bytes):
        return "/api/stt/file", audio, asked
    return "/api/stt/bytes", audio.pcm, {"sr": audio.sample_rate_hz, "ch": 1, **asked}


def _segment(message: dict[str, Any]) -> Segment:
    """Raises what happens if `message` is none."""
    words = tuple(
        Word(int(w["start_ms"]), int(w["end_ms"]), str(w["text"]), float(w["probability"]))
        for w in message.get("words") or ()
    )
    return Segment(int(message["start_ms"]), int(message["end_ms"]), str(message["text"]), words)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Print what is said in an audio file.", epilog=EXIT_CODES
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--file", type=Path, help="MP3, FLAC, Ogg, WebM, M4A, WAV and the like")
    source.add_argument("--wav", type=Path, help="any rate, width and channel count; read here")
    parser.add_argument("--url", default=DEFAULT_URL, help="default: %(default)s")
    parser.add_argument("--lang", default="en", help="default: %(default)s")
    parser.add_argument(
        "--timeout", type=float, default=120.0, help="seconds to wait for the server; default: 120"
    )
    parser.add_argument("--times", action="store_true", help="each segment with its times")
    parser.add_argument("--words", action="store_true", help="each word with its times")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--stream", action="store_true", help="each segment as soon as it is found")
    shape.add_argument(
        "--format", choices=get_args(TranscriptFormat), help="the answer as the server writes it"
    )
    shape.add_argument("--json", action="store_const", const="json", dest="format")
    options = parser.parse_args(arguments)
    path: Path = options.file or options.wav
    audio = _bytes_of(path) if options.file else read_wav(path)
    asked = {"language": options.lang, "words": options.words, "timeout_s": options.timeout}
    if options.format:
        body = written(audio, options.format, options.url, **asked)
        print(body, end="" if body.endswith("\n") else "\n")
        spoken = _is_speech(body, options.format)
    elif options.stream:
        spoken = False
        for segment in listen(audio, options.url, on_warning=_warn, **asked):
            _print(segment, options)
            spoken = True
    else:
        transcript = transcribe(audio, options.url, **asked)
        if transcript.warning:
            _warn(transcript.warning)
        spoken = bool(transcript.text)
        if options.times or options.words:
            for segment in transcript.segments:
                _print(segment, options)
        elif spoken:
            print(transcript.text)
    if not spoken:
        raise NoSpeech(f"Nobody speaks in {path}.")


def _warn(sentence: str) -> None:
    complain(sentence, None)


def _print(segment: Segment, options: argparse.Namespace) -> None:
    for part in segment.words if options.words else (segment,):
        times = f"{part.start_ms / 1000:8.2f} {part.end_ms / 1000:8.2f}  "
        print(f"{times if options.times or options.words else ''}{part.text.strip()}", flush=True)


def _is_speech(body: str, format: TranscriptFormat) -> bool:  # noqa: A002
    if format.endswith("json"):
        try:
            return bool(json.loads(body)["text"])
        except (ValueError, KeyError, TypeError):
            raise BrokenOff(f"The server answered what is no transcript: {body[:80]!r}.") from None
    return bool(body) if format == "text" else "-->" in body


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}.") from None


if __name__ == "__main__":
    sys.exit(exit_code(main))
