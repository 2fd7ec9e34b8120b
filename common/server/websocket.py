"""The ends of a WebSocket: refused before it began, closed in order, or broken off by an error.

A client that reads nothing any more takes no close frame either, so none of these waits for long.
"""

from __future__ import annotations

import anyio
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from common.errors import SpeechError
from common.logger import get_logger
from common.server.error_handlers import error_response
from common.server.request_id import current_request_id

log = get_logger(__name__)

NORMAL, GOING_AWAY, NO_STATUS, SERVICE_RESTART = 1000, 1001, 1005, 1012
_CLOSE_TIMEOUT_S = 1.0


async def refuse(websocket: WebSocket, error: SpeechError) -> None:
    """Answer a WebSocket that was not accepted yet with the HTTP status of `error`."""
    log.info("ws.refused", code=error.code)
    await websocket.send_denial_response(error_response(error))


async def close_with_error(
    websocket: WebSocket, error: SpeechError, *, session: bool = False
) -> None:
    """Tell a client what went wrong, and close with the code of `error`.

    In a session, where other errors are not, this one is marked as `fatal`.
    """
    frame = error.frame(current_request_id()) | ({"fatal": True} if session else {})
    await close(websocket, error.close_code, error.code, last_words=frame)


async def close(
    websocket: WebSocket, code: int, reason: str, *, last_words: object | None = None
) -> None:
    """Close an accepted WebSocket, unless its client has gone; `last_words` are sent before."""
    if websocket.application_state is not WebSocketState.CONNECTED:
        return
    try:
        with anyio.fail_after(_CLOSE_TIMEOUT_S):
            if last_words is not None:
                await websocket.send_json(last_words)
            await websocket.close(code, reason=reason)
    except WebSocketDisconnect:
        log.debug("ws.gone_before_close")
    except TimeoutError:
        # The server drops the connection when the session returns.
        log.info("ws.reads_nothing", close_code=code, reason=reason)
