"""Speak a text into a WAV file while the server is still making it.

    python client/stream_tts.py --text "Hello world" --out hello.wav

As a module: `speak_to_file` does that, `speak` gives the PCM itself as it comes.
"""

from __future__ import annotations

import argparse
import runpy
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

if not __package__:
    runpy.run_path(str(Path(__file__).with_name("standalone.py")))

from client.blocking import Loop, background_loop
from client.cli import (
    EXIT_CODES,
    add_url_option,
    exit_code,
    find_player,
    play,
    progress,
    report,
)
from client.connection import DEFAULT_URL, Connection, key_header
from client.errors import BadInput, BrokenOff
from client.streams import IteratedOnce
from client.wav import Spoken, write_speech
from common.audio.pcm import BYTES_PER_SAMPLE, MAX_SAMPLE_RATE_HZ, MIN_SAMPLE_RATE_HZ

DEFAULT_SAMPLE_RATE_HZ = 16000
CONNECT_TIMEOUT_S = 5.0


class SimpleSpeech(IteratedOnce[bytes]):
    """An utterance of the simple mode, which any server of the contract speaks.

    Iterate for its PCM, s16le mono, which ends only when the server said that it is whole. Raises
    `Refused` if an error comes before any audio, else `BrokenOff`.
    """

    def __init__(self, connection: Connection, timeout_s: float) -> None:
        self._connection = connection
        self._timeout_s = timeout_s

    @property
    def sample_rate_hz(self) -> int | None:
        """The rate, where the server names it (`X-Sample-Rate` in its handshake)."""
        named = self._connection.headers.get("X-Sample-Rate", "")
        return int(named) if named.isdigit() else None

    async def _iterate(self) -> AsyncGenerator[bytes, None]:
        connection = self._connection
        while True:
            frame = await connection.receive(self._timeout_s)
            if isinstance(frame, bytes):
                if len(frame) % BYTES_PER_SAMPLE:
                    raise BrokenOff("The server sent half a sample; the rest is not to be trusted.")
                connection.has_delivered = True
                yield frame
            elif frame["type"] == "error":
                raise connection.error_of(frame)
            elif frame["type"] != "end":
                sent = str(frame)[:80]
                raise BrokenOff(f"The server sent something that is not of the protocol: {sent}.")
            elif not connection.has_delivered:
                raise BrokenOff("The server sent no audio at all.")
            else:
                return


@asynccontextmanager
async def simple_speech(text: str, url: str, timeout_s: float) -> AsyncIterator[SimpleSpeech]:
    """Have `text` spoken. `timeout_s` is for each wait for audio.

    Raises `BadInput`, `ServerAway` or `Refused`; leaving early stops the work on the server.
    """
    connection = await Connection.open(
        url, "/ws/tts", what="speech", headers=key_header(), timeout_s=CONNECT_TIMEOUT_S
    )
    try:
        await connection.send({"text": text})
        yield SimpleSpeech(connection, timeout_s)
    finally:
        await connection.close()


class Speech:
    """An utterance that the server is speaking: iterate once for its PCM, s16le mono.

    Iteration ends only when the server said that the utterance is whole; it raises `Refused` if an
    error comes before any audio, else `BrokenOff`.
    """

    def __init__(self, speech: SimpleSpeech, loop: Loop) -> None:
        self._speech = speech
        self._loop = loop

    @property
    def sample_rate_hz(self) -> int | None:
        """The rate, where the server names it (`X-Sample-Rate` in its handshake)."""
        return self._speech.sample_rate_hz

    def __iter__(self) -> Iterator[bytes]:
        return self._loop.each(self._speech)


@contextmanager
def speak(text: str, url: str = DEFAULT_URL, *, timeout_s: float = 30.0) -> Iterator[Speech]:
    """Have `text` spoken. `timeout_s` is for each wait for audio.

    Raises `BadInput`, `ServerAway` or `Refused`; leaving early stops the work on the server.
    """
    with background_loop() as loop, loop.within(simple_speech(text, url, timeout_s)) as speech:
        yield Speech(speech, loop)


def speak_to_file(
    text: str,
    out: Path,
    url: str = DEFAULT_URL,
    *,
    sample_rate_hz: int | None = None,
    timeout_s: float = 30.0,
    on_audio: Callable[[float], None] = lambda audio_s: None,
) -> Spoken:
    """Speak `text` into the WAV file `out`, which appears when it is whole (see `WavFile`).

    `sample_rate_hz` is needed only where the server speaks at another rate than 16 000 Hz and does
    not name it. `on_audio` is called with the seconds of audio so far. Raises as `speak` and
    `Speech` do; `error.partial` is then the file with what came before.
    """
    with speak(text, url, timeout_s=timeout_s) as speech:
        asked_at = time.perf_counter()
        rate_hz = sample_rate_hz or speech.sample_rate_hz or DEFAULT_SAMPLE_RATE_HZ
        return write_speech(speech, out, rate_hz, asked_at=asked_at, on_audio=on_audio)


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    player = find_player() if options.play else None
    text = _text(options)
    with progress("speaking") as on_audio:
        spoken = speak_to_file(
            text,
            options.out,
            options.url,
            sample_rate_hz=options.sample_rate,
            timeout_s=options.timeout,
            on_audio=on_audio,
        )
    report("first audio after", f"{spoken.first_audio_s * 1000:.0f} ms")
    report("audio", f"{spoken.audio_s:.2f} s at {spoken.sample_rate_hz} Hz")
    report("real-time factor", f"{spoken.real_time_factor:.3f}")
    report("written to", str(spoken.path))
    if player:
        play(player, spoken.path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Speak a text into a WAV file while the server is still making it.",
        epilog=EXIT_CODES,
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--text", help="what to say; without it and --file, stdin is read")
    source.add_argument("--file", type=Path, help="a UTF-8 file with what to say")
    parser.add_argument("--out", type=Path, default=Path("speech.wav"), help="default: %(default)s")
    add_url_option(parser)
    parser.add_argument("--play", action="store_true", help="play the file when it is whole")
    parser.add_argument(
        "--timeout", type=float, default=30.0, help="seconds to wait for audio; default: 30"
    )
    parser.add_argument(
        "--sample-rate",
        type=int,
        help="the server's TTS_SR in Hz, if it is not 16000 and the server does not name it",
    )
    return parser


def _text(options: argparse.Namespace) -> str:
    if options.sample_rate is not None and not (
        MIN_SAMPLE_RATE_HZ <= options.sample_rate <= MAX_SAMPLE_RATE_HZ
    ):
        raise BadInput(f"--sample-rate is {MIN_SAMPLE_RATE_HZ} to {MAX_SAMPLE_RATE_HZ} Hz.")
    if options.text is not None:
        return str(options.text)
    try:
        if options.file is not None:
            return str(options.file.read_text(encoding="utf-8"))
        if sys.stdin.isatty():
            raise BadInput("There is nothing to say: give --text or --file, or pipe a text in.")
        return sys.stdin.buffer.read().decode("utf-8")
    except OSError as error:
        raise BadInput(f"{options.file} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise BadInput(f"{options.file or 'What came on stdin'} is not UTF-8 text.") from None


def run() -> int:
    """Run the program; return its exit code."""
    return exit_code(main)


if __name__ == "__main__":
    sys.exit(run())
