"""The echo: speech to text to speech, the two services joined."""

from __future__ import annotations

import json
from urllib.parse import quote, urlencode

from pydantic import ValidationError

from common.errors import UpstreamFailed
from common.pcm import PcmQuery
from common.protocol import Transcript
from gateway.app.settings import GatewaySettings
from gateway.app.upstreams import Upstream

SPEECH_NONE = {"X-Speech": "none"}
"""Said of audio in which nobody speaks; the body is empty then."""


async def transcribe(
    asr: Upstream, body: bytearray, query: PcmQuery, settings: GatewaySettings
) -> Transcript:
    """What is said in `body`. Raises as `Upstream.post` does."""
    answer = await asr.post_and_read(
        "/api/stt/bytes",
        content=body,
        query=urlencode({"sr": query.sr, "ch": query.ch}),
        timeout_s=settings.gateway_recognition_timeout_s,
    )
    try:
        return Transcript.model_validate_json(answer.content)
    except ValidationError:
        raise UpstreamFailed("The asr service answered something that is no transcript.") from None


def speech_body(text: str, sample_rate_hz: int, container: str) -> bytes:
    """The request that has `text` spoken at the rate at which the speaker was recorded."""
    return json.dumps({"text": text, "sample_rate": sample_rate_hz, "format": container}).encode()


def transcript_header(transcript: Transcript) -> dict[str, str]:
    """The words, where a header can carry them: percent-encoded UTF-8."""
    return {"X-Transcript": quote(transcript.text)}
