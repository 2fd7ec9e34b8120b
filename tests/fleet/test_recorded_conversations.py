"""Conversations that were recorded with an earlier version go the same way with this one.

What clients may rely on is held here to the byte: every frame, its boundaries and its order, close
codes, statuses, headers and bodies. `tests.support.conversations` says what may differ, and how to
record; engines that stand in for models make all of it the same on every processor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.conversations import (
    RECORDED,
    Conversation,
    Fleet,
    as_compared,
    in_lines,
    play,
    read,
    started,
)

FILES = {path.stem: read(path) for path in sorted(RECORDED.glob("*.json"))}


@pytest.fixture(scope="module")
def fleet_of() -> Iterator[Callable[[str], Fleet]]:
    """Call it with the name of a file to have its fleet, which runs until another is asked for."""
    with ExitStack() as stack:
        running: dict[str, Fleet] = {}

        def start(name: str) -> Fleet:
            if name not in running:
                stack.close()
                running.clear()
                running[name] = stack.enter_context(started(FILES[name]["fleet"]))
            return running[name]

        yield start


@pytest.mark.parametrize(
    ("name", "conversation"),
    [
        pytest.param(name, conversation, id=f"{name}: {conversation['name']}")
        for name, file in FILES.items()
        for conversation in file["conversations"]
    ],
)
def test_a_conversation_goes_as_it_was_recorded(
    fleet_of: Callable[[str], Fleet], name: str, conversation: Conversation
) -> None:
    assert compared(play(fleet_of(name), conversation)) == compared(conversation)


def compared(conversation: Any) -> list[str]:
    """A line for each frame and answer, so that a difference is shown by the lines that differ."""
    return in_lines(as_compared(conversation)).splitlines()


def test_no_recording_is_without_its_answers() -> None:
    for file in FILES.values():
        for conversation in file["conversations"]:
            for step in conversation["steps"]:
                expected = {"http": "answer", "open": "answer", "until": "frames"}
                for kind, answer in expected.items():
                    assert kind not in step or answer in step or step[kind] == "wyoming", step
