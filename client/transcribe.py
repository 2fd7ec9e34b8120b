"""Print what is said in an audio file.

    python client/transcribe.py --file talk.mp3

As a module: `transcribe` for all of it, `listen` for segments as they are found, `written` for
subtitles and the like; each takes a recording (`read_wav`), or a file of any kind by its path or
its content.
"""

from __future__ import annotations

import argparse
import io
import json
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

if not __package__:
    runpy.run_path(str(Path(__file__).with_name("standalone.py")))

from typing_extensions import Unpack

from client.blocking import background_loop
from client.cli import EXIT_CODES, add_url_option, exit_code, print_error
from client.connection import DEFAULT_URL
from client.errors import BrokenOff, NoSpeech
from client.recordings import Recording, TranscriptOptions
from client.retry import ONCE
from client.speech_client import SpeechClient, Timeouts
from client.wav import read_wav
from common.protocol.recognition import Segment, Transcript, TranscriptFormat

Audio = Recording | bytes | str | Path
"""A recording; or a file of any kind, by its content or its path."""


def transcribe(
    audio: Audio,
    url: str = DEFAULT_URL,
    *,
    timeout_s: float = 120.0,
    **options: Unpack[TranscriptOptions],
) -> Transcript:
    """Return the transcript of `audio`. `timeout_s` is for each wait for the server.

    Raises as `SpeechClient.transcribe` does.
    """
    with background_loop() as loop, loop.within(_client(url, timeout_s)) as client:
        return loop.call(client.transcribe, **_recorded(audio), **options)


def written(
    audio: Audio,
    format: TranscriptFormat,
    url: str = DEFAULT_URL,
    *,
    timeout_s: float = 120.0,
    **options: Unpack[TranscriptOptions],
) -> str:
    """Return the transcript as the server writes it in `format`. Raises as `transcribe` does."""
    with background_loop() as loop, loop.within(_client(url, timeout_s)) as client:
        return loop.call(client.transcribe_as, format, **_recorded(audio), **options)


def listen(
    audio: Audio,
    url: str = DEFAULT_URL,
    *,
    timeout_s: float = 120.0,
    on_warning: Callable[[str], None] = lambda warning: None,
    **options: Unpack[TranscriptOptions],
) -> Iterator[Segment]:
    """Iterate the segments of `audio` as they are found. Raises as `transcribe` does.

    `on_warning` is called at the end with a sentence about a damaged file.
    """
    with background_loop() as loop, loop.within(_client(url, timeout_s)) as client:
        found = client.segments(**_recorded(audio), **options)
        yield from loop.each(found)
        if found.end is not None and found.end.warning:
            on_warning(found.end.warning)


def _client(url: str, timeout_s: float) -> SpeechClient:
    return SpeechClient(url, timeouts=Timeouts(transcript_s=timeout_s), retry=ONCE)


def _recorded(audio: Audio) -> dict[str, Any]:
    """As the client library takes it."""
    return {"audio": io.BytesIO(audio) if isinstance(audio, bytes) else audio}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Print what is said in an audio file.", epilog=EXIT_CODES
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--file", type=Path, help="MP3, FLAC, Ogg, WebM, M4A, WAV and the like")
    source.add_argument("--wav", type=Path, help="any rate, width and channel count; read here")
    add_url_option(parser)
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
    audio: Audio = path if options.file else read_wav(path)
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
    print_error(sentence, None)


def _print(segment: Segment, options: argparse.Namespace) -> None:
    for part in (segment.words or ()) if options.words else (segment,):
        times = f"{part.start_ms / 1000:8.2f} {part.end_ms / 1000:8.2f}  "
        print(f"{times if options.times or options.words else ''}{part.text.strip()}", flush=True)


def _is_speech(body: str, written_as: TranscriptFormat) -> bool:
    if written_as.endswith("json"):
        try:
            return bool(json.loads(body)["text"])
        except (ValueError, KeyError, TypeError):
            raise BrokenOff(f"The server's answer is not a transcript: {body[:80]!r}.") from None
    return bool(body) if written_as == "text" else "-->" in body


def run() -> int:
    """Run the program; return its exit code."""
    return exit_code(main)


if __name__ == "__main__":
    sys.exit(run())
