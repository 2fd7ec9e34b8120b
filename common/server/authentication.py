"""Decides who may ask: by key, by host name and by the origin of a page.

Each request but probes and documents needs a key where there are keys; that is decided before
anything of it is read. Over HTTP the key comes as `Authorization: Bearer KEY` or `X-API-Key: KEY`.
A browser can set neither on a WebSocket, so there it may also come as the subprotocol `key.KEY`,
offered beside `speech`, or as `?token=KEY`; both are taken away here, before anybody else sees or
logs them.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qsl, urlencode

import structlog
from starlette.datastructures import Headers
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.errors import BadRequest, ForbiddenOrigin, Unauthorized
from common.keys import Keys
from common.logger import get_logger
from common.server.error_boundary import answer_error
from common.server.openapi import DOCS, DOCS_FILES

log = get_logger(__name__)

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
DOCUMENTS = frozenset(
    {
        "/openapi.json",
        DOCS,
        f"{DOCS_FILES}/swagger-ui-bundle.js",
        f"{DOCS_FILES}/swagger-ui.css",
        f"{DOCS_FILES}/favicon.png",
    }
)
"""Open without a key, where `DOCS` offers them: they hold nothing secret."""
SUBPROTOCOL = "speech"
"""The subprotocol that the server chooses; browsers require one of those they offer."""
KEY_SUBPROTOCOL = "key."
TOKEN = "token"  # noqa: S105 - the name of a query parameter
CALLER = "speech_fleet.caller"
"""Key of the scope under which the name of the key's holder is."""

SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
"""How a key is sent, for the OpenAPI document."""


class KeyMiddleware:
    """Refuses with 401 a request without a known key; adds the holder's name to its log events."""

    def __init__(self, app: ASGIApp, *, keys: Keys) -> None:
        self.app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        websocket = scope["type"] == "websocket"
        given = list(_given(scope))
        if websocket:
            scope = without_keys(scope)
            send = _choosing_subprotocol(scope, send)
        if self._keys and scope["path"] not in OPEN_PATHS | DOCUMENTS:
            caller = next((n for n in map(self._keys.holder_of, given) if n is not None), None)
            if caller is None:
                log.info("request.unauthorized", key_given=bool(given))
                error = Unauthorized(
                    "This key is not known." if given else "This server requires a key."
                )
                await answer_error(error, scope, receive, send)
                return
            scope = {**scope, CALLER: caller}
            structlog.contextvars.bind_contextvars(caller=caller)
        await self.app(scope, receive, send)


def _given(scope: Scope) -> Iterator[str]:
    """Yield every key that the request brings."""
    headers = Headers(scope=scope)
    scheme, _, key = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        yield key.strip()
    if key := headers.get("X-API-Key", "").strip():
        yield key
    if scope["type"] == "websocket":
        for offered in scope.get("subprotocols", ()):
            if offered.startswith(KEY_SUBPROTOCOL):
                yield offered.removeprefix(KEY_SUBPROTOCOL)
        for name, value in _query(scope):
            if name == TOKEN:
                yield value


def without_keys(scope: Scope) -> Scope:
    """Return a WebSocket's scope without the key that its query or its subprotocols may hold."""
    offered = [p for p in scope.get("subprotocols", ()) if not p.startswith(KEY_SUBPROTOCOL)]
    scope = {**scope, "subprotocols": offered}
    query = _query(scope)
    kept = [(name, value) for name, value in query if name != TOKEN]
    if len(kept) < len(query):
        scope["query_string"] = urlencode(kept).encode()
    return scope


def _query(scope: Scope) -> list[tuple[str, str]]:
    return parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)


def _choosing_subprotocol(scope: Scope, send: Send) -> Send:
    async def choose(message: Message) -> None:
        if message["type"] == "websocket.accept" and SUBPROTOCOL in scope["subprotocols"]:
            message = {**message, "subprotocol": message.get("subprotocol") or SUBPROTOCOL}
        await send(message)

    return choose


class HostMiddleware:
    """Refuses with 400 a request to a host that `ALLOWED_HOSTS` does not name.

    `allowed` are names such as `speech.example` or `*.speech.example`.

    Starlette's middleware decides; its own refusals would be plain text.
    """

    def __init__(self, app: ASGIApp, *, allowed: tuple[str, ...]) -> None:
        self.app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        let_in = False

        async def note(*_: object) -> None:
            nonlocal let_in
            let_in = True

        async def unsent(_: Message) -> None:
            pass

        decide = TrustedHostMiddleware(note, list(self._allowed), www_redirect=False)
        await decide(scope, receive, unsent)
        if let_in:
            await self.app(scope, receive, send)
            return
        error = BadRequest(f"This server is not {Headers(scope=scope).get('Host')!r}.")
        await answer_error(error, scope, receive, send)


class WebSocketOriginMiddleware:
    """Refuses a WebSocket of a page whose origin `CORS_ORIGINS` does not name.

    Browsers open WebSockets across origins without asking, so CORS does not cover them. Programs
    send no origin and pass. `allowed` are origins such as `https://app.example`.
    """

    def __init__(self, app: ASGIApp, *, allowed: tuple[str, ...]) -> None:
        self.app = app
        self._allowed = frozenset(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            origin = Headers(scope=scope).get("Origin")
            if origin is not None and origin not in self._allowed:
                error = ForbiddenOrigin(f"Pages of {origin} may not use this server.")
                await answer_error(error, scope, receive, send)
                return
        await self.app(scope, receive, send)
