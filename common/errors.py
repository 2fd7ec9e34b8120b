"""Defines every way in which a request can fail, and how each looks on the wire.

    SpeechError
      BadRequest            a parameter or message that does not fit
        NotJson             a WebSocket message that should be JSON and is not
        EmptyText           nothing in the text can be spoken
        EmptyAudio          the body holds no audio
      NotFound              there is no such route
        UnknownModel        there is no such model here
      MethodNotAllowed      the route does not take this method
      Unauthorized          unknown or missing key
      ForbiddenOrigin       a browser's page that may not use this server
      TooLarge              text, body or message over its limit
      UndecodableAudio      not audio, or audio that cannot be decoded
      RateLimited           the caller's own limit is reached
      QueueFull             the queue of a session is full
      SynthesisFailed       the voice failed
      RecognitionFailed     the recognizer failed
      Internal              a fault of the server
      UpstreamFailed        the service behind the gateway cannot be used
      UpstreamTimeout       the service behind the gateway did not answer in time
      Unavailable           cannot serve now, may serve later
        Busy                slots and queue are full
        Loading             the model is not in place yet
        Draining            the service shuts down

Each class knows its code, HTTP status and WebSocket close code; nothing else decides these.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar


class SpeechError(Exception):
    """The base of all errors that reach a client.

    `message` is a sentence a person understands; it is sent as it is, so it holds nothing secret.
    `retry_after_s` becomes the `Retry-After` header where the answer is HTTP.
    """

    code: ClassVar[str]
    http_status: ClassVar[int]
    close_code: ClassVar[int]

    def __init__(self, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s

    def body(self, request_id: str) -> dict[str, Any]:
        """Return the JSON body of an HTTP answer, the same shape for every error."""
        return {"error": {"code": self.code, "message": self.message, "request_id": request_id}}

    def headers(self) -> dict[str, str]:
        """Return the headers that an HTTP answer needs beyond its content."""
        return {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}

    def frame(self, request_id: str) -> dict[str, Any]:
        """Return the message that precedes the close of a WebSocket."""
        return {
            "type": "error",
            "error": self.message,
            "code": self.code,
            "request_id": request_id,
        }


def field_of(message: str) -> str | None:
    """Return the field that a message of `describe` begins with, or None."""
    named = re.match(r"([A-Za-z_][\w.-]*): ", message)
    return named[1] if named else None


class BadRequest(SpeechError):
    code, http_status, close_code = "bad_request", 400, 1003


class NotJson(BadRequest):
    close_code = 1007


class EmptyText(BadRequest):
    code = "empty_text"


class EmptyAudio(BadRequest):
    code = "empty_audio"


class NotFound(SpeechError):
    code, http_status, close_code = "not_found", 404, 1003


class UnknownModel(NotFound):
    code = "unknown_model"


class MethodNotAllowed(SpeechError):
    code, http_status, close_code = "method_not_allowed", 405, 1003


class Unauthorized(SpeechError):
    code, http_status, close_code = "unauthorized", 401, 1008

    def headers(self) -> dict[str, str]:
        return {**super().headers(), "WWW-Authenticate": "Bearer"}


class ForbiddenOrigin(SpeechError):
    code, http_status, close_code = "forbidden_origin", 403, 1008


class TooLarge(SpeechError):
    code, http_status, close_code = "too_large", 413, 1009


class UndecodableAudio(SpeechError):
    code, http_status, close_code = "undecodable_audio", 415, 1003


class RateLimited(SpeechError):
    code, http_status, close_code = "rate_limited", 429, 1013


class QueueFull(SpeechError):
    code, http_status, close_code = "queue_full", 429, 1013


class SynthesisFailed(SpeechError):
    code, http_status, close_code = "synthesis_failed", 500, 1011


class RecognitionFailed(SpeechError):
    code, http_status, close_code = "recognition_failed", 500, 1011


class Internal(SpeechError):
    code, http_status, close_code = "internal", 500, 1011


class UpstreamFailed(SpeechError):
    code, http_status, close_code = "upstream_failed", 502, 1011


class UpstreamTimeout(SpeechError):
    code, http_status, close_code = "upstream_timeout", 504, 1011


class Unavailable(SpeechError):
    http_status, close_code = 503, 1013

    def __init__(self, message: str, *, retry_after_s: int | None = 1) -> None:
        super().__init__(message, retry_after_s=retry_after_s)


class Busy(Unavailable):
    code = "busy"


class Loading(Unavailable):
    code = "loading"


class Draining(Unavailable):
    code = "draining"
