"""Whether an utterance is under way on a relayed `/ws/tts`, as told by the frames that pass.

That is all the gateway has to know of them: what is under way is waited for when leaving, and what
breaks it off is a failure. In the simple mode it is so from a text to its `end` or `error`. In a
session, an utterance is under way from its first `text` or `speak`, unless that is refused (an
`error` with its id before its `begin`), to its `end`.
"""

from __future__ import annotations

from typing import Any

from common.errors import SpeechError
from common.protocol import parse_json_object
from common.protocol_session import is_start


class UnderWay:
    """Shown each frame of one socket, in its order."""

    def __init__(self) -> None:
        self.in_session = False
        self._first = True
        self._simple = False
        self._asked: set[str] = set()
        self._begun: set[str] = set()

    def __bool__(self) -> bool:
        return self._simple or bool(self._asked)

    def client_sent(self, text: str) -> None:
        """A text frame on its way to the service."""
        message = _message(text) if self._first or self.in_session else {}
        if self._first:
            self.in_session = is_start(message)
        self._first = False
        if not self.in_session:
            self._simple = True
        elif message.get("type") in ("text", "speak") and isinstance(message.get("id"), str):
            self._asked.add(message["id"])

    def service_sent(self, text: str) -> None:
        """A text frame on its way to the client."""
        message = _message(text)
        kind, id_ = message.get("type"), message.get("id")
        if not self.in_session:
            self._simple = self._simple and kind not in ("end", "error")
        elif kind == "begin" and isinstance(id_, str):
            self._asked.add(id_)
            self._begun.add(id_)
        elif kind == "end" or (kind == "error" and id_ not in self._begun):
            self._asked.discard(str(id_))
            self._begun.discard(str(id_))

    def service_sounded(self) -> None:
        """A frame of audio on its way to the client."""
        self._simple = not self.in_session


class ListeningUnderWay(UnderWay):
    """Of `/ws/stt`: from its `start` to its `end`, or to an error that ends it."""

    def client_sent(self, text: str) -> None:
        if self._first:
            self._simple = self.in_session = is_start(_message(text))
        self._first = False

    def service_sent(self, text: str) -> None:
        message = _message(text)
        kind = message.get("type")
        if kind == "end" or (kind == "error" and message.get("fatal") is not False):
            self._simple = False

    def service_sounded(self) -> None:
        """It never does."""


def _message(text: str) -> dict[str, Any]:
    try:
        return parse_json_object(text)
    except SpeechError:
        return {}
