"""The AsyncAPI document is current, valid, and says of every message what its class says."""

from __future__ import annotations

import warnings

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from common.errors import EmptyText
from common.protocol.messages import parse_json_object
from common.protocol.speech import END
from tools.asyncapi import BARE, CHANNELS, DOCUMENT, EXAMPLES, document, text


def validator_of(message: str) -> Draft202012Validator:
    """Of the payload of a message of the document."""
    whole = document()
    return Draft202012Validator({**whole, **whole["components"]["messages"][message]["payload"]})


def test_the_document_is_what_the_classes_say_now() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == text(), "python -m tools.asyncapi renews it"


def test_the_document_is_an_asyncapi_document() -> None:
    with warnings.catch_warnings():
        # Of the package itself: names of its fields.
        warnings.simplefilter("ignore", UserWarning)
        from asyncapi3.models.asyncapi import AsyncAPI3
    AsyncAPI3.model_validate(document())
    with pytest.raises(ValueError, match="action"):
        AsyncAPI3.model_validate({**document(), "operations": {"tts_receive": {"action": "eat"}}})


@pytest.mark.parametrize("kind", EXAMPLES, ids=lambda kind: kind.__name__)
def test_an_example_fits_its_class_and_its_schema(kind: type[BaseModel]) -> None:
    example = EXAMPLES[kind]
    kind.model_validate(example)
    validator = validator_of(kind.__name__)
    validator.validate(example)
    for field in example:
        assert not validator.is_valid({**example, field: object()}), field


def test_every_message_of_a_channel_has_an_example_and_every_example_a_channel() -> None:
    kinds = {kind for channel in CHANNELS.values() for kind in (*channel.receive, *channel.send)}
    assert kinds == {*EXAMPLES, *BARE}


def test_what_the_simple_mode_sends_is_as_described() -> None:
    validator_of("SimpleEnd").validate(parse_json_object(END))
    validator_of("SimpleError").validate(EmptyText("Nothing.").frame("r1"))
    assert not validator_of("SimpleEnd").is_valid({"type": "end", "id": "u1"})
