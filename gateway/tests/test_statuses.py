"""Each status that the OpenAPI document names: how it comes, and that it is as documented."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from asr_service.app.main import build as build_asr
from asr_service.app.settings import AsrSettings
from common.audio.pcm import wav_header
from common.errors import Internal
from gateway.app.main import build
from gateway.app.settings import GatewaySettings
from gateway.app.upstreams.service import new_http_client
from gateway.tests.misbehaving import Answer, closed_port, hang, ready_but, respond, upstream
from tests.support.fakes import FakeRecognizer, FakeVoice
from tests.support.server import Served, served
from tests.support.statuses import (
    GUARDS,
    KEY,
    KEYS,
    Sent,
    documented,
    guarded,
    provoke,
    rows,
)
from tts_service.app.main import build as build_tts
from tts_service.app.settings import TtsSettings

JSON, OCTETS, FORM = "application/json", "application/octet-stream", "multipart/form-data"
MAX_BODY_BYTES = 20_000
TOO_LARGE = bytes(MAX_BODY_BYTES + 1)
SAMPLES = bytes([0, 1]) * 1600
WAV = wav_header(16000, len(SAMPLES)) + SAMPLES

SPEECH = Sent({"text": "Hello world"}, JSON)
PCM, FILE = Sent(SAMPLES, OCTETS), Sent(WAV, OCTETS)
OPENAI_SPEECH = Sent({"model": "tts-1", "voice": "alloy", "input": "Hello world"}, JSON)
OPENAI_FILE = Sent({"model": "whisper-1", "file": WAV}, FORM)
OF_NO_MODEL = Sent(path=(("model", "nobody"),))


def asked(good: Sent) -> dict[int, Sent]:
    """What every route answers for which a service behind is asked."""
    return guarded(good) | {
        429: good.but(to="used up"),
        500: good.but(to="in front of failing ones"),
        502: good.but(to="in front of nobody"),
        503: good.but(to="leaving"),
        504: good.but(to="in front of hanging ones"),
    }


def with_fields(sent: Sent, **fields: Any) -> Sent:
    return sent.but(body=sent.body | fields)


TABLE = {
    "GET /healthz": {200: Sent(), 400: Sent(host="elsewhere.example")},
    "GET /readyz": {
        200: Sent(),
        400: Sent(host="elsewhere.example"),
        503: Sent(to="in front of nobody"),
    },
    "POST /api/tts": asked(SPEECH)
    | {
        400: with_fields(SPEECH, colour="red"),
        413: with_fields(SPEECH, text="a" * 5001),
    },
    "POST /api/stt/bytes": asked(PCM)
    | {400: PCM.but(body=b"odd"), 413: PCM.but(body=TOO_LARGE), 415: FILE},
    "POST /api/stt/file": asked(FILE)
    | {
        400: FILE.but(query=(("colour", "red"),)),
        413: FILE.but(body=TOO_LARGE),
        415: FILE.but(body=b"no audio"),
    },
    "POST /api/echo-bytes": asked(PCM)
    | {400: PCM.but(body=b"odd"), 413: PCM.but(body=TOO_LARGE), 415: FILE},
    "GET /api/voices": asked(Sent()),
    "GET /api/models": asked(Sent()),
    "POST /v1/audio/speech": asked(OPENAI_SPEECH)
    | {
        400: with_fields(OPENAI_SPEECH, instructions="Whisper."),
        404: with_fields(OPENAI_SPEECH, model="nobody"),
        413: with_fields(OPENAI_SPEECH, input="a" * 5001),
    },
    "POST /v1/audio/transcriptions": asked(OPENAI_FILE)
    | {
        400: with_fields(OPENAI_FILE, temperature=1),
        404: with_fields(OPENAI_FILE, model="nobody"),
        413: with_fields(OPENAI_FILE, file=TOO_LARGE),
        415: with_fields(OPENAI_FILE, file=b"no audio"),
    },
    "POST /v1/audio/translations": {
        status: sent
        for status, sent in asked(Sent()).items()
        if status != 200  # nothing here translates
    }
    | {400: Sent(), 413: Sent(TOO_LARGE, OCTETS)},
    "GET /v1/models": asked(Sent()),
    "GET /v1/models/{model}": asked(Sent(path=(("model", "tts-1"),))) | {404: OF_NO_MODEL},
    "GET /v1/audio/voices": asked(Sent()),
}

FAILING = json.dumps(Internal("Something went wrong.").body("r1")).encode()


@pytest.fixture(scope="module")
def gateways() -> Iterator[dict[str, str]]:
    """The URL of each; those that are sound themselves have services behind that are as named."""
    with ExitStack() as stack:

        def start(tts: str, asr: str, per_minute: int = 1000) -> Served:
            settings = GatewaySettings(
                gateway_tts_url=tts,
                gateway_asr_url=asr,
                gateway_max_body_bytes=MAX_BODY_BYTES,
                gateway_first_byte_timeout_s=1,
                gateway_recognition_timeout_s=1,
                gateway_key_requests_per_minute=per_minute,
                **GUARDS,
            )
            app = build(settings, new_http_client())
            return stack.enter_context(served(app, ready=False))

        def in_front_of(url: str) -> Served:
            return start(url, url)

        def behind(answer: Answer) -> str:
            return stack.enter_context(upstream(ready_but(answer)))

        tts = stack.enter_context(served(build_tts(TtsSettings(api_keys=KEYS), FakeVoice)))
        asr = stack.enter_context(served(build_asr(AsrSettings(api_keys=KEYS), FakeRecognizer)))
        sound, leaving = start(tts.http, asr.http), start(tts.http, asr.http)
        leaving.leave()
        used_up = start(tts.http, asr.http, per_minute=1)
        httpx.get(f"{used_up.http}/v1/models", headers={"X-API-Key": KEY}).raise_for_status()
        failing = respond("500 Internal Server Error", FAILING, f"Content-Type: {JSON}")
        yield {
            "sound": sound.http,
            "leaving": leaving.http,
            "used up": used_up.http,
            "in front of nobody": in_front_of(closed_port()).http,
            "in front of failing ones": in_front_of(behind(failing)).http,
            "in front of hanging ones": in_front_of(behind(hang)).http,
        }


def test_the_table_covers_the_openapi_document(gateways: dict[str, str]) -> None:
    assert set(rows(TABLE)) == documented(gateways["sound"])


@pytest.mark.parametrize(("route", "status"), rows(TABLE))
def test_each_documented_status_occurs(gateways: dict[str, str], route: str, status: int) -> None:
    provoke(TABLE, route, status, gateways[TABLE[route][status].to])
