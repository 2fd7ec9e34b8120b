"""From what a server sends to the classes of `common.protocol`."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from common.protocol.recognition import EndLine, ErrorLine, SegmentLine
from common.wire.errors import ErrorAnswer, ProtocolError

MAX_LINE_BYTES = 1 << 20
"""Of a line of segments: far more than what a recognizer says within one window."""

M = TypeVar("M", bound=BaseModel)


def parse_message(frame: str | bytes) -> dict[str, Any]:
    """Read a text frame as a message. Raises `ProtocolError` if it has no `type`."""
    try:
        message: Any = json.loads(frame)
    except (ValueError, RecursionError):
        message = None
    if isinstance(message, dict) and isinstance(message.get("type"), str):
        return message
    raise ProtocolError(
        f"The server sent something that is not of the protocol: {_excerpt(frame)}."
    )


def parse_as(kind: type[M], message: Mapping[str, Any]) -> M:
    """Read a message as a `kind`. Raises `ProtocolError` if it does not fit."""
    try:
        return kind.model_validate(message)
    except ValidationError:
        raise ProtocolError(
            f"The server sent a message that does not fit: {_excerpt(message)}."
        ) from None


def reader_of(union: Any) -> TypeAdapter[Any]:
    """Make what reads the messages of a union of classes, each of which has a `type` of its own."""
    return TypeAdapter(Annotated[union, Field(discriminator="type")])


def parse_known(messages: TypeAdapter[Any], message: Mapping[str, Any]) -> Any:
    """Read a message; return None for a `type` that is not known here: newer servers may say more.

    Raises `ProtocolError` if the type is known and the message does not fit.
    """
    try:
        return messages.validate_python(message)
    except ValidationError as error:
        if error.errors()[0]["type"] == "union_tag_invalid":
            return None
        raise ProtocolError(
            f"The server sent a message that does not fit: {_excerpt(message)}."
        ) from None


def is_fatal(message: Mapping[str, Any]) -> bool:
    """Tell whether an error frame ends the session: one that does not say so does."""
    return message.get("fatal") is not False


_LINE = reader_of(SegmentLine | EndLine | ErrorLine)


async def parse_lines(body: AsyncIterable[bytes]) -> AsyncGenerator[SegmentLine | EndLine, None]:
    """Read an answer of recognition line by line; `body` may be cut anywhere.

    Yields each segment as soon as its line is complete, then the `EndLine`. Raises `ErrorAnswer` if
    recognition failed on the way, and `ProtocolError` for a line that is no segment, a line over
    `MAX_LINE_BYTES`, and a body that ends before its `EndLine`.
    """
    rest = b""
    async for chunk in body:
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > MAX_LINE_BYTES:
            raise ProtocolError(f"The server sent a line of over {MAX_LINE_BYTES} bytes.")
        for text in lines:
            line = _parse_line(text)
            yield line
            if isinstance(line, EndLine):
                return
    raise ProtocolError("The answer ended before it was whole.")


def _parse_line(text: bytes) -> SegmentLine | EndLine:
    try:
        line: SegmentLine | EndLine | ErrorLine = _LINE.validate_json(text, strict=True)
    except ValidationError:
        raise ProtocolError(f"The server sent what is no segment: {_excerpt(text)}.") from None
    if isinstance(line, ErrorLine):
        raise ErrorAnswer(line.error, code=line.code, request_id=line.request_id)
    return line


def _excerpt(sent: object) -> str:
    text = sent.decode(errors="replace") if isinstance(sent, bytes) else str(sent)
    return repr(text[:80])
