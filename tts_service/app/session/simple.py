"""The simple mode of `/ws/tts`: `{"text"}` in; audio and `{"type":"end"}` out, in order.

An adapter and nothing more: each text becomes an utterance of a session, and of what the session
answers only that is sent which the simple mode has.
"""

from __future__ import annotations

import json
from itertools import count
from typing import Any

from common.errors import SpeechError
from common.protocol.session import End, ErrorMessage, SessionCommand, SessionEvent, Speak
from common.protocol.speech import END, parse_speak_request
from tts_service.app.service import SpeechService
from tts_service.app.session.machine import Effect, SessionMachine
from tts_service.app.session.session import SessionMode


class SimpleMode(SessionMode):
    """Translates the frames of the simple mode to a session's messages, and back."""

    subject = "This socket"
    is_session = False

    def __init__(self, machine: SessionMachine, service: SpeechService) -> None:
        super().__init__(machine)
        self._service = service
        self._ids = count(1)

    def parse(self, value: dict[str, Any]) -> SessionCommand:
        text = parse_speak_request(value).spoken
        self._service.check_text(text)
        self._service.lifecycle.check()
        return Speak(type="speak", id=str(next(self._ids)), text=text)

    def refuse(self, error: SpeechError, of: str | None) -> list[Effect]:
        # In its turn: the texts before it are spoken first.
        return self.machine.end_with(error)

    def failed(self, id_: str, error: SpeechError) -> list[Effect]:
        return self.machine.fatal(error)

    def frame(self, message: SessionEvent) -> str | None:
        match message:
            case End(reason="done"):
                return END
            case ErrorMessage(fatal=True):
                shown = message.model_dump(include={"type", "error", "code", "request_id"})
                return json.dumps(shown, ensure_ascii=False, separators=(",", ":"))
        return None
