"""The echo: speech to text to speech, the two services joined."""

from __future__ import annotations

import json
from urllib.parse import quote

from common.protocol.recognition import Transcript

SPEECH_NONE = {"X-Speech": "none"}
"""Said of audio in which nobody speaks; the body is empty then."""


def speech_body(text: str, sample_rate_hz: int, container: str) -> bytes:
    """The request that has `text` spoken at the rate at which the speaker was recorded."""
    return json.dumps({"text": text, "sample_rate": sample_rate_hz, "format": container}).encode()


def transcript_header(transcript: Transcript) -> dict[str, str]:
    """The words, where a header can carry them: percent-encoded UTF-8."""
    return {"X-Transcript": quote(transcript.text)}
