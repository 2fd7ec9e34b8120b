"""The services behind the gateway: how they are asked, and what their failures are called here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus

from common.errors import UpstreamFailed, UpstreamTimeout
from common.server.request_log import HEADER, current_request_id
from gateway.app.replicas import UNREACHABLE, Replica, Replicas, Resolve, addresses_of
from gateway.app.settings import GatewaySettings

T = TypeVar("T")

OCTETS = "application/octet-stream"
_TRY_ANOTHER = {"busy", "loading", "draining"}
_MAX_TIMEOUTS = 2
"""Of one request: who has waited for so many replicas is told so."""
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
    code: str = ""

    @property
    def retry_after_s(self) -> float:
        value = next((v for k, v in self.headers.items() if k.lower() == "retry-after"), "")
        return float(value) if value.isdigit() else 1.0


class Upstream:
    """One service behind the gateway, of which there may be any number of replicas.

    What has delivered nothing yet is tried on another replica if one fails, hangs or is full: what
    is raised then is what the last of them said, and a refusal rather than a failure.
    """

    def __init__(
        self,
        name: str,
        url: str,
        http: httpx.AsyncClient,
        settings: GatewaySettings,
        *,
        resolve: Resolve = addresses_of,
    ) -> None:
        parts = urlsplit(url)
        self.name = name
        self._scheme = parts.scheme
        self._netloc = parts.netloc
        self._http = http
        self._settings = settings
        key = settings.keys.own
        self._key_header = {"Authorization": f"Bearer {key}"} if key else {}
        """The services behind ask for the same keys: to them, the gateway is one more client."""
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        self.replicas = Replicas(host, port, probe=self._probe, resolve=resolve)

    async def state(self) -> str:
        """What the `/readyz` of its replicas say now: `ready` if one is."""
        await self.replicas.look()
        return self.replicas.state

    async def _probe(self, replica: Replica) -> str:
        try:
            answer = await self._http.send(
                self._request("GET", replica, "/readyz", httpx.Timeout(_PROBE_TIMEOUT_S))
            )
            return str(answer.json()["status"])
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return UNREACHABLE

    def _request(
        self, method: str, replica: Replica, target: str, timeout: httpx.Timeout, **more: Any
    ) -> httpx.Request:
        """A request to one replica that is addressed, and encrypted, to the service's name."""
        headers = {"Host": self._netloc, **self._key_header, **more.pop("headers", {})}
        return self._http.build_request(
            method,
            f"{self._scheme}://{replica.netloc}{target}",
            headers=headers,
            timeout=timeout,
            extensions={"sni_hostname": self.replicas.host},
            **more,
        )

    async def _on_any(
        self, held: AsyncExitStack, attempt: Callable[[Replica, AsyncExitStack], Awaitable[T]]
    ) -> T:
        """What the first replica gives that neither fails nor refuses. Raises as `post` does.

        `held` then keeps what the attempt holds, and the replica counts as in use as long.
        """
        refusal: UpstreamAnswer | None = None
        failure: UpstreamFailed | UpstreamTimeout | None = None
        timeouts = 0
        for replica in self.replicas.in_order():
            async with AsyncExitStack() as mine:
                mine.enter_context(replica.in_use())
                try:
                    given = await attempt(replica, mine)
                except UpstreamAnswer as answer:
                    if answer.code not in _TRY_ANOTHER:
                        raise
                    refusal = answer
                    if answer.code == "busy":
                        self.replicas.full(replica, answer.retry_after_s)
                    else:
                        self.replicas.eject(replica, answer.code)
                except (UpstreamFailed, UpstreamTimeout) as error:
                    failure = error
                    self.replicas.eject(replica, UNREACHABLE)
                    timeouts += isinstance(error, UpstreamTimeout)
                    if timeouts == _MAX_TIMEOUTS:
                        break
                else:
                    held.push_async_exit(mine.pop_all())
                    return given
        raise refusal or failure or UpstreamFailed(f"The {self.name} service cannot be reached.")

    @asynccontextmanager
    async def post(
        self,
        path: str,
        *,
        content: bytes | bytearray,
        timeout_s: float,
        query: str = "",
        content_type: str = OCTETS,
        accept: str = "*/*",
    ) -> AsyncIterator[httpx.Response]:
        """POST and yield the answer, its body unread. `timeout_s` is for each wait for bytes.

        Raises `UpstreamAnswer` if the service refused, `UpstreamFailed` if it is away or broke off,
        `UpstreamTimeout` if it did not answer in time.
        """
        target = f"{path}?{query}" if query else path
        headers = {"Content-Type": content_type, "Accept": accept}
        async with self._answer(
            "POST", target, timeout_s, content=bytes(content), headers=headers
        ) as answer:
            yield answer

    async def get(self, path: str) -> httpx.Response:
        """GET and read the whole answer. Raises as `post` does."""
        timeout_s = self._settings.gateway_first_byte_timeout_s
        async with self._answer("GET", path, timeout_s, headers={}) as answer:
            with self._failures_named():
                await answer.aread()
            return answer

    @asynccontextmanager
    async def _answer(
        self, method: str, target: str, timeout_s: float, *, headers: dict[str, str], **more: Any
    ) -> AsyncIterator[httpx.Response]:
        timeout = httpx.Timeout(timeout_s, connect=self._settings.gateway_connect_timeout_s)
        headers[HEADER] = current_request_id()

        async def attempt(replica: Replica, held: AsyncExitStack) -> httpx.Response:
            request = self._request(method, replica, target, timeout, headers=headers, **more)
            with self._failures_named():
                response = await self._http.send(request, stream=True)
                held.push_async_callback(response.aclose)
                if response.status_code != 200:
                    body = await response.aread()
                    raise self._refusal(response.status_code, body, response.headers)
            response.extensions["replica"] = replica
            return response

        async with AsyncExitStack() as held:
            yield await self._on_any(held, attempt)

    async def post_and_read(
        self,
        path: str,
        *,
        content: bytes | bytearray,
        timeout_s: float,
        query: str = "",
        content_type: str = OCTETS,
    ) -> httpx.Response:
        """POST and read the whole answer. Raises as `post` does."""
        async with self.post(
            path, content=content, timeout_s=timeout_s, query=query, content_type=content_type
        ) as answer:
            with self._failures_named():
                await answer.aread()
            return answer

    async def chunks(self, answer: httpx.Response) -> AsyncIterator[bytes]:
        """The body of an answer as it comes. Raises `UpstreamFailed` or `UpstreamTimeout`."""
        try:
            with self._failures_named():
                async for chunk in answer.aiter_raw():
                    yield chunk
        except (UpstreamFailed, UpstreamTimeout):
            # Too late for this request to be tried again; the next ones go elsewhere.
            self.replicas.eject(answer.extensions["replica"], UNREACHABLE)
            raise

    @asynccontextmanager
    async def websocket(self, path: str, query: str) -> AsyncIterator[ClientConnection]:
        """A WebSocket to the service, uncompressed, closed on exit.

        Raises as `post` does if it cannot be opened.
        """
        url = f"{self._scheme.replace('http', 'ws')}://{self._netloc}{path}"

        async def attempt(replica: Replica, held: AsyncExitStack) -> ClientConnection:
            opening = connect(
                f"{url}?{query}" if query else url,
                host=replica.host,
                port=replica.port,
                additional_headers={HEADER: current_request_id(), **self._key_header},
                compression=None,
                proxy=None,
                open_timeout=self._settings.gateway_connect_timeout_s,
                # Whether it lives is asked by the relay, and only while it waits for a frame.
                ping_interval=None,
                # Closing tells the service to stop; its answer need not be waited for long.
                close_timeout=1,
                max_size=None,
                max_queue=16,
            )
            try:
                return await held.enter_async_context(opening)
            except InvalidStatus as refused:
                answer = refused.response
                headers = dict(answer.headers.raw_items())
                body = bytes(answer.body or b"")
                raise self._refusal(answer.status_code, body, headers) from None
            except (TimeoutError, asyncio.TimeoutError):  # two classes on Python 3.10
                raise self._timed_out() from None
            except (OSError, InvalidHandshake) as error:
                raise self._failed(error) from error

        async with AsyncExitStack() as held:
            yield await self._on_any(held, attempt)

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
            code = json.loads(body)["error"]["code"]
        except (ValueError, KeyError, TypeError):
            code = None
        if status_code >= 400 and isinstance(code, str):
            return UpstreamAnswer(status_code, body, passed_headers(headers), code)
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
