"""Errors of validation are plain sentences: the field, what is allowed, what came."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from common.validation import close_to, describe


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: str


class Example(BaseModel):
    model_config = ConfigDict(extra="forbid")

    sr: int = Field(default=16000, ge=8000, le=48000)
    delay_ms: Annotated[int, Field(ge=20, le=60_000)] | None = None
    speed: float = Field(default=1.0, ge=0.5, le=2.0)
    timeout_s: float = Field(default=1.0, gt=0)
    retries: int = Field(default=0, ge=0)
    fmt: Literal["s16le", "wav"] = "s16le"
    words: bool = False
    lang: str = Field(default="en", min_length=2, max_length=8)
    prompt: str | None = Field(default=None, max_length=3)
    items: list[str] = Field(default=["a"], min_length=1)
    id: str = Field(default="a", pattern="^[a-z]+$")
    inner: Inner = Inner(text="a")
    many: list[Inner] = []
    even: int = 0

    @field_validator("even")
    @classmethod
    def _is_even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("must be even")
        return value


class Sing(BaseModel):
    type: Literal["sing"]
    song: str
    model_config = ConfigDict(extra="forbid")


class Stop(BaseModel):
    type: Literal["stop"]


COMMAND: TypeAdapter[Sing | Stop] = TypeAdapter(Annotated[Sing | Stop, Field(discriminator="type")])


def sentence(kind: Any, value: object) -> str:
    with pytest.raises(ValidationError) as error:
        (
            TypeAdapter(kind).validate_python(value)
            if isinstance(kind, type)
            else (kind.validate_python(value))
        )
    return describe(error.value.errors(), kind)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"sr": 96000}, "sr: must be 8000 to 48000, not 96000"),
        ({"delay_ms": 5}, "delay_ms: must be 20 to 60000, not 5"),
        ({"speed": 3}, "speed: must be 0.5 to 2, not 3"),
        ({"timeout_s": 0}, "timeout_s: must be more than 0, not 0"),
        ({"retries": -1}, "retries: must be at least 0, not -1"),
        ({"fmt": "mp3"}, "fmt: must be s16le or wav, not 'mp3'"),
        ({"sr": "many"}, "sr: must be a whole number, not 'many'"),
        ({"sr": 16000.5}, "sr: must be a whole number, not 16000.5"),
        ({"speed": "fast"}, "speed: must be a number, not 'fast'"),
        ({"words": "maybe"}, "words: must be true or false, not 'maybe'"),
        ({"lang": 5}, "lang: must be a string, not 5"),
        ({"lang": "e"}, "lang: must have 2 to 8 characters, not 1"),
        ({"prompt": "long"}, "prompt: must have at most 3 characters, not 4"),
        ({"items": []}, "items: must have at least 1 item, not 0"),
        ({"items": "a"}, "items: must be a list, not 'a'"),
        ({"id": "A"}, "id: must match ^[a-z]+$, not 'A'"),
        ({"inner": 5}, "inner: must be an object, not 5"),
        ({"inner": {}}, "inner.text: this field is required"),
        (
            {"inner": {"text": "a", "txt": 1}},
            "inner.txt: this field is not known; did you mean text?",
        ),
        ({"many": [{"text": "a"}, {"text": 5}]}, "many.1.text: must be a string, not 5"),
        ({"even": 1}, "even: must be even"),
        ({"lnag": "en"}, "lnag: this field is not known; did you mean lang?"),
        (
            {"sr": 1, "fmt": ""},
            "sr: must be 8000 to 48000, not 1; fmt: must be s16le or wav, not ''",
        ),
        ({"fmt": "x" * 100}, f"fmt: must be s16le or wav, not '{'x' * 39}…"),
        (5, "must be an object, not 5"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_what_is_allowed(
    value: object, expected: str
) -> None:
    assert sentence(Example, value) == expected


def test_an_unknown_field_is_named_with_those_that_are_known() -> None:
    assert sentence(Inner, {"text": "a", "voice": "b"}) == (
        "voice: this field is not known; allowed are text"
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"type": "dance"}, "type: 'dance' is not known; there is: sing, stop"),
        ({}, "type: this field is required; there is: sing, stop"),
        ({"type": ["sing"]}, "type: ['sing'] is not known; there is: sing, stop"),
        ({"type": "sing"}, "song: this field is required"),
        (
            {"type": "sing", "song": "a", "key": "c"},
            "key: this field is not known; allowed are type, song",
        ),
    ],
)
def test_a_message_of_a_union_is_named_by_its_type(value: object, expected: str) -> None:
    assert sentence(COMMAND, value) == expected


def test_a_misspelt_name_is_close_to_the_one_that_was_meant() -> None:
    known = ["GATEWAY_PORT", "API_KEYS", "HOST"]
    assert close_to("GATEWAYPORT", known) == "GATEWAY_PORT"
    assert close_to("APIKEY", known) == "API_KEYS"
    assert close_to("PATH", known) is None
