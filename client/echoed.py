"""The echo of a recording: its words, and the audio in which the server says them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from urllib.parse import unquote

from client.answers import Answer
from client.errors import BrokenOff, NoSpeech
from client.iteration import IteratedOnce
from common.audio.pcm import BYTES_PER_SAMPLE


class EchoedRecording(IteratedOnce[bytes]):
    """Iterate for its PCM, s16le mono, in whole samples. Raises `BrokenOff` unless it is whole."""

    def __init__(self, answer: Answer, sample_rate_hz: int) -> None:
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
