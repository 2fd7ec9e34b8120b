"""Recordings over HTTP: their transcript, their segments as they are found, their echo."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

import anyio.to_thread
import httpx
from typing_extensions import TypedDict

from client.errors import BadInput, BrokenOff, Lost, NoSpeech, ServerAway, refused
from client.streams import IteratedOnce
from common.audio.pcm import BYTES_PER_ENCODED_SAMPLE, BYTES_PER_SAMPLE, Encoding
from common.protocol.recognition import EndLine, Segment
from common.wire.errors import ErrorAnswer, ProtocolError, deepest_reason
from common.wire.messages import parse_lines


@dataclass(frozen=True)
class Recording:
    """Samples that know their rate: `transcribe`, `listen` and the rest need not be told it."""

    pcm: bytes
    """Mono, in `encoding`."""
    sample_rate_hz: int
    encoding: Encoding = "pcm_s16le"

    @property
    def audio_s(self) -> float:
        return len(self.pcm) / BYTES_PER_ENCODED_SAMPLE[self.encoding] / self.sample_rate_hz


Recorded = Recording | bytes | str | Path | BinaryIO
"""A recording; s16le samples; or a file, by its path or open: MP3, FLAC, Ogg, WebM, M4A, WAV …"""


class TranscriptOptions(TypedDict, total=False):
    """How a recording is recognized."""

    language: str
    """Default: `en`."""
    words: bool
    """Whether each segment has its words with their times; default: no."""


class RecordingOptions(TranscriptOptions, total=False):
    """How a recording is recognized, and what `bytes` are; any other recording says it itself."""

    sample_rate: int
    """Hz; default: 16000."""
    channels: int
    """Interleaved; default: 1."""


@dataclass(frozen=True)
class HttpRequest:
    """A body of bytes that is posted to `path`."""

    path: str
    content: bytes
    query: dict[str, str | int]


class HttpAnswer:
    """An answer that has begun with 200 OK. Reading it raises `BrokenOff` unless it is whole."""

    def __init__(self, response: httpx.Response, url: str) -> None:
        self._response = response
        self._url = url

    def header(self, name: str) -> str:
        """Return a header's value, or the empty string."""
        return str(self._response.headers.get(name, ""))

    async def read(self) -> bytes:
        with _translated_errors(self._url):
            return await self._response.aread()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Read the body as it comes, cut anywhere."""
        with _translated_errors(self._url):
            async for chunk in self._response.aiter_raw():
                yield chunk


@asynccontextmanager
async def post(
    http: httpx.AsyncClient, url: str, request: HttpRequest, accept: str = "*/*"
) -> AsyncIterator[HttpAnswer]:
    """Send `request` to the server at `url` and yield the answer, to be read as it comes.

    Raises `BadInput`, `ServerAway`, `Refused`, or `BrokenOff` if the answer does not begin.
    """
    async with AsyncExitStack() as stack:
        with _translated_errors(url):
            streaming = http.stream(
                "POST",
                url + request.path,
                params=request.query,
                content=request.content,
                headers={"Content-Type": "application/octet-stream", "Accept": accept},
            )
            response = await stack.enter_async_context(streaming)
            if response.status_code != HTTPStatus.OK:
                body = await response.aread()
                answer = ErrorAnswer.of_http(response.status_code, body, response.headers)
                raise refused(answer)
        yield HttpAnswer(response, url)


async def transcript_request(
    audio: Recorded,
    *,
    sample_rate: int | None = None,
    channels: int | None = None,
    language: str = "en",
    words: bool = False,
) -> HttpRequest:
    """Make the request for the transcript of `audio`, by `RecordingOptions`.

    Raises `BadInput` if a file cannot be read or an option does not go with `audio`, and
    `TypeError` for audio of another type.
    """
    query: dict[str, str | int] = {"lang": language}
    if words:
        query["words"] = "true"
    if isinstance(audio, bytes | bytearray | memoryview):
        described: dict[str, str | int] = {"sr": sample_rate or 16000, "ch": channels or 1}
        return HttpRequest("/api/stt/bytes", bytes(audio), described | query)
    if sample_rate is not None or channels is not None:
        raise BadInput(
            "sample_rate and channels are for bytes; any other recording says them itself."
        )
    if isinstance(audio, Recording):
        described = {"sr": audio.sample_rate_hz, "ch": 1}
        if audio.encoding != "pcm_s16le":
            described["fmt"] = audio.encoding
        return HttpRequest("/api/stt/bytes", audio.pcm, described | query)
    if isinstance(audio, str | Path):
        read: Callable[[], bytes] = Path(audio).read_bytes
    elif hasattr(audio, "read"):
        read = audio.read
    else:
        raise TypeError(
            "A recording is a Recording, bytes, a path or an open file, not "
            f"{type(audio).__name__}."
        )
    try:
        return HttpRequest("/api/stt/file", await anyio.to_thread.run_sync(read), query)
    except OSError as error:
        raise BadInput(f"{audio} cannot be read: {error.strerror or error}.") from None


class FoundSegments(IteratedOnce[Segment]):
    """The segments of a recording as they are found. Raises `BrokenOff` unless it is whole."""

    def __init__(self, opening: Callable[[], AbstractAsyncContextManager[HttpAnswer]]) -> None:
        self._opening = opening
        self.end: EndLine | None = None
        """The last line of the answer: the whole text, and a warning if the file is damaged."""

    async def _iterate(self) -> AsyncGenerator[Segment, None]:
        async with self._opening() as answer:
            try:
                async for line in parse_lines(answer.chunks()):
                    if isinstance(line, EndLine):
                        self.end = line
                    else:
                        yield line
            except ProtocolError as error:
                raise BrokenOff(error.message) from None
            except ErrorAnswer as error:
                raise BrokenOff(
                    f"The server failed on the rest: {error.message}",
                    code=error.code,
                    request_id=error.request_id,
                ) from None


class EchoedRecording(IteratedOnce[bytes]):
    """The echo of a recording: its words, and the audio in which the server says them.

    Iterate for the PCM, s16le mono, in whole samples. Raises `BrokenOff` unless it is whole.
    """

    def __init__(self, answer: HttpAnswer, sample_rate_hz: int) -> None:
        """Raises `NoSpeech` if nobody spoke."""
        if answer.header("X-Speech") == "none":
            raise NoSpeech("The server heard nobody speak; there is nothing to echo.")
        named = answer.header("X-Sample-Rate")
        self.transcript = unquote(answer.header("X-Transcript"))
        self.sample_rate_hz = int(named) if named.isdigit() else sample_rate_hz
        self._answer = answer

    async def _iterate(self) -> AsyncGenerator[bytes, None]:
        rest = b""
        count = 0
        # The network cuts anywhere.
        async for chunk in self._answer.chunks():
            data = rest + chunk
            whole = len(data) - len(data) % BYTES_PER_SAMPLE
            rest = data[whole:]
            count += whole
            if whole:
                yield data[:whole]
        if rest:
            raise BrokenOff("The audio ends within a sample; it is not to be trusted.")
        if not count:
            raise BrokenOff("The server sent no audio at all.")


@contextmanager
def _translated_errors(url: str) -> Iterator[None]:
    try:
        yield
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise BadInput(f"{url!r} is not an address like http://localhost:8000: {error}") from None
    except httpx.ConnectTimeout as error:
        raise ServerAway(f"{url} did not answer within {_timeout_s(error, 'connect')} s.") from None
    except httpx.ConnectError as error:
        why = deepest_reason(error)
        raise ServerAway(f"There is no server at {url}: {why}. Is the fleet running?") from None
    except httpx.TimeoutException as error:
        raise BrokenOff(f"The server sent nothing for {_timeout_s(error, 'read')} s.") from None
    except httpx.TransportError as error:
        raise Lost(f"The connection broke off before the answer was whole: {error}.") from None


def _timeout_s(error: httpx.TimeoutException, of: str) -> str:
    return f"{error.request.extensions['timeout'][of]:g}"
