"""Keys and quotas of the gateway, in front of services that ask for the same keys."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from asr_service.app.main import build as build_asr
from asr_service.app.settings import AsrSettings
from common.errors import RateLimited
from common.settings import SettingsError, load_settings
from gateway.app.quota import Quota
from gateway.app.settings import GatewaySettings
from gateway.tests.conftest import Serve
from tests.support.fakes import FakeRecognizer, FakeVoice
from tests.support.server import Served, served
from tests.support.wire import open_ws, speak, wait_for
from tts_service.app.main import build as build_tts
from tts_service.app.settings import TtsSettings

KEYS = "ada:ada-key-12345,bob:bob-key-67890"
ADA, BOB = {"Authorization": "Bearer ada-key-12345"}, {"X-API-Key": "bob-key-67890"}
HELLO = {"text": "Hello world"}


@pytest.fixture
def guarded(serve_gateway: Serve, stack: ExitStack, voice: FakeVoice) -> Serve:
    """Call it with settings to have a guarded gateway, in front of services that are guarded."""

    def start(**settings: Any) -> Served:
        tts = stack.enter_context(served(build_tts(TtsSettings(api_keys=KEYS), lambda: voice)))
        stack.callback(voice.gate.set)
        recognizer = FakeRecognizer()
        asr = stack.enter_context(served(build_asr(AsrSettings(api_keys=KEYS), lambda: recognizer)))
        assert httpx.post(f"{tts.http}/api/tts", json=HELLO).status_code == 401
        return serve_gateway(
            gateway_tts_url=tts.http, gateway_asr_url=asr.http, api_keys=KEYS, **settings
        )

    return start


def test_a_key_opens_every_endpoint(guarded: Serve) -> None:
    at = guarded()
    assert httpx.get(f"{at.http}/readyz").status_code == 200
    for key in (ADA, BOB):
        assert httpx.post(f"{at.http}/api/tts", json=HELLO, headers=key).status_code == 200
        heard = httpx.post(f"{at.http}/api/stt/bytes", content=bytes(3200), headers=key)
        assert heard.status_code == 200
        with open_ws(f"{at.ws}/ws/tts", additional_headers=key) as ws:
            assert speak(ws, "Hello").closing == '{"type":"end"}'
    with open_ws(f"{at.ws}/ws/tts?token=bob-key-67890") as ws:
        assert speak(ws, "Hello").closing == '{"type":"end"}'


def test_without_a_key_every_endpoint_is_closed(guarded: Serve) -> None:
    at = guarded()
    for path in ("/api/tts", "/api/stt/bytes", "/api/echo-bytes", "/nowhere"):
        assert httpx.post(f"{at.http}{path}", content=bytes(3200)).status_code == 401
    with pytest.raises(InvalidStatus) as refusal:
        open_ws(f"{at.ws}/ws/tts")
    assert refusal.value.response.status_code == 401


def test_each_key_has_its_own_requests_per_minute(guarded: Serve) -> None:
    at = guarded(gateway_key_requests_per_minute=3)
    statuses = [
        httpx.post(f"{at.http}/api/tts", json=HELLO, headers=ADA).status_code for _ in range(4)
    ]
    assert statuses == [200, 200, 200, 429]
    refused = httpx.post(f"{at.http}/api/tts", json=HELLO, headers=ADA)
    assert refused.json()["error"]["code"] == "rate_limited"
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert httpx.post(f"{at.http}/api/tts", json=HELLO, headers=BOB).status_code == 200
    with pytest.raises(InvalidStatus) as refusal:
        open_ws(f"{at.ws}/ws/tts", additional_headers=ADA)
    response = refusal.value.response
    assert (response.status_code, "Retry-After" in response.headers) == (429, True)
    assert json.loads(response.body or b"")["error"]["code"] == "rate_limited"
    # Probes are nobody's requests.
    assert httpx.get(f"{at.http}/readyz", headers=ADA).status_code == 200


def test_each_key_has_its_own_limit_of_concurrent_sessions(guarded: Serve) -> None:
    at = guarded(gateway_key_concurrency=1)
    with open_ws(f"{at.ws}/ws/tts", additional_headers=ADA):
        refused = httpx.post(f"{at.http}/api/tts", json=HELLO, headers=ADA)
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        assert httpx.post(f"{at.http}/api/tts", json=HELLO, headers=BOB).status_code == 200

    def free_again() -> bool:
        return httpx.post(f"{at.http}/api/tts", json=HELLO, headers=ADA).status_code == 200

    wait_for(free_again)


def test_a_refused_request_is_not_counted_as_in_flight() -> None:
    quota = Quota(per_minute=2, at_a_time=1)
    with quota.used_by("ada"), pytest.raises(RateLimited, match="in flight"), quota.used_by("ada"):
        pass
    with quota.used_by("ada"):
        pass
    with pytest.raises(RateLimited, match="a minute") as refusal, quota.used_by("ada"):
        pass
    assert 1 <= int(refusal.value.headers()["Retry-After"]) <= 60


def test_limits_of_keys_without_keys_are_refused_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_KEY_CONCURRENCY", "4")
    monkeypatch.delenv("API_KEYS", raising=False)
    with pytest.raises(SettingsError, match="need API_KEYS"):
        load_settings(GatewaySettings)
