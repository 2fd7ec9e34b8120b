"""Only the hosts that `ALLOWED_HOSTS` names are answered; the others in the one error shape."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from common.errors import BadRequest
from common.server.error_handlers import error_response
from common.server.websocket import refuse


class HostMiddleware:
    """`allowed` are names such as `speech.example` or `*.speech.example`.

    Starlette's middleware decides; its own refusals are plain text.
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
        if scope["type"] == "websocket":
            await refuse(WebSocket(scope, receive, send), error)
        else:
            await error_response(error)(scope, receive, send)
