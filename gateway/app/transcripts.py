"""What the recognizer answers, held against the contract before it is passed on or used."""

from __future__ import annotations

import httpx
from pydantic import TypeAdapter, ValidationError

from common.errors import UpstreamFailed
from common.protocol.recognition import TRANSCRIPT_MEDIA_TYPES, Transcript, VerboseTranscript

_AS_JSON = TypeAdapter[Transcript | VerboseTranscript](Transcript | VerboseTranscript)
_JSON = TRANSCRIPT_MEDIA_TYPES["json"]


def transcript_of(answer: httpx.Response) -> Transcript:
    """The transcript of an answer in the format `json`. Raises `UpstreamFailed` if it is none."""
    try:
        return Transcript.model_validate_json(answer.content, strict=True)
    except ValidationError:
        raise _nonsense() from None


def verbose_of(answer: httpx.Response) -> VerboseTranscript:
    """The transcript of an answer in the format `verbose_json`. Raises `UpstreamFailed`."""
    try:
        return VerboseTranscript.model_validate_json(answer.content, strict=True)
    except ValidationError:
        raise _nonsense() from None


def check(answer: httpx.Response) -> None:
    """Raise `UpstreamFailed` unless `answer` is a transcript in one of the formats."""
    media_type = answer.headers.get("Content-Type", "").partition(";")[0]
    if media_type not in TRANSCRIPT_MEDIA_TYPES.values():
        raise _nonsense()
    if media_type == _JSON:
        try:
            _AS_JSON.validate_json(answer.content, strict=True)
        except ValidationError:
            raise _nonsense() from None


def _nonsense() -> UpstreamFailed:
    return UpstreamFailed("The asr service answered something that is no transcript.")
