"""Speech for a Wyoming client: a session of `/ws/tts`, spoken while its text still comes."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing

import anyio
from websockets.exceptions import ConnectionClosed
from wyoming.audio import AudioChunk, AudioStart, AudioStop

from common.audio.pcm import BYTES_PER_SAMPLE
from common.protocol.session import Ready
from common.server.tasks import until_first
from gateway.app.upstreams.services import Services
from gateway.app.upstreams.socket import UpstreamSocket
from gateway.app.wyoming.peer import Peer

_ID = "1"
_MONO = 1


class Refused(Exception):
    """The session refused the text, or failed on it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code, self.message = code, message


async def speak(services: Services, peer: Peer, texts: AsyncGenerator[str, None]) -> None:
    """Speak one utterance of which `texts` are the parts; its audio is sent as it is synthesized.

    Raises `Refused`, `Disconnected`, what `texts` raises, and as `Services.admitted` and
    `Upstream` do.
    """
    async with services.admitted(), services.tts.websocket("/ws/tts") as upstream:
        await until_first(
            _relay_audio(upstream, peer), _send_text(upstream, texts), upstream.watch()
        )


async def _send_text(upstream: UpstreamSocket, texts: AsyncGenerator[str, None]) -> None:
    await upstream.send(json.dumps({"type": "start"}))
    async with aclosing(texts):
        async for text in texts:
            await upstream.send(json.dumps({"type": "text", "id": _ID, "text": text}))
    await upstream.send(json.dumps({"type": "finish", "id": _ID}))
    await anyio.sleep_forever()


async def _relay_audio(upstream: UpstreamSocket, peer: Peer) -> None:
    """Send the utterance's audio, from the first frame to its `end`."""
    audio_format: dict[str, int] = {}
    has_begun = False
    while True:
        try:
            frame = await upstream.receive()
        except ConnectionClosed as closed:
            raise upstream.ending(closed, in_flight=True) from None
        if isinstance(frame, bytes):
            if not has_begun:
                await peer.write(AudioStart(**audio_format))
                has_begun = True
            await peer.write(AudioChunk(audio=frame, **audio_format))
            continue
        message = upstream.parse(frame)
        kind = message.get("type")
        if kind == "ready":
            ready = upstream.parse_as(Ready, message)
            audio_format = {
                "rate": ready.audio.sample_rate,
                "width": BYTES_PER_SAMPLE,
                "channels": _MONO,
            }
        elif kind == "error":
            raise Refused(str(message.get("code")), str(message.get("error")))
        elif kind == "end":
            await peer.write(AudioStop())
            return
