"""Keys: where they may be, who is let in without, and that no log line ever holds one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Request, WebSocket
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from common.keys import BadKeys, parse_keys
from common.server.app import create_app
from common.server.authentication import CALLER
from common.server.health import health_router
from common.server.lifecycle import Lifecycle
from common.settings import CommonSettings, SettingsError, load_settings
from tests.support.server import Served, served
from tests.support.wire import open_ws

ADA, BOB = "ada-key-12345", "bob.key~67890"
BOTH = f"ada:{ADA}, bob:{BOB}"


def serve(**settings: Any) -> Any:
    lifecycle = Lifecycle(drain_seconds=1)
    routes = APIRouter()

    @routes.get("/who")
    async def who(request: Request) -> Any:
        return request.scope.get(CALLER)

    @routes.websocket("/query")
    async def query(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(f"{websocket.scope.get(CALLER)} {websocket.url.query}")
        await websocket.close()

    @asynccontextmanager
    async def run() -> AsyncIterator[None]:
        lifecycle.ready()
        yield

    app = create_app(
        service="toy",
        summary="A toy.",
        settings=CommonSettings(log_format="json", log_level="debug", **settings),
        lifecycle=lifecycle,
        routers=[routes, health_router("toy", lifecycle)],
        run=run,
    )
    return served(app)


@pytest.fixture(scope="module")
def at() -> Iterator[Served]:
    with serve(api_keys=BOTH) as where:
        yield where


@pytest.mark.parametrize(
    ("headers", "who"),
    [
        ({"Authorization": f"Bearer {ADA}"}, "ada"),
        ({"Authorization": f"bearer  {BOB}"}, "bob"),
        ({"X-API-Key": BOB}, "bob"),
        ({"Authorization": "Basic eHg6eXk=", "X-API-Key": ADA}, "ada"),
    ],
)
def test_a_key_opens_and_names_its_holder(at: Served, headers: dict[str, str], who: str) -> None:
    assert httpx.get(f"{at.http}/who", headers=headers).json() == who


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ADA},
        {"Authorization": f"Bearer {ADA}x"},
        {"Authorization": "Bearer"},
        {"X-API-Key": ADA[:-1]},
        {"X-API-Key": "ada"},
        {b"X-API-Key": b"\xff\xfe"},
    ],
)
def test_anything_else_is_401_in_the_one_shape(at: Served, headers: dict[str, str]) -> None:
    answer = httpx.get(f"{at.http}/who", headers=headers)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert answer.json()["error"]["code"] == "unauthorized"
    assert answer.json()["error"]["request_id"] == answer.headers["X-Request-ID"]


def test_a_key_in_the_query_opens_no_http_route(at: Served) -> None:
    assert httpx.get(f"{at.http}/who?token={ADA}").status_code == 401


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/docs", "/docs/files/swagger-ui.css", "/openapi.json"]
)
def test_probes_and_documents_are_open(at: Served, path: str) -> None:
    assert httpx.get(f"{at.http}{path}").status_code == 200


def test_a_path_that_only_looks_open_is_not(at: Served) -> None:
    for path in ("/healthz/", "//healthz", "/healthz/../who", "/nowhere"):
        assert httpx.get(f"{at.http}{path}", follow_redirects=True).status_code == 401


def test_a_browser_may_ask_beforehand_without_a_key_and_read_the_refusal(at: Served) -> None:
    origin = {"Origin": "https://app.example"}
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    assert httpx.options(f"{at.http}/who", headers=origin | asked).status_code == 200
    refused = httpx.get(f"{at.http}/who", headers=origin)
    assert (refused.status_code, refused.headers["Access-Control-Allow-Origin"]) == (401, "*")


def test_the_document_says_how_a_key_is_sent(at: Served) -> None:
    document = httpx.get(f"{at.http}/openapi.json").json()
    assert set(document["components"]["securitySchemes"]) == {"bearer", "header"}
    assert document["security"] == [{"bearer": []}, {"header": []}]
    assert "401" in document["paths"]["/who"]["get"]["responses"]
    assert "401" not in document["paths"]["/healthz"]["get"]["responses"]


@pytest.mark.parametrize(
    "options",
    [
        {"additional_headers": {"Authorization": f"Bearer {ADA}"}},
        {"additional_headers": {"X-API-Key": ADA}},
        {"subprotocols": [Subprotocol("speech"), Subprotocol(f"key.{ADA}")]},
    ],
)
def test_a_websocket_opens_with_a_header_or_a_subprotocol(
    at: Served, options: dict[str, Any]
) -> None:
    with open_ws(f"{at.ws}/query?sr=8000", **options) as ws:
        assert ws.recv() == "ada sr=8000"
        # A browser takes only an answer that chooses one of what it offered.
        assert ws.subprotocol == ("speech" if "subprotocols" in options else None)


def test_a_websocket_opens_with_a_token_that_nobody_behind_sees(at: Served) -> None:
    with open_ws(f"{at.ws}/query?sr=8000&token={BOB}&ch=1") as ws:
        assert ws.recv() == "bob sr=8000&ch=1"


@pytest.mark.parametrize("query", ["", "?token=", "?token=wrong-key-1", f"?Token={ADA}"])
def test_a_websocket_without_a_key_is_refused_before_the_upgrade(at: Served, query: str) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        open_ws(f"{at.ws}/query{query}")
    response = refusal.value.response
    assert response.status_code == 401
    assert json.loads(response.body or b"")["error"]["code"] == "unauthorized"


def test_no_log_line_holds_a_key_and_each_names_the_holder(
    capsys: pytest.CaptureFixture[str],
) -> None:
    wrong = "a-wrong-key-77"
    with serve(api_keys=BOTH) as at:
        ask_in_every_way(at, wrong)
    said = capsys.readouterr()
    logged = said.out + said.err
    assert not [key for key in (ADA, BOB, wrong) if key in logged]
    events = [json.loads(line) for line in logged.splitlines() if '"ws.session"' in line]
    assert sorted(str(event.get("caller")) for event in events) == ["None", "ada", "bob"]


def ask_in_every_way(at: Served, wrong: str) -> None:
    httpx.get(f"{at.http}/who", headers={"Authorization": f"Bearer {ADA}"})
    httpx.get(f"{at.http}/who", headers={"X-API-Key": wrong})
    httpx.get(f"{at.http}/who?token={BOB}")
    with open_ws(f"{at.ws}/query?token={BOB}") as ws:
        ws.recv()
    offered = [Subprotocol("speech"), Subprotocol(f"key.{ADA}")]
    with open_ws(f"{at.ws}/query", subprotocols=offered) as ws:
        ws.recv()
    with pytest.raises(InvalidStatus):
        open_ws(f"{at.ws}/query?token={wrong}")


def test_without_keys_everybody_is_let_in_and_any_key_is_fine() -> None:
    with serve() as at:
        assert httpx.get(f"{at.http}/who").json() is None
        assert httpx.get(f"{at.http}/who", headers={"X-API-Key": "whatever"}).status_code == 200
        assert "security" not in httpx.get(f"{at.http}/openapi.json").json()
        with open_ws(f"{at.ws}/query?token=whatever&a=b%ff") as ws:
            assert str(ws.recv()).startswith("None a=b")


def test_documents_can_be_switched_off() -> None:
    with serve(docs=False) as at:
        for path in ("/docs", "/redoc", "/openapi.json"):
            assert httpx.get(f"{at.http}{path}").status_code == 404


@pytest.mark.parametrize(
    ("settings", "warnings"),
    [
        ({"host": "0.0.0.0"}, 1),
        ({"host": "::"}, 1),
        ({"host": "speech.example"}, 1),
        ({"host": "0.0.0.0", "api_keys": BOTH}, 0),
        ({"host": "127.0.0.1"}, 0),
        ({"host": "::1"}, 0),
        ({"host": "localhost"}, 0),
    ],
)
def test_an_open_port_without_keys_is_warned_of_once(
    settings: dict[str, str], warnings: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve(**settings) as at:
        httpx.get(f"{at.http}/who")
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    found = [event for event in events if event["event"] == "keys.none"]
    assert [event["level"] for event in found] == ["warning"] * warnings


def test_keys_come_from_the_environment_and_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "keys"
    file.write_text(f"# who may speak\n\nbob:{BOB}\n")
    monkeypatch.setenv("API_KEYS", f"ada:{ADA}")
    monkeypatch.setenv("API_KEYS_FILE", str(file))
    keys = load_settings(CommonSettings).keys
    assert (keys.holder_of(ADA), keys.holder_of(BOB), keys.own) == ("ada", "bob", ADA)
    assert ADA not in repr(keys) + repr(load_settings(CommonSettings))


@pytest.mark.parametrize(
    "given",
    [
        "secretsecret",
        "ada:short",
        "ada:with space in it",
        f":{ADA}",
        f"ada:{ADA},ada:{BOB}",
        f"ada:{ADA},b:{ADA}",
    ],
)
def test_keys_that_do_not_fit_are_refused_without_being_shown(
    given: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("API_KEYS", given)
    with pytest.raises(SettingsError) as refusal:
        load_settings(CommonSettings)
    assert str(refusal.value).startswith("API_KEYS: entry ")
    assert not [key for key in ("secret", "short", "space", ADA) if key in str(refusal.value)]


def test_a_file_of_keys_that_cannot_be_read_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("API_KEYS_FILE", "/nowhere/keys")
    with pytest.raises(SettingsError, match=r"API_KEYS_FILE='/nowhere/keys'.*cannot be read"):
        load_settings(CommonSettings)


def test_empty_entries_and_comments_are_no_keys() -> None:
    assert not parse_keys(["", "  ", "# ada:12345678"])
    with pytest.raises(BadKeys, match="entry 2"):
        parse_keys([f"ada:{ADA}", "nonsense"])
