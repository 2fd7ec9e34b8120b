"""What is accepted on the wire, and what is refused by name."""

import pytest

from common.errors import BadRequest, NotJson
from common.protocol.messages import parse_json_object
from common.protocol.speech import END, SpeakRequest, parse_speak_request


def request(frame: str) -> SpeakRequest:
    return parse_speak_request(parse_json_object(frame))


def test_text_is_spoken_as_it_is() -> None:
    assert request('{"text": "Hello  world"}').spoken == "Hello  world"


def test_segments_are_joined_by_spaces_and_may_carry_the_times_of_recognition() -> None:
    frame = '{"segments": [{"text": "Hello", "start_ms": 0, "end_ms": 9}, {"text": "world"}]}'
    assert request(frame).spoken == "Hello world"


@pytest.mark.parametrize("frame", ["{}", '{"segments": []}', '{"text": null}', '{"text": ""}'])
def test_a_message_without_text_says_nothing(frame: str) -> None:
    assert request(frame).spoken == ""


@pytest.mark.parametrize(
    "frame",
    ["[" * 100_000, "", "{", "NaN{", '{"text": "a"} x', "9" * 5000],
)
def test_what_is_not_json_is_told_apart(frame: str) -> None:
    with pytest.raises(NotJson):
        request(frame)


@pytest.mark.parametrize("frame", ["[]", "1", '"text"', "null", "NaN"])
def test_json_that_is_no_object_is_a_bad_request(frame: str) -> None:
    with pytest.raises(BadRequest) as error:
        request(frame)
    assert error.value.close_code == 1003


@pytest.mark.parametrize(
    ("frame", "named"),
    [
        ('{"text": "a", "voice": "b"}', "voice"),
        ('{"text": 5}', "text"),
        ('{"segments": "a"}', "segments"),
        ('{"segments": [{"words": "a"}]}', "segments.0.text"),
        ('{"text": "a", "segments": []}', "not both"),
        ('{"type": "start"}', "first message"),
    ],
)
def test_a_field_that_cannot_be_honoured_is_named(frame: str, named: str) -> None:
    with pytest.raises(BadRequest, match=named):
        request(frame)


def test_half_a_character_becomes_the_replacement_character() -> None:
    assert request('{"text": "a\\ud83d b"}').spoken == "a\N{REPLACEMENT CHARACTER} b"
    assert request('{"text": "\\ud83d\\ude00"}').spoken == "😀"


def test_the_end_is_these_bytes() -> None:
    assert END == '{"type":"end"}'
