"""What the server says: from JSON to the classes of the protocol."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from client.errors import BrokenOff


def told_apart(union: Any) -> TypeAdapter[Any]:
    """What reads messages of a union of classes, each of which has its own `type`."""
    return TypeAdapter(Annotated[union, Field(discriminator="type")])


def parse(messages: TypeAdapter[Any], frame: dict[str, Any]) -> Any:
    """A message, or None if it is of a kind that is not known here: newer servers may say more.

    Raises `BrokenOff` if it is known and does not fit.
    """
    try:
        return messages.validate_python(frame)
    except ValidationError as error:
        if error.errors()[0]["type"] == "union_tag_invalid":
            return None
        said = str(frame)[:80]
        raise BrokenOff(f"The server sent a message that does not fit: {said}.") from None


def is_fatal(frame: dict[str, Any]) -> bool:
    """Whether an error ends the session: one that does not say so does."""
    return bool(frame.get("fatal", True))
