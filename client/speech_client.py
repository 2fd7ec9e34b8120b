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

import httpx
from pydantic import ValidationError
from typing_extensions import Self, Unpack

from client import address
from client.answers import Answer, Question, post
from client.connection import Connection
from client.echoed import EchoedRecording
from client.errors import BadInput, BrokenOff
from client.live import Listening, Sound, VoiceLoop
from client.opening import Open
from client.options import ListenOptions, RecordingOptions
from client.recordings import FoundSegments, Recorded, question
from client.retrying import Retry
from client.sessions import Sessions
from client.utterance import Text, Utterance
from common.audio.pcm import Encoding
from common.protocol.echo import EchoStart
from common.protocol.live import ListenStart
from common.protocol.recognition import NDJSON, Transcript, TranscriptFormat
from common.protocol.session import Start
from common.validation import describe

DEFAULT_URL = "http://localhost:8000"
M = TypeVar("M", Start, ListenStart, EchoStart)


@dataclass(frozen=True)
class Timeouts:
    """Seconds to wait for the server: for a connection, for each next thing, for a transcript."""

    connect_s: float = 5.0
    answer_s: float = 30.0
    transcript_s: float = 120.0


class SpeechClient:
    """One server, at `url`. Use it as a context manager.

    `api_key` is for servers that ask for one; by default, what `SPEECH_API_KEY` says. `retry` says
    how often to ask again, which is done only for what has delivered nothing yet.

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
        self.url = address.check(url, "http", "https")
        self.timeouts = timeouts or Timeouts()
        self.retry = retry or Retry()
        self._headers = address.key_header(api_key)
        self._held = AsyncExitStack()
        self._sessions = Sessions(self._opens("/ws/tts", "speech"), self.timeouts.answer_s)
        self._http = httpx.AsyncClient(
            headers=self._headers,
            timeout=httpx.Timeout(self.timeouts.transcript_s, connect=self.timeouts.connect_s),
            trust_env=not address.is_on_this_machine(self.url),
        )

    async def __aenter__(self) -> Self:
        await self._held.enter_async_context(self._http)
        self._held.push_async_callback(self._sessions.close)
        return self

    async def __aexit__(self, *raised: object) -> None:
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
        """Speak `text`: a string, or an iterator that writes it piece by piece, as a language model
        does; each sentence is spoken as soon as it is complete.

        What is given is iterated for audio, mono, of `sample_rate` Hz (default: the server's own)
        in `encoding`, in frames of `chunk_ms`. With `marks`, it knows when each sentence is spoken.
        `speed` is 0.5 to 2. Text that is no sentence yet is spoken when no more has come for
        `max_buffer_delay_ms`.
        """
        start = _fitting(
            Start,
            type="start",
            sample_rate=sample_rate,
            encoding=encoding,
            speed=speed,
            chunk_ms=chunk_ms,
            timestamps="sentence" if marks else "none",
            max_buffer_delay_ms=max_buffer_delay_ms,
        )
        return Utterance(self._sessions, text, start, self.retry, self.timeouts.answer_s)

    async def transcribe(self, audio: Recorded, **options: Unpack[RecordingOptions]) -> Transcript:
        """What is said in `audio`: PCM, s16le, or a file of any kind."""
        body = await self._answer_to(await question(audio, **options))
        try:
            return Transcript.model_validate_json(body)
        except ValidationError:
            said = body[:80]
            raise BrokenOff(f"The server answered what is no transcript: {said!r}.") from None

    async def transcribe_as(
        self,
        format: TranscriptFormat,
        audio: Recorded,
        **options: Unpack[RecordingOptions],
    ) -> str:
        """The same as the server writes it: `text`, `srt`, `vtt`, `json` or `verbose_json`."""
        asked = await question(audio, **options)
        if format != "json":
            asked.query["format"] = format
        return (await self._answer_to(asked)).decode(errors="replace")

    def segments(self, audio: Recorded, **options: Unpack[RecordingOptions]) -> FoundSegments:
        """The segments of `audio`, iterated as they are found while the rest is recognized."""

        @asynccontextmanager
        async def opening() -> AsyncIterator[Answer]:
            asked = await question(audio, **options)
            async with self._posted(asked, accept=NDJSON) as answer:
                yield answer

        return FoundSegments(opening)

    @asynccontextmanager
    async def echo_recording(
        self, audio: bytes, *, sample_rate: int = 16000, channels: int = 1, overlap: bool = False
    ) -> AsyncIterator[EchoedRecording]:
        """Have the words of `audio`, s16le, spoken by the server's voice. With `overlap`, it begins
        with the first words that were recognized, and there is no transcript.

        Raises `NoSpeech` if there are none.
        """
        query: dict[str, str | int] = {"sr": sample_rate, "ch": channels, "fmt": "s16le"}
        if overlap:
            query["overlap"] = "true"
        async with self._posted(Question("/api/echo-bytes", audio, query)) as answer:
            yield EchoedRecording(answer, sample_rate)

    async def _answer_to(self, asked: Question) -> bytes:
        async def ask() -> bytes:
            async with post(self._http, self.url, asked) as answer:
                return await answer.read()

        return await self.retry(ask)

    @asynccontextmanager
    async def _posted(self, asked: Question, accept: str = "*/*") -> AsyncIterator[Answer]:
        """The answer, once it has begun."""
        async with AsyncExitStack() as held:
            begun = partial(post, self._http, self.url, asked, accept)
            yield await self.retry(lambda: held.enter_async_context(begun()))

    def listen(self, audio: Sound, **options: Unpack[ListenOptions]) -> Listening:
        """Recognize `audio` while it is spoken; what is given is iterated for what is heard.

        The frames of `audio` may be of any size, cut anywhere.
        """
        start = _fitting(ListenStart, type="start", **options)
        opens = self._opens("/ws/stt", "transcript", pong_timeout_s=None)
        return Listening(opens, start, audio, self.retry, self.timeouts.answer_s)

    def echo(
        self,
        audio: Sound,
        *,
        speed: float = 1.0,
        marks: bool = False,
        **options: Unpack[ListenOptions],
    ) -> VoiceLoop:
        """Have what is said in `audio` said by the server's voice, while it is spoken: what is
        given is iterated for what is heard and for the voice's audio, mono, of the same rate and
        encoding. Speech that starts while the voice speaks cancels it.
        """
        timestamps = "sentence" if marks else "none"
        start = _fitting(EchoStart, type="start", speed=speed, timestamps=timestamps, **options)
        opens = self._opens("/ws/echo", "echo", pong_timeout_s=None)
        return VoiceLoop(opens, start, audio, self.retry, self.timeouts.answer_s)

    def _opens(self, path: str, what: str, **options: Any) -> Open:
        return partial(
            Connection.open,
            self.url.replace("http", "ws", 1) + path,
            what=what,
            headers=self._headers,
            timeout_s=self.timeouts.connect_s,
            **options,
        )


def _fitting(message: type[M], **fields: Any) -> M:
    """A message with these fields. Raises `BadInput`, naming what does not fit."""
    if unknown := message.unknown(fields):
        raise TypeError(f"There is no option {', '.join(unknown)}.")
    try:
        return message.model_validate(fields)
    except ValidationError as error:
        raise BadInput(describe(error.errors(), message)) from None
