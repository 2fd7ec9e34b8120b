"""Speaking through a fleet, being heard by it, and comparing words."""

from __future__ import annotations

import warnings
from typing import Any

import httpx
import jiwer

from deploy.local import LocalFleet
from tests.support.wire import open_ws, speak

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its dependencies, at import
    from whisper_normalizer.english import EnglishTextNormalizer

_normalize = EnglishTextNormalizer()
RATE_HZ = 16000


def say(fleet: LocalFleet, text: str) -> bytes:
    """The PCM of `text`, through the gateway's WebSocket."""
    with open_ws(f"{fleet.url('gateway', scheme='ws')}/ws/tts") as ws:
        said = speak(ws, text)
    assert said.closing == '{"type":"end"}', said.closing
    return said.pcm


def hear(fleet: LocalFleet, pcm: bytes) -> dict[str, Any]:
    """The transcript of `pcm`, through the gateway."""
    answer = httpx.post(
        f"{fleet.url('gateway')}/api/stt/bytes?sr={RATE_HZ}&ch=1&lang=en", content=pcm, timeout=120
    )
    assert answer.status_code == 200, answer.text
    transcript: dict[str, Any] = answer.json()
    return transcript


def words(text: str) -> str:
    """`text` as a recognizer is fairly judged by: Whisper's own normalization of English."""
    normalized: str = _normalize(text)
    return normalized


def word_error_rate(references: list[str], hypotheses: list[str]) -> float:
    rate: float = jiwer.wer([words(r) for r in references], [words(h) for h in hypotheses])
    return rate
