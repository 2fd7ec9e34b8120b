"""One service behind the gateway: requests and WebSockets to its replicas, and retries."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from common.errors import UpstreamFailed, UpstreamTimeout
from common.server.request_log import HEADER, current_request_id
from common.wire.errors import ErrorAnswer
from gateway.app.settings import GatewaySettings
from gateway.app.upstreams.replicas import UNREACHABLE, Replica, Replicas, Resolve, addresses_of
from gateway.app.upstreams.socket import UpstreamSocket, upstream_errors

T = TypeVar("T")

OCTETS = "application/octet-stream"
_RETRIED_CODES = {"busy", "loading", "draining"}
_MAX_TIMEOUTS = 2
"""A request that ran into as many timeouts is not tried on further replicas."""
_FULL_S = 1.0
"""A replica that is full is asked last for as long, unless it says how long."""
_PROBE_TIMEOUT_S = 2.0


class Upstream:
    """One service behind the gateway, of which there may be any number of replicas.

    A request that has delivered nothing yet is tried on another replica if one fails, hangs or is
    full. What is raised then is what the last of them answered, a refusal rather than a failure:
    `ErrorAnswer`; `UpstreamFailed` if the service is away or its connection breaks;
    `UpstreamTimeout` if it does not answer in time. All methods raise these.
    """

    def __init__(
        self,
        name: str,
        url: str,
        http: httpx.AsyncClient,
        settings: GatewaySettings,
        *,
        pong_timeout_s: float,
        resolve: Resolve = addresses_of,
    ) -> None:
        parts = urlsplit(url)
        self.name = name
        self._scheme = parts.scheme
        self._netloc = parts.netloc
        self._http = http
        self._settings = settings
        self._pong_timeout_s = pong_timeout_s
        key = settings.keys.own
        self._key_header = {"Authorization": f"Bearer {key}"} if key else {}
        """The services ask for the same keys: to them, the gateway is one more client."""
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        self.replicas = Replicas(host, port, probe=self._probe, resolve=resolve)

    async def get(self, path: str) -> httpx.Response:
        """GET and read the whole answer."""
        timeout_s = self._settings.gateway_first_byte_timeout_s
        async with self._stream("GET", path, timeout_s, headers={}) as answer:
            return await self._read(answer)

    async def post(
        self, path: str, *, content: bytes | bytearray, timeout_s: float, **more: str
    ) -> httpx.Response:
        """POST and read the whole answer. The other arguments are those of `post_stream`."""
        async with self.post_stream(path, content=content, timeout_s=timeout_s, **more) as answer:
            return await self._read(answer)

    @asynccontextmanager
    async def post_stream(
        self,
        path: str,
        *,
        content: bytes | bytearray,
        timeout_s: float,
        query: str = "",
        content_type: str = OCTETS,
        accept: str = "*/*",
    ) -> AsyncIterator[httpx.Response]:
        """POST and yield the answer, its body unread. `timeout_s` is for each wait for bytes."""
        target = f"{path}?{query}" if query else path
        headers = {"Content-Type": content_type, "Accept": accept}
        async with self._stream(
            "POST", target, timeout_s, content=bytes(content), headers=headers
        ) as answer:
            yield answer

    async def chunks(self, answer: httpx.Response) -> AsyncIterator[bytes]:
        """Read the body of an answer as it comes. Raises `UpstreamFailed` or `UpstreamTimeout`."""
        try:
            with self._http_errors():
                async for chunk in answer.aiter_raw():
                    yield chunk
        except (UpstreamFailed, UpstreamTimeout):
            # Too late for this request to be tried again; the next ones go elsewhere.
            self.replicas.eject(answer.extensions["replica"], UNREACHABLE)
            raise

    @asynccontextmanager
    async def websocket(self, path: str, query: str = "") -> AsyncIterator[UpstreamSocket]:
        """Open an uncompressed WebSocket to the service, which is closed on exit."""
        url = f"{self._scheme.replace('http', 'ws')}://{self._netloc}{path}"

        async def attempt(replica: Replica, held: AsyncExitStack) -> UpstreamSocket:
            with self._answers(), upstream_errors(self.name):
                upstream = await UpstreamSocket.open(
                    f"{url}?{query}" if query else url,
                    headers={HEADER: current_request_id(), **self._key_header},
                    timeout_s=self._settings.gateway_connect_timeout_s,
                    use_proxy=False,
                    stall_timeout_s=self._settings.gateway_stall_timeout_s,
                    pong_timeout_s=self._pong_timeout_s,
                    host=replica.host,
                    port=replica.port,
                )
            upstream.name = self.name
            held.push_async_callback(upstream.close)
            return upstream

        async with AsyncExitStack() as held:
            yield await self._on_any_replica(held, attempt)

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
        """Build a request to one replica; its host and its TLS name are the service's."""
        headers = {"Host": self._netloc, **self._key_header, **more.pop("headers", {})}
        return self._http.build_request(
            method,
            f"{self._scheme}://{replica.netloc}{target}",
            headers=headers,
            timeout=timeout,
            extensions={"sni_hostname": self.replicas.host},
            **more,
        )

    async def _on_any_replica(
        self, held: AsyncExitStack, attempt: Callable[[Replica, AsyncExitStack], Awaitable[T]]
    ) -> T:
        """Return what the first replica gives that neither fails nor refuses.

        `held` then keeps what the attempt holds, and the replica counts as in use as long.
        """
        refusal: ErrorAnswer | None = None
        failure: UpstreamFailed | UpstreamTimeout | None = None
        timeouts = 0
        for replica in self.replicas.in_order():
            async with AsyncExitStack() as attempted:
                attempted.enter_context(replica.in_use())
                try:
                    result = await attempt(replica, attempted)
                except ErrorAnswer as refused:
                    if refused.code not in _RETRIED_CODES:
                        raise
                    refusal = refused
                    if refused.code == "busy":
                        self.replicas.mark_full(replica, refused.retry_after_s or _FULL_S)
                    else:
                        self.replicas.eject(replica, refused.code)
                except (UpstreamFailed, UpstreamTimeout) as error:
                    failure = error
                    self.replicas.eject(replica, UNREACHABLE)
                    timeouts += isinstance(error, UpstreamTimeout)
                    if timeouts == _MAX_TIMEOUTS:
                        break
                else:
                    held.push_async_exit(attempted.pop_all())
                    return result
        raise refusal or failure or UpstreamFailed(f"The {self.name} service cannot be reached.")

    @asynccontextmanager
    async def _stream(
        self, method: str, target: str, timeout_s: float, *, headers: dict[str, str], **more: Any
    ) -> AsyncIterator[httpx.Response]:
        timeout = httpx.Timeout(timeout_s, connect=self._settings.gateway_connect_timeout_s)
        headers[HEADER] = current_request_id()

        async def attempt(replica: Replica, held: AsyncExitStack) -> httpx.Response:
            request = self._request(method, replica, target, timeout, headers=headers, **more)
            with self._http_errors(), self._answers():
                response = await self._http.send(request, stream=True)
                held.push_async_callback(response.aclose)
                if response.status_code != 200:
                    body = await response.aread()
                    raise ErrorAnswer.of_http(response.status_code, body, response.headers)
            response.extensions["replica"] = replica
            return response

        async with AsyncExitStack() as held:
            yield await self._on_any_replica(held, attempt)

    async def _read(self, answer: httpx.Response) -> httpx.Response:
        with self._http_errors():
            await answer.aread()
        return answer

    @contextmanager
    def _http_errors(self) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException as error:
            raise UpstreamTimeout(f"The {self.name} service did not answer in time.") from error
        except httpx.HTTPError as error:
            away = isinstance(error, httpx.ConnectError)
            how = "cannot be reached" if away else "closed the connection within its answer"
            raise UpstreamFailed(f"The {self.name} service {how}.") from error

    @contextmanager
    def _answers(self) -> Iterator[None]:
        """Let only those error answers pass that are in the contract's shape."""
        try:
            yield
        except ErrorAnswer as answer:
            if answer.status < 400 or not answer.code:
                raise UpstreamFailed(
                    f"The {self.name} service answered with an unexpected status "
                    f"({answer.status})."
                ) from answer
            raise


def new_http_client() -> httpx.AsyncClient:
    """Make the pool of connections to all upstreams.

    Idle ones are dropped before the services themselves drop them (Uvicorn: after 5 s), so that no
    request is sent on a connection that is being closed. Proxies of the environment are for the
    world outside and are not asked.
    """
    return httpx.AsyncClient(
        limits=httpx.Limits(
            max_connections=None, max_keepalive_connections=64, keepalive_expiry=3.0
        ),
        trust_env=False,
    )
