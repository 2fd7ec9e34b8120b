"""Print what is said in a WAV file.

    python client/transcribe.py --wav hello.wav

As a module: `transcribe` for a recording, `read_wav` for what it takes.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

if not __package__:
    # Run as a script: the packages are one folder up, and this folder holds no modules of its own.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from client.blocking import background_loop
from client.cli import EXIT_CODES, exit_code
from client.errors import NoSpeech
from client.retrying import ONCE
from client.speech_client import DEFAULT_URL, SpeechClient, Timeouts
from client.wav import Recording, read_wav
from common.protocol import Transcript


def transcribe(
    recording: Recording, url: str = DEFAULT_URL, *, language: str = "en", timeout_s: float = 120.0
) -> Transcript:
    """What is said in `recording`; empty if nobody speaks. `timeout_s` is for each wait.

    Raises as `SpeechClient.transcribe` does.
    """
    client = SpeechClient(url, timeouts=Timeouts(transcript_s=timeout_s), retry=ONCE)
    with background_loop() as loop, loop.within(client):
        return loop.call(
            client.transcribe,
            recording.pcm,
            sample_rate=recording.sample_rate_hz,
            language=language,
        )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Print what is said in a WAV file.", epilog=EXIT_CODES
    )
    parser.add_argument("--wav", type=Path, required=True, help="any rate, width and channel count")
    parser.add_argument("--url", default=DEFAULT_URL, help="default: %(default)s")
    parser.add_argument("--lang", default="en", help="default: %(default)s")
    parser.add_argument(
        "--timeout", type=float, default=120.0, help="seconds to wait for the server; default: 120"
    )
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--times", action="store_true", help="each segment with its times")
    shape.add_argument("--json", action="store_true", help="the answer of the server as JSON")
    options = parser.parse_args(arguments)
    transcript = transcribe(
        read_wav(options.wav), options.url, language=options.lang, timeout_s=options.timeout
    )
    if options.json:
        print(json.dumps(transcript.model_dump(), ensure_ascii=False))
    if not transcript.text:
        raise NoSpeech(f"Nobody speaks in {options.wav}.")
    if options.times:
        for segment in transcript.segments:
            print(f"{segment.start_ms / 1000:8.2f} {segment.end_ms / 1000:8.2f}  {segment.text}")
    elif not options.json:
        print(transcript.text)


if __name__ == "__main__":
    sys.exit(exit_code(main))
