"""The client of a speech server for Python programs.

async with SpeechClient("http://localhost:8000") as client:
    async for audio in client.speak("Hello world"):
        ...
    transcript = await client.transcribe(pcm)
    async for event in client.listen(microphone()):
        ...
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import anyio
import httpx
from anyio.abc import TaskGroup
from pydantic import ValidationError
from typing_extensions import Self, Unpack

from client.connection import (
    DEFAULT_URL,
    Connection,
    Open,
    is_on_this_machine,
    key_header,
    server_url,
)
from client.errors import BadInput, BrokenOff
from client.live import Listening, ListenOptions, Sound, VoiceLoop
from client.recordings import (
    EchoedRecording,
    FoundSegments,
    HttpAnswer,
    HttpRequest,
    Recorded,
    Recording,
    RecordingOptions,
    post,
    transcript_request,
)
from client.retry import Retry
from client.utterance import SessionPool, Text, Utterance
from common.audio.pcm import Encoding
from common.protocol.echo import EchoStart
from common.protocol.live import ListenStart
from common.protocol.recognition import NDJSON, Transcript, TranscriptFormat
from common.protocol.session import Start
from common.validation import describe

M = TypeVar("M", Start, ListenStart, EchoStart)


@dataclass(frozen=True)
class Timeouts:
    """Seconds to wait for the server."""

    connect_s: float = 5.0
    """For a connection."""
    answer_s: float = 30.0
    """For the next message or audio, where one is due."""
    transcript_s: float = 120.0
    """For the next bytes of a transcript or an echo."""
    silence_s: float = 20.0
    """For any message; after it, a server that need not send one is asked whether it lives."""
    pong_s: float = 60.0
    """For its answer to that. It is late where the server reads audio as fast as it recognizes."""


class SpeechClient:
    """One server, at `url`. Use it as a context manager.

    `api_key` is for servers that ask for one; by default it is the environment's `SPEECH_API_KEY`.
    `retry` says how often a request is tried, which happens only before it has delivered anything.

    Any number of tasks may use one client at the same time: an utterance has a connection of its
    own while it is spoken, and the next one with the same options uses that again. All methods
    raise `client.errors.ClientError`.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeouts: Timeouts | None = None,
        retry: Retry | None = None,
    ) -> None:
        self.url = server_url(url)
        self.timeouts = timeouts or Timeouts()
        self.retry = retry or Retry()
        self._headers = key_header(api_key)
        self._held = AsyncExitStack()
        self._running: TaskGroup | None = None
        self._sessions = SessionPool(self._opens("/ws/tts", "speech"), self.timeouts.answer_s)
        self._http = httpx.AsyncClient(
            headers=self._headers,
            timeout=httpx.Timeout(self.timeouts.transcript_s, connect=self.timeouts.connect_s),
            trust_env=not is_on_this_machine(self.url),
        )

    async def __aenter__(self) -> Self:
        await self._held.enter_async_context(self._http)
        self._running = await self._held.enter_async_context(anyio.create_task_group())
        return self

    async def __aexit__(self, *raised: object) -> None:
        with anyio.CancelScope(shield=True):
            await self._sessions.close()
        self._tasks.cancel_scope.cancel()
        await self._held.aclose()

    def speak(
        self,
        text: Text,
        *,
        sample_rate: int | None = None,
        encoding: Encoding = "pcm_s16le",
        speed: float = 1.0,
        chunk_ms: int | None = None,
        marks: bool = False,
        max_buffer_delay_ms: int | None = None,
    ) -> Utterance:
        """Speak `text`: a string, or an iterator that writes it bit by bit, as a language model
        does; each sentence is spoken as soon as it is complete.

        Iterate the utterance for its audio, mono, of `sample_rate` Hz (default: the server's own,
        which `utterance.audio` says) in `encoding`, in chunks of `chunk_ms`; or `read` all of it.
        With `marks`, it knows when each sentence is spoken. `speed` is 0.5 to 2. Text that is no
        sentence yet is spoken when no more has come for `max_buffer_delay_ms`.
        """
        start = _validated(
            Start,
            type="start",
            sample_rate=sample_rate,
            encoding=encoding,
            speed=speed,
            chunk_ms=chunk_ms,
            timestamps="sentence" if marks else "none",
            max_buffer_delay_ms=max_buffer_delay_ms,
        )
        return Utterance(
            self._tasks, self._sessions, text, start, self.retry, self.timeouts.answer_s
        )

    async def transcribe(self, audio: Recorded, **options: Unpack[RecordingOptions]) -> Transcript:
        """Return the transcript of `audio`.

        `audio` is a `Recording`, which knows its rate, such as `utterance.read` returns; s16le
        samples as bytes, at `sample_rate` (default: 16000 Hz); or a file of any kind, by its path
        or open. Anything else is a `TypeError`.
        """
        body = await self._post(await transcript_request(audio, **options))
        try:
            return Transcript.model_validate_json(body)
        except ValidationError:
            raise BrokenOff(f"The server's answer is not a transcript: {body[:80]!r}.") from None

    async def transcribe_as(
        self,
        format: TranscriptFormat,
        audio: Recorded,
        **options: Unpack[RecordingOptions],
    ) -> str:
        """Return the transcript as the server writes it.

        `format` is `text`, `srt`, `vtt`, `json` or `verbose_json`; `audio` is as in `transcribe`.
        """
        request = await transcript_request(audio, **options)
        if format != "json":
            request.query["format"] = format
        return (await self._post(request)).decode(errors="replace")

    def segments(self, audio: Recorded, **options: Unpack[RecordingOptions]) -> FoundSegments:
        """Iterate the segments of `audio` as they are found while the rest is recognized."""

        @asynccontextmanager
        async def opening() -> AsyncIterator[HttpAnswer]:
            request = await transcript_request(audio, **options)
            async with self._streamed(request, accept=NDJSON) as answer:
                yield answer

        return FoundSegments(opening)

    @asynccontextmanager
    async def echo_recording(
        self, audio: bytes, *, sample_rate: int = 16000, channels: int = 1, overlap: bool = False
    ) -> AsyncIterator[EchoedRecording]:
        """Have the words of `audio`, s16le, spoken by the server's voice.

        With `overlap`, it begins with the first words that were recognized, and there is no
        transcript. Raises `NoSpeech` if nobody speaks in it.
        """
        query: dict[str, str | int] = {"sr": sample_rate, "ch": channels, "fmt": "s16le"}
        if overlap:
            query["overlap"] = "true"
        async with self._streamed(HttpRequest("/api/echo-bytes", audio, query)) as answer:
            yield EchoedRecording(answer, sample_rate)

    def listen(self, audio: Sound, **options: Unpack[ListenOptions]) -> Listening:
        """Recognize `audio` while it is spoken; iterate what is returned for the server's messages.

        `audio` gives bytes, cut anywhere, at `sample_rate` (default: 16000 Hz) in `encoding`; or it
        is a `Recording`, which knows both.
        """
        start = _validated(ListenStart, type="start", **_described(audio, options))
        return Listening(
            self._tasks, self._opens("/ws/stt", "transcript"), start, audio, *self._patience
        )

    def echo(
        self,
        audio: Sound,
        *,
        speed: float = 1.0,
        marks: bool = False,
        **options: Unpack[ListenOptions],
    ) -> VoiceLoop:
        """Have the words of `audio` spoken by the server's voice, while they are spoken.

        Iterate what is returned for the server's messages and for the voice's audio, mono, of the
        same rate and encoding. Speech that starts while the voice speaks cancels it.
        """
        timestamps = "sentence" if marks else "none"
        described = _described(audio, options)
        start = _validated(EchoStart, type="start", speed=speed, timestamps=timestamps, **described)
        return VoiceLoop(
            self._tasks, self._opens("/ws/echo", "echo"), start, audio, *self._patience
        )

    async def _post(self, request: HttpRequest) -> bytes:
        async def attempt() -> bytes:
            async with post(self._http, self.url, request) as answer:
                return await answer.read()

        return await self.retry(attempt)

    @asynccontextmanager
    async def _streamed(
        self, request: HttpRequest, accept: str = "*/*"
    ) -> AsyncIterator[HttpAnswer]:
        """Yield the answer once it has begun."""
        async with AsyncExitStack() as held:
            posting = partial(post, self._http, self.url, request, accept)
            yield await self.retry(lambda: held.enter_async_context(posting()))

    @property
    def _tasks(self) -> TaskGroup:
        if self._running is None:
            raise RuntimeError("Use the client as a context manager: async with SpeechClient() …")
        return self._running

    @property
    def _patience(self) -> tuple[Retry, float]:
        return self.retry, self.timeouts.answer_s

    def _opens(self, path: str, what: str) -> Open:
        return partial(
            Connection.open,
            self.url,
            path,
            what=what,
            headers=self._headers,
            timeout_s=self.timeouts.connect_s,
            stall_timeout_s=self.timeouts.silence_s,
            pong_timeout_s=self.timeouts.pong_s,
        )


def _described(audio: Sound, options: ListenOptions) -> dict[str, Any]:
    """Add to the options what a recording says of itself. Raises `TypeError` for a bare `bytes`."""
    if isinstance(audio, Recording):
        own = {"sample_rate": audio.sample_rate_hz, "encoding": audio.encoding}
        return own | dict(options)
    if isinstance(audio, bytes | bytearray | str):
        raise TypeError(
            "Audio to listen to is an iterator of bytes or a Recording, not "
            f"{type(audio).__name__}."
        )
    return dict(options)


def _validated(message: type[M], **fields: Any) -> M:
    """Make a message of these fields. Raises `BadInput`, naming what does not fit."""
    if unknown := message.unknown(fields):
        raise TypeError(f"There is no option {', '.join(unknown)}.")
    try:
        return message.model_validate(fields)
    except ValidationError as error:
        raise BadInput(describe(error.errors(), message)) from None
