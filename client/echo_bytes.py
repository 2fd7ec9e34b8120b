"""Have the words of a WAV file spoken again by the server's voice.

    python client/echo_bytes.py --wav me.wav --out echo.wav

As a module: `echo_to_file`.
"""

from __future__ import annotations

import argparse
import runpy
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

if not __package__:
    runpy.run_path(str(Path(__file__).with_name("standalone.py")))

from client.blocking import background_loop
from client.cli import EXIT_CODES, add_url_option, exit_code, progress, report
from client.connection import DEFAULT_URL
from client.recordings import Recording
from client.retry import ONCE
from client.speech_client import SpeechClient, Timeouts
from client.wav import Spoken, read_wav, write_speech


@dataclass(frozen=True)
class Echo(Spoken):
    """A file of speech and the words in it; times from the sending of the recording."""

    transcript: str


def echo_to_file(
    recording: Recording,
    out: Path,
    url: str = DEFAULT_URL,
    *,
    overlap: bool = False,
    timeout_s: float = 120.0,
    on_transcript: Callable[[str], None] = lambda transcript: None,
    on_audio: Callable[[float], None] = lambda audio_s: None,
) -> Echo:
    """Speak the words of `recording` into the WAV file `out`, which appears when it is whole.

    With `overlap` it begins with the first words that were recognized, and the transcript is empty.
    `on_transcript` is called with the words before the audio comes, `on_audio` with the seconds of
    audio so far. `timeout_s` is for each wait for the server. Raises as
    `SpeechClient.echo_recording` does; `error.partial` is then the file with what came before.
    """
    client = SpeechClient(url, timeouts=Timeouts(transcript_s=timeout_s), retry=ONCE)
    asking = client.echo_recording(
        recording.pcm, sample_rate=recording.sample_rate_hz, overlap=overlap
    )
    asked_at = time.perf_counter()
    with background_loop() as loop, loop.within(client), loop.within(asking) as echoed:
        on_transcript(echoed.transcript)
        spoken = write_speech(
            loop.each(echoed), out, echoed.sample_rate_hz, asked_at=asked_at, on_audio=on_audio
        )
    return Echo(**asdict(spoken), transcript=echoed.transcript)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Have the words of a WAV file spoken again by the server's voice.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--wav", type=Path, required=True, help="any rate, width and channel count")
    parser.add_argument("--out", type=Path, default=Path("echo.wav"), help="default: %(default)s")
    add_url_option(parser)
    parser.add_argument(
        "--timeout", type=float, default=120.0, help="seconds to wait for the server; default: 120"
    )
    parser.add_argument(
        "--overlap", action="store_true", help="speak while the rest is still being recognized"
    )
    options = parser.parse_args(arguments)
    recording = read_wav(options.wav)
    with progress("echoing") as on_audio:
        echo = echo_to_file(
            recording,
            options.out,
            options.url,
            overlap=options.overlap,
            timeout_s=options.timeout,
            on_audio=on_audio,
        )
    if echo.transcript:
        report("heard", echo.transcript)
    report("first audio after", f"{echo.first_audio_s * 1000:.0f} ms, recognition included")
    report("audio", f"{echo.audio_s:.2f} s at {echo.sample_rate_hz} Hz")
    report("written to", str(echo.path))


def run() -> int:
    """Run the program; return its exit code."""
    return exit_code(main)


if __name__ == "__main__":
    sys.exit(run())
