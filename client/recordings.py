"""What is said in a recording: raw PCM, or a file of any kind, which the server decodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated, BinaryIO

from pydantic import Field, TypeAdapter, ValidationError

from client.answers import Answer, Question
from client.errors import BadInput, BrokenOff
from client.iteration import IteratedOnce
from common.protocol.recognition import EndLine, ErrorLine, Segment, SegmentLine

Recorded = bytes | Path | BinaryIO
"""PCM, s16le; or a file, MP3, FLAC, Ogg, WebM, M4A, WAV and the like."""

_LINE: TypeAdapter[SegmentLine | EndLine | ErrorLine] = TypeAdapter(
    Annotated[SegmentLine | EndLine | ErrorLine, Field(discriminator="type")]
)


async def question(
    audio: Recorded,
    *,
    sample_rate: int = 16000,
    channels: int = 1,
    language: str = "en",
    words: bool = False,
) -> Question:
    """What is asked of the server, by `RecordingOptions`.

    Raises `BadInput` if a file cannot be read.
    """
    asked: dict[str, str | int] = {"lang": language}
    if words:
        asked["words"] = "true"
    if isinstance(audio, bytes):
        described: dict[str, str | int] = {"sr": sample_rate, "ch": channels, **asked}
        return Question("/api/stt/bytes", audio, described)
    try:
        read = audio.read_bytes if isinstance(audio, Path) else audio.read
        return Question("/api/stt/file", await asyncio.to_thread(read), asked)
    except OSError as error:
        raise BadInput(f"{audio} cannot be read: {error.strerror or error}.") from None


class FoundSegments(IteratedOnce[Segment]):
    """Iterate for the segments of a recording as they are found. Raises `BrokenOff` unless it is
    whole.
    """

    def __init__(self, opening: Callable[[], AbstractAsyncContextManager[Answer]]) -> None:
        self._opening = opening
        self.end: EndLine | None = None
        """The last line of the answer: the whole text, and a warning if the file is damaged."""

    async def _iterate(self) -> AsyncGenerator[Segment, None]:
        async with self._opening() as answer:
            async for text in answer.lines():
                try:
                    line = _LINE.validate_json(text)
                except ValidationError:
                    sent = text[:80]
                    raise BrokenOff(f"The server sent what is no segment: {sent!r}.") from None
                if isinstance(line, ErrorLine):
                    said = f"The server failed on the rest: {line.error}"
                    raise BrokenOff(said, code=line.code, request_id=line.request_id)
                if isinstance(line, EndLine):
                    self.end = line
                    return
                yield line
        raise BrokenOff("The answer ended before it was whole.")
