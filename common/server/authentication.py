"""Who asks: a key on every request but probes and documents, decided before anything is read.

Over HTTP the key comes as `Authorization: Bearer KEY` or `X-API-Key: KEY`. A browser can set
neither on a WebSocket, so there it may also come as the subprotocol `key.KEY`, offered beside
`speech`, or as `?token=KEY`; both are taken away here, before anybody else sees or logs them.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qsl, urlencode

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from common.errors import Unauthorized
from common.keys import Keys
from common.logger import get_logger
from common.server.error_handlers import error_response
from common.server.websocket import refuse

log = get_logger(__name__)

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
DOCUMENTS = frozenset({"/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"})
"""Open where they are offered at all (`DOCS`): they hold nothing that is not in the repository."""
SUBPROTOCOL = "speech"
"""What is answered to a client that offers subprotocols: browsers want one of theirs chosen."""
KEY_SUBPROTOCOL = "key."
TOKEN = "token"  # noqa: S105 - the name of a query parameter
CALLER = "speech_fleet.caller"
"""In the scope: the name of the key's holder, where there are keys."""

SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
"""For the OpenAPI document."""


class KeyMiddleware:
    """Refuses with 401 whoever brings no key that is known; writes the holder's name to the log."""

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
                    "This key is not known here." if given else "This server asks for a key."
                )
                if websocket:
                    await refuse(WebSocket(scope, receive, send), error)
                else:
                    await error_response(error)(scope, receive, send)
                return
            scope = {**scope, CALLER: caller}
            structlog.contextvars.bind_contextvars(caller=caller)
        await self.app(scope, receive, send)


def _given(scope: Scope) -> Iterator[str]:
    """Every key that the request brings."""
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
    """A WebSocket's scope without the key that its query or its subprotocols may hold."""
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
