"""The conversation in docs/sessions.md is had, and goes as it says."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from deploy.local import ROOT, LocalFleet
from tests.support.wire import close_of, open_ws

pytestmark = pytest.mark.fleet

DOCUMENT = (ROOT / "docs" / "sessions.md").read_text()
CONVERSATION = re.search(
    r"<!-- conversation -->\n```\n(.*)```\n<!-- end of the conversation -->", DOCUMENT, re.DOTALL
)
LENGTHS = {"start_ms", "end_ms", "audio_ms"}
FIGURES = {"queue_ms", "first_audio_ms", "rtf"}


def assert_as_documented(got: dict[str, Any], documented: dict[str, Any]) -> None:
    assert list(got) == list(documented)
    for name, value in documented.items():
        if name in LENGTHS:
            assert got[name] == pytest.approx(value, rel=0.1)
        elif name in FIGURES and value is not None:
            assert got[name] >= 0
        elif value != "…":
            assert got[name] == value


def test_the_conversation_goes_as_documented(fleet: LocalFleet) -> None:
    assert CONVERSATION is not None
    lines = [line for line in CONVERSATION[1].splitlines() if line]
    assert len(lines) > 15
    with open_ws(f"{fleet.url('gateway', scheme='ws')}/ws/tts") as ws:
        for line in lines:
            direction, _, message = line.partition(" ")
            if direction == "→":
                ws.send(message)
                continue
            while isinstance(frame := ws.recv(30), bytes):
                pass
            assert_as_documented(json.loads(frame), json.loads(message))
        assert close_of(ws)[0] == 1000
