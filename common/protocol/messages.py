"""What the messages of all interfaces share: JSON objects, their validation, text, request ids."""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from common.errors import BadRequest, NotJson, in_words

SANE = "[A-Za-z0-9._:+/=-]{1,128}"


"""A pattern of the request ids that are taken from a caller."""


_SURROGATES = dict.fromkeys(range(55296, 57344), "�")


def _mend_surrogates(value: object) -> object:
    """JSON can spell half a character (`"\\ud83d"`), as a text cut in two does; Unicode cannot."""
    return value.translate(_SURROGATES) if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_mend_surrogates)]


class Message(BaseModel):
    """Fields that are not known are refused by name: none is accepted and ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def parse_json_object(message: str | bytes | bytearray) -> dict[str, Any]:
    """A WebSocket text frame or an HTTP body as a JSON object. Raises `NotJson`, `BadRequest`."""
    try:
        value = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise NotJson(f"The message is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise BadRequest("The message must be a JSON object.")
    return value


M = TypeVar("M", bound=BaseModel)


def validate(model: type[M], value: dict[str, Any]) -> M:
    """`value` as a `model`. Raises `BadRequest`, naming each field that does not fit."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise BadRequest(in_words(error.errors(include_url=False, include_input=False))) from None


def with_fields(query: M, fields: dict[str, str]) -> M:
    """`query` and the fields of a form as one. Raises `BadRequest`, also for what is in both."""
    twice = query.model_fields_set & fields.keys()
    if twice:
        raise BadRequest(f"{', '.join(sorted(twice))}: given in the query and in the form.")
    if not fields:
        return query
    return validate(type(query), query.model_dump(exclude_unset=True) | fields)
