"""These helpers have a fleet speak and recognize, and compare words."""

from __future__ import annotations

from typing import Any

import httpx
import jiwer

from deploy.local import LocalFleet
from deploy.local.words import words
from tests.support.wire import open_ws, speak

RATE_HZ = 16000


def say(fleet: LocalFleet, text: str) -> bytes:
    """Return the PCM of `text`, spoken through the gateway's WebSocket."""
    with open_ws(f"{fleet.url('gateway', scheme='ws')}/ws/tts") as ws:
        said = speak(ws, text)
    assert said.closing == '{"type":"end"}', said.closing
    return said.pcm


def hear(fleet: LocalFleet, pcm: bytes) -> dict[str, Any]:
    """Return the transcript of `pcm`, recognized through the gateway."""
    answer = httpx.post(
        f"{fleet.url('gateway')}/api/stt/bytes?sr={RATE_HZ}&ch=1&lang=en", content=pcm, timeout=120
    )
    assert answer.status_code == 200, answer.text
    transcript: dict[str, Any] = answer.json()
    return transcript


def word_error_rate(references: list[str], hypotheses: list[str]) -> float:
    rate: float = jiwer.wer(
        [" ".join(words(r)) for r in references], [" ".join(words(h)) for h in hypotheses]
    )
    return rate
