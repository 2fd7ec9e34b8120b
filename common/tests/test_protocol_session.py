"""The messages of a session, as they are read and written."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import BaseModel

from common.errors import BadRequest, QueueFull
from common.protocol.messages import validate
from common.protocol.session import (
    Cancel,
    ErrorMessage,
    Pong,
    SendText,
    SessionCommand,
    SessionEvent,
    Start,
    is_start,
    parse_client_message,
)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"type": "text", "id": "u1", "text": "a"}, SendText(type="text", id="u1", text="a")),
        ({"type": "cancel"}, Cancel(type="cancel")),
    ],
)
def test_a_message_is_told_by_its_type(value: dict[str, Any], message: SessionCommand) -> None:
    assert parse_client_message(value) == message


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ({"type": "sing"}, "'sing' is not known; there is: text, flush, finish, speak, cancel"),
        ({"type": ["text"]}, "not known"),
        ({"type": "start"}, "started already"),
        (
            {"type": "flush", "id": "u1", "text": "a"},
            "text: this field is not known; allowed are type, id",
        ),
        (
            {"type": "text", "id": "a" * 129, "text": "a"},
            "id: must have 1 to 128 characters, not 129",
        ),
        ({"type": "ping", "nonce": 5}, "nonce: "),
    ],
)
def test_what_does_not_fit_is_named(value: dict[str, Any], names: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        parse_client_message(value)
    assert names in refusal.value.message


def test_a_start_tells_which_of_its_fields_are_not_known() -> None:
    value = {"type": "start", "speed": 1.5, "voice": "x", "color": "red"}
    assert is_start(value)
    assert validate(Start, value).speed == 1.5
    assert Start.unknown(value) == ["color", "voice"]


def test_what_is_absent_is_not_written() -> None:
    assert Pong().frame() == '{"type":"pong"}'
    failure = ErrorMessage.of(QueueFull("Full."), "r1", of="u1")
    assert failure.frame() == (
        '{"type":"error","error":"Full.","code":"queue_full","id":"u1","fatal":false,'
        '"request_id":"r1"}'
    )
    assert '"id"' not in ErrorMessage.of(QueueFull("Full."), "r1").frame()


def test_every_message_says_its_type() -> None:
    kinds: list[type[BaseModel]] = [*get_args(SessionCommand), *get_args(SessionEvent), Start]
    types = [get_args(kind.model_fields["type"].annotation)[0] for kind in kinds]
    assert len(types) == len(set(types)) == 17
