"""The services behind the gateway: how they are asked, and what their failures are called here."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus

from common.errors import UpstreamFailed, UpstreamTimeout
from common.request_id import HEADER, current_request_id
from gateway.app.settings import GatewaySettings

_PASSED_HEADERS = {"content-type", "content-length", "retry-after"}
_PROBE_TIMEOUT_S = 2.0


def passed_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Those headers of an upstream's answer that are the client's too (the id is set by us)."""
    return {
        name: value
        for name, value in headers.items()
        if name.lower() in _PASSED_HEADERS
        or (name.lower().startswith("x-") and name.lower() != HEADER.lower())
    }


def handshake_headers(upstream: ClientConnection) -> list[tuple[bytes, bytes]]:
    """What an upstream says of its audio when it accepts a WebSocket, for our own acceptance."""
    assert upstream.response is not None
    given = passed_headers(dict(upstream.response.headers.raw_items()))
    return [
        (name.lower().encode(), value.encode())
        for name, value in given.items()
        if name.lower().startswith("x-")
    ]


@dataclass
class UpstreamAnswer(Exception):
    """The service refused in our own error shape: its answer is passed on as it is."""

    status_code: int
    body: bytes
    headers: dict[str, str]


class Upstream:
    """One service behind the gateway."""

    def __init__(self, name: str, url: str, http: httpx.AsyncClient, settings: GatewaySettings):
        self.name = name
        self.url = url
        self._http = http
        self._settings = settings

    async def state(self) -> str:
        """What its `/readyz` says of it, or `unreachable`."""
        try:
            answer = await self._http.get(f"{self.url}/readyz", timeout=_PROBE_TIMEOUT_S)
            return str(answer.json()["status"])
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return "unreachable"

    @asynccontextmanager
    async def post(
        self,
        path: str,
        *,
        content: bytes | bytearray,
        timeout_s: float,
        query: str = "",
        content_type: str = "application/octet-stream",
    ) -> AsyncIterator[httpx.Response]:
        """POST and yield the answer, its body unread. `timeout_s` is for each wait for bytes.

        Raises `UpstreamAnswer` if the service refused, `UpstreamFailed` if it is away or broke off,
        `UpstreamTimeout` if it did not answer in time.
        """
        url = f"{self.url}{path}?{query}" if query else f"{self.url}{path}"
        request = self._http.build_request(
            "POST",
            url,
            content=bytes(content),
            headers={"Content-Type": content_type, HEADER: current_request_id()},
            timeout=httpx.Timeout(timeout_s, connect=self._settings.gateway_connect_timeout_s),
        )
        with self._failures_named():
            response = await self._http.send(request, stream=True)
            try:
                if response.status_code != 200:
                    body = await response.aread()
                    raise self._refusal(response.status_code, body, response.headers)
                yield response
            finally:
                await response.aclose()

    async def post_and_read(
        self, path: str, *, content: bytes | bytearray, timeout_s: float, query: str = ""
    ) -> httpx.Response:
        """POST and read the whole answer. Raises as `post` does."""
        async with self.post(path, content=content, timeout_s=timeout_s, query=query) as answer:
            await answer.aread()
            return answer

    async def chunks(self, answer: httpx.Response) -> AsyncIterator[bytes]:
        """The body of an answer as it comes. Raises `UpstreamFailed` or `UpstreamTimeout`."""
        with self._failures_named():
            async for chunk in answer.aiter_raw():
                yield chunk

    @asynccontextmanager
    async def websocket(self, path: str, query: str) -> AsyncIterator[ClientConnection]:
        """A WebSocket to the service, uncompressed, closed on exit.

        Raises as `post` does if it cannot be opened.
        """
        settings = self._settings
        url = f"ws{self.url.removeprefix('http')}{path}"
        opening = connect(
            f"{url}?{query}" if query else url,
            additional_headers={HEADER: current_request_id()},
            compression=None,
            proxy=None,
            open_timeout=settings.gateway_connect_timeout_s,
            # Whether it lives is asked by the relay, and only while it waits for a frame.
            ping_interval=None,
            # Closing tells the service to stop; its answer need not be waited for long.
            close_timeout=1,
            max_size=None,
            max_queue=16,
        )
        async with AsyncExitStack() as stack:
            try:
                connection = await stack.enter_async_context(opening)
            except InvalidStatus as refused:
                answer = refused.response
                headers = dict(answer.headers.raw_items())
                body = bytes(answer.body or b"")
                raise self._refusal(answer.status_code, body, headers) from None
            except TimeoutError:
                raise self._timed_out() from None
            except (OSError, InvalidHandshake) as error:
                raise self._failed(error) from error
            yield connection

    @contextmanager
    def _failures_named(self) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException as error:
            raise self._timed_out() from error
        except httpx.HTTPError as error:
            raise self._failed(error) from error

    def _refusal(
        self, status_code: int, body: bytes, headers: Mapping[str, str]
    ) -> UpstreamAnswer | UpstreamFailed:
        """A refusal in our own shape is passed on; anything else is nonsense."""
        try:
            ours = status_code >= 400 and isinstance(json.loads(body)["error"]["code"], str)
        except (ValueError, KeyError, TypeError):
            ours = False
        if ours:
            return UpstreamAnswer(status_code, body, passed_headers(headers))
        return UpstreamFailed(f"The {self.name} service gave an answer that makes no sense.")

    def _timed_out(self) -> UpstreamTimeout:
        return UpstreamTimeout(f"The {self.name} service did not answer in time.")

    def _failed(self, error: Exception) -> UpstreamFailed:
        away = isinstance(error, httpx.ConnectError | OSError)
        how = "cannot be reached" if away else "broke off its answer"
        return UpstreamFailed(f"The {self.name} service {how}.")


def new_http_client() -> httpx.AsyncClient:
    """The pool of connections to all upstreams.

    Idle ones are dropped before the services themselves drop them (Uvicorn: after 5 s), so that no
    request is sent into a connection that is being closed. Proxies of the environment are for the
    world outside and are not asked.
    """
    return httpx.AsyncClient(
        limits=httpx.Limits(
            max_connections=None, max_keepalive_connections=64, keepalive_expiry=3.0
        ),
        trust_env=False,
    )
