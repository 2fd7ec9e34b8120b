"""Writes to a WebSocket and closes it, each with a deadline.

A slow reader takes no close frame either, so nothing here waits for one for long.
"""

from __future__ import annotations

import asyncio
import time

import anyio
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from common.errors import SpeechError
from common.logger import get_logger
from common.protocol.messages import ServerMessage
from common.protocol.session import ErrorMessage
from common.server.request_log import current_request_id

log = get_logger(__name__)

_CLOSE_TIMEOUT_S = 1.0


async def close_with_error(
    websocket: WebSocket, error: SpeechError, *, session: bool = False
) -> None:
    """Send `error` as a frame and close with its code.

    In a session, where other errors are not, this one is marked as `fatal`.
    """
    frame = error.frame(current_request_id()) | ({"fatal": True} if session else {})
    await close(websocket, error.close_code, error.code, final_frame=frame)


async def close(
    websocket: WebSocket, code: int, reason: str, *, final_frame: object | None = None
) -> None:
    """Send `final_frame`, as JSON, and close an accepted WebSocket; do nothing if it is closed."""
    if websocket.application_state is not WebSocketState.CONNECTED:
        return
    try:
        with anyio.fail_after(_CLOSE_TIMEOUT_S):
            if final_frame is not None:
                await websocket.send_json(final_frame)
            await websocket.close(code, reason=reason)
    except WebSocketDisconnect:
        log.debug("websocket.disconnected")
    except TimeoutError:
        # The server drops the connection when the session returns.
        log.info("websocket.close_timed_out", close_code=code, reason=reason)


class WebSocketSender:
    """The writing side of a WebSocket, which several tasks share: a frame at a time.

    A sender waits while the client is slow: that is the back-pressure. `watch` ends the session of
    a client that reads nothing at all.
    """

    def __init__(self, websocket: WebSocket, idle_timeout_s: float) -> None:
        self._websocket = websocket
        self._idle_timeout_s = idle_timeout_s
        # anyio's lock takes five times as long, for every frame of audio.
        self._writing = asyncio.Lock()
        self._sending_since: float | None = None

    async def send(self, frame: str | bytes | ServerMessage) -> None:
        """Send audio, a text frame or a message, after the frames that wait already."""
        if isinstance(frame, ServerMessage):
            frame = frame.frame()
        kind = "bytes" if isinstance(frame, bytes) else "text"
        async with self._writing:
            self._sending_since = time.monotonic()
            await self._websocket.send({"type": "websocket.send", kind: frame})
            self._sending_since = None

    async def send_error(self, error: SpeechError, *, of: str | None = None) -> None:
        """Send an error that does not end the session; `of` is the utterance that it is about."""
        log.info("session.error_sent", code=error.code)
        await self.send(ErrorMessage.of(error, current_request_id(), of=of))

    async def close_with_error(self, error: SpeechError, *, session: bool = True) -> None:
        """Send an error that ends the session, and close with its code."""
        await close_with_error(self._websocket, error, session=session)

    async def watch(self) -> None:
        """Return when the client has not taken a frame for the idle time.

        One task serves the whole session, since a timer for each frame would cost as much as the
        frame.
        """
        idle_s = self._idle_timeout_s
        while True:
            await anyio.sleep(idle_s / 4)
            since = self._sending_since
            if since is not None and time.monotonic() - since > idle_s:
                log.info("session.write_timed_out", idle_s=idle_s)
                return
