"""The OpenAPI documents say what is sent and what can come back."""

from __future__ import annotations

import httpx
import pytest

from common.protocol.recognition import NDJSON, TRANSCRIPT_MEDIA_TYPES
from deploy.local import LocalFleet

pytestmark = pytest.mark.fleet


@pytest.mark.parametrize(
    ("service", "path", "statuses"),
    [
        ("tts", "/api/tts", {"200", "400", "413", "500", "503"}),
        ("asr", "/api/stt/bytes", {"200", "400", "413", "415", "500", "503"}),
        ("asr", "/api/stt/file", {"200", "400", "413", "415", "500", "503"}),
        (
            "gateway",
            "/api/stt/file",
            {"200", "400", "413", "415", "500", "502", "503", "504"},
        ),
        ("gateway", "/api/tts", {"200", "400", "413", "500", "502", "503", "504"}),
        ("gateway", "/api/stt/bytes", {"200", "400", "413", "415", "500", "502", "503", "504"}),
        (
            "gateway",
            "/api/echo-bytes",
            {"200", "400", "413", "415", "500", "502", "503", "504"},
        ),
    ],
)
def test_every_route_names_its_body_and_its_answers(
    fleet: LocalFleet, service: str, path: str, statuses: set[str]
) -> None:
    document = httpx.get(f"{fleet.url(service)}/openapi.json").json()
    route = document["paths"][path]["post"]
    assert route["requestBody"]["content"]
    assert set(route["responses"]) == statuses
    described = document["components"]["schemas"]["ErrorAnswer"]["properties"]
    answer = httpx.post(f"{fleet.url(service)}{path}", content=b"").json()
    assert set(answer) == set(described)


@pytest.mark.parametrize("service", ["asr", "gateway"])
def test_every_format_of_a_transcript_is_described(fleet: LocalFleet, service: str) -> None:
    document = httpx.get(f"{fleet.url(service)}/openapi.json").json()
    for path in ("/api/stt/bytes", "/api/stt/file"):
        content = document["paths"][path]["post"]["responses"]["200"]["content"]
        for media_type in {*TRANSCRIPT_MEDIA_TYPES.values(), NDJSON}:
            assert content[media_type]["schema"]
    file = document["paths"]["/api/stt/file"]["post"]
    form = file["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["required"] == ["file"]
    assert {p["name"] for p in file["parameters"]} == set(form["properties"]) - {"file"}
