"""The echo that speaks while it listens: each segment is spoken as soon as it is recognized."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from common.errors import EmptyText, RecognitionFailed, UpstreamFailed
from common.protocol.recognition import EndLine, ErrorLine, SegmentLine
from gateway.app.fleet import Asking
from gateway.app.upstreams import Upstream, UpstreamAnswer

MAX_LINE_BYTES = 1 << 20

_Line = Annotated[SegmentLine | EndLine | ErrorLine, Field(discriminator="type")]
_LINE = TypeAdapter[SegmentLine | EndLine | ErrorLine](_Line)


async def echo_segments(
    listening: Asking, asr: Upstream, speak: Callable[[str], Asking], tts: Upstream
) -> AsyncGenerator[bytes, None]:
    """The speech of each segment that `listening` streams, one after the other.

    Nothing comes if nobody speaks. A segment that cannot be spoken is left out, unless all are.
    Raises what the two services answer, and `RecognitionFailed`, `UpstreamFailed` or
    `UpstreamTimeout`.
    """
    begun = False
    unspeakable: UpstreamAnswer | None = None
    async with listening as heard, aclosing(segments_of(asr.chunks(heard))) as segments:
        async for segment in segments:
            try:
                async with speak(segment.text) as answer:
                    async for chunk in tts.chunks(answer):
                        begun = True
                        yield chunk
            except UpstreamAnswer as refusal:
                if refusal.code == EmptyText.code:
                    unspeakable = refusal
                elif begun:
                    raise UpstreamFailed(
                        f"The tts service refused to speak the rest: {refusal.code}."
                    ) from refusal
                else:
                    raise
    if unspeakable and not begun:
        raise unspeakable


async def segments_of(body: AsyncIterator[bytes]) -> AsyncGenerator[SegmentLine, None]:
    """The segments in a body of lines.

    Raises `RecognitionFailed` if its last line says so, `UpstreamFailed` if it is not whole, and
    what reading it raises.
    """
    ended = False
    rest = b""
    async for chunk in body:
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > MAX_LINE_BYTES:
            raise _nonsense()
        for line in lines:
            try:
                message = _LINE.validate_json(line, strict=True)
            except ValidationError:
                raise _nonsense() from None
            if isinstance(message, ErrorLine):
                raise RecognitionFailed(message.error)
            if isinstance(message, EndLine):
                ended = True
            else:
                yield message
    if rest or not ended:
        raise _nonsense()


def _nonsense() -> UpstreamFailed:
    return UpstreamFailed("The asr service answered something that is no stream of segments.")
