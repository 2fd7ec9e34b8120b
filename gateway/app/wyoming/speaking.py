"""An utterance for a Wyoming client: a session of `/ws/tts`, spoken while its text still comes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pydantic import ValidationError
from typing_extensions import Self
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from wyoming.audio import AudioChunk, AudioStart, AudioStop

from common.audio.pcm import BYTES_PER_SAMPLE
from common.errors import UpstreamFailed, UpstreamTimeout
from common.protocol.session import Ready
from gateway.app.fleet import Fleet
from gateway.app.wyoming.wire import Peer, Refusal

_ID = "1"
_MONO = 1


class Speaking:
    """One utterance on a session of its own. Its audio is sent to `peer` as it is made."""

    def __init__(self, peer: Peer, session: ClientConnection, timeout_s: float) -> None:
        self._peer = peer
        self._session = session
        self._timeout_s = timeout_s
        self._frames = 0

    async def __aenter__(self) -> Self:
        await self._send({"type": "start"})
        ready = await self._recv_ready()
        self._format = {
            "rate": ready.audio.sample_rate,
            "width": BYTES_PER_SAMPLE,
            "channels": _MONO,
        }
        self._relay = asyncio.ensure_future(self._to_peer())
        return self

    async def __aexit__(self, *raised: object) -> None:
        self._relay.cancel()
        await asyncio.gather(self._relay, return_exceptions=True)

    async def say(self, text: str) -> None:
        """More of the text. Raises as `finish` does if it has failed by now."""
        if self._relay.done():
            self._relay.result()
        await self._send({"type": "text", "id": _ID, "text": text})

    async def finish(self) -> None:
        """There is no more text; returns when all audio is sent.

        Raises `Refusal`, `Gone`, `UpstreamFailed`, and `UpstreamTimeout` if nothing more comes.
        """
        await self._send({"type": "finish", "id": _ID})
        while not self._relay.done():
            before = self._frames
            await asyncio.wait({self._relay}, timeout=self._timeout_s)
            if not self._relay.done() and self._frames == before:
                raise UpstreamTimeout("The tts service does not answer any more.")
        self._relay.result()

    async def _recv_ready(self) -> Ready:
        try:
            frame = await asyncio.wait_for(self._recv(), self._timeout_s)
            return Ready.model_validate_json(frame)
        except asyncio.TimeoutError:
            raise UpstreamTimeout("The tts service did not answer in time.") from None
        except ValidationError:
            raise UpstreamFailed("The tts service opened no session.") from None

    async def _to_peer(self) -> None:
        """The utterance's audio, from the first frame to its `end`."""
        begun = False
        while True:
            frame = await self._recv()
            self._frames += 1
            if isinstance(frame, bytes):
                if not begun:
                    await self._peer.write(AudioStart(**self._format))
                    begun = True
                await self._peer.write(AudioChunk(audio=frame, **self._format))
                continue
            message: dict[str, Any] = json.loads(frame)
            if message["type"] == "error":
                raise Refusal(message["error"], message["code"])
            if message["type"] == "end":
                await self._peer.write(AudioStop())
                return

    async def _send(self, message: dict[str, Any]) -> None:
        try:
            await self._session.send(json.dumps(message))
        except ConnectionClosed:
            raise self._away() from None

    async def _recv(self) -> str | bytes:
        try:
            return await self._session.recv()
        except ConnectionClosed:
            raise self._away() from None

    def _away(self) -> UpstreamFailed:
        return UpstreamFailed("The tts service went away before it was done.")


@asynccontextmanager
async def speaking(fleet: Fleet, peer: Peer) -> AsyncIterator[Speaking]:
    """An utterance whose text is still to come; what is not spoken by the end is given up.

    Raises as `Fleet.admitted` and `Upstream.websocket` do.
    """
    timeout_s = fleet.settings.gateway_first_byte_timeout_s
    async with (
        fleet.admitted(),
        fleet.tts.websocket("/ws/tts", "") as session,
        Speaking(peer, session, timeout_s) as utterance,
    ):
        yield utterance
