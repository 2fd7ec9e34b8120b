"""Print what is said while it is being said.

    arecord -q -f S16_LE -r 16000 -c 1 -t raw | python client/stream_stt.py
    python client/stream_stt.py --wav talk.wav

Each utterance is a line on stdout once it is final. On a terminal, what is heard of it so far is
shown on the line below, the part that will not change in bold. As a module: `client.listening`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

if not __package__:
    # Run as a script: the packages are one folder up, and this folder holds no modules of its own.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from client.cli import EXIT_CODES, exit_code
from client.errors import BadInput, ClientError, NoSpeech
from client.listening import (
    DEFAULT_URI,
    Complaint,
    End,
    Final,
    Leaving,
    Partial,
    Session,
    listen,
)
from client.wav import read_wav

PIECE_MS = 40
ENCODINGS = ("alaw", "mulaw", "pcm_s16le")


def pieces_of(pcm: bytes, bytes_per_s: int, *, paced: bool) -> Iterator[bytes]:
    """A recording in pieces of `PIECE_MS`; `paced` gives each when it would have been spoken."""
    size = bytes_per_s * PIECE_MS // 1000 // 2 * 2
    started = time.monotonic()
    for i in range(0, len(pcm), size):
        if paced:
            time.sleep(max(0, started + i / bytes_per_s - time.monotonic()))
        yield pcm[i : i + size]


def pieces_from(stream: BinaryIO) -> Iterator[bytes]:
    """What comes from a pipe, as it comes."""
    read = getattr(stream, "read1", stream.read)
    while piece := read(65536):
        yield piece


class Line:
    """The line on a terminal that shows what is heard so far; elsewhere there is none."""

    def __init__(self, shown: bool) -> None:
        self._shown = shown

    def show(self, partial: Partial) -> None:
        """The end of it, as much as fits."""
        if self._shown:
            room = shutil.get_terminal_size().columns - 2
            skipped = max(0, len(partial.text) - room)
            stable, still_open = partial.stable[skipped:], partial.text[partial.stable_chars :]
            dots = "…" if skipped else ""
            self._write(f"\r\x1b[K{dots}\x1b[1m{stable}\x1b[0m{still_open[-room:]}")

    def clear(self) -> None:
        if self._shown:
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


def transcribe_live(
    session: Session,
    pieces: Iterable[bytes],
    *,
    on_final: Callable[[Final], None],
    on_partial: Callable[[Partial], None] = lambda partial: None,
    on_trouble: Callable[[str], None] = lambda sentence: None,
) -> End:
    """Send `pieces`, and call back with what is heard. Raises as iterating the session does."""
    failed: list[Exception] = []

    def send() -> None:
        try:
            session.send_all(pieces)
        except (OSError, ClientError) as error:
            failed.append(error)
            session.finish()

    # A pipe may never end: the thread must not hold up the program.
    threading.Thread(target=send, daemon=True).start()
    end: End | None = None
    for event in session:
        if isinstance(event, Partial):
            on_partial(event)
        elif isinstance(event, Final):
            on_final(event)
        elif isinstance(event, Complaint):
            on_trouble(f"The server says: {event.message} [{event.code}]")
        elif isinstance(event, Leaving):
            on_trouble("The server is about to leave; the session is being finished.")
            session.finish()
        elif isinstance(event, End):
            end = event
    if failed:
        raise failed[0]
    assert end is not None
    return end


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    if options.wav is not None:
        recording = read_wav(options.wav)
        rate_hz, channels, encoding = recording.sample_rate_hz, 1, "pcm_s16le"
        pieces = pieces_of(recording.pcm, 2 * rate_hz, paced=not options.fast)
    else:
        if sys.stdin.isatty():
            raise BadInput("There is nothing to listen to: give --wav, or pipe raw audio in.")
        rate_hz, channels, encoding = options.rate, options.channels, options.encoding
        pieces = pieces_from(sys.stdin.buffer)
    line = Line(sys.stderr.isatty() and not options.no_partials)

    def on_final(final: Final) -> None:
        line.clear()
        if final.text:
            print(_line_of(final, options.times), flush=True)

    def on_trouble(sentence: str) -> None:
        line.clear()
        print(sentence, file=sys.stderr)

    try:
        with listen(
            options.uri,
            sample_rate_hz=rate_hz,
            channels=channels,
            encoding=encoding,
            language=options.lang,
            partials=not options.no_partials,
            endpoint_ms=options.endpoint_ms,
            timeout_s=options.timeout,
        ) as session:
            end = transcribe_live(
                session, pieces, on_final=on_final, on_partial=line.show, on_trouble=on_trouble
            )
    finally:
        line.clear()
    if not end.text:
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
    parser.add_argument("--uri", default=DEFAULT_URI, help="default: %(default)s")
    parser.add_argument("--rate", type=int, default=16000, help="of stdin, in Hz; default: 16000")
    parser.add_argument("--channels", type=int, default=1, help="of stdin; default: 1")
    parser.add_argument("--encoding", choices=ENCODINGS, default="pcm_s16le")
    parser.add_argument("--lang", default="en", help="default: %(default)s")
    parser.add_argument("--endpoint-ms", type=int, help="silence that ends an utterance")
    parser.add_argument("--no-partials", action="store_true", help="only whole utterances")
    parser.add_argument("--times", action="store_true", help="each utterance with its times")
    parser.add_argument(
        "--timeout",
        type=float,
        default=3600.0,
        help="seconds to wait for the server to say anything; default: 3600, for long silence",
    )
    return parser


if __name__ == "__main__":
    sys.exit(exit_code(main))
