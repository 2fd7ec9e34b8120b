"""Print what is said while it is being said.

    arecord -q -f S16_LE -r 16000 -c 1 -t raw | python client/stream_stt.py
    python client/stream_stt.py --wav talk.wav

Each utterance is a line on stdout once it is final. On a terminal, what is heard of it so far is
shown on the line below, the part that will not change in bold. As a module: `listen`.
"""

from __future__ import annotations

import argparse
import runpy
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, get_args

if not __package__:
    runpy.run_path(str(Path(__file__).with_name("standalone.py")))

from typing_extensions import Unpack

from client.blocking import background_loop, from_thread
from client.cli import EXIT_CODES, add_url_option, exit_code
from client.connection import DEFAULT_URL
from client.errors import BadInput, NoSpeech
from client.live import ListenOptions
from client.retry import ONCE
from client.speech_client import SpeechClient, Timeouts
from client.wav import read_wav
from common.audio.pcm import BYTES_PER_SAMPLE, Encoding
from common.protocol.live import Final, ListenEnd, ListenEvent, Partial
from common.protocol.session import ErrorMessage, GoAway

CHUNK_MS = 40

Heard = ListenEvent | ErrorMessage | GoAway | ListenEnd


def chunks_of(pcm: bytes, bytes_per_s: int, *, paced: bool) -> Iterator[bytes]:
    """Cut a recording into chunks of `CHUNK_MS`; if `paced`, each is due when it is spoken."""
    size = bytes_per_s * CHUNK_MS // 1000 // 2 * 2
    started = time.monotonic()
    for i in range(0, len(pcm), size):
        if paced:
            time.sleep(max(0, started + i / bytes_per_s - time.monotonic()))
        yield pcm[i : i + size]


def chunks_from(stream: BinaryIO) -> Iterator[bytes]:
    """Read a pipe, as its audio comes."""
    read = getattr(stream, "read1", stream.read)
    while chunk := read(65536):
        yield chunk


class Line:
    """The line on a terminal that shows what is heard so far; elsewhere there is none."""

    def __init__(self, shown: bool) -> None:
        self._shown = shown

    def show(self, partial: Partial) -> None:
        """The end of it, as much as fits."""
        if self._shown:
            room = shutil.get_terminal_size().columns - 2
            skipped = max(0, len(partial.text) - room)
            stable, still_open = (
                partial.text[skipped : partial.stable_chars],
                partial.text[partial.stable_chars :],
            )
            dots = "…" if skipped else ""
            self._write(f"\r\x1b[K{dots}\x1b[1m{stable}\x1b[0m{still_open[-room:]}")

    def clear(self) -> None:
        if self._shown:
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


def listen(
    chunks: Iterable[bytes],
    url: str = DEFAULT_URL,
    *,
    timeout_s: float = 60.0,
    **options: Unpack[ListenOptions],
) -> Iterator[Heard]:
    """Recognize chunks of audio as they come: what `client.Listening` gives, then its end.

    `timeout_s` is for each wait after the last chunk. When the server shuts down, what it has is
    recognized to its end. Raises as the iteration of `Listening`.
    """
    client = SpeechClient(url, timeouts=Timeouts(answer_s=timeout_s), retry=ONCE)
    with background_loop() as loop, loop.within(client):
        listening = client.listen(from_thread(chunks), **options)
        for event in loop.each(listening):
            yield event
            if isinstance(event, GoAway):
                loop.call(listening.finish)
        assert listening.end is not None
        yield listening.end


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    listening: ListenOptions = {"language": options.lang, "partials": not options.no_partials}
    if options.endpoint_ms is not None:
        listening["endpoint_ms"] = options.endpoint_ms
    if options.wav is not None:
        recording = read_wav(options.wav)
        rate_hz = listening["sample_rate"] = recording.sample_rate_hz
        chunks = chunks_of(recording.pcm, BYTES_PER_SAMPLE * rate_hz, paced=not options.fast)
    else:
        if sys.stdin.isatty():
            raise BadInput("There is nothing to listen to: give --wav, or pipe raw audio in.")
        listening["sample_rate"] = options.rate
        listening["channels"] = options.channels
        listening["encoding"] = options.encoding
        chunks = chunks_from(sys.stdin.buffer)
    line = Line(sys.stderr.isatty() and not options.no_partials)

    spoken = False
    try:
        for event in listen(chunks, options.url, timeout_s=options.timeout, **listening):
            if isinstance(event, Partial):
                line.show(event)
                continue
            line.clear()
            if isinstance(event, Final) and event.text:
                print(_line_of(event, options.times), flush=True)
            elif isinstance(event, ErrorMessage):
                print(f"The server says: {event.error} [{event.code}]", file=sys.stderr)
            elif isinstance(event, GoAway):
                said = "The server shuts down; what it has is being recognized."
                print(said, file=sys.stderr)
            elif isinstance(event, ListenEnd):
                spoken = bool(event.text)
    finally:
        line.clear()
    if not spoken:
        raise NoSpeech("Nobody spoke.")


def _line_of(final: Final, times: bool) -> str:
    if not times:
        return final.text
    start_ms, end_ms = final.segments[0].start_ms, final.segments[-1].end_ms
    return f"{start_ms / 1000:8.2f} {end_ms / 1000:8.2f}  {final.text}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Print what is said while it is being said: of a WAV file, or of raw audio "
        "from stdin, as in: arecord -q -f S16_LE -r 16000 -c 1 -t raw | stream_stt.py",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--wav", type=Path, help="any rate, width and channel count")
    parser.add_argument(
        "--fast", action="store_true", help="send the WAV as fast as it is taken, not as spoken"
    )
    add_url_option(parser)
    parser.add_argument("--rate", type=int, default=16000, help="of stdin, in Hz; default: 16000")
    parser.add_argument("--channels", type=int, default=1, help="of stdin; default: 1")
    parser.add_argument("--encoding", choices=get_args(Encoding), default="pcm_s16le")
    parser.add_argument("--lang", default="en", help="default: %(default)s")
    parser.add_argument("--endpoint-ms", type=int, help="silence that ends an utterance")
    parser.add_argument("--no-partials", action="store_true", help="only whole utterances")
    parser.add_argument("--times", action="store_true", help="each utterance with its times")
    parser.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        help="seconds to wait for the server after the end of the audio; default: 60",
    )
    return parser


def run() -> int:
    """Run the program; return its exit code."""
    return exit_code(main)


if __name__ == "__main__":
    sys.exit(run())
