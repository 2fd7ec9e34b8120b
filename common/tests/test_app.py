"""What every service has from `create_app`: ids, error shapes, probes, logs, streamed bodies."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import APIRouter, Query, Request, WebSocket
from fastapi.responses import Response
from websockets.exceptions import InvalidStatus

from common.errors import Busy, SynthesisFailed
from common.protocol.recognition import EchoQuery
from common.server.app import create_app
from common.server.error_boundary import refuse
from common.server.health import health_router
from common.server.lifecycle import Lifecycle
from common.server.request_log import current_request_id
from common.server.requests import cancel_on_disconnect, read_body
from common.server.streaming import AudioStream
from common.settings import CommonSettings
from tests.support.server import Served, served
from tests.support.wire import open_ws

LIMIT = 1000


class Toy:
    """An app whose routes do one thing each, and what they saw."""

    def __init__(self, **settings: Any) -> None:
        self.held_let_go = threading.Event()
        self.work_cancelled = threading.Event()
        self.lifecycle = Lifecycle(drain_seconds=1)
        routes = APIRouter()

        @routes.get("/id")
        async def request_id() -> str:
            return current_request_id()

        @routes.get("/fault")
        async def fault() -> None:
            raise RuntimeError("secret detail")

        @routes.get("/query")
        async def query(_: Annotated[EchoQuery, Query()]) -> None:
            """Take what an echo takes."""

        @routes.get("/busy")
        async def busy() -> None:
            raise Busy("Full.", retry_after_s=9)

        @routes.post("/body")
        async def body(request: Request) -> int:
            return len(await read_body(request, limit_bytes=LIMIT, limit_in_words="1000 bytes"))

        @routes.get("/stream/{kind}")
        async def stream(kind: str) -> AudioStream:
            held = AsyncExitStack()
            held.callback(self.held_let_go.set)
            return AudioStream(self.chunks(kind), held, media_type="audio/pcm", headers={})

        @routes.get("/wait")
        async def wait(request: Request) -> Response:
            return await cancel_on_disconnect(request, self.work())

        @routes.websocket("/refused")
        async def refused(websocket: WebSocket) -> None:
            await refuse(websocket, Busy("Full.", retry_after_s=9))

        @routes.websocket("/fault")
        async def faulty(_: WebSocket) -> None:
            raise RuntimeError("secret detail")

        @routes.websocket("/accepted")
        async def accepted(websocket: WebSocket) -> None:
            await websocket.accept()
            await websocket.send_text(current_request_id())
            await websocket.close()

        @asynccontextmanager
        async def run() -> AsyncIterator[None]:
            self.lifecycle.ready()
            yield

        self.app = create_app(
            service="toy",
            summary="A toy.",
            settings=CommonSettings(log_format="json", **settings),
            lifecycle=self.lifecycle,
            routers=[routes, health_router("toy", self.lifecycle)],
            run=run,
        )

    async def chunks(self, kind: str) -> AsyncIterator[bytes]:
        yield b"some"
        if kind == "whole":
            yield b"more"
        elif kind == "failing":
            raise SynthesisFailed("The voice failed.")
        elif kind == "faulty":
            raise RuntimeError("unforeseen")
        else:
            await asyncio.Event().wait()

    async def work(self) -> Response:
        try:
            await asyncio.Event().wait()
        finally:
            self.work_cancelled.set()
        return Response()


@pytest.fixture
def toy() -> Toy:
    return Toy()


@pytest.fixture
def at(toy: Toy) -> Iterator[Served]:
    with served(toy.app) as where:
        yield where


def test_a_sane_id_of_the_caller_is_kept(at: Served) -> None:
    answer = httpx.get(f"{at.http}/id", headers={"X-Request-ID": "abc-1.2:3"})
    assert answer.headers["X-Request-ID"] == answer.json() == "abc-1.2:3"


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, 'a"b', "é"])
def test_any_other_id_is_replaced(at: Served, given: str) -> None:
    answer = httpx.get(f"{at.http}/id", headers={b"X-Request-ID": given.encode()})
    assert answer.headers["X-Request-ID"] == answer.json()
    assert answer.json() != given
    assert len(answer.json()) == 32


def test_a_websocket_has_the_id_in_its_handshake(at: Served) -> None:
    with open_ws(f"{at.ws}/accepted", additional_headers={"X-Request-ID": "ws-1"}) as ws:
        assert ws.response is not None
        assert ws.response.headers["X-Request-ID"] == "ws-1"
        assert ws.recv() == "ws-1"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/busy", 503, "busy"),
        ("GET", "/nowhere", 404, "not_found"),
        ("DELETE", "/busy", 405, "method_not_allowed"),
        ("GET", "/fault", 500, "internal"),
    ],
)
def test_every_refusal_has_the_one_shape(
    at: Served, method: str, path: str, status: int, code: str
) -> None:
    answer = httpx.request(method, f"{at.http}{path}", headers={"X-Request-ID": "e1"})
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (error["code"], error["request_id"]) == (code, "e1")
    assert error["message"]
    assert "secret" not in answer.text
    assert answer.headers["X-Request-ID"] == "e1"


def test_a_websocket_that_fails_before_it_began_is_refused_in_the_same_shape(at: Served) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        open_ws(f"{at.ws}/fault").__enter__()
    response = refusal.value.response
    assert response.status_code == 500
    assert json.loads(response.body or b"")["error"]["code"] == "internal"


def test_a_websocket_without_a_route_is_answered_404(at: Served) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        open_ws(f"{at.ws}/ws/nowhere").__enter__()
    response = refusal.value.response
    assert response.status_code == 404
    error = json.loads(response.body or b"")["error"]
    assert (error["code"], error["message"]) == ("not_found", "There is no /ws/nowhere here.")
    assert error["request_id"] == response.headers["X-Request-ID"]


def test_a_method_that_a_route_does_not_take_is_told_with_those_it_takes(at: Served) -> None:
    answer = httpx.delete(f"{at.http}/busy")
    assert answer.headers["Allow"] == "GET"
    assert answer.json()["error"]["message"] == "/busy takes GET, not DELETE."


def test_a_query_that_does_not_fit_is_answered_with_what_is_allowed(at: Served) -> None:
    answer = httpx.get(f"{at.http}/query?srr=5&sr=96000&fmt=mp3")
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].split("; ") == [
        "sr: must be 8000 to 48000, not 96000",
        "fmt: must be s16le or wav, not 'mp3'",
        "srr: this field is not known",
        "did you mean sr?",
    ]


def test_the_documents_load_from_no_other_host(at: Served) -> None:
    page = httpx.get(f"{at.http}/docs")
    assert page.status_code == 200
    assert re.findall(r"""(?:src|href)=["']?([^"'\s>]+)""", page.text)
    assert "//" not in re.sub(r"(?m)^\s*//.*$", "", page.text)
    for path in re.findall(r"""["'](/[^"'\s]+)["']""", page.text):
        answer = httpx.get(f"{at.http}{path}")
        assert answer.status_code == 200, path
        assert len(answer.content) > 100


def test_a_full_service_says_when_to_come_back_over_http_and_over_websocket(at: Served) -> None:
    assert httpx.get(f"{at.http}/busy").headers["Retry-After"] == "9"
    with pytest.raises(InvalidStatus) as refusal:
        open_ws(f"{at.ws}/refused")
    response = refusal.value.response
    assert (response.status_code, response.headers["Retry-After"]) == (503, "9")
    assert json.loads(response.body or b"")["error"]["code"] == "busy"


def test_a_body_is_read_up_to_its_limit(at: Served) -> None:
    assert httpx.post(f"{at.http}/body", content=bytes(LIMIT)).json() == LIMIT
    refused = httpx.post(f"{at.http}/body", content=bytes(LIMIT + 1))
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "too_large")


def test_a_body_over_its_limit_is_refused_while_it_streams_in(at: Served) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 1_000_000_000:
            sent += 65536
            yield bytes(65536)

    try:
        status = httpx.post(f"{at.http}/body", content=endless()).status_code
    except httpx.TransportError:
        status = 413  # the server has closed while we were still sending, as it may
    assert status == 413
    assert sent < 100_000_000


def test_a_stream_that_is_done_ends_cleanly(at: Served, toy: Toy) -> None:
    assert httpx.get(f"{at.http}/stream/whole").content == b"somemore"
    assert toy.held_let_go.wait(5)


@pytest.mark.parametrize("kind", ["failing", "faulty"])
def test_a_stream_that_fails_is_broken_off_not_ended(at: Served, toy: Toy, kind: str) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{at.http}/stream/{kind}")
    assert toy.held_let_go.wait(5)
    assert httpx.get(f"{at.http}/readyz").status_code == 200


def test_a_stream_whose_client_leaves_is_let_go(at: Served, toy: Toy) -> None:
    with httpx.stream("GET", f"{at.http}/stream/endless") as answer:
        body = answer.iter_raw()
        assert next(body) == b"some"
        assert not toy.held_let_go.is_set()
    assert toy.held_let_go.wait(5)


def test_work_whose_client_leaves_is_cancelled(at: Served, toy: Toy) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(f"{at.http}/wait", timeout=0.2)
    assert toy.work_cancelled.wait(5)


def test_live_is_not_ready(toy: Toy) -> None:
    with served(toy.app) as at:
        toy.lifecycle.state, toy.lifecycle.reason = "loading", "loading the voice"
        answer = httpx.get(f"{at.http}/readyz")
        assert answer.status_code == 503
        assert answer.json()["status"] == "loading"
        assert answer.json()["reason"] == "loading the voice"
        assert httpx.get(f"{at.http}/healthz").json()["status"] == "ok"


def test_browsers_may_come_from_the_origins_that_are_named_and_programs_from_anywhere() -> None:
    home, elsewhere = "https://home.example", "https://elsewhere.example"
    with served(Toy(cors_origins=(home,)).app) as at:
        for headers in ({}, {"Origin": home}):
            with open_ws(f"{at.ws}/accepted", additional_headers=headers) as ws:
                assert ws.recv()
        with pytest.raises(InvalidStatus) as refusal:
            open_ws(f"{at.ws}/accepted", additional_headers={"Origin": elsewhere}).__enter__()
        response = refusal.value.response
        assert response.status_code == 403
        assert json.loads(response.body or b"")["error"]["code"] == "forbidden_origin"
        allowed = httpx.get(f"{at.http}/id", headers={"Origin": home})
        assert allowed.headers["Access-Control-Allow-Origin"] == home
        refused = httpx.get(f"{at.http}/id", headers={"Origin": elsewhere})
        assert "Access-Control-Allow-Origin" not in refused.headers


def test_by_default_browsers_may_come_from_anywhere(at: Served) -> None:
    with open_ws(f"{at.ws}/accepted", additional_headers={"Origin": "https://a.example"}) as ws:
        assert ws.recv()


def test_only_the_hosts_that_are_named_are_answered() -> None:
    with served(Toy(allowed_hosts=("127.0.0.1", "speech.example")).app) as at:
        assert httpx.get(f"{at.http}/id", headers={"Host": "speech.example"}).status_code == 200
        refused = httpx.get(f"{at.http}/id", headers={"Host": "evil.example"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "bad_request")
        assert refused.json()["error"]["request_id"] == refused.headers["X-Request-ID"]
        with (
            socket.create_connection(("127.0.0.1", urlsplit(at.http).port or 0)) as raw,
            pytest.raises(InvalidStatus) as no_socket,
        ):
            open_ws("ws://evil.example/accepted", sock=raw)
        assert no_socket.value.response.status_code == 400
        assert json.loads(no_socket.value.response.body or b"")["error"]["code"] == "bad_request"


def test_each_log_line_is_json_with_the_request_id(
    toy: Toy, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(toy.app) as at:
        httpx.get(f"{at.http}/id", headers={"X-Request-ID": "log-1"})
        httpx.get(f"{at.http}/fault", headers={"X-Request-ID": "log-2"})
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(line["service"] == "toy" for line in lines)
    requests = {e["request_id"]: e for e in lines if e["event"] == "http.request"}
    assert (requests["log-1"]["path"], requests["log-1"]["status"]) == ("/id", 200)
    assert (requests["log-2"]["path"], requests["log-2"]["status"]) == ("/fault", 500)
    (failed,) = [line for line in lines if line["event"] == "request.failed"]
    assert failed["request_id"] == "log-2"
    assert "secret detail" in failed["exception"]
