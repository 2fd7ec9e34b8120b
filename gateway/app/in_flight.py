"""Whether there is work under way on a relayed WebSocket, as told by the frames that pass.

That is all the gateway has to know of them: what is under way is waited for when leaving, and what
breaks it off is a failure.
"""

from __future__ import annotations

from typing import Any

from common.errors import SpeechError
from common.protocol.messages import parse_json_object
from common.protocol.session import is_start


class InFlightTracker:
    """Shown each frame of one socket, in its order. From a message of the client's to the `end`.

    What a client sends after the last frame, not having seen it yet, is nothing's work any more.
    """

    def __init__(self) -> None:
        self.in_session = False
        """The client's first message was a `start`, so it understands `goaway`."""
        self._begun = False
        self._busy = False
        self._over = False

    def __bool__(self) -> bool:
        return self._busy

    def client_sent(self, text: str) -> None:
        """A text frame on its way to the service."""
        if not self._begun:
            self.in_session = is_start(_message(text))
        self._begun = True
        self._busy = not self._over

    def service_sent(self, text: str) -> None:
        """A text frame that was sent to the client."""
        message = _message(text)
        self._over = self._over or self._is_last(message)
        if self._over or message.get("type") == "end":
            self._busy = False

    def service_sounded(self) -> None:
        """A frame of audio that was sent to the client."""
        self._busy = True

    def _is_last(self, message: dict[str, Any]) -> bool:
        """Whether the service sends nothing after this."""
        return message.get("type") == "end" or _is_fatal(message)


class SpeechInFlightTracker(InFlightTracker):
    """Of `/ws/tts`, whose sessions may wait with nothing under way.

    There, an utterance is under way from its first `text` or `speak`, unless that is refused (by an
    `error` with its id before its `begin`), to its `end`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._asked: set[object] = set()
        self._sounding: set[object] = set()

    def __bool__(self) -> bool:
        return bool(self._asked) if self.in_session else self._busy

    def client_sent(self, text: str) -> None:
        super().client_sent(text)
        if self.in_session:
            message = _message(text)
            if message.get("type") in ("text", "speak") and isinstance(message.get("id"), str):
                self._asked.add(message["id"])

    def service_sent(self, text: str) -> None:
        super().service_sent(text)
        if not self.in_session:
            return
        message = _message(text)
        kind, id_ = message.get("type"), message.get("id")
        if kind == "begin":
            self._asked.add(id_)
            self._sounding.add(id_)
        elif kind == "end" or (kind == "error" and id_ not in self._sounding):
            self._asked.discard(id_)
            self._sounding.discard(id_)

    def _is_last(self, message: dict[str, Any]) -> bool:
        return _is_fatal(message)


def _is_fatal(message: dict[str, Any]) -> bool:
    return message.get("type") == "error" and message.get("fatal") is not False


def _message(text: str) -> dict[str, Any]:
    try:
        return parse_json_object(text)
    except SpeechError:
        return {}
